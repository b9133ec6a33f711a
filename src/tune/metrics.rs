//! `metrics.csv`: losses along a fine-tuning. The same run gives the same bytes, however often it was stopped. What a run goes on
//! from is the copy in its state, which has a checksum.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::string_slice, clippy::cast_possible_truncation, clippy::cast_sign_loss)
)]

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::output;

/// The file's name.
pub const FILE: &str = "metrics.csv";
/// Columns before those of the followed networks.
const COLUMNS: [&str; 5] = ["step", "tokens", "learning_rate", "train_loss", "gradient_norm"];

/// One measurement.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Steps taken.
    pub step: usize,
    /// Tokens seen by them.
    pub tokens: u64,
    /// Of the step that follows; in the last row, of the one before.
    pub learning_rate: f64,
    /// Since the row before; nothing in the first.
    pub training: Option<Means>,
    /// Held-out loss of every followed network, nats per token: cross entropy, or the divergence from a parent that teaches.
    pub losses: Vec<f64>,
}

/// Means over some steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Means {
    /// Loss of a step's first network, nats per token.
    pub loss: f64,
    /// L2 norm of the gradients before clipping.
    pub gradient_norm: f64,
}

/// Sums since the last measurement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sums {
    /// Of losses.
    pub loss: f64,
    /// Of gradient norms.
    pub gradient_norm: f64,
    /// Of how many steps.
    pub steps: usize,
}

impl Sums {
    /// Adds a step.
    pub fn add(&mut self, loss: f64, gradient_norm: f64) {
        *self =
            Sums { loss: self.loss + loss, gradient_norm: self.gradient_norm + gradient_norm, steps: self.steps + 1 };
    }

    /// The means, and sums of nothing from now on.
    pub fn take(&mut self) -> Option<Means> {
        let Sums { loss, gradient_norm, steps } = std::mem::take(self);
        let count = steps as f64;
        (steps > 0).then(|| Means { loss: loss / count, gradient_norm: gradient_norm / count })
    }
}

/// All measurements so far.
#[derive(Clone, Debug, PartialEq)]
pub struct Metrics {
    /// Names of the followed networks.
    pub networks: Vec<String>,
    /// By step.
    pub rows: Vec<Row>,
}

impl Metrics {
    /// No measurement yet.
    pub fn new(networks: Vec<String>) -> Metrics {
        Metrics { networks, rows: vec![] }
    }

    /// Writes the whole table atomically.
    pub fn write(&self, dir: &Path) -> Result<()> {
        output::write(&dir.join(FILE), self.to_csv())
    }

    /// As the file holds it.
    pub fn to_csv(&self) -> String {
        let mut writer = csv::Writer::from_writer(vec![]);
        let header = COLUMNS.into_iter().map(String::from).chain(self.networks.iter().cloned());
        let in_memory = "a table in memory can be written";
        writer.write_record(header).expect(in_memory);
        for row in &self.rows {
            let training = row
                .training
                .map_or([String::new(), String::new()], |one| [one.loss.to_string(), one.gradient_norm.to_string()]);
            let first = [row.step.to_string(), row.tokens.to_string(), row.learning_rate.to_string()];
            let losses = row.losses.iter().map(f64::to_string);
            writer.write_record(first.into_iter().chain(training).chain(losses)).expect(in_memory);
        }
        String::from_utf8(writer.into_inner().expect(in_memory)).expect("numbers and names are text")
    }

    /// Reads the table of a fine-tuning's directory, which follows these networks.
    ///
    /// # Errors
    /// As [`Metrics::parse`], and `Io`.
    pub fn read(dir: &Path, networks: &[String]) -> Result<Metrics> {
        let path = dir.join(FILE);
        let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
        Metrics::parse(&text, &path, networks)
    }

