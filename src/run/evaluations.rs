//! The networks that a run evaluated: the rows of `evaluations.csv`.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::string_slice, clippy::cast_possible_truncation, clippy::cast_sign_loss)
)]

use std::fmt::Display;
use std::ops::Range;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::csv_file::{read, write_csv};
use crate::error::{Error, Result};
use crate::space::Genome;

/// One evaluated network: a row of `evaluations.csv`. Values are as the user reads them (not negated).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Place in ask order, from 0.
    pub id: usize,
    /// The population it was asked in, from 0.
    pub population: usize,
    /// The network.
    pub genome: Genome,
    /// Items it was scored on: fewer than the search split has when it was dropped on the way, 0 when it failed.
    pub items: usize,
    /// One value an objective, on the search split; empty when it failed. Of a dropped network what was measured is
    /// an estimate: the value of the network that dominates it, plus what it was worse by on the items of both.
    pub objectives: Vec<f64>,
    /// Hard-constraint violation, 0 when feasible.
    pub violation: f64,
    /// Accuracy on its items of the search split, one value a task, from the same forward pass.
    pub search_accuracy: Vec<f64>,
    /// Why it has no score.
    pub failed: Option<String>,
}

/// The content of `evaluations.csv`: every network that was asked for, in ask order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evaluations {
    /// Names of the objectives, in the order of [`Evaluation::objectives`].
    pub objectives: Vec<String>,
    /// Names of the tasks, in the order of [`Evaluation::search_accuracy`].
    pub tasks: Vec<String>,
    /// The networks.
    pub rows: Vec<Evaluation>,
}

/// What comes before a task's name in a column of `evaluations.csv`: the accuracy is the search split's.
const SEARCH_ACCURACY: &str = "search_accuracy:";

impl Evaluations {
    /// The networks that were scored to the end, not dropped on the way.
    pub fn whole(&self) -> impl Iterator<Item = &Evaluation> {
        let items = self.rows.iter().map(|row| row.items).max().unwrap_or(0);
        self.rows.iter().filter(move |row| row.failed.is_none() && row.items == items)
    }

    /// Writes `evaluations.csv`, atomically: `id`, `population`, `genome`, `items`, one column an objective, `violation`,
    /// one column `search_accuracy:TASK` a task, `failed`. Scores of a failed network are empty cells.
    pub fn write_csv(&self, path: &Path) -> Result<()> {
        let mut names = vec!["id".into(), "population".into(), "genome".into(), "items".into()];
        names.extend(self.objectives.iter().cloned());
        names.push("violation".into());
        names.extend(self.tasks.iter().map(|task| format!("{SEARCH_ACCURACY}{task}")));
        names.push("failed".into());
        let mut rows = Vec::with_capacity(self.rows.len());
        for row in &self.rows {
            let (objectives, accuracies) = match &row.failed {
                None => (self.objectives.len(), self.tasks.len()),
                Some(_) => (0, 0),
            };
            let found = (row.objectives.len(), row.search_accuracy.len(), row.failed.as_deref() == Some(""));
            if found != (objectives, accuracies, false) {
                return Err(Error::invalid(
                    format!("evaluation {}", row.id),
                    format!("{} objectives, {} accuracies, failed {:?}", found.0, found.1, row.failed),
                    format!("{objectives} objectives and {accuracies} accuracies, or none of both and a reason"),
                ));
            }
            let mut cells = vec![row.id.to_string(), row.population.to_string(), row.genome.to_string()];
            cells.push(row.items.to_string());
            cells.extend(padded(&row.objectives, self.objectives.len()));
            cells.push(row.violation.to_string());
            cells.extend(padded(&row.search_accuracy, self.tasks.len()));
            cells.push(row.failed.clone().unwrap_or_default());
            rows.push(cells);
        }
        write_csv(path, &names, &rows)
    }

    /// Reads what [`Evaluations::write_csv`] wrote.
    pub fn read_csv(path: &Path) -> Result<Evaluations> {
        const FORMAT: &str = "evaluations.csv";
        let text = read(path, "evaluations.csv")?;
        let mut reader = csv::Reader::from_reader(text.as_slice());
        let header = reader.headers().map_err(|error| Error::format(path, FORMAT, error.to_string()))?.clone();
        let names: Vec<&str> = header.iter().collect();
        let violation = names.iter().rposition(|name| *name == "violation");
        let (Some(violation), ["id", "population", "genome", "items", .., "failed"]) = (violation, names.as_slice())
        else {
            let reason = if names.starts_with(&["id", "population", "genome"]) && !names.contains(&"items") {
                "no column `items`, as before networks raced: search again with the same command and another --out"
                    .into()
            } else {
                format!(
                    "columns `{}`, expected `id,population,genome,items,OBJECTIVE..,violation,{SEARCH_ACCURACY}TASK..,failed`",
                    names.join(",")
                )
            };
            return Err(Error::format(path, FORMAT, reason));
        };
        let failed = names.len() - 1;
        let within = |columns: Range<usize>| names.get(columns).unwrap_or_default().iter();
        let objectives: Vec<String> = within(4..violation).map(|name| name.to_string()).collect();
        let tasks = within(violation + 1..failed).map(|name| {
            let task = name.strip_prefix(SEARCH_ACCURACY).map(str::to_string);
            task.ok_or_else(|| Error::format(path, FORMAT, format!("column `{name}` after `violation`")))
        });
        let tasks = tasks.collect::<Result<Vec<_>>>()?;
        let mut rows = Vec::new();
        for record in reader.records() {
            let record = record.map_err(|error| Error::format(path, FORMAT, error.to_string()))?;
            let line = record.position().map_or(0, csv::Position::line);
            let said = |column: usize| record.get(column).unwrap_or_default();
            let reason = Some(said(failed).to_string()).filter(|reason| !reason.is_empty());
            let numbers = |columns: Range<usize>| match reason {
                Some(_) => Ok(Vec::new()),
                None => within(columns.clone())
                    .zip(columns)
                    .map(|(name, column)| cell(path, line, name, said(column)))
                    .collect(),
            };
            rows.push(Evaluation {
                id: cell(path, line, "id", said(0))?,
                population: cell(path, line, "population", said(1))?,
                genome: cell(path, line, "genome", said(2))?,
                items: cell(path, line, "items", said(3))?,
                objectives: numbers(4..violation)?,
                violation: cell(path, line, "violation", said(violation))?,
                search_accuracy: numbers(violation + 1..failed)?,
                failed: reason.clone(),
            });
        }
        Ok(Evaluations { objectives, tasks, rows })
    }
}

