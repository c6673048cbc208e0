//! Which subscriptions there are, and on which hosts.

use events::BoxError;
use operator::Plan;

use crate::benchmarks::beat;

/// The subscriptions in the beat's plan, and the host of each by its id.
pub(super) struct Fleet {
    pub(super) plan: Plan,
    pub(super) host_of: Vec<u32>,
    pub(super) hosts: usize,
}

impl Fleet {
    /// Subscriptions as `bench beat` has them. The hosts' shares follow Zipf's law: few have very many.
    pub(super) fn new(subscriptions: usize, hosts: usize) -> Result<Self, BoxError> {
        let mut plan = Plan::default();
        for number in 0..subscriptions {
            plan.put(beat::subscription(number)?)?;
        }
        let shares: Vec<f64> = (1..=hosts)
            .scan(0.0, |sum, rank| {
                *sum += 1.0 / rank as f64;
                Some(*sum)
            })
            .collect();
        let all = shares.last().copied().unwrap_or_default();
        let host = |number: usize| {
            let at = scattered(number as u64) * all;
            u32::try_from(shares.partition_point(|share| *share <= at).min(hosts - 1))
        };
        let host_of = (0..subscriptions).map(host).collect::<Result<_, _>>()?;
        Ok(Self { plan, host_of, hosts })
    }

    pub(super) fn subscriptions_of_the_largest_host(&self) -> usize {
        let mut counts = vec![0; self.hosts];
        for host in &self.host_of {
            if let Some(count) = counts.get_mut(*host as usize) {
                *count += 1;
            }
        }
        counts.into_iter().max().unwrap_or_default()
    }
}

/// A number from 0 up to 1 that looks random and is the same each time (SplitMix64).
fn scattered(number: u64) -> f64 {
    let mut bits = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((bits ^ (bits >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_largest_host_has_the_share_that_zipfs_law_gives_it() {
        let fleet = Fleet::new(20_000, 1_000).unwrap();
        let harmonic: f64 = (1..=1_000).map(|rank| 1.0 / f64::from(rank)).sum();
        let expected = 20_000.0 / harmonic;
        let largest = fleet.subscriptions_of_the_largest_host() as f64;
        assert!((largest - expected).abs() < 0.05 * expected, "{largest} instead of {expected}");
        assert!(fleet.host_of.iter().all(|host| *host < 1_000));
    }
}
