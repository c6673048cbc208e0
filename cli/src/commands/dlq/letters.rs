//! Dead letters as they are shown.

use std::cmp::Reverse;

use events::Topic;
use events::kafka::{DeadLetter, DeadLetterPartition};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::commands::list::{Column, ListFormat, render};
use crate::commands::show::{counted_times, dash, one_line, time_or_dash};

/// The longest reason of a table, in characters.
const LONGEST_REASON: usize = 80;

/// How many letters a topic has.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct TopicCount {
    topic: &'static str,
    /// Those that were not published again.
    waiting: i64,
    /// All that retention has left.
    kept: i64,
}

/// A letter as it is shown.
#[derive(Debug, Serialize)]
pub(super) struct Letter {
    topic: &'static str,
    partition: i32,
    offset: i64,
    time: Option<Timestamp>,
    job_type: Option<String>,
    reason: Option<String>,
    /// How often it was put off before.
    put_off: u32,
    run_id: Option<Uuid>,
    key: Option<String>,
    /// In their order; a name may recur.
    headers: Vec<(String, String)>,
    /// JSON as such, anything else as text.
    payload: Value,
}

impl Letter {
    pub(super) fn of(letter: &DeadLetter) -> Self {
        let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
        let record = &letter.record;
        let payload =
            serde_json::from_slice(&record.payload).unwrap_or_else(|_| Value::from(text(&record.payload)));
        Self {
            topic: letter.topic.name(),
            partition: letter.partition,
            offset: letter.offset,
            time: letter.time,
            job_type: letter.job_type(),
            reason: letter.reason(),
            put_off: letter.put_off(),
            run_id: payload["run_id"].as_str().and_then(|id| id.parse().ok()),
            key: record.key.as_ref().map(text),
            headers: record.headers.iter().map(|(name, value)| (name.clone(), text(value))).collect(),
            payload,
        }
    }

    /// All of it, for a person.
    pub(super) fn render(&self) -> String {
        let mut lines = vec![
            format!("letter   {} {}/{}", self.topic, self.partition, self.offset),
            format!("time     {}", time_or_dash(self.time)),
            format!("reason   {}", shown(self.reason.as_deref())),
            format!("put off  {}", counted_times(self.put_off)),
            format!("run      {}", self.run_id.map_or_else(dash, |id| id.to_string())),
            format!("key      {}", shown(self.key.as_deref())),
            "headers".to_owned(),
        ];
        lines.extend(self.headers.iter().map(|(name, value)| {
            format!("  {}: {}", one_line(name, usize::MAX), one_line(value, usize::MAX))
        }));
        lines.push("payload".to_owned());
        // Writing a value as JSON does not fail; control characters are escaped in it.
        let payload = serde_json::to_string_pretty(&self.payload).unwrap_or_default();
        lines.extend(payload.lines().map(|line| format!("  {line}")));
        lines.into_iter().map(|line| line + "\n").collect()
    }
}

fn shown(text: Option<&str>) -> String {
    text.map_or_else(dash, |text| one_line(text, usize::MAX))
}

const COUNTS: [Column<TopicCount>; 3] = [
    Column::text("TOPIC", |count| count.topic.to_owned()),
    Column::number("LETTERS", |count| count.waiting.to_string()),
    Column::number("KEPT", |count| count.kept.to_string()),
];

const LETTERS: [Column<Letter>; 9] = [
    Column::text("TOPIC", |letter| letter.topic.to_owned()),
    Column::text("PLACE", |letter| format!("{}/{}", letter.partition, letter.offset)),
    Column::text("TIME", |letter| time_or_dash(letter.time)),
    Column::text("JOB", |letter| shown(letter.job_type.as_deref())),
    Column::text("RUN", |letter| letter.run_id.map_or_else(dash, |id| id.to_string())),
    Column::number("PUT OFF", |letter: &Letter| letter.put_off.to_string()).wide(),
    Column::text("KEY", |letter: &Letter| shown(letter.key.as_deref())).wide(),
    Column::text("REASON", |letter: &Letter| reason(letter, LONGEST_REASON)).narrow(),
    Column::text("REASON", |letter: &Letter| reason(letter, usize::MAX)).wide(),
];

fn reason(letter: &Letter, most: usize) -> String {
    letter.reason.as_deref().map_or_else(dash, |reason| one_line(reason, most))
}

/// How many letters each topic has.
pub(super) fn counts(topics: &[Topic], partitions: &[DeadLetterPartition]) -> Vec<TopicCount> {
    let counted = |topic: &Topic| {
        let of_topic = || partitions.iter().filter(|partition| partition.topic == *topic);
        TopicCount {
            topic: topic.name(),
            waiting: of_topic().map(|partition| partition.end - partition.waiting_from).sum(),
            kept: of_topic().map(|partition| partition.end - partition.begin).sum(),
        }
    };
    topics.iter().map(counted).collect()
}

