//! Where two sequences differ, found with bounded work.
//!
//! What occurs once in both is lined up first, as in a patience diff, then Myers' algorithm compares what lies between.
//! A stretch that would take it too long counts as replaced. The bound is a number of steps and not a time: equal
//! sequences give equal answers on any machine.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
};

use similar::{Algorithm, DiffTag, capture_diff_slices};

/// How often a stretch is divided by what occurs once in it.
const MOST_DIVISIONS: u32 = 8;
/// Stretches of so few steps are not divided.
const FEW_STEPS: usize = 64;
/// Where nothing occurs once, so many in a row may.
const IN_A_ROW: usize = 8;

/// How much work is left. The steps of a stretch are its length in the one sequence times that in the other.
#[derive(Debug)]
pub(crate) struct Work {
    steps: usize,
    at_once: usize,
    /// Whether a stretch took too many steps.
    pub(crate) was_too_much: bool,
}

/// Ranges of the old and the new sequence; either may be empty.
pub(crate) type Replaced = (Range<usize>, Range<usize>);

impl Work {
    /// So many steps, of which one stretch may take so many.
    pub(crate) fn new(steps: usize, at_once: usize) -> Self {
        Self { steps, at_once, was_too_much: false }
    }

    fn take(&mut self, steps: usize) -> bool {
        if steps > self.steps.min(self.at_once) {
            self.was_too_much = true;
            return false;
        }
        self.steps -= steps;
        true
    }
}

/// Numbers for texts: equal ones have the same, and numbers are compared faster.
pub(crate) fn identify<'a>(ids: &mut HashMap<&'a str, u32>, texts: &[&'a str]) -> Vec<u32> {
    texts
        .iter()
        .map(|text| {
            let next = u32::try_from(ids.len()).unwrap_or(u32::MAX);
            *ids.entry(text).or_insert(next)
        })
        .collect()
}

/// What stands in place of what, in order, with something equal between each two.
pub(crate) fn differences(old: &[u32], new: &[u32], work: &mut Work) -> Vec<Replaced> {
    let mut comparison = Comparison { old, new, work, replaced: Vec::new() };
    comparison.compare(0..old.len(), 0..new.len(), 0);
    comparison.replaced
}

struct Comparison<'a> {
    old: &'a [u32],
    new: &'a [u32],
    work: &'a mut Work,
    replaced: Vec<Replaced>,
}