/// `values` as cells, or `columns` empty ones.
fn padded(values: &[f64], columns: usize) -> impl Iterator<Item = String> {
    (0..columns).map(|column| values.get(column).map_or(String::new(), f64::to_string))
}

/// A cell as a number or genome.
fn cell<T: FromStr<Err: Display>>(path: &Path, line: u64, column: &str, text: &str) -> Result<T> {
    let wrong = |error| Error::format(path, "evaluations.csv", format!("line {line}, `{column}`: `{text}`: {error}"));
    text.parse().map_err(wrong)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn evaluations() -> Evaluations {
        let row = |id, objectives: &[f64], failed: Option<&str>| Evaluation {
            id,
            population: id / 2,
            genome: "9x1536:-:6x768@8".parse().unwrap(),
            items: if failed.is_none() { 64 } else { 0 },
            objectives: objectives.to_vec(),
            violation: 0.1 + 0.2,
            search_accuracy: if failed.is_none() { vec![1.0 / 3.0] } else { vec![] },
            failed: failed.map(str::to_string),
        };
        Evaluations {
            objectives: vec!["choice_nll:arc_easy".into(), "params".into()],
            tasks: vec!["arc_easy".into()],
            rows: vec![
                row(0, &[1.2345678901234567, 134_515_008.0], None),
                row(1, &[], Some("logits are \"NaN\",\nin layer 3")),
                row(2, &[5e-324, f64::MAX], None),
            ],
        }
    }

    #[test]
    fn evaluations_come_back_bit_equal() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("evaluations.csv");
        evaluations().write_csv(&path).unwrap();
        assert_eq!(Evaluations::read_csv(&path).unwrap(), evaluations());
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with(
            "id,population,genome,items,choice_nll:arc_easy,params,violation,search_accuracy:arc_easy,failed\n\
             0,0,9x1536:-:6x768@8,64,1.2345678901234567,134515008,0.30000000000000004,0.3333333333333333,\n"
        ));
    }

    #[test]
    fn refuses_to_write_what_it_could_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("evaluations.csv");
        let mut table = evaluations();
        table.rows[1].failed = None;
        let error = table.write_csv(&path).unwrap_err().to_string();
        assert!(error.contains("evaluation 1: found 0 objectives"), "{error}");
        let mut table = evaluations();
        table.objectives[1] = "id".into();
        let error = table.write_csv(&path).unwrap_err().to_string();
        assert!(error.contains("found id, expected a name only once"), "{error}");
        assert!(!path.exists());
    }

    #[test]
    fn rejects_broken_evaluations_with_their_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("evaluations.csv");
        let header = "id,population,genome,items,params,violation,search_accuracy:t,failed\n";
        for (text, expected) in [
            (String::new(), "columns ``"),
            ("id,genome\n".into(), "columns `id,genome`"),
            (
                "id,population,genome,params,violation,search_accuracy:t,failed\n".into(),
                "search again with the same command",
            ),
            ("id,population,genome,items,params,violation,other,failed\n".into(), "column `other` after `violation`"),
            (format!("{header}0,0,3x64,8,1e6,0,0.5,\n1,0,3x64,8,many,0,0.5,\n"), "line 3, `params`: `many`"),
            (format!("{header}0,0,3y64,8,1e6,0,0.5,\n"), "line 2, `genome`: `3y64`"),
            (format!("{header}0,0,3x64\n"), "3 fields"),
            (format!("{header}0,0,3x64,all,1e6,0,0.5,\n"), "line 2, `items`: `all`"),
            (format!("{header}0,0,3x64,8,,0,,\n"), "line 2, `params`: ``"),
        ] {
            fs::write(&path, &text).unwrap();
            let error = Evaluations::read_csv(&path).unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
        fs::remove_file(&path).unwrap();
        let error = Evaluations::read_csv(&path).unwrap_err().to_string();
        assert!(error.contains("evaluations.csv not found"), "{error}");
    }
}
