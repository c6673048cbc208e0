//! The commands that look at things, as processes: what they exit with, and what they say where there is nothing to see.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    path::Path,
    process::{Command, Output},
    thread::{self, JoinHandle},
};

use serde_json::Value;
use tempfile::TempDir;

const PAGE: &str = "<html><head><title>Court</title></head><body><nav>Home Orders</nav>\
    <h1>Smith v. Jones</h1><ul><li class=judge>Kagan</li><li class=judge>Barrett</li></ul>\
    <p>The judgment is reversed.</p><p>Printed on 9 March 2026</p></body></html>";

const CHALLENGE: &str =
    "<html><head><title>Access Denied</title></head><body><h1>Access Denied</h1></body></html>";

/// A process that knows of no installation but by its arguments.
fn tipstaff(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tipstaff"));
    for variable in [
        "DATABASE_URL",
        "TIPSTAFF_DATA_DIR",
        "TIPSTAFF_DATABASE_URL",
        "TIPSTAFF_ALLOW_CIDRS",
        "KAFKA_BROKERS",
        "RUST_LOG",
    ] {
        command.env_remove(variable);
    }
    command.args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Manifests with a source at this URL and a subscription with these selectors.
fn manifests(base_url: &str, selectors: &str) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let manifests = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: portal}}\nstringData: {{token: hunter2}}\n---\n\
         apiVersion: tipstaff.dev/v1alpha1\nkind: Source\nmetadata: {{name: court}}\n\
         spec:\n  kind: html\n  baseURL: {base_url}\n  fetch:\n    headers:\n    - {{name: X-Reader, value: clerk}}\n    \
         - {{name: X-Token, valueFrom: {{secretKeyRef: {{name: portal, key: token}}}}}}\n---\n\
         apiVersion: tipstaff.dev/v1alpha1\nkind: Subscription\nmetadata: {{name: opinions}}\n\
         spec:\n  sourceRef: {{name: court}}\n  schedule: '@daily'\n  selectors: {selectors}\n  \
         remove: [nav]\n  ignore: ['^Printed on .*$']\n"
    );
    fs::write(directory.path().join("court.yaml"), manifests).unwrap();
    directory
}

fn try_on(directory: &TempDir, page: &Path, more: &[&str]) -> Output {
    let (manifests, page) = (directory.path().to_str().unwrap(), page.to_str().unwrap());
    tipstaff(&[&["try", "-f", manifests, "--page", page], more].concat())
}

fn page(directory: &TempDir, name: &str, content: impl AsRef<[u8]>) -> std::path::PathBuf {
    let path = directory.path().join(name);
    fs::write(&path, content).unwrap();
    path
}

#[test]
fn what_selectors_take_from_a_file_is_shown() {
    let selectors = "{title: h1, judges: {css: .judge, all: true}, dissent: {css: .dissent, optional: true}}";
    let directory = manifests("https://court.example/opinions", selectors);
    let page = page(&directory, "page.html", PAGE);
    let shown = try_on(&directory, &page, &[]);
    let (output, errors) = (text(&shown.stdout), text(&shown.stderr));
    assert_eq!(shown.status.code(), Some(0), "{output}{errors}");
    for line in [
        "tried       default/opinions, default/court\n",
        "parser      html, version ",
        "judges =    Kagan\n            Barrett\n",
        "title =     Smith v. Jones\n",
        "dissent =   matches nothing, as it may\n",
        "removed     nav: 1 element\n              Home Orders\n",
        "ignored     ^Printed on .*$: 1 match\n              Printed on 9 March 2026\n",
        "  | The judgment is reversed.\n",
        "verdict     a run would keep this text\n",
    ] {
        assert!(output.contains(line), "{line}: {output}");
    }
    assert!(!output.contains("  | Printed") && !output.contains("  | Home"), "{output}");

    let json = try_on(&directory, &page, &["-o", "json"]);
    let trial: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(trial["fields"]["judges"], serde_json::json!(["Kagan", "Barrett"]));
    assert_eq!(trial["absent"], serde_json::json!(["dissent"]));
    assert_eq!((&trial["kind"], &trial["status"]), (&Value::from("html"), &Value::Null));
}

#[test]
fn what_a_run_would_not_keep_is_told_by_the_exit_code() {
    let directory = manifests("https://court.example/opinions", "{docket: .docket}");
    let missing = try_on(&directory, &page(&directory, "page.html", PAGE), &[]);
    assert_eq!(missing.status.code(), Some(1));
    let output = text(&missing.stdout);
    assert!(
        output.contains("docket =    MATCHES NOTHING") && output.contains("SelectorMatchedNothing"),
        "{output}"
    );

    let blocked = manifests("https://court.example/opinions", "{title: h1}");
    let challenge = try_on(&blocked, &page(&blocked, "denied.html", CHALLENGE), &[]);
    assert_eq!(challenge.status.code(), Some(1));
    assert!(text(&challenge.stdout).contains("(LooksBlocked)"), "{}", text(&challenge.stdout));
}

