//! What comes out of documents of every kind, and of real pages.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use content::{Document, Extraction, Kind, Query, Selection, SelectorSpec, Sign, extract};
use proptest::prelude::*;

fn css(text: &str) -> SelectorSpec {
    SelectorSpec { query: Query::Css(text.to_owned()), attr: None, all: false }
}

fn xpath(text: &str) -> SelectorSpec {
    SelectorSpec { query: Query::Xpath(text.to_owned()), attr: None, all: true }
}

fn json_path(text: &str) -> SelectorSpec {
    SelectorSpec { query: Query::JsonPath(text.to_owned()), attr: None, all: true }
}

fn selection(selectors: &[(&str, SelectorSpec)], remove: &[&str], ignore: &[&str]) -> Selection {
    let selectors = selectors.iter().map(|(name, spec)| ((*name).to_owned(), spec.clone()));
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    Selection::new(&selectors.collect::<BTreeMap<_, _>>(), &owned(remove), &owned(ignore)).unwrap()
}

fn document(bytes: &[u8]) -> Document<'_> {
    Document { bytes, content_type: None, kind: Kind::of(bytes, None) }
}

fn extracted(text: &str, selection: &Selection) -> Extraction {
    extract(&document(text.as_bytes()), selection).unwrap()
}

fn reason(text: &str, selection: &Selection) -> &'static str {
    extract(&document(text.as_bytes()), selection).unwrap_err().reason()
}

const PAGE: &str = "<!DOCTYPE html><html><head><title>Opinions</title></head><body><nav>Home</nav><main><h1>Opinions \
    of&nbsp;2026</h1><ul><li><a href='/1.pdf'>Smith v. Jones</a> <i class=views>17 views</i><li><a href='/2.pdf'>In re \
    Doe</a></ul></main><footer>Printed at 12:01</footer></body></html>";

#[test]
fn elements_with_the_names_of_operators_are_found() {
    let page = "<!DOCTYPE html><body><div class=a><p>One<p>Two</div><div><div class=b><p>Three</div></div>";
    for (expression, expected) in [
        ("//div[@class='a']/p[1]", "One"),
        ("//div[2]/div/p", "Three"),
        ("//p/ancestor::div[last()]/@class", "a"),
        ("count(//div) div 2", "1.5"),
        ("//body/div[div and not(p)]/div/@class", "b"),
    ] {
        let selector = SelectorSpec { all: false, ..xpath(expression) };
        assert_eq!(
            extracted(page, &selection(&[("body", selector)], &[], &[])).text,
            expected,
            "{expression}"
        );
    }
}

#[test]
fn selectors_name_what_is_found_in_a_page() {
    let links = SelectorSpec { attr: Some("href".to_owned()), all: true, ..css("main a") };
    let selectors = [
        ("body", css("main")),
        ("links", links),
        ("first", css("li a")),
        ("titles", xpath("//li/a")),
        ("urls", xpath("//li/a/@href")),
        ("count", xpath("count(//li)")),
        ("gone", css("table")),
        ("gone_too", xpath("//table")),
    ];
    let page = extracted(PAGE, &selection(&selectors, &[".views"], &[]));
    assert_eq!(page.text, "Opinions of 2026\nSmith v. Jones\nIn re Doe");
    let field = |name: &str| page.fields.get(name).unwrap().iter().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(field("links"), ["/1.pdf", "/2.pdf"]);
    assert_eq!(field("first"), ["Smith v. Jones"]);
    assert_eq!(field("titles"), ["Smith v. Jones", "In re Doe"]);
    assert_eq!(field("urls"), ["/1.pdf", "/2.pdf"]);
    assert_eq!(field("count"), ["2"]);
    assert_eq!(page.matched_nothing, ["gone", "gone_too"]);
    assert_eq!((page.parser, page.looks_blocked), ("html", None));
}

