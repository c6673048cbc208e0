//! Which changes a delivery carries, and when it is due.

use std::collections::{BTreeMap, HashMap};

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

/// The most changes that one delivery carries.
const MOST_CHANGES: usize = 100;
/// The most bytes of JSON that the changes of one delivery take, unless one alone takes more.
const MOST_BYTES: usize = 512 * 1024;

/// What of a target's changes is delivered together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Digest {
    /// Nothing: each change is a delivery.
    #[default]
    None,
    /// What one run saw, when it has ended.
    Run,
    /// What is seen within so long after the first change.
    Window(SignedDuration),
}

/// A change that a target wants and has not been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Collected {
    /// The catalog's id of the version.
    pub version_id: i64,
    /// The run that saw it.
    pub run_id: Uuid,
    /// When it was seen.
    pub seen_at: Timestamp,
    /// How many bytes of JSON it takes.
    pub bytes: usize,
}

/// Changes that are delivered together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grouped {
    /// The catalog's ids of their versions, in the order in which they were seen.
    pub version_ids: Vec<i64>,
    /// When they are due. None: when their run has ended.
    pub due: Option<Timestamp>,
}

/// Divides the changes of one target into deliveries. Changes that are seen later do not alter how earlier ones are
/// grouped. `ended` has the runs that have ended, and when.
pub fn group(changes: &[Collected], digest: Digest, ended: &HashMap<Uuid, Timestamp>) -> Vec<Grouped> {
    let mut changes = changes.to_vec();
    changes.sort_by_key(|change| (change.seen_at, change.version_id));
    let mut groups = Vec::new();
    match digest {
        Digest::None => {
            let alone = |change: &Collected| Grouped {
                version_ids: vec![change.version_id],
                due: Some(change.seen_at),
            };
            groups.extend(changes.iter().map(alone));
        }
        Digest::Run => {
            let mut runs: BTreeMap<(Timestamp, Uuid), Vec<Collected>> = BTreeMap::new();
            let mut first_seen = HashMap::new();
            for change in changes {
                let first = *first_seen.entry(change.run_id).or_insert(change.seen_at);
                runs.entry((first, change.run_id)).or_default().push(change);
            }
            for ((_, run), changes) in runs {
                divide(&mut groups, &changes, ended.get(&run).copied());
            }
        }
        Digest::Window(window) => {
            let mut left = changes.as_slice();
            while let Some(first) = left.first() {
                let end = first.seen_at.checked_add(window).unwrap_or(Timestamp::MAX);
                let (within, after) = left.split_at(left.partition_point(|change| change.seen_at <= end));
                divide(&mut groups, within, Some(end));
                left = after;
            }
        }
    }
    groups
}

/// As few deliveries as the limits allow.
fn divide(groups: &mut Vec<Grouped>, changes: &[Collected], due: Option<Timestamp>) {
    let mut bytes = 0;
    let mut version_ids = Vec::new();
    for change in changes {
        let is_full = version_ids.len() == MOST_CHANGES || bytes + change.bytes > MOST_BYTES;
        if is_full && !version_ids.is_empty() {
            groups.push(Grouped { version_ids: std::mem::take(&mut version_ids), due });
            bytes = 0;
        }
        version_ids.push(change.version_id);
        bytes += change.bytes;
    }
    if !version_ids.is_empty() {
        groups.push(Grouped { version_ids, due });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second)
    }

    fn seen(version_id: i64, run: u128, second: i64) -> Collected {
        Collected { version_id, run_id: Uuid::from_u128(run), seen_at: at(second), bytes: 1000 }
    }

    fn grouped(version_ids: &[i64], due: Option<i64>) -> Grouped {
        Grouped { version_ids: version_ids.to_vec(), due: due.map(at) }
    }

    #[test]
    fn changes_are_sent_alone_by_run_or_by_window() {
        let changes = [seen(3, 2, 700), seen(1, 1, 0), seen(2, 1, 600), seen(4, 1, 701)];
        let ended = HashMap::from([(Uuid::from_u128(1), at(900))]);
        let window = Digest::Window(SignedDuration::from_mins(10));
        for (digest, expected) in [
            (
                Digest::None,
                vec![
                    grouped(&[1], Some(0)),
                    grouped(&[2], Some(600)),
                    grouped(&[3], Some(700)),
                    grouped(&[4], Some(701)),
                ],
            ),
            (Digest::Run, vec![grouped(&[1, 2, 4], Some(900)), grouped(&[3], None)]),
            (window, vec![grouped(&[1, 2], Some(600)), grouped(&[3, 4], Some(1300))]),
        ] {
            assert_eq!(group(&changes, digest, &ended), expected, "{digest:?}");
            assert_eq!(group(&[], digest, &ended), []);
        }
    }

    #[test]
    fn a_delivery_is_not_larger_than_its_limits_unless_one_change_is() {
        let many: Vec<Collected> = (0..250).map(|number| seen(number, 1, 0)).collect();
        let sizes = |changes: &[Collected]| -> Vec<usize> {
            let groups = group(changes, Digest::Run, &HashMap::new());
            groups.iter().map(|group| group.version_ids.len()).collect()
        };
        assert_eq!(sizes(&many), [100, 100, 50]);
        let large = |version_id, bytes| Collected { bytes, ..seen(version_id, 1, 0) };
        let changes = [large(1, MOST_BYTES + 1), large(2, MOST_BYTES - 10), large(3, 10), large(4, 1)];
        assert_eq!(sizes(&changes), [1, 2, 1]);
    }
}
