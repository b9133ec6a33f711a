//! `predictors.csv`: how good the predictions of a run were.

use std::path::Path;

use super::csv_file::write_csv;
use crate::error::Result;
use crate::search::Prediction;

/// Writes `predictors.csv`, atomically: one row a population and objective.
pub(super) fn write(predictions: &[Prediction], objectives: &[String], path: &Path) -> Result<()> {
    let names = ["population", "objective", "points", "networks", "kendall_tau", "mape"];
    let cells = |row: &Prediction| {
        vec![
            row.population.to_string(),
            objectives.get(row.objective).cloned().unwrap_or_else(|| row.objective.to_string()),
            row.points.to_string(),
            row.networks.to_string(),
            row.kendall_tau.to_string(),
            row.mape.map_or(String::new(), |mape| mape.to_string()),
        ]
    };
    write_csv(path, &names.map(String::from), &predictions.iter().map(cells).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_a_row_a_population_and_objective() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("predictors.csv");
        let row = Prediction { population: 2, objective: 1, points: 24, networks: 12, kendall_tau: 0.5, mape: None };
        write(&[row], &["params".to_string(), "kl:text".to_string()], &path).unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(text, "population,objective,points,networks,kendall_tau,mape\n2,kl:text,24,12,0.5,\n");
    }
}
