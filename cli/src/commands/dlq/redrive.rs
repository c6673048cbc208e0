//! Letters published again: acknowledged by the brokers first, noted then.

use events::kafka::{DeadLetter, DeadLetterError, DeadLetterPartition, DeadLetters, LetterRange};
use events::{Bus, BusError, Record};

use crate::commands::show::counted;

/// How many letters are read, published and noted at a time.
const AT_A_TIME: i64 = 200;

/// Letters were not published again, or that was not noted.
#[derive(Debug, thiserror::Error)]
pub(super) enum RedriveError {
    #[error(transparent)]
    DeadLetters(#[from] DeadLetterError),
    #[error("{done} were published again before this; the next redrive goes on from there")]
    Publish {
        done: String,
        #[source]
        source: BusError,
    },
}

/// Publishes all letters of partitions that were not published again, and says what was done.
pub(super) async fn all(
    dead_letters: &DeadLetters,
    bus: &dyn Bus,
    partitions: &[DeadLetterPartition],
) -> Result<String, RedriveError> {
    let mut done = 0;
    for partition in partitions {
        let mut next = partition.waiting_from;
        // Those that come meanwhile are left to the next redrive: what dies again at once would keep this one busy.
        while next < partition.end {
            let until = partition.end.min(next.saturating_add(AT_A_TIME));
            let range =
                LetterRange { topic: partition.topic, partition: partition.number, offsets: next..until };
            let letters = dead_letters.read(vec![range]).await?;
            publish(bus, &letters, done).await?;
            dead_letters.mark(partition.topic, partition.number, until).await?;
            done += letters.len();
            next = until;
        }
    }
    Ok(format!("{} published again\n", counted(done, "letter", "letters")))
}

/// Publishes one letter, and says what was done. It is noted only where it is the first of its partition that was not
/// published again: the note says up to where, and must not cover others.
pub(super) async fn redrive(
    dead_letters: &DeadLetters,
    bus: &dyn Bus,
    partitions: &[DeadLetterPartition],
    letter: &DeadLetter,
) -> Result<String, RedriveError> {
    publish(bus, std::slice::from_ref(letter), 0).await?;
    let place = partitions.iter().find(|partition| partition.number == letter.partition);
    let remark = match place.map(|partition| letter.offset.cmp(&partition.waiting_from)) {
        Some(std::cmp::Ordering::Equal) => {
            dead_letters.mark(letter.topic, letter.partition, letter.offset + 1).await?;
            ""
        }
        Some(std::cmp::Ordering::Less) => ", as it was before",
        _ => "; letters before it were not, so it stays in the list, and `--all` will publish it once more",
    };
    Ok(format!("1 letter published again{remark}\n"))
}

async fn publish(bus: &dyn Bus, letters: &[DeadLetter], done: usize) -> Result<(), RedriveError> {
    let records: Vec<Record> = letters.iter().map(DeadLetter::revived).collect();
    bus.publish(&records)
        .await
        .map_err(|source| RedriveError::Publish { done: counted(done, "letter", "letters"), source })
}
