//! The text of PDFs, by the child process.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use content::pdf::{Limits, Program, text};
use content::{Selection, extract_pdf};

fn program() -> Program {
    Program { path: env!("CARGO_BIN_EXE_extract-pdf").into(), arguments: Vec::new() }
}

/// A PDF with one page that shows lines of text.
fn pdf(lines: &[&str]) -> Vec<u8> {
    let shown: String = lines.iter().map(|line| format!("({line}) Tj 0 -20 Td ")).collect();
    let stream = format!("BT /F1 12 Tf 72 700 Td {shown}ET");
    let objects = [
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_owned(),
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources << /Font << /F1 4 0 R >> >> /Contents 5 0 R >>".to_owned(),
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

#[tokio::test]
async fn a_pdf_has_its_lines_as_text() {
    let text =
        text(&program(), &pdf(&["Smith v. Jones", "Appeal dismissed"]), Limits::default()).await.unwrap();
    let selection = Selection::new(&[].into(), &[], &[]).unwrap();
    let extraction = extract_pdf(text, &selection).unwrap();
    let lines: Vec<_> = extraction.text.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!((lines, extraction.parser), (vec!["Smith v. Jones", "Appeal dismissed"], "pdf"));
}

#[tokio::test]
async fn what_is_wrong_with_one_pdf_is_told() {
    let good = pdf(&["x"]);
    let reason =
        async |bytes: &[u8], limits: Limits| text(&program(), bytes, limits).await.unwrap_err().reason();
    assert_eq!(reason(b"%PDF-1.7 nothing", Limits::default()).await, "UnreadableDocument");
    assert_eq!(reason(&good, Limits { memory: 1 << 20, ..Limits::default() }).await, "PdfCrashed");
    assert_eq!(
        reason(&vec![b'x'; 64 << 20], Limits { memory: 48 << 20, ..Limits::default() }).await,
        "PdfCrashed"
    );
    assert_eq!(reason(&good, Limits { text: 0, ..Limits::default() }).await, "TooLarge");
    let nowhere = Program { path: "/nonexistent/program".into(), arguments: Vec::new() };
    assert_eq!(text(&nowhere, &good, Limits::default()).await.unwrap_err().reason(), "PdfNotRun");
}

#[tokio::test]
async fn a_child_that_takes_too_long_is_ended() {
    let sleeper = Program { path: "/bin/sleep".into(), arguments: vec!["600".into()] };
    let limits = Limits { time: Duration::from_millis(50), ..Limits::default() };
    assert_eq!(text(&sleeper, b"", limits).await.unwrap_err().reason(), "Timeout");
}
