//! Events as lines for people: the time of day, a word for what happened, to what, and what of it matters.

use events::run_reasons;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use store::blobs::BlobUri;

use super::table;
use super::{
    Delivery, Document, Notice, ObjectName, ObjectVerdict, RunRow, RunStart, RunWait, Skips, Started,
};

/// Where what follows the time and the word begins.
const INDENT: usize = 21;
/// How many lines of a diff are shown.
const DIFF_LINES: usize = 24;
/// Reasons that say no more than the word before them.
const PLAIN_REASONS: [&str; 2] =
    [crds::conditions::reasons::REGISTERED, crds::conditions::reasons::SCHEDULED];

/// The line, or lines, of an event told at a time, without the last line's end.
pub(super) fn render(notice: &Notice, now: &Zoned) -> String {
    let line = |word: &str, rest: &str| format!("{}  {word:<9}  {rest}", now.strftime("%H:%M:%S"));
    match notice {
        Notice::Started(started) => introduction(started),
        Notice::Problem { file, line: at, message } => line("problem", &format!("{file}:{at}: {message}")),
        Notice::ProblemsSolved => line("solved", "the manifests have no problems any more"),
        Notice::Ready(verdict) => line("ready", &ready(verdict, now)),
        Notice::NotReady(ObjectVerdict { object, reason, message, .. }) => {
            line("not ready", &format!("{object}: {reason}: {message}"))
        }
        Notice::Deleted(object) => line("deleted", &deleted(object)),
        Notice::RunStarted(start) => line("started", &started(start, now)),
        Notice::RunWaiting(RunWait { subscription, reason, message, retry_at, .. }) => {
            let retry_at = time_of(*retry_at, now);
            line("waiting", &format!("{subscription}  {reason}: {message}; next attempt at {retry_at}"))
        }
        Notice::RunSkipped(skips) => line("skipped", &skipped(skips, now)),
        Notice::RunEnded(run) => {
            let lines: Vec<String> = ended(run).iter().map(|(word, rest)| line(word, rest)).collect();
            lines.join("\n")
        }
        Notice::Delivered(delivery) => line("delivered", &delivered(delivery)),
        Notice::NotDelivered(delivery) => line("not sent", &not_delivered(delivery, now)),
        Notice::Missed { count } => line("missed", &format!("{count} events came too fast to be told here")),
        Notice::Summary(summary) => table::render(summary),
        Notice::Stopping => {
            line("stopping", "what is under way is finished; the next start goes on from here")
        }
    }
}

fn introduction(started: &Started) -> String {
    let is_once = started.goal == "once";
    let heading = match started.goal {
        "once" => "Tipstaff runs every subscription once.",
        "until_changed" => "Tipstaff is running until something changes; Ctrl-C ends it before.",
        _ => "Tipstaff is running; Ctrl-C ends it.",
    };
    let mut lines = vec![heading.to_owned()];
    let mut add = |name: &str, value: &str| lines.push(format!("  {name:<9}  {value}"));
    if let Some(url) = &started.sample_site {
        add("site", url);
    }
    add("manifests", &started.manifests);
    // With `--once` the database ends before anybody could look into it.
    if !is_once || started.psql_command.is_none() {
        add("rows", started.psql_command.as_deref().unwrap_or("in the database of --database-url"));
    }
    add("blobs", &started.blob_dir);
    match started.resumed_runs {
        0 => {}
        1 => add("resumed", "1 run that was under way when the last process ended"),
        count => add("resumed", &format!("{count} runs that were under way when the last process ended")),
    }
    lines.push(String::new());
    lines.join("\n")
}

fn ready(verdict: &ObjectVerdict, now: &Zoned) -> String {
    let ObjectVerdict { object, reason, message, next_due } = verdict;
    match next_due {
        _ if !PLAIN_REASONS.contains(reason) => format!("{object}: {reason}: {message}"),
        Some(due) if *due <= now.timestamp() => format!("{object}, due since {}", time_of(*due, now)),
        Some(due) => format!("{object}, due next at {}", time_of(*due, now)),
        None => object.to_string(),
    }
}

fn deleted(object: &ObjectName) -> String {
    format!("{object} is no longer among the manifests; what it stored stays")
}

fn started(start: &RunStart, now: &Zoned) -> String {
    let RunStart { subscription, trigger, scheduled_for, .. } = start;
    match trigger.as_str() {
        "Schedule" => format!("{subscription}  due at {}", time_of(*scheduled_for, now)),
        "Request" => format!("{subscription}  on request"),
        other => format!("{subscription}  {other}"),
    }
}

