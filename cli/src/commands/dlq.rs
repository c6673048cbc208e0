//! `tipstaff dlq`: the dead letters of an installation on Kafka: what could not be handled, why, and once more.

mod letters;
mod redrive;

use std::time::Duration;

use clap::{Args, Subcommand};
use events::Topic;
use events::kafka::{DeadLetter, DeadLetterPartition, DeadLetters, KafkaBus, KafkaOptions, LetterRange};
use service::KafkaArguments;

use super::list::ListFormat;
use super::show::{self, ReportFormat};
use letters::Letter;
use redrive::redrive;

/// How long one question to the brokers may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// What to do with dead letters.
#[derive(Args)]
pub struct DlqArguments {
    #[command(subcommand)]
    command: DlqCommand,
}

#[derive(Subcommand)]
enum DlqCommand {
    /// How many letters there are, and the newest of them
    List(ListLetters),
    /// One letter, all of it
    Show(ShowLetter),
    /// Publish letters to their topics again; they stay where they are
    Redrive(RedriveLetters),
}

#[derive(Args)]
struct ListLetters {
    /// Letters of this topic; without it, of all
    #[arg(value_name = "TOPIC", value_parser = topic)]
    topic: Option<Topic>,
    /// How many letters of each topic at most
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    limit: u32,
    /// Those that were published again, too
    #[arg(long)]
    all: bool,
    /// How they are shown
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    output: ListFormat,
    #[command(flatten)]
    kafka: KafkaArguments,
}

#[derive(Args)]
struct ShowLetter {
    /// The topic that it was for
    #[arg(value_name = "TOPIC", value_parser = topic)]
    topic: Topic,
    /// Where it stands, as `list` says
    #[arg(value_name = "PARTITION/OFFSET", value_parser = place)]
    place: LetterPlace,
    /// How it is shown
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    output: ReportFormat,
    #[command(flatten)]
    kafka: KafkaArguments,
}

#[derive(Args)]
struct RedriveLetters {
    /// The topic that they were for
    #[arg(value_name = "TOPIC", value_parser = topic)]
    topic: Topic,
    /// The one letter to publish again
    #[arg(value_name = "PARTITION/OFFSET", value_parser = place, required_unless_present = "all")]
    place: Option<LetterPlace>,
    /// All letters of the topic that were not published again
    #[arg(long, conflicts_with = "place")]
    all: bool,
    #[command(flatten)]
    kafka: KafkaArguments,
}

/// Where a letter stands in its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LetterPlace {
    partition: i32,
    offset: i64,
}

/// What was asked for is not there.
#[derive(Debug, thiserror::Error)]
enum DlqError {
    #[error(
        "{} has no letter at {partition}/{offset}; `tipstaff dlq list {topic} --all` lists those it has",
        topic.dead_letter_name()
    )]
    NoLetter { topic: Topic, partition: i32, offset: i64 },
}

/// Does what the arguments say.
///
/// # Errors
/// When the brokers do not answer, or there is no such letter.
pub async fn run(arguments: &DlqArguments) -> Result<(), events::BoxError> {
    match &arguments.command {
        DlqCommand::List(arguments) => list(arguments).await,
        DlqCommand::Show(arguments) => show_one(arguments).await,
        DlqCommand::Redrive(arguments) => redrive_letters(arguments).await,
    }
}

async fn list(arguments: &ListLetters) -> Result<(), events::BoxError> {
    let dead_letters = DeadLetters::new(options(&arguments.kafka), ANSWER_WITHIN);
    let topics = arguments.topic.map_or_else(|| Topic::ALL.to_vec(), |topic| vec![topic]);
    let partitions = dead_letters.partitions(&topics).await?;
    let most = i64::from(arguments.limit);
    let ranges = partitions.iter().map(|partition| newest(partition, most, arguments.all)).collect();
    let letters = dead_letters.read(ranges).await?;
    let letters = letters::newest_first(letters, usize::try_from(arguments.limit)?);
    let counts = letters::counts(&topics, &partitions);
    Ok(show::print(&letters::list(&counts, &letters, arguments.output)?)?)
}

/// The last letters of a partition.
fn newest(partition: &DeadLetterPartition, most: i64, all: bool) -> LetterRange {
    let kept = if all { partition.kept() } else { partition.waiting() };
    let offsets = kept.start.max(kept.end.saturating_sub(most))..kept.end;
    LetterRange { topic: partition.topic, partition: partition.number, offsets }
}

