//! A Kafka consumer on a thread of its own: librdkafka's callbacks block while partitions are handed over, and
//! nothing may block the runtime.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
        mpsc as blocking,
    },
    thread,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use rdkafka::{
    ClientConfig, ClientContext, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    message::{BorrowedMessage, Headers},
};
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, warn};

use super::KafkaOptions;
use crate::{BusError, Consumer, Partition, Received, Record, Revocation, Signal};

/// Records that wait between librdkafka and the loop.
const BUFFER: usize = 1_000;
/// With so many places free among them, there is room again.
const ROOM: usize = BUFFER / 2;
/// As long as there may be no room before fetching pauses. A pause throws away what librdkafka has fetched ahead, and it may
/// take a second until it fetches again: too long for a loop that makes room within this time, while a slower one has enough
/// to do meanwhile.
const ROOM_WITHIN: Duration = Duration::from_secs(1);
/// How often it is looked whether there is room.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// How long a poll waits for a record: as long as it may take until the thread sees that it is to stop.
const POLL: Duration = Duration::from_millis(100);

pub(super) struct KafkaConsumer {
    group: String,
    prefix: String,
    records: mpsc::Receiver<Result<Received, BusError>>,
    revocations: mpsc::Receiver<Revocation>,
    /// Records that were received before a revocation and still are this consumer's.
    kept: VecDeque<Received>,
    /// The thread holds the client, so that it is dropped there: dropping it blocks.
    client: Weak<BaseConsumer<Context>>,
    stop: Arc<AtomicBool>,
    ended: oneshot::Receiver<KafkaResult<()>>,
}

impl KafkaConsumer {
    pub(super) fn start(
        config: &ClientConfig,
        options: &KafkaOptions,
        group: &str,
        topics: &[String],
    ) -> Result<Self, BusError> {
        let (revoke, revocations) = mpsc::channel(1);
        let (send, records) = mpsc::channel(BUFFER);
        let (end, ended) = oneshot::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let context = Context { revoke, prefix: options.prefix.clone(), deadline: options.revoke };
        let client: Arc<BaseConsumer<Context>> =
            Arc::new(config.create_with_context(context).map_err(super::configuration)?);
        let names: Vec<_> = topics.iter().map(String::as_str).collect();
        client.subscribe(&names).map_err(super::configuration)?;
        let consumer = Self {
            group: group.to_owned(),
            prefix: options.prefix.clone(),
            records,
            revocations,
            kept: VecDeque::new(),
            client: Arc::downgrade(&client),
            stop: stop.clone(),
            ended,
        };
        let poller = Poller {
            client,
            stop,
            records: send,
            prefix: options.prefix.clone(),
            group: group.to_owned(),
            held: VecDeque::new(),
            is_paused: false,
        };
        thread::Builder::new()
            .name(format!("kafka {group}"))
            .spawn(move || {
                // The receiver is gone when nobody waits for the end.
                let _ = end.send(poller.run());
            })
            .map_err(|error| BusError::Configuration(error.into()))?;
        Ok(consumer)
    }

    fn thread_ended(&self) -> BusError {
        BusError::Consume { group: self.group.clone(), source: "its thread has ended".into() }
    }

    fn failure(&self, error: KafkaError) -> BusError {
        BusError::Consume { group: self.group.clone(), source: error.into() }
    }
}

#[async_trait]
impl Consumer for KafkaConsumer {
    async fn receive(&mut self, room: bool) -> Result<Signal, BusError> {
        tokio::select! {
            biased;
            Some(revocation) = self.revocations.recv() => {
                if revocation.release_by <= Instant::now() {
                    // Nobody waits any more, and the partitions may be this consumer's again.
                    return Ok(Signal::Revoked(Revocation { partitions: Vec::new(), ..revocation }));
                }
                // The polling thread waits in its callback, so nothing is added meanwhile.
                while let Ok(Ok(received)) = self.records.try_recv() {
                    self.kept.push_back(received);
                }
                self.kept.retain(|received| !revocation.partitions.contains(&received.partition));
                Ok(Signal::Revoked(revocation))
            }
            received = next(&mut self.kept, &mut self.records), if room => match received {
                Some(received) => Ok(Signal::Received(Box::new(received?))),
                None => Err(self.thread_ended()),
            },
            // There is no room, and nobody is left who could revoke.
            else => Err(self.thread_ended()),
        }
    }

    fn store(&self, partition: &Partition, next_offset: i64) -> Result<(), BusError> {
        let Some(client) = self.client.upgrade() else { return Ok(()) };
        let mut offsets = TopicPartitionList::new();
        let topic = format!("{}{}", self.prefix, partition.topic);
        offsets
            .add_partition_offset(&topic, partition.number, Offset::Offset(next_offset))
            .and_then(|()| client.store_offsets(&offsets))
            .map_err(|error| self.failure(error))
    }

    async fn close(mut self: Box<Self>) -> Result<(), BusError> {
        self.stop.store(true, Ordering::Relaxed);
        self.records.close();
        self.revocations.close();
        // A revocation that nobody has looked at yet: the thread need not wait for its deadline.
        while self.revocations.try_recv().is_ok() {}
        match (&mut self.ended).await {
            Ok(result) => result.map_err(|error| self.failure(error)),
            Err(_) => Ok(()),
        }
    }
}

