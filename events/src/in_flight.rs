//! What a consumer has begun and not finished: lanes keep the order of a key, watermarks tell how far a partition is done.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    hash::Hash,
};

use crate::Partition;

/// Queues of items by key: at most one item of a key is out at a time, and keys take turns.
pub(crate) struct Lanes<K, T> {
    /// A key is present while an item of it waits or is out.
    waiting: HashMap<K, VecDeque<T>>,
    /// Keys with a waiting item and none out.
    ready: VecDeque<K>,
    waiting_count: usize,
}

impl<K: Clone + Eq + Hash, T> Lanes<K, T> {
    pub(crate) fn new() -> Self {
        Self { waiting: HashMap::new(), ready: VecDeque::new(), waiting_count: 0 }
    }

    /// How many items wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting_count
    }

    pub(crate) fn push(&mut self, key: K, item: T) {
        self.waiting_count += 1;
        match self.waiting.get_mut(&key) {
            Some(lane) => lane.push_back(item),
            None => {
                self.waiting.insert(key.clone(), VecDeque::from([item]));
                self.ready.push_back(key);
            }
        }
    }

    /// Takes an item whose key has none out. [`Lanes::finish`] must follow for the key.
    pub(crate) fn take(&mut self) -> Option<(K, T)> {
        while let Some(key) = self.ready.pop_front() {
            match self.waiting.get_mut(&key).and_then(VecDeque::pop_front) {
                Some(item) => {
                    self.waiting_count -= 1;
                    return Some((key, item));
                }
                None => {
                    self.waiting.remove(&key);
                }
            }
        }
        None
    }

    /// The key's item is back: its next one may go.
    pub(crate) fn finish(&mut self, key: &K) {
        match self.waiting.get(key) {
            Some(lane) if !lane.is_empty() => self.ready.push_back(key.clone()),
            _ => {
                self.waiting.remove(key);
            }
        }
    }

    /// Takes the newest items of the longest of some queues, all but `keep` of it.
    pub(crate) fn shorten_longest(&mut self, keep: usize, is_one: impl Fn(&K) -> bool) -> Vec<T> {
        let queues = self.waiting.iter_mut().filter(|(key, _)| is_one(key));
        let Some((_, longest)) = queues.max_by_key(|(_, lane)| lane.len()) else { return Vec::new() };
        let newest = longest.split_off(keep.min(longest.len()));
        self.waiting_count -= newest.len();
        newest.into()
    }

    /// Forgets waiting items.
    pub(crate) fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        for lane in self.waiting.values_mut() {
            lane.retain(&keep);
        }
        self.waiting_count = self.waiting.values().map(VecDeque::len).sum();
    }
}

/// The low watermark of each partition: everything below it is done.
#[derive(Default)]
pub(crate) struct Watermarks {
    partitions: HashMap<Partition, Progress>,
}

#[derive(Default)]
struct Progress {
    pending: BTreeSet<i64>,
    /// One beyond the highest offset begun.
    next: i64,
}

impl Watermarks {
    pub(crate) fn begin(&mut self, partition: &Partition, offset: i64) {
        let progress = self.partitions.entry(partition.clone()).or_default();
        progress.pending.insert(offset);
        progress.next = progress.next.max(offset + 1);
    }

    /// Marks an offset as done; returns the watermark when that moved it.
    pub(crate) fn finish(&mut self, partition: &Partition, offset: i64) -> Option<i64> {
        let progress = self.partitions.get_mut(partition)?;
        let was_lowest = progress.pending.first() == Some(&offset);
        progress.pending.remove(&offset);
        was_lowest.then(|| progress.pending.first().copied().unwrap_or(progress.next))
    }

    /// Forgets a partition that belongs to another consumer now.
    pub(crate) fn forget(&mut self, partition: &Partition) {
        self.partitions.remove(partition);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn partition() -> Partition {
        Partition { topic: "crawl.request".into(), number: 0 }
    }

    proptest! {
        /// Whatever the order of finishing, the stored offset never passes an unfinished record, and ends at the end.
        #[test]
        fn the_watermark_never_passes_what_is_pending(
            order in Just((0..40i64).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            let mut marks = Watermarks::default();
            let mut pending: BTreeSet<i64> = order.iter().copied().collect();
            for offset in 0..40 {
                marks.begin(&partition(), offset);
            }
            let mut stored = 0;
            for offset in order {
                pending.remove(&offset);
                if let Some(mark) = marks.finish(&partition(), offset) {
                    prop_assert!(mark > stored);
                    stored = mark;
                }
                prop_assert_eq!(stored, pending.first().copied().unwrap_or(40));
            }
        }

        /// One key never has two items out, keeps its order, and nothing is lost.
        #[test]
        fn lanes_keep_the_order_of_a_key(
            keys in prop::collection::vec(0..4u8, 0..60),
            choices in prop::collection::vec(any::<prop::sample::Index>(), 400),
        ) {
            let mut lanes = Lanes::new();
            for (number, key) in keys.iter().enumerate() {
                lanes.push(*key, number);
            }
            let mut out: Vec<(u8, usize)> = Vec::new();
            let mut taken: Vec<(u8, usize)> = Vec::new();
            for choice in choices {
                if out.len() < 2 && let Some(next) = lanes.take() {
                    prop_assert!(out.iter().all(|(key, _)| *key != next.0));
                    out.push(next);
                    taken.push(next);
                } else if !out.is_empty() {
                    let (key, _) = out.swap_remove(choice.index(out.len()));
                    lanes.finish(&key);
                }
            }
            prop_assert_eq!(taken.len(), keys.len());
            prop_assert_eq!(lanes.waiting(), 0);
            for key in taken.iter().map(|(key, _)| *key).collect::<HashSet<_>>() {
                let numbers: Vec<_> = taken.iter().filter(|(k, _)| *k == key).map(|(_, n)| *n).collect();
                prop_assert!(numbers.is_sorted());
            }
        }
    }

    #[test]
    fn a_forgotten_partition_moves_no_watermark() {
        let mut marks = Watermarks::default();
        marks.begin(&partition(), 5);
        marks.forget(&partition());
        assert_eq!(marks.finish(&partition(), 5), None);
    }

    #[test]
    fn forgotten_items_are_not_taken() {
        let mut lanes = Lanes::new();
        for number in 0..4 {
            lanes.push(number % 2, number);
        }
        lanes.retain(|number| number % 2 == 1);
        assert_eq!(lanes.waiting(), 2);
        assert_eq!(lanes.take().unwrap(), (1, 1));
        assert!(lanes.take().is_none());
        lanes.finish(&1);
        assert_eq!(lanes.take().unwrap(), (1, 3));
    }
}
