//! Backward elimination of a matrix's inputs: whoever can be made up for best by those that stay goes first.
//!
//! With inputs a, C = E[a aᵀ] and H = (C + λI)⁻¹, taking the inputs S away from y = W a costs tr(W_S (H_SS)⁻¹ W_Sᵀ) of mean square
//! error when all other columns are moved as W −= W_S (H_SS)⁻¹ H_S: does, and leaves H −= H_:S (H_SS)⁻¹ H_S: (Hassibi and Stork
//! 1993, optimal brain surgeon; for structures: Kurtic et al. 2023, ZipLM, equations 3 to 5). What is left of W when so many inputs
//! are left is the least-squares solution for these.

use tch::{Kind, Tensor};

use crate::error::{Error, Result};

/// λ as a share of C's mean diagonal.
const DAMPING: f64 = 1e-2;
/// Inputs that go together, where they go one by one: their order inside is that of their costs.
const STEP: usize = 32;

/// A matrix and what it is multiplied by.
pub(super) struct Elimination<'a> {
    /// (d, n)
    pub(super) weight: &'a Tensor,
    /// C: (n, n), float64.
    pub(super) moments: &'a Tensor,
    /// Inputs that come and go together: neighbours.
    pub(super) unit: usize,
    /// How many units narrower matrices keep.
    pub(super) widths: &'a [usize],
}

/// What came of it.
pub(super) struct Eliminated {
    /// Units, the last one to go first.
    pub(super) order: Vec<usize>,
    /// The mean square error that each unit's going added, by unit.
    pub(super) costs: Vec<f64>,
    /// For each width the matrix of its first units in this order, (d, width · unit), float64.
    pub(super) corrected: Vec<(usize, Tensor)>,
}

impl Elimination<'_> {
    /// Takes all units away, one step after the other.
    ///
    /// # Errors
    /// `Invalid` when C or W is not finite.
    pub(super) fn run(&self) -> Result<Eliminated> {
        let n = self.moments.size()[0];
        let units = n as usize / self.unit;
        let (mut weight, mut inverse) = (self.weight.to_kind(Kind::Double).copy(), self.damped_inverse()?);
        let (mut left, mut gone): (Vec<usize>, Vec<usize>) = ((0..units).collect(), Vec::new());
        let mut costs = vec![0.0; units];
        let mut snapshots: Vec<(usize, Tensor)> = Vec::new();
        while !left.is_empty() {
            if self.widths.contains(&left.len()) {
                snapshots.push((left.len(), weight.copy()));
            }
            let of_left = self.costs(&weight, &inverse, &left);
            let mut places: Vec<usize> = (0..left.len()).collect();
            places.sort_by(|&a, &b| of_left[a].total_cmp(&of_left[b]).then(left[b].cmp(&left[a])));
            places.truncate(self.step(left.len()));
            for &place in &places {
                costs[left[place]] = of_left[place].max(0.0);
                gone.push(left[place]);
            }
            let columns = self.columns(places.iter().map(|&place| left[place]), &weight);
            remove(&mut weight, &mut inverse, &columns);
            let leaving: Vec<usize> = places.iter().map(|&place| left[place]).collect();
            left.retain(|unit| !leaving.contains(unit));
        }
        gone.reverse();
        let first = |(width, weight): (usize, Tensor)| {
            let columns = self.columns(gone[..width].iter().copied(), &weight);
            (width, weight.index_select(1, &columns))
        };
        let corrected = snapshots.into_iter().map(first).collect();
        Ok(Eliminated { order: gone, costs, corrected })
    }

    /// (C + λI)⁻¹, λ being [`DAMPING`] of the inputs' mean square.
    ///
    /// # Errors
    /// `Invalid` where C or the matrix is not finite.
    fn damped_inverse(&self) -> Result<Tensor> {
        let mean = self.moments.diag(0).mean(Kind::Double).double_value(&[]);
        if !mean.is_finite() || !bool::try_from(self.weight.isfinite().all())? {
            let found = "a value that is not a finite number";
            return Err(Error::invalid("inputs of a matrix", found, "finite activations and weights of the model"));
        }
        // Inputs that are always zero: any λ will do.
        let damping = if mean > 0.0 { DAMPING * mean } else { 1.0 };
        let identity = Tensor::eye(self.moments.size()[0], (Kind::Double, self.moments.device()));
        Ok((self.moments + identity * damping).f_linalg_cholesky(false)?.f_cholesky_inverse(false)?)
    }

    /// How many of `left` units go together: not beyond the next width.
    fn step(&self, left: usize) -> usize {
        let most = if self.unit == 1 { STEP } else { 1 };
        let next = self.widths.iter().copied().filter(|&width| width < left).max().unwrap_or(0);
        most.min(left - next)
    }

    /// What taking each unit away alone would cost.
    fn costs(&self, weight: &Tensor, inverse: &Tensor, left: &[usize]) -> Vec<f64> {
        if self.unit == 1 {
            let squares = weight.square().sum_dim_intlist([0_i64].as_slice(), false, Kind::Double); // (n)
            let all: Vec<f64> = Vec::try_from(squares / inverse.diag(0)).expect("one-dimensional doubles");
            return left.iter().map(|&unit| all[unit]).collect();
        }
        let cost = |&unit: &usize| {
            let (first, len) = ((unit * self.unit) as i64, self.unit as i64);
            let own = weight.narrow(1, first, len); // (d, m)
            let block = inverse.narrow(0, first, len).narrow(1, first, len).inverse(); // (m, m)
            (own.matmul(&block) * own).sum(Kind::Double).double_value(&[])
        };
        left.iter().map(cost).collect()
    }

    /// The inputs of units, as an index on the matrix's device.
    fn columns(&self, units: impl Iterator<Item = usize>, weight: &Tensor) -> Tensor {
        let columns: Vec<i64> =
            units.flat_map(|unit| (0..self.unit).map(move |at| (unit * self.unit + at) as i64)).collect();
        Tensor::from_slice(&columns).to_device(weight.device())
    }
}

