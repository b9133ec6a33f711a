//! Pareto dominance and non-dominated sorting. Every objective is minimised.
//!
//! A value that is not a number counts as infinity, so it is never better than anything. The number of
//! objectives is that of the first point; values that another point lacks count as infinity too.
//!
//! Two objectives are sorted by a sweep in O(N log N), three and four on a grid (`grid_sort`), more by sets of
//! bits (`bit_sort`).

use super::radix::{ascending, key};
use super::ranks::Table;
use super::{bit_sort, grid_sort};
use std::cmp::Ordering;

/// Points by front: which front each point is in, and which points each front holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fronts {
    ranks: Vec<usize>,
    fronts: Vec<Vec<usize>>,
}

impl Fronts {
    fn from_ranks(ranks: Vec<usize>) -> Fronts {
        let mut sizes = vec![0; ranks.iter().max().map_or(0, |&last| last + 1)];
        ranks.iter().for_each(|&rank| sizes[rank] += 1);
        let mut fronts: Vec<Vec<usize>> = sizes.into_iter().map(Vec::with_capacity).collect();
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
/// use criadero::pareto::dominates;
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
    let objectives = points.first().map_or(0, |point| point.as_ref().len());
    let column = |objective| points.iter().map(|point| key(value(point.as_ref(), objective))).collect();
    let columns: Vec<Vec<u64>> = (0..objectives).map(column).collect();
    if let [first, second] = &columns[..] {
        return Fronts::from_ranks(ranks_by_sweep(first, second));
    }
    let table = Table::new(points.len(), &columns);
    let rank_of_row = match objectives {
        3 if table.len <= grid_sort::MOST_ROWS => grid_sort::ranks::<2>(&table),
        4 if table.len <= grid_sort::MOST_ROWS => grid_sort::ranks::<3>(&table),
        _ => bit_sort::ranks(&table),
    };
    Fronts::from_ranks(table.row_of.iter().map(|&row| rank_of_row[row as usize]).collect())
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

/// Two objectives: in lexicographic order the last point of a front has its smallest second value, so it
/// alone decides whether the front dominates the next point, and those values ascend from front to front.
fn ranks_by_sweep(first: &[u64], second: &[u64]) -> Vec<usize> {
    let mut order = ascending(first);
    for ties in order.chunk_by_mut(|&a, &b| first[a as usize] == first[b as usize]) {
        if ties.len() > 1 {
            ties.sort_unstable_by_key(|&point| second[point as usize]);
        }
    }
    let mut last: Vec<u64> = Vec::new();
    let mut ranks = vec![0; order.len()];
    let mut before = None;
    for &point in &order {
        let point = point as usize;
        let (x, y) = (first[point], second[point]);
        ranks[point] = match before {
            Some((same, rank)) if same == (x, y) => rank,
            _ => last.partition_point(|&smallest| smallest <= y),
        };
        match last.get_mut(ranks[point]) {
            Some(smallest) => *smallest = y,
            None => last.push(y),
        }
        before = Some(((x, y), ranks[point]));
    }
    ranks
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
            // Now and then a point lacks its last values; the first point says how many there are.
            let length = prop_oneof![9 => Just(objectives), 1 => 1..objectives + 1];
            let point = (prop::collection::vec(value.clone(), objectives), length).prop_map(|(mut point, length)| {
                point.truncate(length);
                point
            });
            (prop::collection::vec(value.clone(), objectives), prop::collection::vec(point, 0..200)).prop_map(
                |(first, others)| {
                    let mut points = vec![first];
                    points.extend(others);
                    points
                },
            )
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
