//! Where two sequences differ, found with bounded work.
//!
//! What occurs once in both is lined up first, as in a patience diff, then Myers' algorithm compares what lies between.
//! A stretch that would take it too long counts as replaced. The bound is a number of steps and not a time: equal
//! sequences give equal answers on any machine.

use std::{collections::HashMap, hash::Hash, ops::Range};

use similar::{Algorithm, DiffTag, capture_diff_slices};

/// How often a stretch is divided by what occurs once in it.
const MOST_DIVISIONS: u32 = 8;
/// Stretches of so few steps are not divided.
const FEW_STEPS: usize = 64;
/// Where nothing occurs once, so many in a row may. Of the old sequence, rows are looked at that begin at multiples of this: a
/// table of all would be as many times as large. One of them is in whatever is alike for nearly twice as long.
const IN_A_ROW: usize = 8;
/// The number of all that the old sequence lacks.
const ONLY_NEW: u32 = 0;

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

/// What stands in place of what, in order, with something equal between each two.
pub(crate) fn differences<T: Eq + Hash>(old: &[T], new: &[T], work: &mut Work) -> Vec<Replaced> {
    let items = Numbers::new(old.iter(), new.iter());
    let mut comparison = Comparison { items, rows: None, work, replaced: Vec::new() };
    comparison.compare(0..old.len(), 0..new.len(), 0);
    comparison.replaced
}

struct Comparison<'a> {
    items: Numbers,
    /// The old sequence cut into rows of so many, and where in the new one there are such. Made when first asked for.
    rows: Option<Numbers>,
    work: &'a mut Work,
    replaced: Vec<Replaced>,
}

/// Two sequences by number: what is equal has the same, and what only the new one has is [`ONLY_NEW`].
struct Numbers {
    old: Vec<u32>,
    new: Vec<u32>,
    /// Of each number, in the parts that are looked at; nothing between two looks.
    occurrences: Vec<Occurrences>,
}

#[derive(Clone, Copy, Default)]
struct Occurrences {
    in_old: u32,
    in_new: u32,
    /// The last of them.
    new_place: usize,
}

impl Numbers {
    fn new<T: Eq + Hash>(
        old: impl ExactSizeIterator<Item = T>,
        new: impl ExactSizeIterator<Item = T>,
    ) -> Self {
        let mut numbers = HashMap::with_capacity(old.len());
        let of_old = old.map(|item| {
            // A text of so many lines would take more memory than a document may.
            let next = u32::try_from(numbers.len() + 1).unwrap_or(u32::MAX);
            *numbers.entry(item).or_insert(next)
        });
        let old = of_old.collect();
        let new = new.map(|item| numbers.get(&item).copied().unwrap_or(ONLY_NEW)).collect();
        Self { old, new, occurrences: vec![Occurrences::default(); numbers.len() + 1] }
    }

    /// Where in both is what occurs once in each part.
    fn that_occur_once(&mut self, old: Range<usize>, new: Range<usize>) -> Vec<(usize, usize)> {
        self.look_at(&old, &new);
        let once = old.clone().filter_map(|place| {
            let found = self.occurrences[self.old[place] as usize];
            (found.in_old == 1 && found.in_new == 1).then_some((place, found.new_place))
        });
        let once = once.collect();
        self.forget(&old, &new);
        once
    }

    /// The places of what occurs in both parts, in either.
    fn that_occur_in_both(&mut self, old: Range<usize>, new: Range<usize>) -> (Vec<usize>, Vec<usize>) {
        self.look_at(&old, &new);
        let of_old = old.clone().filter(|place| self.occurrences[self.old[*place] as usize].in_new > 0);
        let of_new = new.clone().filter(|place| self.occurrences[self.new[*place] as usize].in_old > 0);
        let places = (of_old.collect(), of_new.collect());
        self.forget(&old, &new);
        places
    }

    fn look_at(&mut self, old: &Range<usize>, new: &Range<usize>) {
        for number in &self.old[old.clone()] {
            self.occurrences[*number as usize].in_old += 1;
        }
        for (place, number) in new.clone().zip(&self.new[new.clone()]) {
            let found = &mut self.occurrences[*number as usize];
            found.in_new += 1;
            found.new_place = place;
        }
    }

    fn forget(&mut self, old: &Range<usize>, new: &Range<usize>) {
        for number in self.old[old.clone()].iter().chain(&self.new[new.clone()]) {
            self.occurrences[*number as usize] = Occurrences::default();
        }
    }
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
            anchors = longest_increasing(self.items.that_occur_once(old.clone(), new.clone()));
            if anchors.is_empty() && steps > self.work.at_once {
                anchors = self.anchors_in_a_row(&old, &new);
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
        let (old_part, new_part) = (&self.items.old[old.clone()], &self.items.new[new.clone()]);
        let start = old_part.iter().zip(new_part).take_while(|(old, new)| old == new).count();
        let (old_part, new_part) = (&old_part[start..], &new_part[start..]);
        let end =
            old_part.iter().rev().zip(new_part.iter().rev()).take_while(|(old, new)| old == new).count();
        (old.start + start..old.end - end, new.start + start..new.end - end)
    }

