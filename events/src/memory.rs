//! The bus within one process: a log per topic, gone with the process.
//!
//! Whoever uses it must be able to emit again what was on it, as `tipstaff local` does from the catalog at its start.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use tokio::sync::Notify;

use crate::{Bus, BusError, Consumer, Partition, Received, Record, Signal, Topic, Unacknowledged};

/// How many records a topic holds: publishing waits for room while a group still has to read the oldest;
/// where no group reads the topic, the oldest is dropped, as a Kafka topic's retention does.
const CAPACITY: usize = 10_000;

/// An in-process bus. Clones share it.
#[derive(Clone, Default)]
pub struct MemoryBus {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    topics: HashMap<String, Log>,
    groups: HashMap<String, Group>,
}

#[derive(Default)]
struct Log {
    first_offset: i64,
    records: VecDeque<Record>,
}

struct Group {
    /// Per topic, the offset up to which everything is done.
    stored: HashMap<String, i64>,
    has_member: bool,
}

impl MemoryBus {
    /// What a topic holds, oldest first: for whoever looks into dead letters, which no group reads.
    pub fn records(&self, topic: &str) -> Vec<Record> {
        let state = self.shared.state();
        state.topics.get(topic).map_or_else(Vec::new, |log| log.records.iter().cloned().collect())
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // The state is consistent between any two statements that change it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Appends unless a group still has to read the oldest of a full topic.
    fn append(&mut self, record: &Record) -> bool {
        let is_read = self.groups.values().any(|group| group.stored.contains_key(&record.topic));
        let log = self.topics.entry(record.topic.clone()).or_default();
        if log.records.len() >= CAPACITY {
            if is_read {
                return false;
            }
            log.records.pop_front();
            log.first_offset += 1;
        }
        log.records.push_back(record.clone());
        true
    }

    /// Drops what every group has done.
    fn trim(&mut self, topic: &str) {
        let done = self.groups.values().filter_map(|group| group.stored.get(topic)).min().copied();
        if let (Some(done), Some(log)) = (done, self.topics.get_mut(topic)) {
            while log.first_offset < done && log.records.pop_front().is_some() {
                log.first_offset += 1;
            }
        }
    }
}

#[async_trait]
impl Bus for MemoryBus {
    async fn publish_each(&self, records: &[Record]) -> Vec<Unacknowledged> {
        for record in records {
            loop {
                let changed = self.shared.changed.notified();
                if self.shared.state().append(record) {
                    break;
                }
                changed.await;
            }
            self.shared.changed.notify_waiters();
        }
        Vec::new()
    }

    async fn publish_unprefixed(&self, record: &Record) -> Result<(), BusError> {
        // Nobody would read it: whoever asked for it must not take it for delivered.
        Err(BusError::NoKafka { topic: record.topic.clone() })
    }

    async fn subscribe(&self, group: &str, topics: &[Topic]) -> Result<Box<dyn Consumer>, BusError> {
        let mut guard = self.shared.state();
        let state = &mut *guard;
        let member = state
            .groups
            .entry(group.to_owned())
            .or_insert_with(|| Group { stored: HashMap::new(), has_member: false });
        if member.has_member {
            let source = "a group of the in-process bus has one member at a time".into();
            return Err(BusError::Consume { group: group.to_owned(), source });
        }
        member.has_member = true;
        for topic in topics {
            let oldest = state.topics.get(topic.name()).map_or(0, |log| log.first_offset);
            member.stored.entry(topic.name().to_owned()).or_insert(oldest);
        }
        let positions = topics
            .iter()
            .map(|topic| {
                let partition = Partition { topic: topic.name().into(), number: 0 };
                (partition, member.stored.get(topic.name()).copied().unwrap_or(0))
            })
            .collect();
        Ok(Box::new(MemoryConsumer {
            shared: self.shared.clone(),
            group: group.to_owned(),
            positions,
            turn: 0,
        }))
    }

    async fn ping(&self) -> Result<(), BusError> {
        Ok(())
    }

    async fn ensure_topics(&self) -> Result<(), BusError> {
        Ok(())
    }
}

struct MemoryConsumer {
    shared: Arc<Shared>,
    group: String,
    positions: Vec<(Partition, i64)>,
    /// The topic to look at first, so that none starves another.
    turn: usize,
}

impl MemoryConsumer {
    fn next(&mut self) -> Option<Received> {
        let state = self.shared.state();
        for step in 0..self.positions.len() {
            let index = (self.turn + step) % self.positions.len();
            let (partition, position) = &mut self.positions[index];
            let Some(log) = state.topics.get(&*partition.topic) else { continue };
            let offset = (*position).max(log.first_offset);
            // The difference of two offsets of a log that is held in memory fits.
            let place = usize::try_from(offset - log.first_offset).unwrap_or(usize::MAX);
            if let Some(record) = log.records.get(place) {
                *position = offset + 1;
                self.turn = index + 1;
                return Some(Received { partition: partition.clone(), offset, record: record.clone() });
            }
        }
        None
    }
}

#[async_trait]
impl Consumer for MemoryConsumer {
    async fn receive(&mut self, room: bool) -> Result<Signal, BusError> {
        if !room {
            // Nobody ever takes a partition away here.
            return std::future::pending().await;
        }
        let shared = self.shared.clone();
        loop {
            let changed = shared.changed.notified();
            if let Some(received) = self.next() {
                return Ok(Signal::Received(Box::new(received)));
            }
            changed.await;
        }
    }

    fn store(&self, partition: &Partition, next_offset: i64) -> Result<(), BusError> {
        let mut state = self.shared.state();
        if let Some(group) = state.groups.get_mut(&self.group) {
            group.stored.insert(partition.topic.to_string(), next_offset);
        }
        state.trim(&partition.topic);
        drop(state);
        self.shared.changed.notify_waiters();
        Ok(())
    }

    async fn close(self: Box<Self>) -> Result<(), BusError> {
        Ok(())
    }
}

impl Drop for MemoryConsumer {
    fn drop(&mut self) {
        if let Some(group) = self.shared.state().groups.get_mut(&self.group) {
            group.has_member = false;
        }
    }
}