    /// What [`Metrics::to_csv`] wrote of these networks; `path` is where it was found.
    ///
    /// # Errors
    /// `Format` with the line: other columns, cells that are no finite numbers, steps that do not ascend.
    pub fn parse(text: &str, path: &Path, networks: &[String]) -> Result<Metrics> {
        let wrong = |reason: String| Error::format(path, FILE, reason);
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let header = reader.headers().map_err(|error| wrong(error.to_string()))?.clone();
        if !header.iter().take(COLUMNS.len()).eq(COLUMNS) {
            return Err(wrong(format!("columns {header:?}, expected {COLUMNS:?} first")));
        }
        if !header.iter().skip(COLUMNS.len()).eq(networks.iter().map(String::as_str)) {
            return Err(wrong(format!("columns {header:?}, expected {COLUMNS:?} and {networks:?}")));
        }
        let rows = reader.records().map(|record| {
            let record = record.map_err(|error| wrong(error.to_string()))?;
            let line = record.position().map_or(0, |position| position.line());
            let said = |column: usize| record.get(column).unwrap_or_default();
            let not = |column: usize, what: &str| {
                let name = header.get(column).unwrap_or_default();
                wrong(format!("line {line}, `{name}`: `{}` is no {what}", said(column)))
            };
            let number = |column: usize| -> Result<f64> {
                let number = said(column).parse().ok().filter(|number: &f64| number.is_finite());
                number.ok_or_else(|| not(column, "finite number"))
            };
            let count = |column: usize| said(column).parse::<u64>().map_err(|_| not(column, "count"));
            let training =
                if said(3).is_empty() { None } else { Some(Means { loss: number(3)?, gradient_norm: number(4)? }) };
            let losses = (COLUMNS.len()..record.len()).map(number).collect::<Result<_>>()?;
            Ok(Row {
                step: usize::try_from(count(0)?).map_err(|_| not(0, "step"))?,
                tokens: count(1)?,
                learning_rate: number(2)?,
                training,
                losses,
            })
        });
        let rows: Vec<Row> = rows.collect::<Result<_>>()?;
        match rows.iter().zip(rows.iter().skip(1)).find(|(before, row)| before.step >= row.step) {
            Some((before, row)) => Err(wrong(format!("step {} comes behind step {}", row.step, before.step))),
            None => Ok(Metrics { networks: networks.to_vec(), rows }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_wrote() {
        let dir = tempfile::tempdir().unwrap();
        let mut metrics = Metrics::new(vec!["largest".into(), "smallest".into()]);
        let row =
            |step, training| Row { step, tokens: 10, learning_rate: 1e-4, training, losses: vec![0.1, 1.0 / 3.0] };
        metrics.rows = vec![row(0, None), row(5, Some(Means { loss: 2.5, gradient_norm: 0.7 }))];
        metrics.write(dir.path()).unwrap();
        let networks = metrics.networks.clone();
        assert_eq!(Metrics::read(dir.path(), &networks).unwrap(), metrics);
        let whole = metrics.to_csv();
        for (old, new, expected) in [
            ("largest,smallest", "largest", "columns"),
            ("\n5,", "\n-5,", "line 3, `step`: `-5` is no count"),
            ("\n5,", "\n0,", "step 0 comes behind step 0"),
            ("2.5", "inf", "line 3, `train_loss`: `inf` is no finite number"),
            ("0.7", "", "line 3, `gradient_norm`: `` is no finite number"),
            ("2.5,0.7,", "", "line: 3"),
        ] {
            let text = whole.replacen(old, new, 1);
            let error = Metrics::parse(&text, Path::new("metrics.csv"), &networks).unwrap_err().to_string();
            assert!(error.starts_with("metrics.csv: ") && error.contains(expected), "{error}");
        }
    }

    #[test]
    fn sums_begin_again_after_they_are_taken() {
        let mut sums = Sums::default();
        assert_eq!(sums.take(), None);
        sums.add(2.0, 1.0);
        sums.add(4.0, 3.0);
        assert_eq!(sums.take(), Some(Means { loss: 3.0, gradient_norm: 2.0 }));
        assert_eq!(sums.take(), None);
    }
}
