//! A change in words, for people.

use crate::{
    compare::{Change, ChangeKind},
    delivery::{Data, DocumentChange},
    fields::readable,
};

/// The longest name of a document that is shown, in characters.
const LONGEST_NAME: usize = 200;

/// What happened, such as `New document`.
pub(crate) fn headline(kind: ChangeKind) -> &'static str {
    match kind {
        ChangeKind::Baseline => "First version",
        ChangeKind::New => "New document",
        ChangeKind::Changed => "Changed",
        ChangeKind::Removed => "Removed",
        ChangeKind::Returned => "Returned",
    }
}

/// What the document calls itself in its field `title`, on one line; otherwise its URL.
pub(crate) fn name(change: &DocumentChange) -> String {
    let title = change.document.fields.get("title").map(readable).unwrap_or_default();
    let title = title.split_whitespace().collect::<Vec<_>>().join(" ");
    let name = if title.is_empty() { &change.document.url } else { &title };
    let name: String = name.chars().filter(|character| !character.is_control()).collect();
    cut(&name, LONGEST_NAME)
}

/// How much differs, such as `2 lines changed, 1 added (3.1 %); fields: docket, judge`.
pub(crate) fn extent(change: &Change) -> String {
    let lines = change.lines;
    let counts = [(lines.changed, "changed"), (lines.added, "added"), (lines.removed, "removed")];
    let counts = counts.iter().filter(|(count, _)| *count > 0).enumerate().map(|(index, (count, what))| {
        let noun = match (index, count) {
            (0, 1) => " line",
            (0, _) => " lines",
            _ => "",
        };
        format!("{count}{noun} {what}")
    });
    let mut extent = counts.collect::<Vec<_>>().join(", ");
    if matches!(change.kind, ChangeKind::Changed | ChangeKind::Returned) && !extent.is_empty() {
        extent.push_str(&format!(" ({})", percent(change.ratio)));
    }
    let fields: Vec<&str> = change.field_changes.iter().map(|field| &*field.name).collect();
    if !fields.is_empty() {
        let separator = if extent.is_empty() { "" } else { "; " };
        extent.push_str(&format!("{separator}fields: {}", fields.join(", ")));
    }
    if extent.is_empty() { "the text is as it was".to_owned() } else { extent }
}

fn percent(ratio: f64) -> String {
    match ratio * 100.0 {
        percent if percent < 0.1 => "less than 0.1 %".to_owned(),
        percent if percent > 99.9 && percent < 100.0 => "nearly all".to_owned(),
        percent => format!("{percent:.1} %"),
    }
}

/// What shows the whole change in a terminal.
pub(crate) fn diff_command(data: &Data, change: &DocumentChange) -> Option<String> {
    let document = &change.document;
    let (old, new) = (document.old.as_ref()?, document.new.as_ref()?);
    // Within single quotes a shell reads everything as it stands but the quote itself.
    let url = document.url.replace('\'', "%27");
    let subscription = &data.subscription;
    Some(format!(
        "tipstaff diff {}/{} --url '{url}' --from {} --to {}",
        subscription.namespace, subscription.name, old.number, new.number
    ))
}

/// At most so many characters, with an ellipsis in place of the rest.
pub(crate) fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some(_) => text.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
    }
}
