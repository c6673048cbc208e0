//! Dead letters on a real Kafka: counted, read, published again, and noted.

use events::{
    Record, Topic,
    kafka::{DeadLetterPartition, DeadLetters, LetterRange},
};
use tests::eventually;

use crate::place::{Place, SOON, event};

/// A letter of the first topic, all in one partition.
fn letter(number: u32) -> Record {
    let mut letter = event(number, 7).to_record();
    letter.topic = Topic::SubsSchedule.dead_letter_name();
    letter.headers.push(("dead_letter_reason".to_owned(), format!("reason {number}").into_bytes()));
    letter
}

/// The partition with letters, once it holds so many.
async fn holding(dead_letters: &DeadLetters, count: i64) -> DeadLetterPartition {
    eventually(&format!("{count} letters"), SOON, async || {
        let partitions = dead_letters.partitions(&[Topic::SubsSchedule]).await;
        let partitions = partitions.map_err(|error| events::error_chain(&error))?;
        match partitions.iter().find(|partition| partition.end > 0) {
            Some(partition) if partition.end == count => Ok(*partition),
            _ => Err(format!("{partitions:?}")),
        }
    })
    .await
}

#[tokio::test]
async fn letters_wait_until_it_is_noted_that_they_were_published_again() {
    let place = Place::kafka().await;
    let dead_letters = DeadLetters::new(place.cluster().options(), SOON);
    place.bus.publish(&[letter(0), letter(1), letter(2)]).await.unwrap();
    let partition = holding(&dead_letters, 3).await;
    assert_eq!((partition.kept(), partition.waiting()), (0..3, 0..3));

    let range = |offsets| LetterRange { topic: Topic::SubsSchedule, partition: partition.number, offsets };
    let letters = dead_letters.read(vec![range(0..3)]).await.unwrap();
    let reasons: Vec<_> = letters.iter().map(|letter| letter.reason().unwrap()).collect();
    assert_eq!(reasons, ["reason 0", "reason 1", "reason 2"]);
    assert!(letters.iter().all(|letter| letter.time.is_some() && letter.partition == partition.number));
    // Several ranges, and parts of them.
    let parts = dead_letters.read(vec![range(2..3), range(0..1), range(1..1)]).await.unwrap();
    let offsets: Vec<_> = parts.iter().map(|letter| letter.offset).collect();
    assert_eq!(offsets, [2, 0]);

    // Published again, they are the events that they were.
    let mut member = place.join("again").await;
    let revived: Vec<_> = letters.iter().map(|letter| letter.revived()).collect();
    place.bus.publish(&revived).await.unwrap();
    for number in 0..3 {
        assert_eq!(member.receive_event().await, event(number, 7));
    }

    dead_letters.mark(Topic::SubsSchedule, partition.number, 2).await.unwrap();
    let noted = dead_letters.partitions(&[Topic::SubsSchedule]).await.unwrap();
    let noted = noted.iter().find(|noted| noted.number == partition.number).unwrap();
    assert_eq!((noted.kept(), noted.waiting()), (0..3, 2..3));
    // The letters stay, and another installation's notes are its own.
    assert_eq!(dead_letters.read(vec![range(0..3)]).await.unwrap().len(), 3);
}

#[tokio::test]
async fn what_cannot_be_read_is_an_error() {
    let place = Place::kafka().await;
    let dead_letters = DeadLetters::new(place.cluster().options(), SOON);
    // It was not made.
    let error = dead_letters.partitions(&[Topic::CrawlResult]).await.unwrap_err();
    let shown = events::error_chain(&error);
    assert!(shown.contains("crawl.result.dlq") && shown.contains("the operator makes it"), "{shown}");
}
