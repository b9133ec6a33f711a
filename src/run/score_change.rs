//! By how much scores of the same networks differ between two arithmetics.

use crate::kendall::kendall_tau;

/// Scores of some networks against those in float32.
pub(super) struct ScoreChange {
    /// Kendall's τ: 1 where both order the networks alike.
    pub tau: f64,
    /// Mean of the absolute differences.
    pub mean: f64,
    /// The largest of them.
    pub most: f64,
}

impl ScoreChange {
    /// Of one score a network on each side.
    pub(super) fn of(ours: &[f64], exact: &[f64]) -> ScoreChange {
        let sizes = || ours.iter().zip(exact).map(|(ours, exact)| (ours - exact).abs());
        ScoreChange {
            tau: kendall_tau(ours, exact),
            mean: sizes().sum::<f64>() / ours.len().max(1) as f64,
            most: sizes().fold(0.0, f64::max),
        }
    }
}