impl Drop for KafkaConsumer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

async fn next(
    kept: &mut VecDeque<Received>,
    records: &mut mpsc::Receiver<Result<Received, BusError>>,
) -> Option<Result<Received, BusError>> {
    match kept.pop_front() {
        Some(received) => Some(Ok(received)),
        None => records.recv().await,
    }
}

struct Context {
    revoke: mpsc::Sender<Revocation>,
    prefix: String,
    deadline: Duration,
}

impl ClientContext for Context {}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, client: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Revoke(list) = rebalance else { return };
        let partitions: Vec<_> = list
            .elements()
            .iter()
            .map(|element| partition(&self.prefix, element.topic(), element.partition()))
            .collect();
        if partitions.is_empty() {
            return;
        }
        let (release, released) = blocking::channel();
        // The loop gives up a little before this thread does, so that neither acts on a hand-over that is over.
        let release_by = Instant::now() + self.deadline.mul_f64(0.8);
        let revocation = Revocation { partitions, release_by, _release: release };
        if self.revoke.blocking_send(revocation).is_ok() {
            // Nothing is ever sent: the wait ends when the loop drops its end, or at the deadline.
            let _ = released.recv_timeout(self.deadline);
        }
        if let Err(error) = commit(client) {
            debug!(%error, "the commit at a revocation failed; its events come again");
        }
        // A pause outlives the hand-over: who gets a partition back would not fetch it.
        if let Err(error) = client.resume(list) {
            debug!(%error, "partitions that are handed over stay paused here");
        }
    }
}

fn commit(client: &BaseConsumer<Context>) -> KafkaResult<()> {
    match client.commit_consumer_state(CommitMode::Sync) {
        Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => Ok(()),
        result => result,
    }
}

fn partition(prefix: &str, topic: &str, number: i32) -> Partition {
    Partition { topic: topic.strip_prefix(prefix).unwrap_or(topic).into(), number }
}

/// The thread's loop.
struct Poller {
    client: Arc<BaseConsumer<Context>>,
    stop: Arc<AtomicBool>,
    records: mpsc::Sender<Result<Received, BusError>>,
    prefix: String,
    group: String,
    /// Records for which the channel had no room.
    held: VecDeque<Received>,
    /// Since the channel had no room: polling goes on, which keeps the membership alive.
    is_paused: bool,
}

impl Poller {
    fn run(mut self) -> KafkaResult<()> {
        while !self.stop.load(Ordering::Relaxed) {
            let received = match self.client.poll(POLL) {
                None => None,
                Some(Ok(message)) => Some(received(&self.prefix, &message)),
                Some(Err(error)) if is_fatal(&error) => {
                    let source = error.into();
                    // A full channel means that the loop is busy and will find the thread ended.
                    let _ = self.records.try_send(Err(BusError::Consume { group: self.group, source }));
                    return Ok(());
                }
                Some(Err(error)) => {
                    // Brokers away, topics not made yet: librdkafka retries by itself.
                    debug!(%error, group = self.group, "consuming is interrupted");
                    None
                }
            };
            self.hand_over(received)?;
        }
        commit(&self.client)
    }

    fn hand_over(&mut self, received: Option<Received>) -> KafkaResult<()> {
        self.held.extend(received);
        if self.is_paused {
            let assignment = self.client.assignment()?;
            let is_assigned = |held: &Received| {
                let topic = format!("{}{}", self.prefix, held.partition.topic);
                assignment.find_partition(&topic, held.partition.number).is_some()
            };
            self.held.retain(is_assigned);
            if self.records.capacity() < ROOM {
                // Also those assigned since.
                return self.client.pause(&assignment);
            }
        }
        while let Some(received) = self.held.pop_front() {
            if let Err(mpsc::error::TrySendError::Full(Ok(received))) = self.records.try_send(Ok(received)) {
                self.held.push_front(received);
                if !self.is_paused && self.has_room_soon() {
                    continue;
                }
                self.is_paused = true;
                return self.client.pause(&self.client.assignment()?);
            }
        }
        if std::mem::take(&mut self.is_paused) {
            self.client.resume(&self.client.assignment()?)?;
        }
        Ok(())
    }

    /// Waits for room, for a moment. Who is removed from the group or asked to hand over partitions hears of it after that.
    #[expect(clippy::disallowed_methods, reason = "this is a thread of its own, which may block")]
    fn has_room_soon(&self) -> bool {
        let since = Instant::now();
        while self.records.capacity() < ROOM {
            if since.elapsed() > ROOM_WITHIN || self.stop.load(Ordering::Relaxed) {
                return false;
            }
            thread::sleep(LOOK_AGAIN);
        }
        true
    }
}

fn is_fatal(error: &KafkaError) -> bool {
    let fatal = error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal);
    if fatal {
        warn!(%error, "the Kafka client failed for good");
    }
    fatal
}

pub(super) fn received(prefix: &str, message: &BorrowedMessage<'_>) -> Received {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        headers
            .iter()
            .map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec()))
            .collect()
    });
    let partition = partition(prefix, message.topic(), message.partition());
    let record = Record {
        topic: partition.topic.to_string(),
        key: message.key().map(<[u8]>::to_vec),
        headers,
        payload: message.payload().unwrap_or_default().to_vec(),
    };
    Received { partition, offset: message.offset(), record }
}
