//! A delivery as an e-mail: its subject and its two bodies.

use std::fmt::Write;

use crate::{
    delivery::{Data, Delivery, DocumentChange},
    fields::readable,
    html::{escaped, html},
    summary::{cut, diff_command, extent, headline, name},
};

const LONGEST_SUBJECT: usize = 150;

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Email {
    /// Subject, on one line and not encoded; at most 150 characters.
    pub subject: String,
    /// Body of type text/plain.
    pub text: String,
    /// Body of type text/html: a whole page.
    pub html: String,
}

/// The message. Both bodies have every change with its diff.
pub fn email(delivery: &Delivery) -> Email {
    let data = &delivery.data;
    let (mut text, mut html) = (String::new(), String::new());
    // Writing to a string does not fail.
    let _ = write_text(&mut text, data);
    let _ = write_html(&mut html, data);
    Email { subject: subject(data), text, html }
}

fn subject(data: &Data) -> String {
    let subscription = format!("{}/{}", data.subscription.namespace, data.subscription.name);
    // The name has no control characters: a line feed would begin another header.
    let subject = match data.changes.as_slice() {
        [change] => format!("[{subscription}] {}: {}", headline(change.change.kind), name(change)),
        changes => format!("[{subscription}] {} changes", changes.len()),
    };
    cut(&subject, LONGEST_SUBJECT)
}

fn write_text(text: &mut String, data: &Data) -> std::fmt::Result {
    for change in &data.changes {
        writeln!(text, "{}: {}", headline(change.change.kind), name(change))?;
        writeln!(text, "{}\n{}\n", change.document.url, extent(&change.change))?;
        for field in &change.change.field_changes {
            let value = |value: &Option<_>| value.as_ref().map_or_else(|| "(none)".to_owned(), readable);
            writeln!(text, "{}: {} -> {}", field.name, value(&field.old), value(&field.new))?;
        }
        if !change.diff.is_empty() {
            writeln!(text, "{}", change.diff)?;
        }
        for line in evidence(data, change) {
            writeln!(text, "{line}")?;
        }
        text.push('\n');
    }
    writeln!(text, "-- \n{}", footer(data))
}

fn write_html(page: &mut String, data: &Data) -> std::fmt::Result {
    writeln!(page, "<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"></head><body>")?;
    for change in &data.changes {
        let (headline, name) = (headline(change.change.kind), escaped(&name(change)));
        let url = &change.document.url;
        // Only a web address is made a link: anything else might be a script.
        if url.starts_with("https://") || url.starts_with("http://") {
            writeln!(page, "<h3>{headline}: <a href=\"{}\">{name}</a></h3>", escaped(url))?;
        } else {
            writeln!(page, "<h3>{headline}: {name}</h3>")?;
        }
        writeln!(page, "<p>{}</p>", escaped(&extent(&change.change)))?;
        page.push_str(&html(&change.change));
        let evidence: Vec<String> = evidence(data, change).iter().map(|line| escaped(line)).collect();
        writeln!(page, "<p style=\"color:#57606a;font-size:12px\">{}</p>", evidence.join("<br>\n"))?;
    }
    writeln!(
        page,
        "<hr><p style=\"color:#57606a;font-size:12px\">{}</p>\n</body></html>",
        escaped(&footer(data))
    )
}

/// How the change can be looked up and shown.
fn evidence(data: &Data, change: &DocumentChange) -> Vec<String> {
    let document = &change.document;
    let versions = [("before", &document.old), ("after", &document.new)];
    let mut lines: Vec<String> = versions
        .into_iter()
        .filter_map(|(when, version)| version.as_ref().map(|version| (when, version)))
        .map(|(when, version)| {
            let artifact = &version.artifact;
            format!(
                "{when}: version {}, fetched {}, SHA-256 {}, {}",
                version.number, artifact.fetched_at, artifact.fetch_hash, artifact.blob_uri
            )
        })
        .collect();
    lines.push(format!("seen {}, trace {}", document.detected_at, document.trace_id));
    lines.extend(diff_command(data, change));
    lines
}

fn footer(data: &Data) -> String {
    let jurisdiction = data.jurisdiction.as_ref().map(|code| format!(", {code}")).unwrap_or_default();
    let Data { id, target, subscription, source, .. } = data;
    format!(
        "Tipstaff, subscription {}/{}, source {}{jurisdiction}. Target {target}, delivery {id}.",
        subscription.namespace, subscription.name, source.name
    )
}
