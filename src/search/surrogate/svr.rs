//! Support-vector regression with a Gaussian kernel on one-hot rows.

use linfa::DatasetBase;
use linfa::traits::Fit;
use linfa_svm::Svm;
use ndarray_0_16::Array1;
use rayon::prelude::*;

use super::one_hot::Row;
use super::ridge::dense;

/// Parts of the points that [`Svr::tuned`] leaves out in turn.
const FOLDS: usize = 5;
/// Largest violation of the optimality conditions that ends the solver: LIBSVM's and scikit-learn's default.
const TOLERANCE: f64 = 1e-3;
/// What [`Svr::tuned`] tries. Targets have unit variance.
const PENALTIES: [f64; 3] = [1.0, 10.0, 100.0];
/// Reaches of the kernel that it tries, in mean squared distances of two points. Far reaches are nearly linear.
const REACHES: [f64; 3] = [1.0, 4.0, 16.0];
/// Width of the tube without loss. Accuracies of some hundred items are not known better than that.
const TUBE: f64 = 0.05;

/// The settings of a fit, with scikit-learn's names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SvrSettings {
    /// What a unit of error outside the tube costs, above 0.
    pub c: f64,
    /// Half the width of the tube in which errors cost nothing, above 0.
    pub epsilon: f64,
    /// The kernel is `exp(−gamma · squared distance)`, above 0.
    pub gamma: f64,
}

/// ε-support-vector regression (Smola and Schölkopf, "A tutorial on support vector regression", 2004) with a Gaussian
/// kernel. The solver is linfa's, which is LIBSVM's SMO in double precision.
#[derive(Clone, Debug)]
pub struct Svr {
    /// The support vectors.
    rows: Vec<Row>,
    weights: Vec<f64>,
    constant: f64,
    /// The kernel by the number of genes in which two rows differ: their squared distance is twice that.
    kernel: Vec<f64>,
}

impl Svr {
    /// The fit whose settings predict left-out points best, by their mean absolute error over five folds (every
    /// fifth point is a fold); the smoother of equals. `None` when there are too few points for folds or the
    /// solver fails.
    pub fn tuned(rows: &[Row], columns: usize, targets: &[f64]) -> Option<Svr> {
        if rows.len() < 2 * FOLDS {
            return None;
        }
        let distance = mean_squared_distance(rows, columns).max(1.0);
        let grid: Vec<SvrSettings> = PENALTIES
            .iter()
            .flat_map(|&c| REACHES.iter().rev().map(move |reach| (c, 1.0 / (reach * distance))))
            .map(|(c, gamma)| SvrSettings { c, epsilon: TUBE, gamma })
            .collect();
        let jobs: Vec<(SvrSettings, usize)> =
            grid.iter().flat_map(|&settings| (0..FOLDS).map(move |fold| (settings, fold))).collect();
        let errors: Vec<f64> = jobs
            .into_par_iter()
            .map(|(settings, fold)| left_out_error(rows, columns, targets, settings, fold).unwrap_or(f64::INFINITY))
            .collect();
        let totals = errors.chunks(FOLDS).map(|folds| folds.iter().sum::<f64>());
        let best = grid.into_iter().zip(totals).min_by(|(_, a), (_, b)| a.total_cmp(b));
        Svr::fit(rows, columns, targets, best?.0)
    }

    /// The fit with these settings; `None` when the solver refuses them.
    ///
    /// # Shapes
    /// `rows` and `targets` of equal length, at least 1; rows of equal lengths, with columns below `columns`.
    pub fn fit(rows: &[Row], columns: usize, targets: &[f64], settings: SvrSettings) -> Option<Svr> {
        Svr::fit_to(rows, columns, targets, settings, TOLERANCE)
    }

    fn fit_to(rows: &[Row], columns: usize, targets: &[f64], settings: SvrSettings, tolerance: f64) -> Option<Svr> {
        let SvrSettings { c, epsilon, gamma } = settings;
        let points = DatasetBase::new(dense(rows, columns), Array1::from(targets.to_vec()));
        // linfa's kernel is exp(−squared distance / width).
        let params = Svm::<f64, f64>::params().c_svr(c, Some(epsilon)).eps(tolerance).gaussian_kernel(1.0 / gamma);
        let machine = params.fit(&points).ok()?;
        let support = rows.iter().zip(&machine.alpha).filter(|(_, weight)| **weight != 0.0);
        let (rows, weights) = support.map(|(row, weight)| (row.clone(), *weight)).unzip();
        let genes = points.records().row(0).sum() as usize;
        let kernel = (0..=genes).map(|differing| (-2.0 * gamma * differing as f64).exp()).collect();
        Some(Svr { rows, weights, constant: -machine.rho, kernel })
    }

    /// The prediction for a row.
    pub fn predict(&self, row: &[u32]) -> f64 {
        let near = |known: &Row| self.kernel[known.iter().zip(row).filter(|(a, b)| a != b).count()];
        self.constant + self.rows.iter().zip(&self.weights).map(|(known, weight)| weight * near(known)).sum::<f64>()
    }
}

/// Of two of the points, each drawn with replacement: twice the sum over genes of 1 − Σ share²
/// of a gene's columns.
fn mean_squared_distance(rows: &[Row], columns: usize) -> f64 {
    let mut counts = vec![0.0; columns];
    let ones = rows.iter().flatten().map(|&column| counts[column as usize] += 1.0).count();
    let n = rows.len() as f64;
    2.0 * (ones as f64 / n - counts.iter().map(|count| (count / n) * (count / n)).sum::<f64>())
}