/// The newest letters of each topic, in the order of the topics.
pub(super) fn newest_first(mut letters: Vec<DeadLetter>, most: usize) -> Vec<Letter> {
    letters
        .sort_by_key(|letter| (letter.topic, Reverse(letter.time), letter.partition, Reverse(letter.offset)));
    let by_topic = letters.chunk_by(|one, other| one.topic == other.topic);
    by_topic.flat_map(|of_topic| of_topic.iter().take(most)).map(Letter::of).collect()
}

/// The counts, then the letters; as JSON, an object for each letter.
pub(super) fn list(
    counts: &[TopicCount],
    letters: &[Letter],
    format: ListFormat,
) -> Result<String, serde_json::Error> {
    if format == ListFormat::Json {
        return render(letters, &LETTERS, format);
    }
    let mut shown = render(counts, &COUNTS, format)?;
    if !letters.is_empty() {
        shown.push('\n');
        shown.push_str(&render(letters, &LETTERS, format)?);
    }
    Ok(shown)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use events::Record;

    use super::*;

    const DOCUMENTATION: &str = include_str!("../../../../docs/cli.md");

    fn letter(topic: Topic, partition: i32, offset: i64, time: &str) -> DeadLetter {
        let headers = [
            ("ce_specversion", "1.0"),
            ("ce_id", "7c4b9a10-0000-5000-8000-000000000009"),
            ("ce_type", "crawl.url"),
            ("ce_source", "/tipstaff/worker/schedule"),
            ("dead_letter_reason", "the handler ended early"),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()));
        let record = Record {
            topic: topic.dead_letter_name(),
            key: Some(b"court.example".to_vec()),
            headers: headers.to_vec(),
            payload:
                br#"{"run_id":"5b7e1f30-0000-5000-8000-000000000001","url":"https://court.example/opinions"}"#
                    .to_vec(),
        };
        DeadLetter { topic, partition, offset, time: Some(time.parse().unwrap()), record }
    }

    fn partition(topic: Topic, number: i32, begin: i64, waiting_from: i64, end: i64) -> DeadLetterPartition {
        DeadLetterPartition { topic, number, begin, waiting_from, end }
    }

    #[test]
    fn the_documentation_shows_the_list() {
        let topics = [Topic::CrawlRequest, Topic::CrawlResult];
        let partitions = [
            partition(Topic::CrawlRequest, 0, 0, 0, 1),
            partition(Topic::CrawlRequest, 1, 3, 17, 18),
            partition(Topic::CrawlResult, 0, 4, 4, 4),
        ];
        let letters = vec![
            letter(Topic::CrawlRequest, 0, 0, "2026-03-09T08:00:03Z"),
            letter(Topic::CrawlRequest, 1, 17, "2026-03-09T09:00:03Z"),
        ];
        let letters = newest_first(letters, 10);
        let shown = list(&counts(&topics, &partitions), &letters, ListFormat::Table).unwrap();
        assert!(DOCUMENTATION.contains(&shown), "{shown}");
    }

    #[test]
    fn the_documentation_shows_a_letter() {
        let shown = Letter::of(&letter(Topic::CrawlRequest, 1, 17, "2026-03-09T09:00:03Z")).render();
        assert!(DOCUMENTATION.contains(&shown), "{shown}");
    }

    #[test]
    fn each_topic_has_its_newest() {
        let letters = vec![
            letter(Topic::CrawlResult, 0, 1, "2026-03-09T12:00:00Z"),
            letter(Topic::CrawlRequest, 0, 1, "2026-03-09T09:00:00Z"),
            letter(Topic::CrawlRequest, 1, 7, "2026-03-09T11:00:00Z"),
            letter(Topic::CrawlRequest, 0, 2, "2026-03-09T10:00:00Z"),
        ];
        let shown: Vec<_> = newest_first(letters, 2)
            .iter()
            .map(|letter| (letter.topic, letter.partition, letter.offset))
            .collect();
        assert_eq!(shown, [("crawl.request", 1, 7), ("crawl.request", 0, 2), ("crawl.result", 0, 1)]);
    }

    #[test]
    fn what_is_no_json_is_shown_as_text_and_commands_no_terminal() {
        let mut broken = letter(Topic::CrawlRequest, 0, 0, "2026-03-09T09:00:00Z");
        broken.record.payload = b"\x1b[31mnot JSON".to_vec();
        broken.record.headers = vec![("dead_letter_reason".into(), b"no\n\x1b[31mevent".to_vec())];
        broken.record.key = None;
        let letter = Letter::of(&broken);
        assert_eq!((letter.run_id, letter.job_type.clone()), (None, None));
        let shown = letter.render();
        assert!(!shown.contains('\u{1b}'), "{shown:?}");
        assert!(
            shown.contains("reason   no [31mevent\n") && shown.contains("\\u001b[31mnot JSON"),
            "{shown}"
        );
    }
}