#[test]
fn a_pdf_is_read_by_the_same_program_started_again() {
    let directory = manifests("https://court.example/opinions", "{title: h1}");
    let shown = try_on(&directory, &page(&directory, "opinion.pdf", pdf("Appeal dismissed")), &[]);
    let (output, errors) = (text(&shown.stdout), text(&shown.stderr));
    assert_eq!(shown.status.code(), Some(0), "{output}{errors}");
    assert!(
        output.contains("parser      pdf, version ") && output.contains("  | Appeal dismissed\n"),
        "{output}"
    );
    assert!(output.contains("title =     passed over: its language is not one for pdf\n"), "{output}");

    let damaged = try_on(&directory, &page(&directory, "damaged.pdf", "%PDF-1.7 nothing"), &[]);
    assert_eq!(damaged.status.code(), Some(1));
    assert!(text(&damaged.stderr).contains("damaged or needs a password"), "{}", text(&damaged.stderr));
}

#[test]
fn a_page_is_fetched_from_addresses_that_are_open() {
    let (url, serving) = serve_once(PAGE);
    let directory = manifests(&url, "{title: h1}");
    let manifests = directory.path().to_str().unwrap();
    let closed = tipstaff(&["try", "-f", manifests]);
    let errors = text(&closed.stderr);
    assert_eq!(closed.status.code(), Some(1));
    assert!(errors.contains("is not public") && errors.contains("; --allow-cidr opens it"), "{errors}");

    let open = tipstaff(&["try", "-f", manifests, "--allow-cidr", "127.0.0.0/8"]);
    let output = text(&open.stdout);
    assert_eq!(open.status.code(), Some(0), "{output}{}", text(&open.stderr));
    assert!(output.contains("status 200") && output.contains("title =     Smith v. Jones\n"), "{output}");
    let asked = serving.join().unwrap().to_lowercase();
    assert!(asked.contains("x-reader: clerk") && asked.contains("x-token: hunter2"), "{asked}");

    // As in a run, what the source is given is for the place that it has.
    let (elsewhere, serving) = serve_once(PAGE);
    let other = tipstaff(&["try", "-f", manifests, "--page", &elsewhere, "--allow-cidr", "127.0.0.0/8"]);
    assert_eq!(other.status.code(), Some(0), "{}", text(&other.stderr));
    let asked = serving.join().unwrap().to_lowercase();
    assert!(!asked.contains("x-reader") && !asked.contains("hunter2"), "{asked}");
}

#[test]
fn where_there_is_no_catalog_it_is_said_what_to_do() {
    let empty = tempfile::tempdir().unwrap();
    let data = empty.path().to_str().unwrap();
    for command in [
        &["runs"][..],
        &["artifacts", "courts/slip-opinions"],
        &["versions"],
        &["deliveries"],
        &["trace", "5b7e1f30"],
        &["diff", "courts/slip-opinions"],
    ] {
        let output = tipstaff(&[command, &["--data", data]].concat());
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command:?}: {errors}");
        assert!(errors.contains(data) && errors.contains("--database-url"), "{command:?}: {errors}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn what_is_wrong_is_told_as_a_usage_error() {
    for (arguments, message) in [
        (&["runs", "slip-opinions"][..], "written NAMESPACE/NAME"),
        (&["runs", "--limit", "0"], "--limit"),
        (&["trace", "xyz"], "hexadecimal digits"),
        (&["trace"], "<RUN_ID>"),
        (&["diff", "a/b", "--from", "0"], "--from"),
        (&["diff", "a/b", "--html", "--unified"], "cannot be used with"),
        (&["dlq", "list", "crawl", "--kafka-brokers", "localhost:1"], "it is one of subs.schedule"),
        (&["dlq", "show", "crawl.request", "17", "--kafka-brokers", "localhost:1"], "PARTITION/OFFSET"),
        (&["dlq", "redrive", "crawl.request", "--kafka-brokers", "localhost:1"], "PARTITION/OFFSET"),
        (&["dlq", "list"], "--kafka-brokers"),
        (&["try"], "--filename"),
    ] {
        let output = tipstaff(arguments);
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {errors}");
        assert!(errors.contains(message), "{arguments:?}: {errors}");
    }
}

/// Serves one page to the first that asks, and returns what that one said.
fn serve_once(page: &'static str) -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/opinions", listener.local_addr().unwrap());
    let serving = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        let mut buffer = [0; 1024];
        while !request.windows(4).any(|end| end == b"\r\n\r\n") {
            let read = stream.read(&mut buffer).unwrap();
            assert!(read > 0, "the request ended early");
            request.extend_from_slice(&buffer[..read]);
        }
        let length = page.len();
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{page}"
        );
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8_lossy(&request).into_owned()
    });
    (url, serving)
}

/// A PDF with one line of text.
fn pdf(line: &str) -> Vec<u8> {
    let stream = format!("BT /F1 12 Tf 72 700 Td ({line}) Tj ET");
    let objects = [
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_owned(),
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources << /Font << /F1 4 0 R >> >> \
         /Contents 5 0 R >>"
            .to_owned(),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>".to_owned(),
        format!("<< /Length {} >>\nstream\n{stream}\nendstream", stream.len()),
    ];
    let mut bytes = b"%PDF-1.4\n".to_vec();
    let mut places = Vec::new();
    for (index, object) in objects.iter().enumerate() {
        places.push(bytes.len());
        bytes.extend(format!("{} 0 obj\n{object}\nendobj\n", index + 1).bytes());
    }
    let table = bytes.len();
    bytes.extend(b"xref\n0 6\n0000000000 65535 f \n");
    bytes.extend(places.iter().flat_map(|place| format!("{place:010} 00000 n \n").into_bytes()));
    bytes.extend(format!("trailer\n<< /Size 6 /Root 1 0 R >>\nstartxref\n{table}\n%%EOF\n").bytes());
    bytes
}
