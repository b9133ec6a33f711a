//! How much room a point has on its front.

use super::radix::{ascending, key, value};

/// Crowding distance (Deb et al. 2002, section III.B), by pymoo's conventions: for each objective the gap between
/// a point's two neighbours over the objective's range, averaged over the objectives.
///
/// * The smallest and the largest value of an objective have an infinite gap; of several equal ones, only the
///   first (smallest) and the last (largest) in the order of `points`.
/// * Equal points are neighbours like any others, so inner duplicates have gaps of 0.
/// * An objective on which all points agree adds nothing, to any point.
/// * One or two points are infinitely far from each other.
/// * A gap that is not a number, such as infinity less infinity, is 0.
pub fn crowding_distance<P: AsRef<[f64]>>(points: &[P]) -> Vec<f64> {
    if points.len() <= 2 {
        return vec![f64::INFINITY; points.len()];
    }
    let objectives = points.iter().map(|point| point.as_ref().len()).min().unwrap_or(0);
    let mut distances = vec![0.0; points.len()];
    for objective in 0..objectives {
        let keys: Vec<u64> = points.iter().map(|point| key(point.as_ref()[objective])).collect();
        // Stable, as the first of several equal values is meant to be the first point.
        let order = ascending(&keys);
        let sorted: Vec<f64> = order.iter().map(|&point| value(keys[point as usize])).collect();
        let range = sorted[sorted.len() - 1] - sorted[0];
        if range == 0.0 {
            continue;
        }
        let gap = |gap: f64| if (gap / range).is_nan() { 0.0 } else { gap / range };
        let gaps = sorted.windows(2).map(|pair| gap(pair[1] - pair[0]));
        let mut before = gap(f64::INFINITY);
        for (&point, after) in order.iter().zip(gaps.chain([gap(f64::INFINITY)])) {
            distances[point as usize] += before + after;
            before = after;
        }
    }
    if objectives > 0 {
        distances.iter_mut().for_each(|distance| *distance /= objectives as f64);
    }
    distances
}

#[cfg(test)]
mod tests {
    use super::*;

    const INF: f64 = f64::INFINITY;

    #[test]
    fn measures_the_gap_between_neighbours() {
        // Ranges 4 and 8. The second point: (2 - 0) / 4 + (8 - 2) / 8 over two.
        assert_eq!(crowding_distance(&[[0.0, 8.0], [1.0, 4.0], [2.0, 2.0], [4.0, 0.0]]), [INF, 0.625, 0.625, INF]);
    }

    #[test]
    fn inner_duplicates_have_no_room() {
        let points = [[0.0, 1.0], [0.5, 0.5], [0.5, 0.5], [0.5, 0.5], [1.0, 0.0]];
        assert_eq!(crowding_distance(&points), [INF, 0.5, 0.0, 0.5, INF]);
    }

    #[test]
    fn an_objective_on_which_all_agree_adds_nothing() {
        assert_eq!(crowding_distance(&[[0.0, 7.0], [1.0, 7.0], [4.0, 7.0]]), [INF, 0.5, INF]);
        assert_eq!(crowding_distance(&[[3.0, 7.0]; 3]), [0.0; 3]);
    }

    #[test]
    fn few_or_infinite_points_are_no_problem() {
        assert_eq!(crowding_distance(&[[1.0, 2.0]; 2]), [INF; 2]);
        assert!(crowding_distance::<Vec<f64>>(&[]).is_empty());
        assert_eq!(crowding_distance(&[[0.0; 0]; 3]), [0.0; 3]);
        let distances = crowding_distance(&[[0.0, INF], [1.0, 1.0], [INF, 0.0], [f64::NAN, f64::NAN]]);
        assert!(distances.iter().all(|distance| !distance.is_nan()));
    }
}
