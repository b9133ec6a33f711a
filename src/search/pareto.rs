//! Pareto dominance and non-dominated sorting. Every objective is minimised.
//!
//! A value that is not a number counts as infinity, so it is never better than anything. The number of
//! objectives is that of the first point; values that another point lacks count as infinity too.
//!
//! Two objectives are sorted by a sweep in O(N log N). More are sorted by sets of bits: the points that
//! dominate a point are the intersection of one prefix of each objective's order, as in Moreno et al.,
//! "Merge non-dominated sorting algorithm for many-objective optimization" (2020), here with check points
//! instead of whole tables so that memory stays O(N M), and with the binary search over fronts of Zhang et
//! al., "An efficient approach to nondominated sorting" (2015). That is O(M N² / 64) word operations at worst.

use std::cmp::Ordering;

/// Points by front: which front each point is in, and which points each front holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fronts {
    ranks: Vec<usize>,
    fronts: Vec<Vec<usize>>,
}

impl Fronts {
    fn from_ranks(ranks: Vec<usize>) -> Fronts {
        let count = ranks.iter().max().map_or(0, |&last| last + 1);
        let mut fronts = vec![Vec::new(); count];
        for (point, &rank) in ranks.iter().enumerate() {
            fronts[rank].push(point);
        }
        Fronts { ranks, fronts }
    }

    /// The front of each point, 0 for those that nothing dominates.
    pub fn ranks(&self) -> &[usize] {
        &self.ranks
    }

    /// The points of each front, ascending; no front is empty.
    pub fn fronts(&self) -> &[Vec<usize>] {
        &self.fronts
    }
}

/// Whether `a` is nowhere worse than `b` and somewhere better.
///
/// ```
/// use criadero::search::dominates;
/// assert!(dominates(&[1.0, 2.0], &[1.0, 3.0]));
/// assert!(!dominates(&[1.0, 2.0], &[1.0, 2.0]));
/// assert!(!dominates(&[1.0, 2.0], &[2.0, 1.0]));
/// ```
pub fn dominates(a: &[f64], b: &[f64]) -> bool {
    let mut better = false;
    for objective in 0..a.len().max(b.len()) {
        match compare(value(a, objective), value(b, objective)) {
            Ordering::Greater => return false,
            Ordering::Less => better = true,
            Ordering::Equal => {}
        }
    }
    better
}

/// Sorts points into fronts: a point's rank is the length of the longest chain of points that dominate
/// one another above it (Deb et al. 2002, section III.A). Equal points share a front.
pub fn non_dominated_sort<P: AsRef<[f64]>>(points: &[P]) -> Fronts {
    let table = Table::new(points);
    let distinct_ranks = match table.objectives {
        2 => table.ranks_by_sweep(),
        _ => table.ranks_by_bits(),
    };
    let mut ranks = vec![0; points.len()];
    for (point, &row) in table.row_of.iter().enumerate() {
        ranks[point] = distinct_ranks[row];
    }
    Fronts::from_ranks(ranks)
}

/// Sorts points into fronts under constraint domination (Deb et al. 2002, section VI): feasible points, those
/// without violation, come before all others, and a lower violation before a higher one; equals are sorted by
/// their objectives. A negative violation is none; one that is missing or not a number is infinite.
pub fn constrained_sort<P: AsRef<[f64]>>(points: &[P], violations: &[f64]) -> Fronts {
    let violation = |point: usize| value(violations, point).max(0.0);
    let mut order: Vec<usize> = (0..points.len()).collect();
    order.sort_by(|&a, &b| compare(violation(a), violation(b)));
    let mut ranks = vec![0; points.len()];
    let mut next = 0;
    for level in order.chunk_by(|&a, &b| violation(a) == violation(b)) {
        let members: Vec<&[f64]> = level.iter().map(|&point| points[point].as_ref()).collect();
        let sorted = non_dominated_sort(&members);
        for (&point, &rank) in level.iter().zip(sorted.ranks()) {
            ranks[point] = next + rank;
        }
        next += sorted.fronts().len();
    }
    Fronts::from_ranks(ranks)
}

/// The points that no other dominates, ascending. All of several equal points are kept.
pub fn non_dominated<P: AsRef<[f64]>>(points: &[P]) -> Vec<usize> {
    let mut sorted = non_dominated_sort(points);
    if sorted.fronts.is_empty() { Vec::new() } else { sorted.fronts.swap_remove(0) }
}

/// An objective's value; absent ones and those that are not numbers are infinitely bad, and 0 has one sign.
fn value(point: &[f64], objective: usize) -> f64 {
    match point.get(objective) {
        Some(value) if !value.is_nan() => value + 0.0,
        _ => f64::INFINITY,
    }
}

fn compare(a: f64, b: f64) -> Ordering {
    // Exact on what `value` returns: numbers, and one zero.
    a.total_cmp(&b)
}

/// Distinct points in lexicographic order, each value replaced by its place among the objective's distinct
/// values: dominance is the same, and everything below compares integers.
struct Table {
    objectives: usize,
    /// `len x objectives` places, row by row.
    cells: Vec<u32>,
    /// Distinct points.
    len: usize,
    /// The row of each of the caller's points.
    row_of: Vec<usize>,
}