impl Comparison<'_> {
    fn compare(&mut self, old: Range<usize>, new: Range<usize>, divisions: u32) {
        let (old, new) = self.trimmed(old, new);
        let steps = old.len().saturating_mul(new.len());
        if steps <= 1 {
            self.push(old, new);
            return;
        }
        let mut anchors = Vec::new();
        if divisions < MOST_DIVISIONS && steps > FEW_STEPS {
            anchors = self.anchors(&old, &new, 1);
            if anchors.is_empty() && steps > self.work.at_once {
                anchors = self.anchors(&old, &new, IN_A_ROW);
            }
        }
        if anchors.is_empty() {
            let pairs = self.equal_pairs(&old, &new);
            self.push_between(old, new, &pairs);
            return;
        }
        let (mut old_start, mut new_start) = (old.start, new.start);
        for (in_old, in_new) in anchors {
            self.compare(old_start..in_old, new_start..in_new, divisions + 1);
            (old_start, new_start) = (in_old + 1, in_new + 1);
        }
        self.compare(old_start..old.end, new_start..new.end, divisions + 1);
    }

    /// Without what both begin and end with.
    fn trimmed(&self, old: Range<usize>, new: Range<usize>) -> Replaced {
        let (old_part, new_part) = (&self.old[old.clone()], &self.new[new.clone()]);
        let start = old_part.iter().zip(new_part).take_while(|(old, new)| old == new).count();
        let (old_part, new_part) = (&old_part[start..], &new_part[start..]);
        let end =
            old_part.iter().rev().zip(new_part.iter().rev()).take_while(|(old, new)| old == new).count();
        (old.start + start..old.end - end, new.start + start..new.end - end)
    }

    /// Places of equal numbers, in order. What only one side has takes no steps.
    fn equal_pairs(&mut self, old: &Range<usize>, new: &Range<usize>) -> Vec<(usize, usize)> {
        let ids = |sequence: &[u32], range: &Range<usize>| sequence[range.clone()].iter().copied().collect();
        let (of_old, of_new): (HashSet<u32>, HashSet<u32>) = (ids(self.old, old), ids(self.new, new));
        let old: Vec<usize> = old.clone().filter(|place| of_new.contains(&self.old[*place])).collect();
        let new: Vec<usize> = new.clone().filter(|place| of_old.contains(&self.new[*place])).collect();
        if !self.work.take(old.len().saturating_mul(new.len())) {
            return Vec::new();
        }
        let old_ids: Vec<u32> = old.iter().map(|place| self.old[*place]).collect();
        let new_ids: Vec<u32> = new.iter().map(|place| self.new[*place]).collect();
        let mut pairs = Vec::new();
        for operation in capture_diff_slices(Algorithm::Myers, &old_ids, &new_ids) {
            if operation.tag() == DiffTag::Equal {
                let places = operation.old_range().zip(operation.new_range());
                pairs.extend(places.map(|(in_old, in_new)| (old[in_old], new[in_new])));
            }
        }
        pairs
    }

    fn push_between(&mut self, old: Range<usize>, new: Range<usize>, pairs: &[(usize, usize)]) {
        let (mut old_start, mut new_start) = (old.start, new.start);
        for (in_old, in_new) in pairs.iter().copied() {
            self.push(old_start..in_old, new_start..in_new);
            (old_start, new_start) = (in_old + 1, in_new + 1);
        }
        self.push(old_start..old.end, new_start..new.end);
    }

    fn push(&mut self, old: Range<usize>, new: Range<usize>) {
        if old.is_empty() && new.is_empty() {
            return;
        }
        match self.replaced.last_mut() {
            Some((last_old, last_new)) if last_old.end == old.start && last_new.end == new.start => {
                last_old.end = old.end;
                last_new.end = new.end;
            }
            _ => self.replaced.push((old, new)),
        }
    }

    /// Where in both begins what occurs once in each, so many in a row: as many as are in the same order.
    fn anchors(&self, old: &Range<usize>, new: &Range<usize>, in_a_row: usize) -> Vec<(usize, usize)> {
        #[derive(Default)]
        struct Occurrences {
            in_old: usize,
            in_new: usize,
            /// The last of them.
            new_place: usize,
        }
        let mut occurrences: HashMap<&[u32], Occurrences> = HashMap::with_capacity(old.len());
        for row in self.old[old.clone()].windows(in_a_row) {
            occurrences.entry(row).or_default().in_old += 1;
        }
        for (place, row) in (new.start..).zip(self.new[new.clone()].windows(in_a_row)) {
            if let Some(found) = occurrences.get_mut(row) {
                found.in_new += 1;
                found.new_place = place;
            }
        }
        let once = (old.start..).zip(self.old[old.clone()].windows(in_a_row)).filter_map(|(place, row)| {
            let found = occurrences.get(row)?;
            (found.in_old == 1 && found.in_new == 1).then_some((place, found.new_place))
        });
        longest_increasing(once.collect())
    }
}

