//! The knee of a front: the point from which any gain in one objective costs most in another.

/// The point farthest from the chord between the normalised extremes, towards the ideal; the first of several.
/// Every objective is minimised. Nothing for no points, and where no point lies on the ideal's side of the chord: a front that bulges the
/// other way has no knee, and the point nearest to the chord would be one of its ends.
///
/// Objectives are scaled to 0 and 1 between their best and worst values. The extremes are the best points of each
/// objective, ties going to the point with the smallest sum. With two objectives they span a chord; with more,
/// the hyperplane through all of them (Das, "On characterizing the knee of the Pareto curve based on
/// normal-boundary intersection", 1999). Where they span none that faces the ideal, because one point is best in
/// several objectives or an objective is constant, distance is to the hyperplane on which scaled objectives
/// sum to 1. Points with a value that is not finite are passed over.
pub fn knee<P: AsRef<[f64]>>(points: &[P]) -> Option<usize> {
    let objectives = points.first()?.as_ref().len();
    let usable: Vec<usize> = (0..points.len())
        .filter(|&i| {
            let point = points[i].as_ref();
            point.len() == objectives && point.iter().all(|value| value.is_finite())
        })
        .collect();
    let bounds: Vec<(f64, f64)> = (0..objectives)
        .map(|objective| {
            let values = usable.iter().map(|&i| points[i].as_ref()[objective]);
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
        })
        .collect();
    let scaled: Vec<Vec<f64>> = usable
        .iter()
        .map(|&i| {
            let scale = |(&value, &(low, high)): (&f64, &(f64, f64))| {
                // Halved first, so that the range of the widest values does not overflow.
                if high > low { (value / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0) } else { 0.0 }
            };
            points[i].as_ref().iter().zip(&bounds).map(scale).collect()
        })
        .collect();
    let sum = |point: &[f64]| point.iter().sum::<f64>();
    let extremes: Option<Vec<Vec<f64>>> = (0..objectives)
        .map(|objective| {
            let best = scaled.iter().min_by(|a, b| {
                a[objective].total_cmp(&b[objective]).then(sum(a.as_slice()).total_cmp(&sum(b.as_slice())))
            });
            best.cloned()
        })
        .collect();
    let plane = extremes.and_then(plane_through);
    let spanned = plane.is_some();
    let normal = plane.unwrap_or_else(|| vec![1.0; objectives]);
    // On the plane the product is 1; the smaller it is, the farther the point lies towards the ideal.
    let offset = |point: &[f64]| point.iter().zip(&normal).map(|(value, weight)| value * weight).sum::<f64>();
    let nearest = (0..usable.len()).min_by(|&a, &b| offset(&scaled[a]).total_cmp(&offset(&scaled[b])))?;
    (!spanned || offset(&scaled[nearest]) < 1.0 - ON_THE_CHORD).then_some(usable[nearest])
}

/// How far from the chord rounding may put a point that lies on it.
const ON_THE_CHORD: f64 = 1e-9;

/// The normal `n` of the hyperplane `n · x = 1` through as many points as there are objectives, by Gaussian
/// elimination; nothing unless it faces the ideal in every objective.
fn plane_through(mut rows: Vec<Vec<f64>>) -> Option<Vec<f64>> {
    /// Below this a pivot is rounding: rows are scaled to 0..=1.
    const SINGULAR: f64 = 1e-9;
    let size = rows.len();
    rows.iter_mut().for_each(|row| row.push(1.0));
    for column in 0..size {
        let pivot = (column..size).max_by(|&a, &b| rows[a][column].abs().total_cmp(&rows[b][column].abs()))?;
        if rows[pivot][column].abs() < SINGULAR {
            return None;
        }
        rows.swap(column, pivot);
        let pivot = rows[column].clone();
        for (other, row) in rows.iter_mut().enumerate() {
            if other != column {
                let factor = row[column] / pivot[column];
                row.iter_mut().zip(&pivot).for_each(|(value, pivot)| *value -= factor * pivot);
            }
        }
    }
    let normal: Vec<f64> = rows.iter().enumerate().map(|(i, row)| row[size] / row[i]).collect();
    normal.iter().all(|&weight| weight > SINGULAR).then_some(normal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_farthest_from_the_chord_whatever_the_units() {
        let front = [[0.0, 10.0], [1.0, 6.0], [2.0, 2.0], [6.0, 1.0], [10.0, 0.0]];
        assert_eq!(knee(&front), Some(2));
        let other_units: Vec<[f64; 2]> = front.iter().map(|[a, b]| [a * 1e9 + 3e9, b / 1e3 - 1.0]).collect();
        assert_eq!(knee(&other_units), Some(2));
    }

    #[test]
    fn there_is_none_where_the_front_is_straight_or_bulges_away_from_the_ideal() {
        assert_eq!(knee(&[[0.0, 1.0], [0.8, 0.8], [1.0, 0.0]]), None);
        assert_eq!(knee(&[[0.0, 3.0], [0.1, 2.7], [1.0, 0.0]]), None);
        assert_eq!(knee(&[[0.0, 1.0], [1.0, 0.0]]), None);
        assert_eq!(knee(&[[0.0, 1.0], [0.8, 0.8], [0.3, 0.69], [1.0, 0.0]]), Some(2));
    }

    #[test]
    fn uses_the_plane_through_the_extremes_of_three_objectives() {
        // The extremes, scaled, are (0, 1, 1), (1, 0, 1) and (1, 1, 0): the plane is x + y + z = 2.
        let front = [[0.0, 4.0, 4.0], [4.0, 0.0, 4.0], [4.0, 4.0, 0.0], [2.0, 2.0, 2.0], [1.0, 2.0, 2.0]];
        assert_eq!(knee(&front), Some(4));
        // Skewed extremes: (0, 1, 0.5), (1, 0, 0.5), (0.5, 0.5, 0). The plane is x + y = 1 and no weight on z is left:
        // the sum decides.
        let flat = [[0.0, 2.0, 1.0], [2.0, 0.0, 1.0], [1.0, 1.0, 0.0], [0.5, 0.5, 2.0]];
        assert_eq!(knee(&flat), Some(2));
        // (0, 1, 0.25), (1, 0, 0.25), (0.75, 0.75, 0): n = (2/3, 2/3, 4/3). By the sum the fourth would win.
        let skewed =
            [[0.0, 4.0, 1.0], [4.0, 0.0, 1.0], [3.0, 3.0, 0.0], [0.8, 0.8, 2.0], [1.5, 1.5, 0.4], [4.0, 4.0, 4.0]];
        assert_eq!(knee(&skewed), Some(4));
    }

    #[test]
    fn few_equal_or_infinite_points_are_no_problem() {
        assert_eq!(knee::<Vec<f64>>(&[]), None);
        assert_eq!(knee(&[[5.0, 5.0]]), Some(0));
        assert_eq!(knee(&[[5.0, 5.0]; 3]), Some(0));
        assert_eq!(knee(&[[f64::NAN, 0.0], [1.0, 1.0], [f64::NEG_INFINITY, 2.0]]), Some(1));
        assert_eq!(knee(&[[f64::INFINITY; 2]]), None);
        assert_eq!(knee(&[[f64::MIN, f64::MAX], [0.0, -1e308], [f64::MAX, f64::MIN]]), Some(1));
    }
}
