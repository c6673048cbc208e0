//! A delivery as a message for a Slack incoming webhook.

use serde_json::{Value, json};

use crate::{
    delivery::{Data, Delivery, DocumentChange},
    summary::{cut, diff_command, extent, headline, name},
};

/// What Slack takes in a header, in characters.
const LONGEST_HEADER: usize = 150;
/// What Slack takes in a section is 3000 characters.
const LONGEST_SECTION: usize = 2900;
/// What Slack takes in all blocks together is not documented; it has refused 11000 characters.
const LONGEST_MESSAGE: usize = 8000;
/// With two blocks a change, header, rest and footer: Slack takes 50.
const MOST_CHANGES: usize = 20;
/// Longer URLs are not made links.
const LONGEST_LINK: usize = 1000;
const LONGEST_EXTENT: usize = 300;

/// The message: a block or two for each change, as many as fit, and how many more there are.
pub fn slack_message(delivery: &Delivery) -> Value {
    let data = &delivery.data;
    let title = title(data);
    let mut blocks = vec![json!({
        "type": "header",
        "text": {"type": "plain_text", "text": cut(&title, LONGEST_HEADER), "emoji": false},
    })];
    let mut room = LONGEST_MESSAGE;
    let mut shown = 0;
    for change in data.changes.iter().take(MOST_CHANGES) {
        let head = head(data, change);
        let length = head.chars().count();
        if length > room {
            break;
        }
        room -= length;
        shown += 1;
        blocks.push(section(&head));
        if let Some(diff) = diff(change, room.min(LONGEST_SECTION)) {
            room = room.saturating_sub(diff.chars().count());
            blocks.push(section(&diff));
        }
    }
    let more = data.changes.len() - shown;
    if more > 0 {
        let noun = if more == 1 { "change" } else { "changes" };
        blocks.push(section(&format!("_and {more} more {noun}_")));
    }
    blocks.push(json!({
        "type": "context",
        "elements": [{"type": "mrkdwn", "text": footer(delivery)}],
    }));
    json!({"text": within(&title, LONGEST_SECTION), "blocks": blocks})
}

fn title(data: &Data) -> String {
    let subscription = format!("{}/{}", data.subscription.namespace, data.subscription.name);
    match data.changes.as_slice() {
        [change] => format!("{}: {} ({subscription})", headline(change.change.kind), name(change)),
        changes => format!("{} changes ({subscription})", changes.len()),
    }
}

fn section(text: &str) -> Value {
    json!({"type": "section", "text": {"type": "mrkdwn", "text": text, "verbatim": true}})
}

fn head(data: &Data, change: &DocumentChange) -> String {
    // Backticks would begin code.
    let name = within(&name(change).replace('`', "'"), LONGEST_EXTENT);
    // A bar or a space would end the URL.
    let url = escaped(&change.document.url).replace('|', "%7C").replace(' ', "%20");
    let link = if url.len() <= LONGEST_LINK { format!("<{url}|{}>", name.replace('|', "¦")) } else { name };
    let mut head = format!(
        "*{}* {link}\n{}",
        headline(change.change.kind),
        within(&extent(&change.change), LONGEST_EXTENT)
    );
    if let Some(command) = diff_command(data, change).filter(|_| !change.change.is_complete()) {
        head.push_str(&format!("\nAll of it: {}", within(&command, LONGEST_LINK)));
    }
    head
}

/// The diff without its first lines, which name the versions, as a block of code.
fn diff(change: &DocumentChange, room: usize) -> Option<String> {
    let start = change.diff.find("\n@@ ")? + 1;
    let room = room.checked_sub("```\n\n```".len()).filter(|room| *room >= 80)?;
    // Three backticks would end the block: of each two, the second stands apart.
    let diff = change.diff[start..].trim_end().replace("``", "`\u{200b}`");
    Some(format!("```\n{}\n```", within(&diff, room)))
}

fn footer(delivery: &Delivery) -> String {
    let data = &delivery.data;
    let jurisdiction = data.jurisdiction.as_ref().map(|code| format!("{code} · ")).unwrap_or_default();
    let trace = data.changes.first().map(|change| format!(" · trace {}", change.document.trace_id));
    within(&format!("{jurisdiction}{}{}", data.source.name, trace.unwrap_or_default()), LONGEST_SECTION)
}

/// Text as Slack wants it: these three characters are its own.
fn escaped(text: &str) -> String {
    within(text, usize::MAX)
}

/// Escaped text of at most so many characters, with an ellipsis in place of the rest.
fn within(text: &str, most: usize) -> String {
    let mut escaped = String::new();
    let mut length = 0;
    // Where the text ends if an ellipsis has to follow.
    let mut end = 0;
    for character in text.chars() {
        let buffer = &mut [0; 4];
        let entity = match character {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            character => character.encode_utf8(buffer),
        };
        length += entity.chars().count();
        if length > most {
            escaped.truncate(end);
            escaped.push('…');
            return escaped;
        }
        escaped.push_str(entity);
        if length < most {
            end = escaped.len();
        }
    }
    escaped
}
