//! How good predictions were.

use serde::{Deserialize, Serialize};

use crate::kendall::kendall_tau;

/// How well one objective of a population was predicted before any of it was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prediction {
    /// The population that was predicted, from 0.
    pub population: usize,
    /// Place of the objective.
    pub objective: usize,
    /// Measured networks that it had learnt from.
    pub points: usize,
    /// Networks that were predicted and measured; failed ones do not count.
    pub networks: usize,
    /// Kendall's τ-b between predicted and measured values.
    pub kendall_tau: f64,
    /// Mean of |predicted − measured| / |measured| where that is a number.
    pub mape: Option<f64>,
}

impl Prediction {
    /// Judges predicted values by measured ones, place by place. The population and objective are the caller's to name.
    pub(crate) fn judge(points: usize, predicted: &[f64], measured: &[f64]) -> Prediction {
        let errors: Vec<f64> = predicted
            .iter()
            .zip(measured)
            .map(|(predicted, measured)| ((predicted - measured) / measured).abs())
            .filter(|error| error.is_finite())
            .collect();
        let mape = errors.iter().sum::<f64>() / errors.len() as f64;
        Prediction {
            population: 0,
            objective: 0,
            points,
            networks: measured.len(),
            kendall_tau: kendall_tau(predicted, measured),
            mape: Some(mape).filter(|mape| mape.is_finite()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn judges_order_and_relative_error() {
        let judged = Prediction::judge(7, &[1.1, 2.0, 2.0, 9.0], &[1.0, 4.0, -2.0, 0.0]);
        assert_eq!((judged.points, judged.networks), (7, 4));
        // Errors of 0.1, 0.5 and 2; nothing is relative to 0.
        assert!((judged.mape.unwrap() - 2.6 / 3.0).abs() < 1e-12);
        assert_eq!(Prediction::judge(1, &[1.0], &[0.0]).mape, None);
    }
}
