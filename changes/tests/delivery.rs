//! What is delivered: its documented JSON, and how it is shown in Slack and in e-mails.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{fs, path::PathBuf};

use changes::{
    Artifact, Change, Data, Delivery, Document, DocumentChange, EventType, Extent, Extract, Fields, Source,
    Subscription, Version, cloud_event, delivery_schema, email, object_key, slack_message,
};
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

const OLD: &str = "Opinion of the Court\nThe judgment of the court below is affirmed.\nIt is so ordered.\n";
const NEW: &str = "Opinion of the Court\nThe judgment of the court below is reversed.\nIt is so ordered.\n";

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn version(number: u32, digit: &str) -> Version {
    Version {
        number,
        text_hash: digit.repeat(64),
        artifact: Artifact {
            id: 40 + i64::from(number),
            fetch_hash: digit.repeat(64),
            blob_uri: format!("s3://evidence/raw/7/2026/03/09/{}.bin", digit.repeat(64)),
            fetched_at: time("2026-03-09T09:00:02Z"),
        },
    }
}

fn fields(docket: &str) -> Fields {
    Fields::from([
        ("docket".to_owned(), json!(docket)),
        ("judges".to_owned(), json!(["Kagan", "Barrett"])),
        ("title".to_owned(), json!("Smith v. Jones")),
    ])
}

fn document(url: &str) -> Document {
    Document {
        url: url.to_owned(),
        detected_at: time("2026-03-09T09:00:05Z"),
        run_id: Uuid::from_u128(0x0198_0000_0000_7000_8000_0000_0000_0001),
        trace_id: "01980000000070008000000000000001".to_owned(),
        old: Some(version(3, "a")),
        new: Some(version(4, "b")),
        fields: fields("24-18"),
    }
}

fn changed(old: &str, new: &str) -> Change {
    let (old_fields, new_fields) = (fields("24-17"), fields("24-18"));
    let old = Extract { text: old, fields: &old_fields };
    Change::changed(old, Extract { text: new, fields: &new_fields }, Extent::Bounded).unwrap()
}

fn delivery(changes: Vec<DocumentChange>) -> Delivery {
    Delivery {
        event_type: EventType::SubscriptionChanged,
        timestamp: time("2026-03-09T09:00:06Z"),
        data: Data {
            id: Uuid::from_u128(0x0198_0000_0000_7000_8000_0000_0000_00ff),
            target: "clerks".to_owned(),
            subscription: Subscription { namespace: "courts".to_owned(), name: "slip-opinions".to_owned() },
            jurisdiction: Some("US".to_owned()),
            source: Source {
                name: "supreme-court".to_owned(),
                url: "https://court.example/opinions".to_owned(),
            },
            changes,
        },
    }
}

fn one() -> Delivery {
    delivery(vec![DocumentChange::new(document("https://court.example/opinions/24-18"), changed(OLD, NEW))])
}

