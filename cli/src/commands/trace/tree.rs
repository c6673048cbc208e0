//! A run as a tree: its events, its documents, what was fetched of each, taken out of it and made of it, and who was told how.

use jiff::{SignedDuration, Timestamp};
use store::blobs::BlobUri;
use store::catalog::{
    ArtifactRow, AttemptRow, ExtractRow, RunRow, RunTrace, TracedDelivery, TracedDocument, VersionRow,
};

use super::run_events::{Events, Shown, ShownEvent};
use crate::commands::show::{counted, counted_times, duration, extent, one_line, percent, time};
use crate::output::short_hash;

/// The longest message or answer that is shown, in characters.
const LONGEST: usize = 160;
/// An event that is published so long after it was emitted has waited.
const LATE: SignedDuration = SignedDuration::from_secs(1);

/// A line, and what stands below it.
struct Node {
    text: String,
    below: Vec<Node>,
}

impl Node {
    fn leaf(text: String) -> Self {
        Self { text, below: Vec::new() }
    }
}

pub(super) fn render(shown: &Shown) -> String {
    let RunTrace { run, documents } = &shown.trace;
    let mut below = vec![Node::leaf(times(run)), Node::leaf(format!("trace {}", run.trace_id))];
    below.extend(run.message.iter().map(|message| Node::leaf(one_line(message, LONGEST))));
    let events = match &shown.events {
        None => &[],
        Some(Events::Events(events)) => events.as_slice(),
        Some(Events::EventsNotRead(error)) => {
            below.push(Node::leaf(format!("no events: {}", one_line(error, usize::MAX))));
            &[]
        }
    };
    let is_of_document = |event: &&ShownEvent| is_of(event, documents);
    below.extend(events.iter().filter(|event| !is_of_document(event)).map(event));
    below.extend(documents.iter().map(|document| self::document(document, run, events)));
    let ended = run.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
    let heading = format!("run {}  {}/{}  {}{ended}", run.id, run.namespace, run.subscription, run.phase);
    let mut lines = vec![heading];
    draw(&below, "", &mut lines);
    lines.into_iter().map(|line| line + "\n").collect()
}

