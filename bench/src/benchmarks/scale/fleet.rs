//! Which subscriptions there are, and on which hosts.

use ::tests::Random;
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
        let mut random = Random::new(1, 0);
        let host = |_| {
            let at = random.share() * all;
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
