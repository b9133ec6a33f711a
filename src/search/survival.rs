//! Who survives, and who beats whom: rank under constraint domination, then crowding, as in NSGA-II.

use crate::pareto::{constrained_sort, crowding_distance};

/// Chooses, by index, the points that survive: of these objectives and violations so many.
pub type Survival = fn(&[&[f64]], &[f64], usize) -> Vec<usize>;

/// The `count` points that survive, by index: whole fronts under constraint domination, best first, and of the front
/// that does not fit those with the largest crowding distance, ties to the first.
pub fn rank_and_crowding<P: AsRef<[f64]>>(points: &[P], violations: &[f64], count: usize) -> Vec<usize> {
    let mut survivors = Vec::with_capacity(count.min(points.len()));
    for front in constrained_sort(points, violations).fronts() {
        let room = count - survivors.len();
        if front.len() <= room {
            survivors.extend(front);
            continue;
        }
        let distances = crowding_of(points, front);
        let mut order: Vec<usize> = (0..front.len()).collect();
        order.sort_by(|&a, &b| distances[b].total_cmp(&distances[a]));
        survivors.extend(order[..room].iter().map(|&place| front[place]));
        break;
    }
    survivors
}

/// What a tournament compares.
pub struct Standing {
    /// Front under constraint domination, so that violations come first.
    rank: usize,
    crowding: f64,
}

impl Standing {
    /// Whether it wins a tournament.
    pub fn beats(&self, other: &Standing) -> bool {
        self.rank < other.rank || self.rank == other.rank && self.crowding > other.crowding
    }
}

/// Computed from the survivors whenever they breed, rather than kept from the selection that made them survivors:
/// the room around a point is then what the cut has left of it, and no state holds derived values.
pub fn standings<P: AsRef<[f64]>>(points: &[P], violations: &[f64]) -> Vec<Standing> {
    let sorted = constrained_sort(points, violations);
    let mut standings: Vec<Standing> = sorted.ranks().iter().map(|&rank| Standing { rank, crowding: 0.0 }).collect();
    for front in sorted.fronts() {
        for (&point, crowding) in front.iter().zip(crowding_of(points, front)) {
            standings[point].crowding = crowding;
        }
    }
    standings
}

fn crowding_of<P: AsRef<[f64]>>(points: &[P], front: &[usize]) -> Vec<f64> {
    let members: Vec<&[f64]> = front.iter().map(|&point| points[point].as_ref()).collect();
    crowding_distance(&members)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selects_whole_fronts_and_then_the_roomiest() {
        // Three fronts: 0..=4 on a line, then 5, then 6.
        let points = [[0.0, 8.0], [1.0, 7.0], [2.0, 6.0], [5.0, 3.0], [8.0, 0.0], [8.0, 8.0], [9.0, 9.0]];
        assert_eq!(rank_and_crowding(&points, &[0.0; 7], 6), [0, 1, 2, 3, 4, 5]);
        assert_eq!(rank_and_crowding(&points, &[0.0; 7], 4), [0, 4, 3, 2]);
        assert_eq!(rank_and_crowding(&points, &[0.0; 7], 99).len(), 7);
        assert!(rank_and_crowding(&points, &[0.0; 7], 0).is_empty());
        // Feasible points first, then the lowest violation, whatever the objectives.
        assert_eq!(rank_and_crowding(&points, &[1.0, 1.0, 1.0, 0.2, 1.0, 1.0, 0.0], 2), [6, 3]);
    }
}