fn draw(nodes: &[Node], indent: &str, lines: &mut Vec<String>) {
    for (index, node) in nodes.iter().enumerate() {
        let (branch, further) =
            if index + 1 == nodes.len() { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        lines.push(format!("{indent}{branch}{}", node.text));
        draw(&node.below, &format!("{indent}{further}"), lines);
    }
}

/// When it was due, and how long after that everything else was.
fn times(run: &RunRow) -> String {
    let after = |what: &str, at: Option<Timestamp>| {
        at.map(|at| format!(", {what} after {}", duration(at.duration_since(run.scheduled_for))))
            .unwrap_or_default()
    };
    format!(
        "due {} ({}){}{}{}",
        time(run.scheduled_for),
        run.trigger,
        after("made", Some(run.created_at)),
        after("begun", run.started_at),
        after("ended", run.finished_at),
    )
}

/// Whether it stands below one of the documents, or of their deliveries.
fn is_of(event: &ShownEvent, documents: &[TracedDocument]) -> bool {
    let is_sent = |document: &TracedDocument| {
        document.deliveries.iter().any(|traced| event.about.delivery_id == Some(traced.delivery.id))
    };
    documents.iter().any(|document| event.about.url.as_ref() == Some(&document.url) || is_sent(document))
}

fn event(event: &ShownEvent) -> Node {
    let ShownEvent { topic, job_type, id, emitted_at, published_at, attempt, partition, offset, .. } = event;
    let mut text = format!("event {id}  {topic} {partition}/{offset}  {job_type}  {}", time(*emitted_at));
    // It waited: for a host's slot, after a setback, for the bus.
    if let Some(waited) =
        published_at.map(|at| at.duration_since(*emitted_at)).filter(|waited| *waited >= LATE)
    {
        text.push_str(&format!(", published after {}", duration(waited)));
    }
    if *attempt > 0 {
        text.push_str(&format!("  put off {}", counted_times(*attempt)));
    }
    Node::leaf(text)
}

fn document(document: &TracedDocument, run: &RunRow, events: &[ShownEvent]) -> Node {
    let TracedDocument { url, phase, changed, is_gone, reason, message, finished_at, .. } = document;
    let mut text = format!("{url}  {phase}");
    if let Some(reason) = reason {
        text.push_str(&format!(": {reason}"));
    }
    if let Some(message) = message {
        text.push_str(&format!(": {}", one_line(message, LONGEST)));
    }
    match (is_gone, changed) {
        (true, _) => text.push_str(", its list does not name it any more"),
        (false, Some(true)) => text.push_str(", changed"),
        (false, Some(false)) => text.push_str(", as before"),
        (false, None) => {}
    }
    if let Some(finished_at) = finished_at {
        text.push_str(&format!(" after {}", duration(finished_at.duration_since(run.scheduled_for))));
    }
    let mut below: Vec<Node> =
        events.iter().filter(|event| event.about.url.as_ref() == Some(url)).map(event).collect();
    below.extend(document.artifact.iter().map(|artifact| Node::leaf(self::artifact(artifact, run))));
    below.extend(document.extract.iter().map(|extract| Node::leaf(self::extract(extract))));
    below.extend(document.version.iter().map(|version| Node {
        text: self::version(version),
        below: document.deliveries.iter().map(|delivery| self::delivery(delivery, events)).collect(),
    }));
    Node { text, below }
}

fn artifact(artifact: &ArtifactRow, run: &RunRow) -> String {
    let mut text = format!(
        "artifact {}  {}  {}  sha256 {}  {}",
        artifact.id,
        artifact.status,
        counted_bytes(artifact.byte_size),
        short_hash(&artifact.fetch_hash),
        time(artifact.fetched_at),
    );
    if let (Some(requested_at), Some(finished_at)) = (artifact.requested_at, artifact.finished_at) {
        text.push_str(&format!(" in {}", duration(finished_at.duration_since(requested_at))));
    }
    if let Some(content_type) = &artifact.content_type {
        text.push_str(&format!("  {}", one_line(content_type, LONGEST)));
    }
    if let Some(earlier) = artifact.revisit_of {
        text.push_str(&format!("  (the bytes of artifact {earlier})"));
    }
    if artifact.run_id != run.id {
        text.push_str(&format!("  (fetched by run {})", artifact.run_id));
    }
    text.push_str(&format!("  {}", place(&artifact.blob_uri)));
    text
}

/// A file by its path, so that it can be opened.
fn place(blob_uri: &str) -> String {
    match blob_uri.parse() {
        Ok(BlobUri::File(path)) => path.display().to_string(),
        _ => blob_uri.to_owned(),
    }
}

fn extract(extract: &ExtractRow) -> String {
    let ExtractRow { id, parser, parser_version, text_hash, text_bytes, fields, created_at } = extract;
    let mut text = format!(
        "extract {id}  {parser} parser, version {parser_version}  {} of text  sha256 {}  {}",
        counted_bytes(*text_bytes),
        short_hash(text_hash),
        time(*created_at),
    );
    if !fields.is_empty() {
        text.push_str(&format!("  fields {}", fields.join(", ")));
    }
    text
}

fn version(version: &VersionRow) -> String {
    let mut text = format!(
        "version {} (id {})  {}  lines {}  {}  {}",
        version.number,
        version.id,
        version.kind,
        extent(version.lines_changed, version.lines_added, version.lines_removed),
        percent(version.ratio),
        time(version.created_at),
    );
    if !version.changed_fields.is_empty() {
        text.push_str(&format!("  changed fields {}", version.changed_fields.join(", ")));
    }
    text
}

fn delivery(traced: &TracedDelivery, events: &[ShownEvent]) -> Node {
    let delivery = &traced.delivery;
    let mut text = format!(
        "delivery {}  {}  {}  {}  {}",
        delivery.id,
        delivery.target,
        delivery.phase,
        counted(usize::try_from(delivery.changes).unwrap_or_default(), "change", "changes"),
        time(delivery.created_at),
    );
    if let Some(next) = delivery.next_attempt_at {
        text.push_str(&format!("  next attempt {}", time(next)));
    }
    if let Some(finished_at) = delivery.finished_at {
        text.push_str(&format!("  after {}", duration(finished_at.duration_since(delivery.created_at))));
    }
    let sent = events.iter().filter(|event| event.about.delivery_id == Some(delivery.id)).map(event);
    let tries = traced.tries.iter().map(|attempt| Node::leaf(self::attempt(attempt)));
    Node { text, below: sent.chain(tries).collect() }
}

fn attempt(attempt: &AttemptRow) -> String {
    let status = attempt.status.map_or_else(|| "no status".to_owned(), |status| status.to_string());
    let taken = jiff::SignedDuration::from_millis(i64::from(attempt.duration_ms));
    let text = format!(
        "attempt {}  {}  {status} in {}  {}",
        attempt.number,
        time(attempt.started_at),
        duration(taken),
        one_line(&attempt.detail, LONGEST),
    );
    text.trim_end().to_owned()
}

fn counted_bytes(bytes: i64) -> String {
    format!("{bytes} bytes")
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::run_events::About;
    use super::*;
    use crate::commands::{deliveries, versions};

    const DOCUMENTATION: &str = include_str!("../../../../docs/cli.md");

    fn at(time: &str) -> Timestamp {
        time.parse().unwrap()
    }

    pub(in crate::commands::trace) fn run() -> RunRow {
        RunRow {
            id: "5b7e1f30-0000-5000-8000-000000000001".parse().unwrap(),
            namespace: "courts".into(),
            subscription: "slip-opinions".into(),
            scheduled_for: at("2026-03-09T09:00:00Z"),
            trigger: "Schedule".into(),
            phase: "Succeeded".into(),
            reason: Some("Changed".into()),
            message: None,
            changed: Some(true),
            due_times: 1,
            trace_id: "5b7e1f30000050008000000000000001".into(),
            created_at: at("2026-03-09T09:00:00.1Z"),
            started_at: Some(at("2026-03-09T09:00:00.4Z")),
            finished_at: Some(at("2026-03-09T09:00:05.2Z")),
        }
    }

    pub(in crate::commands::trace) fn changed() -> TracedDocument {
        let url = "https://court.example/opinions/24-18";
        TracedDocument {
            url: url.into(),
            phase: "Stored".into(),
            changed: Some(true),
            is_gone: false,
            reason: None,
            message: None,
            finished_at: Some(at("2026-03-09T09:00:05.2Z")),
            artifact: Some(ArtifactRow {
                id: 44,
                namespace: "courts".into(),
                source: "supreme-court".into(),
                run_id: run().id,
                source_url: url.into(),
                final_url: url.into(),
                status: 200,
                content_type: Some("text/html".into()),
                byte_size: 12_345,
                fetch_hash: "b4e1".repeat(16),
                blob_uri: "s3://evidence/raw/7/2026/03/09/b4e1.bin".into(),
                remote_address: None,
                requested_at: Some(at("2026-03-09T09:00:02Z")),
                fetched_at: at("2026-03-09T09:00:02.3Z"),
                finished_at: Some(at("2026-03-09T09:00:02.34Z")),
                revisit_of: None,
            }),
            extract: Some(ExtractRow {
                id: 52,
                parser: "html".into(),
                parser_version: 1,
                text_hash: "0c5d".repeat(16),
                text_bytes: 2_310,
                fields: vec!["docket".into(), "title".into()],
                created_at: at("2026-03-09T09:00:04Z"),
            }),
            version: Some(versions::tests::version()),
            deliveries: vec![TracedDelivery {
                delivery: deliveries::tests::delivered(),
                tries: vec![
                    AttemptRow {
                        number: 1,
                        started_at: at("2026-03-09T09:00:05.3Z"),
                        duration_ms: 210,
                        status: Some(503),
                        detail: "busy\n".into(),
                    },
                    AttemptRow {
                        number: 2,
                        started_at: at("2026-03-09T09:00:10.6Z"),
                        duration_ms: 95,
                        status: Some(200),
                        detail: String::new(),
                    },
                ],
            }],
        }
    }

    fn events() -> Vec<ShownEvent> {
        let url = || About { url: Some(changed().url), ..About::default() };
        let sent = About { delivery_id: Some(changed().deliveries[0].delivery.id), ..About::default() };
        let event = |number: u128, topic, job_type: &str, seconds: &str, about| ShownEvent {
            topic,
            job_type: job_type.into(),
            id: uuid::Uuid::from_u128(0x7c4b_9a10_0000_5000_8000_0000_0000_0000 + number),
            source: "/tipstaff/worker".into(),
            emitted_at: at(&format!("2026-03-09T09:00:{seconds}Z")),
            published_at: Some(at(&format!("2026-03-09T09:00:{seconds}Z"))),
            attempt: 0,
            partition: 1,
            offset: 40 + i64::try_from(number).unwrap(),
            about,
        };
        let mut again = event(6, "delivery.request", "delivery.send", "05.2", sent.clone());
        again.published_at = Some(at("2026-03-09T09:00:10.5Z"));
        (again.attempt, again.offset) = (1, 47);
        vec![
            event(1, "subs.schedule", "subscription.scheduled", "00.1", About::default()),
            event(2, "crawl.request", "crawl.url", "00.4", url()),
            event(3, "crawl.result", "parse.content", "02.4", url()),
            event(4, "parse.result", "version.document", "04.1", url()),
            event(5, "versioning.result", "delivery.plan", "05.2", url()),
            event(6, "delivery.request", "delivery.send", "05.2", sent),
            again,
        ]
    }

    fn unfinished(phase: &str) -> TracedDocument {
        TracedDocument {
            phase: phase.into(),
            changed: None,
            finished_at: None,
            artifact: None,
            extract: None,
            version: None,
            deliveries: Vec::new(),
            ..changed()
        }
    }

    #[test]
    fn the_documentation_shows_a_run() {
        let mut shown = Shown { trace: RunTrace { run: run(), documents: vec![changed()] }, events: None };
        assert!(DOCUMENTATION.contains(&render(&shown)), "{}", render(&shown));
        shown.events = Some(Events::Events(events()));
        let tree = render(&shown);
        assert!(DOCUMENTATION.contains(&tree), "{tree}");
        let places = events()
            .into_iter()
            .map(|event| format!(" {} {}/{}  ", event.topic, event.partition, event.offset));
        for place in places {
            assert_eq!(tree.matches(&place).count(), 1, "{place} in {tree}");
        }
        shown.events = Some(Events::EventsNotRead("the brokers\nare away".into()));
        assert!(render(&shown).contains("├─ no events: the brokers are away\n"), "{}", render(&shown));
    }

    #[test]
    fn a_document_says_how_far_it_is_and_why_it_failed() {
        let line = |document: &TracedDocument| super::document(document, &run(), &[]).text;
        let url = &changed().url;
        assert_eq!(line(&unfinished("Pending")), format!("{url}  Pending"));
        let failed = TracedDocument {
            reason: Some("SelectorDrift".into()),
            message: Some("the selectors title\nmatch nothing".into()),
            finished_at: Some(at("2026-03-09T09:01:30Z")),
            ..unfinished("Failed")
        };
        let expected = "Failed: SelectorDrift: the selectors title match nothing after 1 min 30 s";
        assert_eq!(line(&failed), format!("{url}  {expected}"));
        let gone = TracedDocument { is_gone: true, changed: Some(true), ..unfinished("Stored") };
        assert_eq!(line(&gone), format!("{url}  Stored, its list does not name it any more"));
        let same = TracedDocument { changed: Some(false), ..unfinished("Stored") };
        assert_eq!(line(&same), format!("{url}  Stored, as before"));
    }

    #[test]
    fn an_artifact_says_whose_bytes_it_has() {
        let fetched = changed().artifact.unwrap();
        let shared = ArtifactRow { revisit_of: Some(40), run_id: uuid::Uuid::from_u128(9), ..fetched };
        let shown = artifact(&shared, &run());
        assert!(shown.contains("(the bytes of artifact 40)  (fetched by run 0000"), "{shown}");
        let kept = ArtifactRow { blob_uri: "file:///data/with%20space.bin".into(), ..shared };
        assert!(artifact(&kept, &run()).ends_with("  /data/with space.bin"));
    }

    #[test]
    fn what_waits_says_until_when() {
        let mut waiting = changed().deliveries.remove(0);
        waiting.delivery.phase = "Pending".into();
        waiting.delivery.finished_at = None;
        waiting.delivery.next_attempt_at = Some(at("2026-03-09T09:05:00Z"));
        waiting.tries[0].status = None;
        let shown = delivery(&waiting, &[]);
        assert!(shown.text.ends_with("next attempt 2026-03-09T09:05:00Z"), "{}", shown.text);
        assert!(shown.below[0].text.contains("no status in 210 ms  busy"), "{}", shown.below[0].text);
    }
}