fn skipped(skips: &Skips, now: &Zoned) -> String {
    let Skips { subscription, reason, message, count, scheduled_for, scheduled_through } = skips;
    let first = time_of(*scheduled_for, now);
    let times = match count {
        1 => format!("due at {first}"),
        _ => format!("{count} due times from {first} to {}", time_of(*scheduled_through, now)),
    };
    format!("{subscription}  {times}: {reason}: {message}")
}

fn ended(run: &RunRow) -> Vec<(&'static str, String)> {
    let subscription = &run.subscription;
    let mut lines: Vec<_> = run
        .artifacts
        .iter()
        .filter(|document| document.changed)
        .map(|document| {
            let word = match document.version.as_ref().map(|version| (version.kind.as_str(), version.number))
            {
                Some(("Changed", _)) => "changed",
                Some(("Removed", _)) => "removed",
                Some(("Returned", _)) => "returned",
                // Under other selectors.
                Some(("Baseline", number)) if number > 1 => "baseline",
                _ => "new",
            };
            (word, format!("{subscription}  {}{}", described(document), diff(document)))
        })
        .collect();
    if run.phase == "Failed" {
        lines.push(("failed", format!("{subscription}  {}", reason_of(run))));
    } else if lines.is_empty() {
        let what = match run.artifacts.as_slice() {
            [only] => only.url.clone(),
            documents => format!("{} documents", documents.len()),
        };
        lines.push(("unchanged", format!("{subscription}  {what}")));
    }
    lines
}

/// The second line has the place alone, so that it can be copied whole.
fn described(document: &Document) -> String {
    let Document { url, byte_size, fetch_hash, blob_uri, previous_hash, .. } = document;
    if fetch_hash.is_empty() {
        return url.clone();
    }
    let before = previous_hash.as_deref().map(|hash| format!(", was {}", short_hash(hash)));
    let place = match blob_uri.parse() {
        Ok(BlobUri::File(path)) => path.display().to_string(),
        _ => blob_uri.clone(),
    };
    format!(
        "{url}  {byte_size} bytes, sha256 {}{}\n{:INDENT$}{place}",
        short_hash(fetch_hash),
        before.unwrap_or_default(),
        "",
    )
}

/// What differs, as far as it is looked at with one glance.
fn diff(document: &Document) -> String {
    let Some(version) = document.version.as_ref().filter(|version| version.kind == "Changed") else {
        return String::new();
    };
    // The names of both sides say what the line above says.
    let lines: Vec<&str> = version.diff.lines().skip_while(|line| !line.starts_with("@@")).collect();
    let mut shown = String::new();
    for line in lines.iter().take(DIFF_LINES) {
        shown.push_str(&format!("\n{:INDENT$}{line}", ""));
    }
    match lines.len().saturating_sub(DIFF_LINES) {
        0 => shown,
        more => format!("{shown}\n{:INDENT$}… {more} more lines: `tipstaff diff` shows them", ""),
    }
}

fn delivered(delivery: &Delivery) -> String {
    let Delivery { subscription, target, changes, detail, .. } = delivery;
    format!("{subscription}  {} to {target}: {detail}", changes_of(*changes))
}

fn not_delivered(delivery: &Delivery, now: &Zoned) -> String {
    let Delivery { subscription, target, changes, reason, detail, retry_at, .. } = delivery;
    let next = match retry_at {
        Some(at) => format!("next attempt at {}", time_of(*at, now)),
        None => "it is given up".to_owned(),
    };
    format!("{subscription}  {} to {target}: {reason}: {detail}; {next}", changes_of(*changes))
}

fn changes_of(count: usize) -> String {
    if count == 1 { "1 change".to_owned() } else { format!("{count} changes") }
}

/// The reason of a run with its sentence.
pub(super) fn reason_of(run: &RunRow) -> String {
    match &run.message {
        // On a terminal, the administrator is who reads this.
        Some(message) if run.reason == run_reasons::ADDRESS_NOT_ALLOWED => {
            format!("{}: {message}; --allow-cidr opens it", run.reason)
        }
        Some(message) => format!("{}: {message}", run.reason),
        None => run.reason.clone(),
    }
}

/// Enough of a hash to tell it from others.
pub(crate) fn short_hash(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

/// The time of day, with the date where that is not today's.
fn time_of(time: Timestamp, now: &Zoned) -> String {
    let zone: &TimeZone = now.time_zone();
    let time = time.to_zoned(zone.clone());
    let format = if time.date() == now.date() { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
    time.strftime(format).to_string()
}

#[cfg(test)]
mod tests;
