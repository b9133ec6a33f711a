//! `metrics.csv`: losses along a fine-tuning. The same run gives the same bytes, however often it was stopped.

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
        let path = dir.join(FILE);
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
        output::write(&path, writer.into_inner().expect(in_memory))
    }

    /// Reads the table of a fine-tuning's directory.
    pub fn read(dir: &Path) -> Result<Metrics> {
        let path = dir.join(FILE);
        let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
        let wrong = |reason: String| Error::format(&path, FILE, reason);
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let header = reader.headers().map_err(|error| wrong(error.to_string()))?.clone();
        if !header.iter().take(COLUMNS.len()).eq(COLUMNS) {
            return Err(wrong(format!("columns {header:?}, expected {COLUMNS:?} first")));
        }
        let networks = header.iter().skip(COLUMNS.len()).map(String::from).collect();
        let rows = reader.records().map(|record| {
            let record = record.map_err(|error| wrong(error.to_string()))?;
            let line = record.position().map_or(0, |position| position.line());
            let number = |column: usize| -> Result<f64> {
                record[column].parse().map_err(|_| wrong(format!("line {line}: `{}` is no number", &record[column])))
            };
            let training =
                if record[3].is_empty() { None } else { Some(Means { loss: number(3)?, gradient_norm: number(4)? }) };
            let losses = (COLUMNS.len()..record.len()).map(number).collect::<Result<_>>()?;
            Ok(Row {
                step: number(0)? as usize,
                tokens: number(1)? as u64,
                learning_rate: number(2)?,
                training,
                losses,
            })
        });
        Ok(Metrics { networks, rows: rows.collect::<Result<_>>()? })
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
        assert_eq!(Metrics::read(dir.path()).unwrap(), metrics);
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