impl Table {
    fn new<P: AsRef<[f64]>>(points: &[P]) -> Table {
        let objectives = points.first().map_or(0, |point| point.as_ref().len());
        let mut places = vec![0u32; points.len() * objectives];
        for objective in 0..objectives {
            let mut order: Vec<(f64, usize)> =
                points.iter().enumerate().map(|(i, point)| (value(point.as_ref(), objective), i)).collect();
            order.sort_unstable_by(|a, b| compare(a.0, b.0));
            for (place, ties) in order.chunk_by(|a, b| a.0 == b.0).enumerate() {
                for &(_, point) in ties {
                    places[point * objectives + objective] = place as u32;
                }
            }
        }
        let place = |point: usize| &places[point * objectives..(point + 1) * objectives];
        let mut order: Vec<usize> = (0..points.len()).collect();
        order.sort_unstable_by(|&a, &b| place(a).cmp(place(b)));
        let mut table = Table { objectives, cells: Vec::new(), len: 0, row_of: vec![0; points.len()] };
        for equal in order.chunk_by(|&a, &b| place(a) == place(b)) {
            table.cells.extend_from_slice(place(equal[0]));
            for &point in equal {
                table.row_of[point] = table.len;
            }
            table.len += 1;
        }
        table
    }

    fn cell(&self, row: usize, objective: usize) -> u32 {
        self.cells[row * self.objectives + objective]
    }

    /// Two objectives: in lexicographic order the last point of a front has its smallest second value, so it
    /// alone decides whether the front dominates the next point, and those values ascend from front to front.
    fn ranks_by_sweep(&self) -> Vec<usize> {
        let mut last: Vec<u32> = Vec::new();
        (0..self.len)
            .map(|row| {
                let second = self.cell(row, 1);
                let rank = last.partition_point(|&smallest| smallest <= second);
                match last.get_mut(rank) {
                    Some(smallest) => *smallest = second,
                    None => last.push(second),
                }
                rank
            })
            .collect()
    }

    /// Any number of objectives. Only earlier rows can dominate a row, and because rows are distinct, an
    /// earlier row that is nowhere worse does.
    fn ranks_by_bits(&self) -> Vec<usize> {
        let prefixes: Vec<Prefixes> = (1..self.objectives).map(|objective| Prefixes::new(self, objective)).collect();
        let words = self.len.div_ceil(64);
        let (mut dominators, mut narrowed) = (vec![0u64; words], vec![0u64; words]);
        let mut fronts: Vec<Members> = Vec::new();
        (0..self.len)
            .map(|row| {
                let used = row / 64 + 1;
                dominators[..used].fill(u64::MAX);
                dominators[used - 1] = (1 << (row % 64)) - 1;
                for prefix in &prefixes {
                    prefix.intersect(row, &dominators[..used], &mut narrowed[..used]);
                    std::mem::swap(&mut dominators, &mut narrowed);
                }
                let rank = fronts.partition_point(|front| front.meets(&dominators[..used]));
                if rank == fronts.len() {
                    fronts.push(Members::default());
                }
                fronts[rank].push(row, words);
                rank
            })
            .collect()
    }
}

/// For one objective, the rows that are no worse than a given row, as a set of bits: a check point every
/// `step` rows of the objective's order, and the few rows from there on.
struct Prefixes {
    step: usize,
    words: usize,
    /// Rows by the objective's value.
    order: Vec<u32>,
    /// For each row, how many rows are no worse.
    ends: Vec<u32>,
    /// The first 0, `step`, 2 `step` .. rows of `order`, `words` words each.
    check_points: Vec<u64>,
}

impl Prefixes {
    /// At most this many check points: their memory is a constant number of bytes a point.
    const CHECK_POINTS: usize = 256;

    fn new(table: &Table, objective: usize) -> Prefixes {
        let words = table.len.div_ceil(64);
        let step = table.len.div_ceil(Prefixes::CHECK_POINTS).max(64);
        let mut order: Vec<u32> = (0..table.len as u32).collect();
        order.sort_by_key(|&row| table.cell(row as usize, objective));
        let mut ends = vec![0; table.len];
        let mut end = 0;
        for ties in order.chunk_by(|&a, &b| table.cell(a as usize, objective) == table.cell(b as usize, objective)) {
            end += ties.len() as u32;
            ties.iter().for_each(|&row| ends[row as usize] = end);
        }
        let mut prefix = vec![0u64; words];
        let mut check_points = prefix.clone();
        for rows in order.chunks_exact(step) {
            rows.iter().for_each(|&row| prefix[row as usize / 64] |= 1 << (row % 64));
            check_points.extend_from_slice(&prefix);
        }
        Prefixes { step, words, order, ends, check_points }
    }