async fn show_one(arguments: &ShowLetter) -> Result<(), events::BoxError> {
    let dead_letters = DeadLetters::new(options(&arguments.kafka), ANSWER_WITHIN);
    let letter = Letter::of(&letter_at(&dead_letters, arguments.topic, arguments.place).await?);
    let shown = match arguments.output {
        ReportFormat::Json => show::json(&letter)?,
        ReportFormat::Text => letter.render(),
    };
    Ok(show::print(&shown)?)
}

async fn redrive_letters(arguments: &RedriveLetters) -> Result<(), events::BoxError> {
    let options = options(&arguments.kafka);
    let dead_letters = DeadLetters::new(options.clone(), ANSWER_WITHIN);
    let bus = KafkaBus::new(options)?;
    let partitions = dead_letters.partitions(&[arguments.topic]).await?;
    let done = match arguments.place {
        None => redrive::all(&dead_letters, &bus, &partitions).await?,
        Some(place) => {
            let letter = letter_at(&dead_letters, arguments.topic, place).await?;
            redrive(&dead_letters, &bus, &partitions, &letter).await?
        }
    };
    Ok(show::print(&done)?)
}

async fn letter_at(
    dead_letters: &DeadLetters,
    topic: Topic,
    place: LetterPlace,
) -> Result<DeadLetter, events::BoxError> {
    let LetterPlace { partition, offset } = place;
    let missing = DlqError::NoLetter { topic, partition, offset };
    let partitions = dead_letters.partitions(&[topic]).await?;
    let is_kept = |found: &DeadLetterPartition| found.number == partition && found.kept().contains(&offset);
    if !partitions.iter().any(is_kept) {
        return Err(missing.into());
    }
    let range = LetterRange { topic, partition, offsets: offset..offset.saturating_add(1) };
    let letters = dead_letters.read(vec![range]).await?;
    Ok(letters.into_iter().find(|letter| letter.offset == offset).ok_or(missing)?)
}

fn options(arguments: &KafkaArguments) -> KafkaOptions {
    // Nothing is consumed as a member of a group, so nothing is taken away.
    arguments.options(Duration::ZERO)
}

/// Takes a command line argument as a topic, by its own name or that of its dead letters.
fn topic(text: &str) -> Result<Topic, String> {
    let name = text.strip_suffix(".dlq").unwrap_or(text);
    name.parse().map_err(|_| {
        let names: Vec<_> = Topic::ALL.iter().map(|topic| topic.name()).collect();
        format!("it is one of {} (without the installation's prefix)", names.join(", "))
    })
}

/// Takes a command line argument as a letter's place.
fn place(text: &str) -> Result<LetterPlace, String> {
    let numbers = text.split_once('/').and_then(|(partition, offset)| {
        Some(LetterPlace { partition: partition.parse().ok()?, offset: offset.parse().ok()? })
    });
    numbers
        .filter(|place| place.partition >= 0 && place.offset >= 0)
        .ok_or_else(|| "a place is written PARTITION/OFFSET, such as 0/17".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn topics_and_places_are_taken_as_they_are_shown() {
        assert_eq!(topic("crawl.request"), Ok(Topic::CrawlRequest));
        assert_eq!(topic("crawl.request.dlq"), Ok(Topic::CrawlRequest));
        assert!(topic("crawl").unwrap_err().contains("subs.schedule, crawl.request"));
        assert_eq!(place("2/17"), Ok(LetterPlace { partition: 2, offset: 17 }));
        for wrong in ["17", "2/", "/17", "-1/0", "0/-1", "a/b", "1/2/3"] {
            assert!(place(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_newest_are_those_at_the_end_of_what_is_asked_for() {
        let partition = DeadLetterPartition {
            topic: Topic::CrawlRequest,
            number: 1,
            begin: 5,
            waiting_from: 17,
            end: 20,
        };
        for (most, all, expected) in [
            (10, false, 17..20),
            (2, false, 18..20),
            (10, true, 10..20),
            (100, true, 5..20),
            (0, true, 20..20),
        ] {
            assert_eq!(newest(&partition, most, all).offsets, expected, "{most} {all}");
        }
    }
}