/// Sum of absolute errors on a fold's points of the fit to the others.
fn left_out_error(rows: &[Row], columns: usize, targets: &[f64], settings: SvrSettings, fold: usize) -> Option<f64> {
    let (out, seen): (Vec<usize>, Vec<usize>) = (0..rows.len()).partition(|place| place % FOLDS == fold);
    let (seen_rows, seen_targets): (Vec<Row>, Vec<f64>) =
        seen.into_iter().map(|place| (rows[place].clone(), targets[place])).unzip();
    let svr = Svr::fit(&seen_rows, columns, &seen_targets, settings)?;
    Some(out.into_iter().map(|place| (svr.predict(&rows[place]) - targets[place]).abs()).sum())
}

#[cfg(test)]
mod tests {
    use super::super::ridge::tests::{close, point};
    use super::*;

    /// The ridge goldens' points with a column for off beside each column for on, so that every row has ten genes.
    fn genes(i: usize) -> (Row, f64) {
        let (on, target) = point(i);
        ((0..10).map(|gene| 2 * gene + u32::from(on.contains(&gene))).collect(), target)
    }

    fn standardised(count: usize) -> (Vec<Row>, Vec<f64>) {
        let (rows, targets): (Vec<Row>, Vec<f64>) = (0..count).map(genes).unzip();
        let mean = targets.iter().sum::<f64>() / count as f64;
        let spread = (targets.iter().map(|y| (y - mean) * (y - mean)).sum::<f64>() / count as f64).sqrt();
        (rows, targets.iter().map(|y| (y - mean) / spread).collect())
    }

    /// scikit-learn 1.9.1: `SVR(C=c, gamma=gamma, epsilon=epsilon, tol=1e-9)` on ten columns, so with twice the gamma
    /// of these twenty. Its kernel is stored in single precision, hence the tolerance.
    #[test]
    fn agrees_with_scikit_learn() {
        let (rows, targets) = standardised(30);
        for (c, gamma, epsilon, golden) in [
            (1.0, 0.1, 0.1, [-0.2027137459, 0.3649283571, -0.2946307756, 0.5991668761, -0.2329837321, 0.0068973803]),
            (10.0, 0.05, 0.05, [-0.3552776927, 0.3303032607, -0.8146204349, 1.0652492427, -0.2560794613, 0.0818535922]),
        ] {
            let settings = SvrSettings { c, epsilon, gamma: gamma / 2.0 };
            let svr = Svr::fit_to(&rows, 20, &targets, settings, 1e-9).unwrap();
            let found: Vec<f64> = (100..106).map(|i| svr.predict(&genes(i).0)).collect();
            close(&found, &golden, 5e-6);
        }
    }

    #[test]
    fn predicts_as_the_library_does() {
        use linfa::traits::Predict;
        let (rows, targets) = standardised(30);
        let points = DatasetBase::new(dense(&rows, 20), Array1::from(targets.clone()));
        let params = Svm::<f64, f64>::params().c_svr(5.0, Some(0.01)).eps(TOLERANCE).gaussian_kernel(20.0);
        let library = params.fit(&points).unwrap().predict(points.records());
        let svr = Svr::fit(&rows, 20, &targets, SvrSettings { c: 5.0, epsilon: 0.01, gamma: 0.05 }).unwrap();
        let found: Vec<f64> = rows.iter().map(|row| svr.predict(row)).collect();
        close(&found, library.as_slice().unwrap(), 1e-12);
    }

    #[test]
    fn tuning_is_as_good_as_the_best_of_its_grid_is_about() {
        let (rows, targets) = standardised(60);
        let distance = mean_squared_distance(&rows[..40], 20);
        let pairs = (0..40).flat_map(|i| (0..40).map(move |j| (i, j)));
        let differing = |(i, j): (usize, usize)| rows[i].iter().zip(&rows[j]).filter(|(a, b)| a != b).count();
        let mean = pairs.map(|pair| 2.0 * differing(pair) as f64).sum::<f64>() / 1600.0;
        assert!((distance - mean).abs() < 1e-9, "{distance} {mean}");
        let error = |svr: &Svr| -> f64 {
            (40..60).map(|place| (svr.predict(&rows[place]) - targets[place]).abs()).sum::<f64>() / 20.0
        };
        let tuned = error(&Svr::tuned(&rows[..40], 20, &targets[..40]).unwrap());
        let grid = PENALTIES.iter().flat_map(|&c| REACHES.map(|reach| (c, 1.0 / (reach * distance))));
        let errors: Vec<f64> = grid
            .map(|(c, gamma)| SvrSettings { c, epsilon: TUBE, gamma })
            .map(|settings| error(&Svr::fit(&rows[..40], 20, &targets[..40], settings).unwrap()))
            .collect();
        let (best, worst) =
            (errors.iter().copied().fold(f64::MAX, f64::min), errors.iter().copied().fold(0.0, f64::max));
        assert!(tuned < best + 0.5 * (worst - best), "{tuned}: {errors:?}");
        assert!(Svr::tuned(&rows[..9], 20, &targets[..9]).is_none(), "too few for folds");
    }
}