    /// Writes to `to` those of the rows `from` that are no worse than `row`.
    fn intersect(&self, row: usize, from: &[u64], to: &mut [u64]) {
        let end = self.ends[row] as usize;
        let check_point = end / self.step;
        let known = &self.check_points[check_point * self.words..];
        for ((to, from), known) in to.iter_mut().zip(from).zip(known) {
            *to = from & known;
        }
        for &other in &self.order[check_point * self.step..end] {
            let (word, bit) = (other as usize / 64, 1 << (other % 64));
            if word < to.len() {
                to[word] |= from[word] & bit;
            }
        }
    }
}

/// The rows of a front: a list, and once that takes longer to walk also a set of bits, so that asking costs
/// O(N / 64) and all fronts together take O(N) memory.
#[derive(Default)]
struct Members {
    list: Vec<u32>,
    bits: Vec<u64>,
}

impl Members {
    /// About as many words of bits are compared in the time of one look-up.
    const WORDS_A_MEMBER: usize = 4;

    fn push(&mut self, row: usize, words: usize) {
        self.list.push(row as u32);
        if self.list.len() * Members::WORDS_A_MEMBER > words && self.bits.is_empty() {
            self.bits = vec![0; words];
            for &member in &self.list {
                self.bits[member as usize / 64] |= 1 << (member % 64);
            }
        } else if let Some(word) = self.bits.get_mut(row / 64) {
            *word |= 1 << (row % 64);
        }
    }

    fn meets(&self, rows: &[u64]) -> bool {
        if self.bits.is_empty() {
            self.list.iter().any(|&member| rows[member as usize / 64] >> (member % 64) & 1 == 1)
        } else {
            // Eight words at a time, so that the compiler can compare them in one go.
            let common = |(members, rows): (&[u64], &[u64])| {
                members.iter().zip(rows).fold(0, |common, (members, rows)| common | members & rows)
            };
            self.bits.chunks(8).zip(rows.chunks(8)).any(|eight| common(eight) != 0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition: peel off what nothing dominates, again and again.
    fn ranks_by_definition(points: &[Vec<f64>]) -> Vec<usize> {
        let mut ranks = vec![usize::MAX; points.len()];
        for rank in 0.. {
            let left: Vec<usize> = (0..points.len()).filter(|&i| ranks[i] == usize::MAX).collect();
            if left.is_empty() {
                break;
            }
            for &i in &left {
                if !left.iter().any(|&j| dominates(&points[j], &points[i])) {
                    ranks[i] = rank;
                }
            }
        }
        ranks
    }

    /// Points on a coarse grid (many ties and duplicates), with values that are not numbers here and there.
    fn points() -> impl Strategy<Value = Vec<Vec<f64>>> {
        let value = prop_oneof![
            20 => (0..7i32).prop_map(f64::from),
            4 => -1.0..1.0f64,
            1 => Just(f64::INFINITY),
            1 => Just(f64::NEG_INFINITY),
            1 => Just(f64::NAN),
            1 => Just(-0.0),
        ];
        (1usize..6).prop_flat_map(move |objectives| {
            prop::collection::vec(prop::collection::vec(value.clone(), objectives), 0..200)
        })
    }

    proptest! {
        #[test]
        fn ranks_are_those_of_the_definition(points in points()) {
            let sorted = non_dominated_sort(&points);
            prop_assert_eq!(sorted.ranks(), ranks_by_definition(&points));
        }

        #[test]
        fn without_violations_constraints_change_nothing(points in points()) {
            prop_assert_eq!(constrained_sort(&points, &vec![0.0; points.len()]), non_dominated_sort(&points));
        }
    }

    #[test]
    fn sorts_one_front_and_one_chain_of_thousands() {
        for objectives in 2..5 {
            let spread = |i: usize, sign: f64| {
                let mut point = vec![i as f64; objectives];
                point[objectives - 1] *= sign;
                point
            };
            let chain: Vec<Vec<f64>> = (0..3000).rev().map(|i| spread(i, 1.0)).collect();
            let sorted = non_dominated_sort(&chain);
            assert_eq!(sorted.ranks(), (0..3000).rev().collect::<Vec<_>>());
            let front: Vec<Vec<f64>> = (0..3000).map(|i| spread(i, -1.0)).collect();
            assert_eq!(non_dominated(&front), (0..3000).collect::<Vec<_>>());
        }
    }

    #[test]
    fn places_feasible_points_first_then_lower_violations() {
        let points = [[9.0, 9.0], [8.0, 8.0], [1.0, 1.0], [0.0, 0.0], [2.0, 2.0]];
        let sorted = constrained_sort(&points, &[0.0, -1.0, 0.5, 0.7, 0.5]);
        assert_eq!(sorted.ranks(), [1, 0, 2, 4, 3]);
        assert_eq!(sorted.fronts(), [vec![1], vec![0], vec![2], vec![4], vec![3]]);
    }

    #[test]
    fn nothing_has_no_fronts() {
        assert_eq!(non_dominated_sort::<Vec<f64>>(&[]), Fronts::default());
        assert!(non_dominated::<Vec<f64>>(&[]).is_empty());
        assert_eq!(non_dominated_sort(&[[0.0; 0]; 3]).ranks(), [0, 0, 0]);
    }
}