/// The longest choice of pairs whose second numbers grow as their first ones do.
fn longest_increasing(pairs: Vec<(usize, usize)>) -> Vec<(usize, usize)> {
    // For each length, the pair with the lowest second number that ends a choice of it; and for each pair, the one before.
    let mut ends: Vec<usize> = Vec::new();
    let mut before: Vec<Option<usize>> = Vec::with_capacity(pairs.len());
    for (index, (_, place)) in pairs.iter().enumerate() {
        let length = ends.partition_point(|end| pairs[*end].1 < *place);
        before.push(length.checked_sub(1).map(|length| ends[length]));
        if length == ends.len() {
            ends.push(index);
        } else {
            ends[length] = index;
        }
    }
    let mut next = ends.last().copied();
    let mut chosen: Vec<(usize, usize)> = std::iter::from_fn(|| {
        let index = next?;
        next = before[index];
        Some(pairs[index])
    })
    .collect();
    chosen.reverse();
    chosen
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_occurs_once_is_lined_up_and_moved_parts_are_replaced() {
        let numbers = |numbers: &[Range<u32>]| numbers.iter().cloned().flatten().collect::<Vec<u32>>();
        let (old, new) = (numbers(&[0..100, 200..220, 300..400]), numbers(&[0..50, 300..400, 50..100]));
        let mut work = Work::new(usize::MAX, 1 << 20);
        assert_eq!(differences(&old, &new, &mut work), [(50..120, 50..50), (220..220, 150..200)]);
        assert!(!work.was_too_much);
    }

    #[test]
    fn what_would_take_too_many_steps_counts_as_replaced_and_the_rest_is_compared() {
        let repeated = |numbers: [u32; 2], ends: u32| -> Vec<u32> {
            let middle = (0..4000).map(|place| numbers[(place * place / 7) % 2]);
            [ends, 9].into_iter().chain(middle).chain([8, ends]).collect()
        };
        let (old, new) = (repeated([1, 2], 5), repeated([2, 1], 6));
        let mut work = Work::new(usize::MAX, 1 << 20);
        assert_eq!(
            differences(&old, &new, &mut work),
            [(0..1, 0..1), (2..4002, 2..4002), (4003..4004, 4003..4004)]
        );
        assert!(work.was_too_much);
    }

    #[test]
    fn what_occurs_several_times_is_lined_up_by_what_is_around_it() {
        // A text of few words in an order that does not repeat.
        let word = |place: u64| u32::try_from(place.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(20) % 50);
        let old: Vec<u32> = (1..5000).filter_map(|place| word(place * place).ok()).collect();
        let mut new = old.clone();
        for place in [100, 1000, 1001, 4000] {
            new[place] = 60;
        }
        let mut work = Work::new(usize::MAX, 1 << 20);
        assert_eq!(
            differences(&old, &new, &mut work),
            [(100..101, 100..101), (1000..1002, 1000..1002), (4000..4001, 4000..4001),]
        );
        assert!(!work.was_too_much);
    }

    #[test]
    fn what_one_side_has_twice_is_not_lined_up_with_either_before_the_rest_is_compared() {
        let old: Vec<u32> = (50..60).chain([7]).chain(60..70).chain([7, 71]).collect();
        let new: Vec<u32> = [80, 7].into_iter().chain(81..100).collect();
        let replaced = differences(&old, &new, &mut Work::new(1000, 1000));
        assert_eq!(replaced, [(0..10, 0..1), (11..23, 2..21)]);
    }

    #[test]
    fn what_only_one_side_has_takes_no_steps() {
        let old: Vec<u32> =
            (0..3000).map(|place| if place % 1000 == 7 { 1 } else { 10_000 + place }).collect();
        let new: Vec<u32> =
            (0..4000).map(|place| if place % 1000 == 9 { 1 } else { 20_000 + place }).collect();
        let mut work = Work::new(100, 100);
        let replaced = differences(&old, &new, &mut work);
        assert!(!work.was_too_much);
        assert_eq!(replaced.len(), 4);
        assert_eq!(replaced[0], (0..7, 0..9));
    }

    #[test]
    fn many_small_stretches_end_with_the_work_that_is_left() {
        let old: Vec<u32> = (0..100).flat_map(|place| [1, 2, 1, 3, 1000 + place]).collect();
        let new: Vec<u32> = (0..100).flat_map(|place| [2, 1, 3, 1, 1000 + place]).collect();
        let mut enough = Work::new(100 * 16, 16);
        let compared = differences(&old, &new, &mut enough);
        assert!(!enough.was_too_much && compared.len() > 100);
        let mut half = Work::new(50 * 16, 16);
        let partly = differences(&old, &new, &mut half);
        assert!(half.was_too_much && partly.len() > 100 && partly.len() < compared.len());
        assert!(partly.ends_with(&[(495..499, 495..499)]));
    }

    proptest! {
        #[test]
        fn what_is_not_replaced_is_equal(
            old in prop::collection::vec(0..20_u32, 0..60),
            new in prop::collection::vec(0..20_u32, 0..60),
            steps in 0..4000_usize,
        ) {
            let replaced = differences(&old, &new, &mut Work::new(steps, steps / 2));
            let (mut old_end, mut new_end) = (0, 0);
            for (in_old, in_new) in replaced.iter().cloned().chain([(old.len()..old.len(), new.len()..new.len())]) {
                prop_assert_eq!(&old[old_end..in_old.start], &new[new_end..in_new.start]);
                (old_end, new_end) = (in_old.end, in_new.end);
            }
        }
    }
}