/// Takes columns away from W, and their share out of H.
fn remove(weight: &mut Tensor, inverse: &mut Tensor, columns: &Tensor) {
    let rows = inverse.index_select(0, columns); // (s, n)
    let block = rows.index_select(1, columns).inverse(); // (s, s)
    let moved = -block.matmul(&rows); // (s, n)
    let _ = weight.addmm_(&weight.index_select(1, columns), &moved);
    let _ = inverse.addmm_(&rows.tr(), &moved);
    // Rounding would leave traces that grow as H does.
    let _ = weight.index_fill_(1, columns, 0.0);
    let _ = inverse.index_fill_(0, columns, 0.0);
    let _ = inverse.index_fill_(1, columns, 0.0);
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    /// Inputs (t, n) whose last one is the sum of the first two, and a matrix (2, n).
    fn redundant() -> (Tensor, Tensor) {
        let free = (Tensor::arange(40, (Kind::Double, Device::Cpu)) * 1.7).sin().view([10, 4]);
        let sum = free.narrow(1, 0, 1) + free.narrow(1, 1, 1);
        let weight = Tensor::from_slice(&[1.0, 0.5, 2.5, -2.0, 0.5, 0.5, -1.0, 2.0, 2.5, 0.5]).view([2, 5]);
        (Tensor::cat(&[free, sum], 1), weight)
    }

    fn moments(inputs: &Tensor) -> Tensor {
        inputs.tr().matmul(inputs) / inputs.size()[0] as f64
    }

    #[test]
    fn what_others_say_too_goes_first_and_is_made_up_for() {
        let (inputs, weight) = redundant();
        let moments = moments(&inputs);
        let all = Elimination { weight: &weight, moments: &moments, unit: 1, widths: &[4] }.run().unwrap();
        let last = *all.order.last().unwrap();
        assert!([0, 1, 4].contains(&last), "one of the three that depend on each other: {:?}", all.order);
        let (width, corrected) = &all.corrected[0];
        assert_eq!(*width, 4);
        let kept: Vec<i64> = all.order[..4].iter().map(|&unit| unit as i64).collect();
        let narrow = inputs.index_select(1, &Tensor::from_slice(&kept)).matmul(&corrected.tr());
        let error = (narrow - inputs.matmul(&weight.tr())).abs().max().double_value(&[]);
        let left_out = inputs.index_select(1, &Tensor::from_slice(&kept));
        let kept = weight.index_select(1, &Tensor::from_slice(&kept));
        let plain = (left_out.matmul(&kept.tr()) - inputs.matmul(&weight.tr())).abs().max().double_value(&[]);
        // Without λ it would be made up for exactly.
        assert!(error < 0.1 * plain, "{error} of {plain}");
    }

    #[test]
    fn corrected_matrices_are_the_least_squares_solution() {
        let (inputs, weight) = redundant();
        let moments = moments(&inputs);
        let Eliminated { order, costs, corrected } =
            Elimination { weight: &weight, moments: &moments, unit: 1, widths: &[2, 3] }.run().unwrap();
        assert_eq!(corrected.iter().map(|(width, _)| *width).collect::<Vec<_>>(), [3, 2]);
        assert!(costs.iter().all(|cost| *cost > 0.0));
        let damping = DAMPING * moments.diag(0).mean(Kind::Double).double_value(&[]);
        let damped = &moments + Tensor::eye(5, (Kind::Double, Device::Cpu)) * damping;
        for (width, found) in corrected {
            let kept: Vec<i64> = order[..width].iter().map(|&unit| unit as i64).collect();
            let kept = Tensor::from_slice(&kept);
            // argmin ‖(W' − W) a‖² + λ‖W' − W‖² over W' that is zero elsewhere.
            let cross = weight.matmul(&damped).index_select(1, &kept); // (d, w)
            let own = damped.index_select(0, &kept).index_select(1, &kept); // (w, w)
            let expected = cross.matmul(&own.inverse());
            assert!((found - expected).abs().max().double_value(&[]) < 1e-9, "width {width}");
        }
    }

    #[test]
    fn units_go_as_a_whole() {
        let (inputs, weight) = redundant();
        let (inputs, weight) =
            (inputs.narrow(1, 0, 4), weight.narrow(1, 0, 4) * Tensor::from_slice(&[9.0, 9.0, 0.1, 0.1]));
        let moments = moments(&inputs);
        let all = Elimination { weight: &weight, moments: &moments, unit: 2, widths: &[1] }.run().unwrap();
        assert_eq!(all.order, [0, 1]);
        assert_eq!(all.corrected[0].1.size(), [2, 2]);
    }

    #[test]
    fn refuses_moments_that_are_not_numbers() {
        let (_, weight) = redundant();
        let moments = Tensor::full([5, 5], f64::NAN, (Kind::Double, Device::Cpu));
        let error = Elimination { weight: &weight, moments: &moments, unit: 1, widths: &[] }.run().err().unwrap();
        assert!(error.to_string().contains("finite activations"), "{error}");
    }
}
