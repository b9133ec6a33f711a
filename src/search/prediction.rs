//! How good predictions were: the rows of `predictors.csv`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::evaluations::write_csv;
use super::predictor::PredictorKind;
use crate::error::Result;
use crate::kendall::kendall_tau;

/// How well one objective of a population was predicted before any of it was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prediction {
    /// The population that was predicted, from 0, as in `evaluations.csv`.
    pub population: usize,
    /// Place of the objective.
    pub objective: usize,
    /// What predicted.
    pub predictor: PredictorKind,
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
    pub(super) fn judge(predictor: PredictorKind, points: usize, predicted: &[f64], measured: &[f64]) -> Prediction {
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
            predictor,
            points,
            networks: measured.len(),
            kendall_tau: kendall_tau(predicted, measured),
            mape: Some(mape).filter(|mape| mape.is_finite()),
        }
    }

    /// Writes `predictors.csv`, atomically.
    pub(super) fn write_csv(predictions: &[Prediction], objectives: &[String], path: &Path) -> Result<()> {
        let names = ["population", "objective", "predictor", "points", "networks", "kendall_tau", "mape"];
        let cells = |row: &Prediction| {
            vec![
                row.population.to_string(),
                objectives.get(row.objective).cloned().unwrap_or_else(|| row.objective.to_string()),
                row.predictor.to_string(),
                row.points.to_string(),
                row.networks.to_string(),
                row.kendall_tau.to_string(),
                row.mape.map_or(String::new(), |mape| mape.to_string()),
            ]
        };
        write_csv(path, &names.map(String::from), &predictions.iter().map(cells).collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn judges_order_and_relative_error() {
        let judged = Prediction::judge(PredictorKind::Ridge, 7, &[1.1, 2.0, 2.0, 9.0], &[1.0, 4.0, -2.0, 0.0]);
        assert_eq!((judged.points, judged.networks), (7, 4));
        // Errors of 0.1, 0.5 and 2; nothing is relative to 0.
        assert!((judged.mape.unwrap() - 2.6 / 3.0).abs() < 1e-12);
        assert_eq!(Prediction::judge(PredictorKind::Svr, 1, &[1.0], &[0.0]).mape, None);
    }

    #[test]
    fn writes_a_row_a_population_and_objective() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("predictors.csv");
        let row = Prediction {
            population: 2,
            objective: 1,
            predictor: PredictorKind::Svr,
            points: 24,
            networks: 12,
            kendall_tau: 0.5,
            mape: None,
        };
        Prediction::write_csv(&[row], &["params".to_string(), "kl:text".to_string()], &path).unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(text, "population,objective,predictor,points,networks,kendall_tau,mape\n2,kl:text,svr,24,12,0.5,\n");
    }
}