fn documentation(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_documented_schema_is_that_of_the_types() {
    let documented: Value = serde_json::from_str(&documentation("delivery.schema.json")).unwrap();
    let generated: Value = serde_json::from_str(&delivery_schema()).unwrap();
    assert_eq!(documented, generated, "write it anew with `cargo run -p changes --bin schemagen`");
}

#[test]
fn the_documented_example_is_what_is_sent() {
    let documentation = documentation("deliveries.md");
    let example = documentation.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let example: Value = serde_json::from_str(example).unwrap();
    let sent = serde_json::to_value(one()).unwrap();
    assert_eq!(example, sent, "the example in docs/deliveries.md should be:\n{sent:#}");
    assert_eq!(serde_json::from_value::<Delivery>(sent).unwrap(), one());
}

#[test]
fn the_object_in_a_bucket_is_named_by_subscription_day_and_delivery() {
    assert_eq!(
        object_key("changes/", &one()),
        "changes/courts/slip-opinions/2026/03/09/01980000-0000-7000-8000-0000000000ff.json"
    );
}

#[test]
fn an_event_has_the_id_of_its_delivery_the_key_of_its_document_and_the_trace_of_its_run() {
    let event = cloud_event(&one());
    assert_eq!(event.key, "https://court.example/opinions/24-18");
    assert_eq!(
        event.headers,
        [
            ("ce_specversion", "1.0".to_owned()),
            ("ce_id", "01980000-0000-7000-8000-0000000000ff".to_owned()),
            ("ce_type", "subscription.changed".to_owned()),
            ("ce_source", "/subscriptions/courts/slip-opinions".to_owned()),
            ("ce_subject", "https://court.example/opinions/24-18".to_owned()),
            ("ce_time", "2026-03-09T09:00:06Z".to_owned()),
            ("content-type", "application/json".to_owned()),
            ("traceparent", "00-01980000000070008000000000000001-80000000000000ff-01".to_owned()),
        ]
    );
}

#[test]
fn a_slack_message_says_what_changed_and_how() {
    let message = slack_message(&one());
    assert_eq!(message["text"], "Changed: Smith v. Jones (courts/slip-opinions)");
    let blocks = message["blocks"].as_array().unwrap();
    let texts: Vec<&str> = blocks.iter().filter_map(|block| block["text"]["text"].as_str()).collect();
    assert_eq!(
        texts,
        [
            "Changed: Smith v. Jones (courts/slip-opinions)",
            "*Changed* <https://court.example/opinions/24-18|Smith v. Jones>\n1 line changed (9.5 %); fields: docket",
            "```\n@@ -1,3 +1,3 @@\n Opinion of the Court\n-The judgment of the court below is affirmed.\n+The judgment of the court below is reversed.\n It is so ordered.\n```",
        ]
    );
    assert_eq!(
        blocks.last().unwrap()["elements"][0]["text"],
        "US · supreme-court · trace 01980000000070008000000000000001"
    );
}

#[test]
fn a_link_in_slack_ends_where_its_url_does() {
    let mut document = document("https://court.example/a|b?c=<d>&e f");
    document.fields.insert("title".to_owned(), json!("`A` | <B>"));
    let message = slack_message(&delivery(vec![DocumentChange::new(document, changed(OLD, NEW))]));
    let head = message["blocks"][1]["text"]["text"].as_str().unwrap();
    let link = "<https://court.example/a%7Cb?c=&lt;d&gt;&amp;e%20f|'A' ¦ &lt;B&gt;>";
    assert_eq!(head.lines().next(), Some(&*format!("*Changed* {link}")));
}

#[test]
fn a_slack_message_stays_within_the_limits_whatever_it_says() {
    let hostile = "<!channel> & ``` ````` \u{1f9d1}\u{200d}\u{2696} |".repeat(40);
    let mut document = document(&format!("https://court.example/a|b?c=<!here>&{}", "d".repeat(3000)));
    document.fields.insert("title".to_owned(), json!(hostile));
    let new = hostile.repeat(50).replace(' ', "\n");
    let change = DocumentChange::new(document, changed("", &new));
    for count in [1, 2, 20, 300] {
        let message = slack_message(&delivery(vec![change.clone(); count]));
        let blocks = message["blocks"].as_array().unwrap();
        assert!(blocks.len() <= 50);
        let mut together = 0;
        for block in blocks {
            let text = block["text"]["text"].as_str().or(block["elements"][0]["text"].as_str()).unwrap();
            let most = if block["type"] == "header" { 150 } else { 3000 };
            let length = text.chars().count();
            assert!(length <= most, "{length}: {text}");
            assert!(block["type"] == "header" || !text.contains("<!"), "{text}");
            let fences = if block["type"] == "header" { 0 } else { text.matches("```").count() };
            assert!(
                fences == 0 || (fences == 2 && text.starts_with("```") && text.ends_with("```")),
                "{text}"
            );
            together += length;
        }
        assert!(together < 10_000, "{together}");
        let shown = blocks
            .iter()
            .filter(|block| block["text"]["text"].as_str().is_some_and(|text| text.starts_with("*Changed*")))
            .count();
        assert!(shown >= 1);
        let more = format!("_and {} more changes_", count - shown);
        assert!(
            shown == count || count - shown == 1 || message.to_string().contains(&more),
            "{count} {shown}"
        );
    }
}

#[test]
fn an_email_has_the_change_as_text_and_as_html() {
    let email = email(&one());
    assert_eq!(email.subject, "[courts/slip-opinions] Changed: Smith v. Jones");
    for expected in [
        "Changed: Smith v. Jones\nhttps://court.example/opinions/24-18\n1 line changed (9.5 %); fields: docket\n",
        "docket: 24-17 -> 24-18\n",
        "-The judgment of the court below is affirmed.\n+The judgment of the court below is reversed.\n",
        "after: version 4, fetched 2026-03-09T09:00:02Z, SHA-256 bbbb",
        "tipstaff diff courts/slip-opinions --url 'https://court.example/opinions/24-18' --from 3 --to 4\n",
        "-- \nTipstaff, subscription courts/slip-opinions, source supreme-court, US. Target clerks, delivery 01980000-0000-7000-8000-0000000000ff.\n",
    ] {
        assert!(email.text.contains(expected), "{expected}\n{}", email.text);
    }
    for expected in [
        "<h3>Changed: <a href=\"https://court.example/opinions/24-18\">Smith v. Jones</a></h3>",
        ">affirmed</del>",
        ">reversed</ins>",
        "s3://evidence/raw/7/2026/03/09/bbbb",
    ] {
        assert!(email.html.contains(expected), "{expected}\n{}", email.html);
    }
}

#[test]
fn an_email_is_not_led_astray_by_what_a_document_says() {
    let mut document = document("javascript:alert(1)//'\"><script>");
    document
        .fields
        .insert("title".to_owned(), json!("A\r\nBcc: all@example.org\u{7} <script>alert(1)</script>"));
    let email =
        email(&delivery(vec![DocumentChange::new(document, changed("", "<script>alert(1)</script>\n"))]));
    assert_eq!(
        email.subject,
        "[courts/slip-opinions] Changed: A Bcc: all@example.org <script>alert(1)</script>"
    );
    assert!(!email.html.contains("<script") && !email.html.contains("href"), "{}", email.html);
    // In a shell, a quote in a URL would end the argument.
    assert!(email.text.contains("--url 'javascript:alert(1)//%27\"><script>' --from 3"), "{}", email.text);
    assert!(email.text.contains("1 line added (100.0 %)"), "{}", email.text);
}

#[test]
fn a_digest_names_every_change() {
    let documents = (0..60).map(|number| {
        let mut document = document(&format!("https://court.example/opinions/{number}"));
        document.fields.insert("title".to_owned(), json!(format!("Opinion {number}.")));
        DocumentChange::new(document, changed(OLD, NEW))
    });
    let delivery = delivery(documents.collect());
    let email = email(&delivery);
    assert_eq!(email.subject, "[courts/slip-opinions] 60 changes");
    for number in 0..60 {
        assert!(email.text.contains(&format!("Changed: Opinion {number}.\n")));
        assert!(email.html.contains(&format!(">Opinion {number}.</a>")));
    }
    let message = slack_message(&delivery);
    assert_eq!(message["text"], "60 changes (courts/slip-opinions)");
    let blocks = message["blocks"].as_array().unwrap();
    assert!(blocks.len() <= 50 && message.to_string().contains("more changes_"), "{}", blocks.len());
}
