//! PDFs that are made to harm whoever reads them, among other documents.

use std::{collections::BTreeMap, fs, io::Write, iter, path::Path};

use events::Bus as _;
use flate2::{Compression, write::ZlibEncoder};
use tests::eventually;

use crate::{
    catalog_place::SOON,
    place::{HTML, Roles},
};

const PDF: &str = "application/pdf";
const FONT: &str = "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>";

/// A PDF with one page, of instructions that are deflated.
fn pdf(font: &str, deflated: &[u8]) -> Vec<u8> {
    let dictionaries = [
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_owned(),
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources << /Font << /F1 4 0 R >> >> \
         /Contents 5 0 R >>"
            .to_owned(),
        font.to_owned(),
        format!("<< /Filter /FlateDecode /Length {} >>", deflated.len()),
    ];
    let mut bytes = b"%PDF-1.4\n".to_vec();
    let mut places = Vec::new();
    for (number, dictionary) in (1..).zip(&dictionaries) {
        places.push(bytes.len());
        bytes.extend(format!("{number} 0 obj\n{dictionary}\n").bytes());
        if number == dictionaries.len() {
            bytes.extend(iter::once(&b"stream\n"[..]).chain([deflated, b"\nendstream\n"]).flatten());
        }
        bytes.extend(b"endobj\n");
    }
    let table = bytes.len();
    bytes.extend(b"xref\n0 6\n0000000000 65535 f \n");
    bytes.extend(places.iter().flat_map(|place| format!("{place:010} 00000 n \n").into_bytes()));
    bytes.extend(format!("trailer\n<< /Size 6 /Root 1 0 R >>\nstartxref\n{table}\n%%EOF\n").bytes());
    bytes
}

fn showing(text: &str) -> Vec<u8> {
    let mut deflated = ZlibEncoder::new(Vec::new(), Compression::fast());
    write!(deflated, "BT /F1 12 Tf 72 700 Td ({text}) Tj ET").unwrap();
    deflated.finish().unwrap()
}

/// Half a megabyte that unpacks to as many zeros as a reader may have memory.
fn zeros() -> Vec<u8> {
    let mut deflated = ZlibEncoder::new(Vec::new(), Compression::best());
    let mut add = || {
        deflated.write_all(&[0; 1 << 20]).unwrap();
        deflated.flush().unwrap();
        deflated.get_ref().clone()
    };
    let (first, two) = (add(), add());
    // What follows on zeros can follow again and again.
    [&two[..], &two[first.len()..].repeat(510)].concat()
}

/// How many readers of PDFs this process has started that have not ended (Linux).
fn readers() -> usize {
    let own = std::process::id().to_string();
    let processes = fs::read_dir("/proc").unwrap().flatten().map(|process| process.path());
    // Behind the name, which is in brackets, are the state and the parent. One that has ended has no arguments.
    let is_reader = |process: &Path| -> Option<bool> {
        let status = fs::read_to_string(process.join("stat")).ok()?;
        let parent = status.rsplit_once(')')?.1.split_whitespace().nth(1)?.to_owned();
        let arguments = fs::read_to_string(process.join("cmdline")).ok()?;
        Some(parent == own && arguments.split('\0').any(|argument| argument == "extract-pdf"))
    };
    processes.filter(|process| is_reader(process) == Some(true)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn pdfs_that_take_all_memory_or_crash_their_reader_fail_alone_and_two_are_read_at_a_time() {
    let roles = Roles::new(Some("a")).await;
    let bomb = pdf(FONT, &zeros());
    let opinion = pdf(FONT, &showing("Appeal dismissed"));
    let expected = [
        ("/bomb-1", PDF, bomb.clone(), Some("PdfCrashed")),
        ("/bomb-2", PDF, bomb.clone(), Some("PdfCrashed")),
        ("/bomb-3", PDF, bomb.clone(), Some("PdfCrashed")),
        ("/bomb-4", PDF, bomb, Some("PdfCrashed")),
        ("/no-font", PDF, pdf("<< /Type /Font >>", &showing("x")), Some("PdfCrashed")),
        ("/opinion-1", PDF, opinion, None),
        ("/opinion-2", HTML, b"<!doctype html><title>Opinion</title><p>Appeal allowed".to_vec(), None),
    ];
    let mut list = String::new();
    for (path, content_type, bytes, _) in &expected {
        list.push_str(&format!("<li><a href='{path}'>an opinion</a>"));
        roles.site.put(path, content_type, bytes.clone());
    }
    roles.site.put("/page", HTML, format!("<!doctype html><title>Opinions</title><ul>{list}</ul>"));

    let (run, event) = roles.due().await;
    assert_eq!(roles.handle(&event).await.unwrap(), []);
    let mut fetched = Vec::new();
    for event in roles.outbox().await {
        fetched.extend(roles.handle(&event).await.unwrap().iter().map(events::Event::to_record));
    }
    assert_eq!(fetched.len(), expected.len());
    let _working = roles.work();
    roles.bus.publish(&fetched).await.unwrap();
    let mut most = 0;
    eventually("the end of the run", 6 * SOON, async || {
        most = most.max(readers());
        if roles.place.is_active(run).await { Err(most) } else { Ok(()) }
    })
    .await;
    assert_eq!(most, 2, "processes that read PDFs at a time");

    let documents: BTreeMap<String, Option<String>> =
        sqlx::query_as("select url, reason from documents where run_id = $1 and not is_base")
            .bind(run)
            .fetch_all(&roles.place.sql)
            .await
            .unwrap()
            .into_iter()
            .collect();
    let expected = expected.map(|(path, .., reason)| (roles.site.at(path), reason.map(str::to_owned)));
    assert_eq!(documents, expected.into());
    let texts: Vec<String> = sqlx::query_scalar(
        "select e.text from versions v join extracts e on e.id = v.extract_id order by v.url",
    )
    .fetch_all(&roles.place.sql)
    .await
    .unwrap();
    assert_eq!(texts, ["Appeal dismissed", "Appeal allowed"]);
    let run = roles.place.ended(run).await;
    assert_eq!((run.phase.name(), run.reason.as_deref()), ("Failed", Some("PdfCrashed")));
}