#[test]
fn what_is_ignored_makes_no_difference() {
    let selection = selection(&[], &["nav"], &["^Printed at .*$", r"\d+ views"]);
    let earlier = extracted(PAGE, &selection);
    let later = extracted(&PAGE.replace("12:01", "13:02").replace("17 views", "18 views"), &selection);
    assert_eq!(earlier.text, "Opinions of 2026\nSmith v. Jones\nIn re Doe");
    assert_eq!(earlier.text_hash, later.text_hash);
    assert_ne!(earlier.text_hash, extracted(&PAGE.replace("Doe", "Roe"), &selection).text_hash);
}

#[test]
fn a_body_that_matches_nothing_is_told_and_not_replaced_by_the_page() {
    let page = extracted(PAGE, &selection(&[("body", css("article"))], &[], &[]));
    assert_eq!((page.text.as_str(), page.matched_nothing), ("", vec!["body".to_owned()]));
}

#[test]
fn the_main_text_of_an_article_is_read_without_what_stands_around_it() {
    let paragraph = "<p>The court held that the statute, as amended, applies to the contract, and that the claim, \
        being founded on it, was brought in time; the appeal is therefore dismissed with costs.</p>";
    let html = format!(
        "<!DOCTYPE html><html><body><nav><a href=/>Home</a></nav><article><h2>Held</h2>{}</article><footer>\
         <a href=/x>Imprint</a></footer></body></html>",
        paragraph.repeat(8)
    );
    let text = extracted(&html, &selection(&[], &[], &[])).text;
    assert!(text.contains("appeal is therefore dismissed") && !text.contains("Imprint"), "{text}");
}

