//! A change as a fragment of HTML.

use std::fmt::Write;

use crate::{
    compare::{Change, Hunk, Line, LineTag, Part},
    fields::{FieldChange, readable},
    unified::left_out,
};

// Mail programs know styles of elements only.
const HUNKS: &str = "font-family:ui-monospace,Menlo,Consolas,monospace;font-size:13px;line-height:1.5;white-space:pre-wrap;overflow-wrap:anywhere;border:1px solid #d0d7de";
const HEADER: &str = "background:#ddf4ff;color:#57606a;padding:0 8px";
const KEPT: &str = "padding:0 8px";
const REMOVED: &str = "background:#ffebe9;padding:0 8px";
const ADDED: &str = "background:#e6ffec;padding:0 8px";
const DELETED: &str = "background:#ffc0bd;text-decoration:line-through";
const INSERTED: &str = "background:#abf2bc;text-decoration:none";
const CELL: &str = "text-align:left;vertical-align:top;padding:2px 8px";

/// What changed in fields and text, as elements that stand within a `body`. What differs is in `ins` and `del`; all text
/// of the document is escaped. Empty when there is nothing to show.
pub fn html(change: &Change) -> String {
    let mut html = String::new();
    // Writing to a string does not fail.
    let _ = write(&mut html, change);
    html
}

/// A text as it stands in HTML, also within quotes. Control characters, which HTML forbids, are replaced.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\t' | '\n' => escaped.push(character),
            character if character.is_control() => escaped.push(char::REPLACEMENT_CHARACTER),
            character => escaped.push(character),
        }
    }
    escaped
}

fn write(html: &mut String, change: &Change) -> std::fmt::Result {
    if !change.field_changes.is_empty() {
        writeln!(html, "<table style=\"border-collapse:collapse\">")?;
        for field in &change.field_changes {
            write_field(html, field)?;
        }
        writeln!(html, "</table>")?;
    }
    if !change.hunks.is_empty() {
        writeln!(html, "<div style=\"{HUNKS}\">")?;
        for hunk in &change.hunks {
            write_hunk(html, hunk)?;
        }
        writeln!(html, "</div>")?;
    }
    if let Some(left_out) = left_out(change) {
        writeln!(html, "<p>{left_out}.</p>")?;
    }
    Ok(())
}

fn write_field(html: &mut String, field: &FieldChange) -> std::fmt::Result {
    write!(html, "<tr><th style=\"{CELL}\">{}</th><td dir=\"auto\" style=\"{CELL}\">", escaped(&field.name))?;
    if let Some(old) = &field.old {
        write!(html, "<del style=\"{DELETED}\">{}</del>", escaped(&readable(old)))?;
    }
    if field.old.is_some() && field.new.is_some() {
        html.push(' ');
    }
    if let Some(new) = &field.new {
        write!(html, "<ins style=\"{INSERTED}\">{}</ins>", escaped(&readable(new)))?;
    }
    writeln!(html, "</td></tr>")
}

fn write_hunk(html: &mut String, hunk: &Hunk) -> std::fmt::Result {
    write!(html, "<div style=\"{HEADER}\">")?;
    match (hunk.old_lines, hunk.new_lines) {
        (0, _) => write!(html, "from line {}", hunk.new_start)?,
        (_, 0) => write!(html, "from line {} of the old text", hunk.old_start)?,
        _ if hunk.old_start == hunk.new_start => write!(html, "from line {}", hunk.new_start)?,
        _ => write!(html, "from line {}, formerly {}", hunk.new_start, hunk.old_start)?,
    }
    html.push_str("</div>");
    for line in &hunk.lines {
        write_line(html, line)?;
    }
    if hunk.omitted_lines > 0 {
        write!(html, "<div style=\"{HEADER}\">{} lines left out</div>", hunk.omitted_lines)?;
    }
    Ok(())
}

fn write_line(html: &mut String, line: &Line) -> std::fmt::Result {
    let (style, sign, element, marked) = match line.tag {
        LineTag::Kept => (KEPT, ' ', "", ""),
        LineTag::Removed => (REMOVED, '-', "del", DELETED),
        LineTag::Added => (ADDED, '+', "ins", INSERTED),
    };
    write!(html, "<div dir=\"auto\" style=\"{style}\">{sign} ")?;
    for part in &line.parts {
        let text = escaped(part.text());
        match part {
            Part::Differs(_) if !element.is_empty() => {
                write!(html, "<{element} style=\"{marked}\">{text}</{element}>")?;
            }
            _ => html.push_str(&text),
        }
    }
    html.push_str("</div>");
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{Extent, Extract, Fields};

    #[test]
    fn what_differs_is_in_ins_and_del_and_all_text_is_escaped() {
        let old = Fields::from([("judge".to_owned(), json!("<A>"))]);
        let new = Fields::from([("judge".to_owned(), json!(["B", "C & D"]))]);
        let change = Change::changed(
            Extract { text: "kept <b>\nThe court affirmed the \"judgment\".\n", fields: &old },
            Extract { text: "kept <b>\nThe court reversed the \"judgment\".\u{1b}\n", fields: &new },
            Extent::Bounded,
        );
        let html = html(&change.unwrap_or_else(|| unreachable!()));
        for expected in [
            "<th style=\"text-align:left;vertical-align:top;padding:2px 8px\">judge</th>",
            ">&lt;A&gt;</del> <ins",
            ">B, C &amp; D</ins>",
            ">  kept &lt;b&gt;</div>",
            ">- The court <del style=\"background:#ffc0bd;text-decoration:line-through\">affirmed</del> the &quot;judgment&quot;.</div>",
            ">+ The court <ins style=\"background:#abf2bc;text-decoration:none\">reversed</ins> the &quot;judgment&quot;.<ins",
            ">\u{fffd}</ins></div>",
            "from line 1<",
        ] {
            assert!(html.contains(expected), "{expected}\n{html}");
        }
        assert!(!html.contains("<b>") && !html.contains('\u{1b}'), "{html}");
    }
}
