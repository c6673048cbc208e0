//! How far a group is behind, read from outside.

use std::time::Duration;

use events::{
    Topic,
    kafka::{KafkaOptions, LagReader},
};
use tests::eventually;

use crate::{
    member::{GROUP, Log, Outcome, Setup},
    place::{Cluster, PARTITIONS, Place, SOON, events},
};

async fn reaches(reader: &LagReader, expected: &[(Topic, u64)]) {
    eventually(&format!("the lag {expected:?}"), SOON, async || {
        let lags = reader.read(SOON).await.map_err(|error| events::error_chain(&error))?;
        assert!(lags.iter().all(|lag| lag.partitions == u32::try_from(PARTITIONS).unwrap()));
        let seen: Vec<_> = lags.iter().map(|lag| (lag.topic, lag.events)).collect();
        if seen == expected { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
}

#[tokio::test]
async fn an_event_counts_until_it_is_done() {
    let place = Place::kafka().await;
    let topics = [Topic::SubsSchedule, Topic::CrawlRequest];
    let reader = LagReader::new(&place.cluster().options(), GROUP, &topics).unwrap();
    let behind = async |events| {
        reaches(&reader, &[(Topic::SubsSchedule, events), (Topic::CrawlRequest, 0)]).await;
    };
    behind(0).await;
    // A group that never was there is behind by all there is.
    place.publish(&events(0..5)).await;
    behind(5).await;
    let looping = Setup::new(&place.bus).start(async |_| Ok(Vec::new()));
    behind(0).await;
    looping.stop().await;

    let begun = Log::default();
    let log = begun.clone();
    let looping = Setup { drain: Duration::from_millis(300), ..Setup::new(&place.bus) }.start(move |event| {
        log.note(&event);
        std::future::pending::<Outcome>()
    });
    place.publish(&events(5..7)).await;
    begun.reaches(1).await;
    behind(2).await;
    looping.stop().await;
    behind(2).await;

    // Reading has not made a member of any group.
    let other = LagReader::new(&place.cluster().options(), "onlookers", &[Topic::SubsSchedule]).unwrap();
    reaches(&other, &[(Topic::SubsSchedule, 7)]).await;
    place.cluster().reaches(GROUP, 0, "Empty").await;
}

#[tokio::test]
async fn what_cannot_be_read_is_an_error_and_not_zero() {
    let cluster = Cluster::new().await;
    let reader = LagReader::new(&cluster.options(), GROUP, &[Topic::SubsSchedule]).unwrap();
    let error = reader.read(SOON).await.unwrap_err();
    let shown = events::error_chain(&error);
    assert!(shown.contains("lag of group loops") && shown.contains("Unknown topic"), "{shown}");

    let nowhere = KafkaOptions { brokers: "127.0.0.1:1".to_owned(), ..cluster.options() };
    let reader = LagReader::new(&nowhere, GROUP, &[Topic::SubsSchedule]).unwrap();
    // The second time as well.
    for _ in 0..2 {
        assert!(reader.read(Duration::from_millis(500)).await.is_err());
    }
}