#[test]
fn json_has_one_form_and_paths() {
    let json = r#"{"b": [{"t": "x"}, {"t": "y"}], "a": 1}"#;
    let none = selection(&[], &[], &[]);
    let whole = extracted(json, &none);
    assert_eq!(
        whole.text,
        "{\n  \"a\": 1,\n  \"b\": [\n    {\n      \"t\": \"x\"\n    },\n    {\n      \"t\": \"y\"\n    }\n  ]\n}"
    );
    assert_eq!(whole.text_hash, extracted(r#"{"a":1,"b":[{"t":"x"},{"t":"y"}]}"#, &none).text_hash);
    let selected =
        extracted(json, &selection(&[("body", json_path("$.b[*].t")), ("no", json_path("$.z"))], &[], &[]));
    assert_eq!((selected.text.as_str(), selected.matched_nothing), ("x\ny", vec!["no".to_owned()]));
    assert_eq!(reason("{\"a\":", &none), "UnreadableDocument");
    assert_eq!(reason(&"[".repeat(100_000), &none), "UnreadableDocument");
}

#[test]
fn feeds_are_their_entries_and_xml_its_texts() {
    let none = selection(&[], &[], &[]);
    let feed = "<?xml version='1.0'?><rss version='2.0'><channel><title>t</title><item><title>One &amp; two</title>\
        <link>https://court.example/1</link><guid>g1</guid><pubDate>Mon, 05 Jan 2026 10:00:00 GMT</pubDate>\
        <description>&lt;p&gt;Held.&lt;/p&gt;</description></item><item><title>Three</title></item></channel></rss>";
    let entries = extracted(feed, &none);
    assert_eq!(
        entries.text,
        "One & two\nid: g1\nlink: https://court.example/1\ndate: 2026-01-05T10:00:00+00:00\nHeld.\n\nThree"
    );
    let titles = extracted(feed, &selection(&[("body", xpath("//item/title"))], &[], &[]));
    assert_eq!(titles.text, "One & two\nThree");

    let xml = "<?xml version='1.0'?><law><title>Act</title><s n='1'>First\n section</s><s n='2'><![CDATA[a < b]]></s></law>";
    assert_eq!(extracted(xml, &none).text, "Act\nFirst section\na < b");
    let numbers = SelectorSpec { attr: Some("n".to_owned()), ..xpath("//s") };
    assert_eq!(extracted(xml, &selection(&[("n", numbers)], &[], &[])).fields["n"], ["1", "2"]);
    assert_eq!(reason("<?xml version='1.0'?><a><b></a>", &none), "UnreadableDocument");
    assert_eq!(
        reason(&format!("<?xml version='1.0'?>{}", "<a>".repeat(100_000)), &none),
        "UnreadableDocument"
    );
}

#[test]
fn a_selector_in_another_language_is_passed_over() {
    let selection = selection(&[("body", css("main")), ("x", json_path("$.x"))], &[], &[]);
    let text = extracted("Plain  text\r\n\r\n\r\nhere ", &selection);
    assert_eq!((text.text.as_str(), text.parser), ("Plain text\n\nhere", "text"));
    assert!(text.fields.is_empty() && text.matched_nothing.is_empty());
}

#[test]
fn what_cannot_be_read_has_a_reason() {
    let none = selection(&[], &[], &[]);
    assert_eq!(reason(&format!("<html>{}", "<div>".repeat(100_000)), &none), "TooDeep");
    assert_eq!(reason("PK\u{3}\u{4}", &none), "UnsupportedType");
    assert_eq!(reason(PAGE, &selection(&[("x", xpath("//li[no-such()]"))], &[], &[])), "SelectorFailed");
    let visits = format!("<html>{}", "<p>x</p>".repeat(3_000));
    assert_eq!(
        reason(&visits, &selection(&[("x", xpath("//*[count(//*) > 1]"))], &[], &[])),
        "SelectorFailed"
    );
    assert_eq!(reason(&format!("<html><p>{}", "x ".repeat(5 << 20)), &none), "TooLarge");
    let many = SelectorSpec { all: true, ..css("p") };
    assert_eq!(
        reason(&format!("<html>{}", "<p>x</p>".repeat(10_001)), &selection(&[("x", many)], &[], &[])),
        "TooLarge"
    );
}

#[test]
fn pages_that_stand_in_for_a_document_are_known() {
    let cases = [
        (
            "<html><head><title>Just a moment...</title><script>window._cf_chl_opt={cvId:'3'}</script></head><body><noscript>Enable JavaScript</noscript></body></html>",
            Sign::Cloudflare,
        ),
        (
            "<html><head><title>Attention Required! | Cloudflare</title><link href='/cdn-cgi/styles/cf.errors.css'></head><body><h1>Sorry, you have been blocked</h1></body></html>",
            Sign::Cloudflare,
        ),
        (
            "<HTML><HEAD><TITLE>Access Denied</TITLE></HEAD><BODY><H1>Access Denied</H1>You don't have permission to access \"http://court.example/\" on this server.<P>Reference #18.2d351ab8.1557333295.a4e16ab</BODY></HTML>",
            Sign::Akamai,
        ),
        (
            "<html style='height:100%'><head><META NAME='ROBOTS'></head><body><iframe id='main-iframe' src='/_Incapsula_Resource?CWUDNSAI=9'>Request unsuccessful. Incapsula incident ID: 7-1</iframe></body></html>",
            Sign::Imperva,
        ),
        (
            "<html><head><title>court.example</title></head><body><p id='cmsg'>Please enable JS and disable any ad blocker</p><script>var dd={'rt':'c'}</script><script src='https://ct.captcha-delivery.com/c.js'></script></body></html>",
            Sign::DataDome,
        ),
        (
            "<html><head><title>Access to this page has been denied</title><script>window._pxAppId='PX1'</script></head><body><div id='px-captcha'></div>Press &amp; Hold to confirm you are a human</body></html>",
            Sign::Human,
        ),
        (
            "<html><head><title></title><script>window.awsWafCookieDomainList=[];window.gokuProps={'key':'x'}</script><script src='https://x.token.awswaf.com/x/challenge.js'></script></head><body><div id='challenge-container'></div></body></html>",
            Sign::AwsWaf,
        ),
        (
            "<html><head><title>Security check</title></head><body>Confirm that you are not a robot<div class='g-recaptcha'></div></body></html>",
            Sign::Captcha,
        ),
        (
            "<html><head><title>403 Forbidden</title></head><body><center><h1>403 Forbidden</h1></center><hr>nginx</body></html>",
            Sign::AccessDenied,
        ),
        (
            "<html><head><title>Request Rejected</title></head><body>The requested URL was rejected. Your support ID is: 17</body></html>",
            Sign::AccessDenied,
        ),
        (
            "<html><head><title>Log in - Registry</title></head><body><form><input name=u><input type=password></form></body></html>",
            Sign::LoginForm { is_titled: true },
        ),
    ];
    for (html, expected) in cases {
        assert_eq!(extracted(html, &selection(&[], &[], &[])).looks_blocked, Some(expected), "{html}");
    }
    let form =
        "<html><title>Registry</title><body><h1>Welcome</h1><form><input type=password></form></body></html>";
    assert_eq!(extracted(form, &selection(&[], &[], &[])).looks_blocked, None);
    assert_eq!(extracted(form, &selection(&[("body", css("h1"))], &[], &[])).looks_blocked, None);
    let missed = extracted(form, &selection(&[("body", css("main"))], &[], &[])).looks_blocked;
    assert_eq!(missed, Some(Sign::LoginForm { is_titled: false }));
    for html in [
        "<html><title>Order</title><body><p>The defendant used a captcha. Access denied, said the court.</p></body></html>",
        "<html><title>Access to records denied: Smith v. Jones</title><body><h1>Motion denied</h1></body></html>",
        "<html><title>Opinions</title><script src='/cdn-cgi/challenge-platform/scripts/jsd/main.js'></script><body>One</body></html>",
    ] {
        assert_eq!(extracted(html, &selection(&[], &[], &[])).looks_blocked, None, "{html}");
    }
}

#[test]
fn real_pages_have_text_and_are_not_taken_for_blocked() {
    let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/corpus/courts/pages");
    let selection =
        selection(&[("links", SelectorSpec { all: true, ..css("a") }), ("rows", xpath("//tr"))], &[], &[]);
    let mut count = 0;
    for entry in fs::read_dir(pages).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        let document = Document { bytes: &bytes, content_type: Some("text/html"), kind: Kind::Html };
        let page =
            extract(&document, &selection).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(page.looks_blocked, None, "{}", path.display());
        assert!(!page.text.is_empty(), "{}", path.display());
        assert_eq!(content::normalise(&page.text), page.text, "{}", path.display());
        count += 1;
    }
    assert!(count > 50, "{count} pages");
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1024)) {
        let selection = selection(&[("a", css("a")), ("b", xpath("//b")), ("c", json_path("$..c"))], &["i"], &["x"]);
        for kind in [Kind::Html, Kind::Feed, Kind::Json, Kind::Xml, Kind::Text, Kind::of(&bytes, None)] {
            let _ = extract(&Document { bytes: &bytes, content_type: None, kind }, &selection);
        }
    }

    #[test]
    fn no_markup_makes_it_panic(
        text in "(<a href='|'>|<p>|</p>|<table>|<tr>|<td>|<pre>|</pre>|<b>|</b>|<svg>|<template>|<!--|-->|<title>|<rss>|<item>|<feed>|<entry>|<\\?xml \\?>|&amp;|&#|\\[|\\{|\"c\":|x| |,|\u{e9}){0,80}",
    ) {
        let selection = selection(&[("a", css("a")), ("b", xpath("//*[text()]/@href")), ("c", json_path("$..c"))], &["b", "p b"], &["x+"]);
        for kind in [Kind::Html, Kind::Feed, Kind::Json, Kind::Xml, Kind::Text] {
            if let Ok(found) = extract(&Document { bytes: text.as_bytes(), content_type: None, kind }, &selection) {
                prop_assert!(kind == Kind::Json || content::normalise(&found.text) == found.text);
            }
        }
    }
}
