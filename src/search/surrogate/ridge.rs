//! Ridge regression on one-hot rows, its penalty chosen by what it would have predicted.

use linfa_linalg::cholesky::InverseC;
use ndarray_0_16::{Array1, Array2, Axis};
use rayon::prelude::*;

use super::one_hot::Row;
use super::points::Points;

/// Penalties that [`Ridge::tuned`] tries: for targets of unit variance, from nearly none to one that outweighs all genes together.
const PENALTIES: [f64; 10] = [0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0];
/// The penalty where one population is all that is known: it outweighs a gene.
const UNTRIED: f64 = 30.0;

/// A number for each column, and a constant: additive in the genes.
///
/// The weights minimise `Σ (target − prediction)² + penalty · Σ weight²`, the constant is free, as in scikit-learn's
/// `Ridge`. The inverse is of the smaller of columns × columns and rows × rows (Hoerl and Kennard, "Ridge regression:
/// biased estimation for nonorthogonal problems", 1970; the dual form is Saunders et al., "Ridge regression learning
/// algorithm in dual variables", 1998), so that neither fine-grained spaces nor long runs make it slow.
#[derive(Clone, Debug)]
pub struct Ridge {
    constant: f64,
    weights: Vec<f64>,
}

impl Ridge {
    /// The fit whose penalty predicts each population best from those before it, by the mean absolute error; the larger penalty of
    /// equals.
    ///
    /// A population is chosen by predictions: what it is made of is rare among the networks before it, and what was predicted of it is too
    /// good. Left-out points of one population say nothing of that: they would choose a penalty of next to nothing.
    pub fn tuned(points: &Points, targets: &[f64]) -> Ridge {
        let (count, population) = (points.rows.len(), points.population.max(1));
        let starts: Vec<usize> = (population..count).step_by(population).collect();
        let error = |penalty: f64| -> f64 {
            let of = |&start: &usize| -> f64 {
                let ridge = Ridge::fit(&points.rows[..start], points.columns, &targets[..start], penalty);
                let next = start..(start + population).min(count);
                next.map(|place| (ridge.predict(&points.rows[place]) - targets[place]).abs()).sum()
            };
            starts.iter().map(of).sum()
        };
        let errors: Vec<f64> = PENALTIES.into_par_iter().rev().map(error).collect();
        let tried = PENALTIES.into_iter().rev().zip(errors).min_by(|(_, a), (_, b)| a.total_cmp(b));
        let penalty = tried.filter(|_| !starts.is_empty()).map_or(UNTRIED, |(penalty, _)| penalty);
        Ridge::fit(&points.rows, points.columns, targets, penalty)
    }

    /// The fit with this penalty, which is above 0.
    ///
    /// # Shapes
    /// `rows` and `targets` of equal length `n`, at least 1; a row's columns are below `columns`.
    pub fn fit(rows: &[Row], columns: usize, targets: &[f64], penalty: f64) -> Ridge {
        let n = rows.len();
        let mut x = dense(rows, columns); // (n, columns)
        let means = x.mean_axis(Axis(0)).expect("there is a row");
        x -= &means;
        let mean = targets.iter().sum::<f64>() / n as f64;
        let y: Array1<f64> = targets.iter().map(|target| target - mean).collect(); // (n)
        let inverse = |mut gram: Array2<f64>| {
            gram.diag_mut().mapv_inplace(|value| value + penalty);
            gram.invc().expect("a Gram matrix with a positive diagonal added is positive definite")
        };
        let weights = if columns <= n {
            inverse(x.t().dot(&x)).dot(&x.t().dot(&y))
        } else {
            x.t().dot(&inverse(x.dot(&x.t())).dot(&y))
        };
        let constant = mean - means.dot(&weights);
        Ridge { constant, weights: weights.to_vec() }
    }

    /// The prediction for a row.
    pub fn predict(&self, row: &[u32]) -> f64 {
        self.constant + row.iter().map(|&column| self.weights[column as usize]).sum::<f64>()
    }
}

/// Rows with all their columns.
pub(super) fn dense(rows: &[Row], columns: usize) -> Array2<f64> {
    let mut x = Array2::zeros((rows.len(), columns));
    for (place, row) in rows.iter().enumerate() {
        for &column in row {
            x[[place, column as usize]] = 1.0;
        }
    }
    x
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Points of the goldens: ten columns of no order, and a target with an interaction and noise.
    pub(crate) fn point(i: usize) -> (Row, f64) {
        let on = |j: usize| (i * i * 7 + i * (j + 3) * 5 + j * 11 + i / (j + 2)) % 7 < 3;
        let row: Row = (0..10).filter(|&j| on(j as usize)).collect();
        let linear: f64 = row.iter().map(|&j| 0.3 * f64::from(j + 1)).sum();
        let together = if on(0) && on(3) { 2.0 } else { 0.0 };
        (row, linear - together + ((i * 37) % 11) as f64 / 11.0)
    }

    pub(crate) fn close(found: &[f64], golden: &[f64], tolerance: f64) {
        assert_eq!(found.len(), golden.len());
        assert!(found.iter().zip(golden).all(|(a, b)| (a - b).abs() < tolerance), "{found:?} is not {golden:?}");
    }

    /// scikit-learn 1.9.1: `Ridge(alpha=0.7).fit(x, y).predict(test)`.
    #[test]
    fn agrees_with_scikit_learn() {
        let test: Vec<Row> = (100..106).map(|i| point(i).0).collect();
        let predict = |count: usize| -> Vec<f64> {
            let (rows, targets): (Vec<Row>, Vec<f64>) = (0..count).map(point).unzip();
            let ridge = Ridge::fit(&rows, 10, &targets, 0.7);
            test.iter().map(|row| ridge.predict(row)).collect()
        };
        let more_rows = [5.7812639256, 8.1506488059, 4.665159979, 10.4290532431, 6.2846008065, 7.3937649627];
        close(&predict(30), &more_rows, 1e-9);
        let more_columns = [6.9292554391, 7.2625150791, 5.9255602782, 9.2512015702, 6.7416918478, 7.3950266989];
        close(&predict(8), &more_columns, 1e-9);
    }

    #[test]
    fn takes_a_small_penalty_without_noise_and_a_large_one_for_noise_alone() {
        let rows: Vec<Row> = (0..30).map(|i| point(i).0).collect();
        let points = Points { rows: rows.clone(), columns: 10, lacks: vec![[0.0; 2]; 30], population: 6 };
        let error = |targets: &[f64], ridge: &Ridge| -> f64 {
            rows.iter().zip(targets).map(|(row, target)| (ridge.predict(row) - target).abs()).sum::<f64>() / 30.0
        };
        let exact: Vec<f64> = rows.iter().map(|row| row.iter().map(|&j| f64::from(j)).sum()).collect();
        assert!(error(&exact, &Ridge::tuned(&points, &exact)) < 0.05);
        let noise: Vec<f64> = (0..30).map(|i| f64::from(i * 7919 % 31) - 15.0).collect();
        let (tuned, loose) = (Ridge::tuned(&points, &noise), Ridge::fit(&rows, 10, &noise, 0.03));
        assert!(error(&noise, &tuned) > 1.05 * error(&noise, &loose), "noise is not learnt");
    }
}