    /// Places of equal numbers, in order. What only one side has takes no steps.
    fn equal_pairs(&mut self, old: &Range<usize>, new: &Range<usize>) -> Vec<(usize, usize)> {
        let (old, new) = self.items.that_occur_in_both(old.clone(), new.clone());
        if !self.work.take(old.len().saturating_mul(new.len())) {
            return Vec::new();
        }
        let of_old: Vec<u32> = old.iter().map(|place| self.items.old[*place]).collect();
        let of_new: Vec<u32> = new.iter().map(|place| self.items.new[*place]).collect();
        let mut pairs = Vec::new();
        for operation in capture_diff_slices(Algorithm::Myers, &of_old, &of_new) {
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

    /// Where in both begin rows of which each has one: as many as are in the same order.
    fn anchors_in_a_row(&mut self, old: &Range<usize>, new: &Range<usize>) -> Vec<(usize, usize)> {
        let items = &self.items;
        let rows = self.rows.get_or_insert_with(|| {
            Numbers::new(items.old.chunks_exact(IN_A_ROW), items.new.windows(IN_A_ROW))
        });
        let (old_end, new_end) = (old.end / IN_A_ROW, (new.end + 1).saturating_sub(IN_A_ROW));
        let old_rows = old.start.div_ceil(IN_A_ROW).min(old_end)..old_end;
        let once = rows.that_occur_once(old_rows, new.start.min(new_end)..new_end);
        longest_increasing(once.into_iter().map(|(row, place)| (row * IN_A_ROW, place)).collect())
    }
}

/// The longest choice of pairs whose second numbers grow as their first ones do.
fn longest_increasing(pairs: Vec<(usize, usize)>) -> Vec<(usize, usize)> {
    // For each length, the pair with the lowest second number that ends a choice of it; and for each pair, the one before.
    let mut ends: Vec<usize> = Vec::new();
    let mut before: Vec<Option<usize>> = Vec::with_capacity(pairs.len());
    for (index, (_, place)) in pairs.iter().enumerate() {
        // Most are in the same order: then it is the longest that goes on.
        let length = match ends.last() {
            Some(end) if pairs[*end].1 < *place => ends.len(),
            _ => ends.partition_point(|end| pairs[*end].1 < *place),
        };
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
    fn few_at_the_end_in_place_of_many_are_not_lined_up_by_what_is_around_them() {
        let (old, new) = ([1, 2, 1, 2], [3, 2, 1, 1, 2, 3].repeat(20));
        let mut work = Work::new(100, 100);
        assert_eq!(differences(&old, &new, &mut work), [(0..4, 0..120)]);
        assert!(work.was_too_much);
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

    /// The old sequence with the stretches of the new one in place of its own.
    fn replaced_by(replaced: &[Replaced], old: &[u32], new: &[u32]) -> Vec<u32> {
        let mut made = Vec::new();
        let mut old_end = 0;
        for (in_old, in_new) in replaced {
            made.extend_from_slice(&old[old_end..in_old.start]);
            made.extend_from_slice(&new[in_new.clone()]);
            old_end = in_old.end;
        }
        made.extend_from_slice(&old[old_end..]);
        made
    }

    /// A sequence of few different numbers, and what comes of it when some stretches are replaced.
    fn edited() -> impl Strategy<Value = (Vec<u32>, Vec<u32>)> {
        let few = |length| prop::collection::vec(0..4_u32, length);
        let edits = prop::collection::vec((any::<prop::sample::Index>(), 0..12_usize, few(0..12)), 0..4);
        (few(1..160), edits).prop_map(|(old, edits)| {
            let mut new = old.clone();
            for (place, length, with) in edits {
                let start = place.index(new.len() + 1);
                new.splice(start..(start + length).min(new.len()), with);
            }
            (old, new)
        })
    }

    proptest! {
        #[test]
        fn what_is_not_replaced_is_equal_where_nothing_occurs_once((old, new) in edited(), steps in 0..4000_usize) {
            // No stretch may take so many steps that it is compared without rows that are alike.
            let replaced = differences(&old, &new, &mut Work::new(steps, FEW_STEPS));
            prop_assert_eq!(replaced_by(&replaced, &old, &new), new);
        }

        #[test]
        fn what_is_not_replaced_is_equal(
            old in prop::collection::vec(0..20_u32, 0..60),
            new in prop::collection::vec(0..20_u32, 0..60),
            steps in 0..4000_usize,
        ) {
            let replaced = differences(&old, &new, &mut Work::new(steps, steps / 2));
            prop_assert_eq!(replaced_by(&replaced, &old, &new), new);
        }
    }
}
