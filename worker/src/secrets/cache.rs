//! Keeps what was read of Secrets for a moment.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex as StdMutex, PoisonError},
};

use async_trait::async_trait;
use events::Clock;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Mutex;

use super::{SecretError, SecretName, SecretReader, SecretValues};

/// How soon a changed Secret takes effect.
const GOOD_FOR: SignedDuration = SignedDuration::from_secs(30);
/// How soon one that could not be read is asked for again.
const FAILURE_GOOD_FOR: SignedDuration = SignedDuration::from_secs(5);
/// Beyond this number of Secrets the cache begins anew.
const SECRETS: usize = 256;
/// A larger one, in bytes, is read each time: all together may not take more than 16 MiB.
const LARGEST_KEPT: usize = 64 * 1024;

/// A reader that asks another one for each Secret at most twice a minute, and once at a time. One that could not be
/// read is asked for again after five seconds.
pub struct SecretCache<R> {
    reader: R,
    clock: Arc<dyn Clock>,
    slots: StdMutex<HashMap<SecretName, Arc<Slot>>>,
}

/// Locked while the Secret is being read: whoever else wants it waits, and finds it.
type Slot = Mutex<Option<Kept>>;

struct Kept {
    /// When it was asked for.
    at: Timestamp,
    outcome: Result<Arc<SecretValues>, SecretError>,
}

impl Kept {
    fn is_good(&self, now: Timestamp) -> bool {
        let good_for = if self.outcome.is_ok() { GOOD_FOR } else { FAILURE_GOOD_FOR };
        let age = now.duration_since(self.at);
        // A clock that was set back says nothing of its age.
        !age.is_negative() && age < good_for
    }

    fn is_small(&self) -> bool {
        self.outcome.as_ref().map_or(0, |values| values.byte_size()) <= LARGEST_KEPT
    }
}

impl<R: SecretReader> SecretCache<R> {
    /// Keeps what `reader` reads.
    pub fn new(reader: R, clock: Arc<dyn Clock>) -> Self {
        Self { reader, clock, slots: StdMutex::default() }
    }

    fn slot(&self, secret: &SecretName) -> Arc<Slot> {
        // A map is whole between any two calls.
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(secret) {
            return slot.clone();
        }
        if slots.len() >= SECRETS {
            slots.clear();
        }
        slots.entry(secret.clone()).or_default().clone()
    }
}

#[async_trait]
impl<R: SecretReader> SecretReader for SecretCache<R> {
    async fn read(&self, secret: &SecretName) -> Result<Arc<SecretValues>, SecretError> {
        let slot = self.slot(secret);
        let mut slot = slot.lock().await;
        let at = self.clock.now();
        if let Some(kept) = slot.as_ref().filter(|kept| kept.is_good(at)) {
            return kept.outcome.clone();
        }
        let outcome = self.reader.read(secret).await;
        let kept = Kept { at, outcome: outcome.clone() };
        *slot = kept.is_small().then_some(kept);
        outcome
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::atomic::{AtomicUsize, Ordering};

    use events::ManualClock;
    use futures::future::join_all;

    use super::*;

    /// Secrets of one key, whose value counts the readings; `missing` is not there, `large` is.
    #[derive(Clone, Default)]
    struct Counting(Arc<AtomicUsize>);

    #[async_trait]
    impl SecretReader for Counting {
        async fn read(&self, secret: &SecretName) -> Result<Arc<SecretValues>, SecretError> {
            let number = 1 + self.0.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            if secret.name == "missing" {
                return Err(SecretError::NotFound { secret: secret.clone() });
            }
            let count = if secret.name == "large" { 9 } else { 1 };
            let large = (1..count).map(|key| (format!("{key}"), vec![b'x'; super::super::LONGEST_VALUE]));
            let token = ("token".to_owned(), number.to_string().into_bytes());
            Ok(Arc::new(SecretValues::new(large.chain([token]))))
        }
    }

    fn secret(name: &str) -> SecretName {
        SecretName { namespace: "laws".to_owned(), name: name.to_owned() }
    }

    fn cache() -> (SecretCache<Counting>, ManualClock, Counting) {
        let (clock, counting) = (ManualClock::new(Timestamp::UNIX_EPOCH), Counting::default());
        (SecretCache::new(counting.clone(), Arc::new(clock.clone())), clock, counting)
    }

    #[tokio::test]
    async fn a_change_takes_effect_within_half_a_minute_and_a_failure_passes_sooner() {
        // Seconds, and how often each was read until then: one that is there, one that is not, one that is large.
        let rows = [(0, 1, 1, 1), (4, 1, 1, 2), (5, 1, 2, 3), (29, 1, 3, 4), (30, 2, 3, 5), (59, 2, 4, 6)];
        let mut read = [0; 3];
        let (cache, clock, counting) = cache();
        for (second, good, missing, large) in rows {
            clock.set(Timestamp::from_second(second).unwrap());
            for (place, name) in ["good", "missing", "large"].into_iter().enumerate() {
                let before = counting.0.load(Ordering::SeqCst);
                assert_eq!(cache.read(&secret(name)).await.is_ok(), name != "missing");
                read[place] += counting.0.load(Ordering::SeqCst) - before;
            }
            assert_eq!(read, [good, missing, large], "after {second} s");
        }
        // A clock that is set back must not make it good for longer.
        clock.set(Timestamp::from_second(10).unwrap());
        let before = counting.0.load(Ordering::SeqCst);
        cache.read(&secret("good")).await.unwrap();
        assert_eq!(counting.0.load(Ordering::SeqCst), before + 1);
    }

    #[tokio::test]
    async fn many_that_want_one_at_once_make_one_reading_of_it() {
        let (cache, _, counting) = cache();
        let names: Vec<_> = (0..1_000).map(|number| secret(&format!("court-{}", number % 4))).collect();
        let values = join_all(names.iter().map(|name| cache.read(name))).await;
        assert!(values.iter().all(Result::is_ok));
        assert_eq!(counting.0.load(Ordering::SeqCst), 4);
    }

    #[tokio::test]
    async fn no_more_than_so_many_are_kept() {
        let (cache, _, _) = cache();
        for number in 0..2 * SECRETS + 7 {
            cache.read(&secret(&format!("court-{number}"))).await.unwrap();
            assert!(cache.slots.lock().unwrap().len() <= SECRETS);
        }
    }
}
