//! Objectives: what a search may optimise or constrain, in one table.

use std::fmt;

use super::metrics::Metric;
use crate::error::{Error, Result};
use crate::space::{Cost, Genome, ModelShape};
use crate::throughput::ThroughputTable;

/// Where an objective's number comes from.
#[derive(Clone, Copy)]
enum Source {
    /// Scores of a task's items.
    Task(Metric),
    /// The genome alone.
    Cost(fn(&Cost) -> u64),
    /// The run's throughput table.
    Throughput(fn(&ThroughputTable, &Genome) -> Option<f64>),
}

/// A row of the table. A name with a task is written `NAME:TASK`.
struct Row {
    name: &'static str,
    unit: &'static str,
    maximize: bool,
    source: Source,
}

/// All objectives. Adding one is adding a row.
const TABLE: &[Row] = &[
    Row { name: "accuracy", unit: "fraction of items", maximize: true, source: Source::Task(Metric::Accuracy) },
    Row { name: "acc_norm", unit: "fraction of items", maximize: true, source: Source::Task(Metric::AccNorm) },
    Row { name: "choice_nll", unit: "nats per item", maximize: false, source: Source::Task(Metric::ChoiceNll) },
    Row {
        name: "choice_nll_norm",
        unit: "nats per item",
        maximize: false,
        source: Source::Task(Metric::ChoiceNllNorm),
    },
    Row { name: "perplexity", unit: "per token", maximize: false, source: Source::Task(Metric::Perplexity) },
    Row { name: "kl", unit: "nats per token", maximize: false, source: Source::Task(Metric::Kl) },
    Row { name: "params", unit: "parameters", maximize: false, source: Source::Cost(|cost| cost.params) },
    Row { name: "weight_bytes", unit: "bytes", maximize: false, source: Source::Cost(|cost| cost.weight_bytes) },
    Row { name: "macs", unit: "MACs per token", maximize: false, source: Source::Cost(|cost| cost.macs) },
    Row { name: "kv_bytes", unit: "bytes per token", maximize: false, source: Source::Cost(|cost| cost.kv_bytes) },
    Row {
        name: "prefill_tps",
        unit: "tokens per second",
        maximize: true,
        source: Source::Throughput(ThroughputTable::prefill_tps),
    },
    Row {
        name: "decode_tps",
        unit: "tokens per second",
        maximize: true,
        source: Source::Throughput(ThroughputTable::decode_tps),
    },
    Row {
        name: "latency_ms",
        unit: "milliseconds",
        maximize: false,
        source: Source::Throughput(ThroughputTable::latency_ms),
    },
];

/// One objective of a run, as the user named it.
#[derive(Clone)]
pub struct Objective {
    row: &'static Row,
    tasks: Vec<String>,
}

/// What an objective's value is computed from.
pub struct Measured<'a> {
    /// The parent's sizes.
    pub shape: &'a ModelShape,
    /// The network.
    pub genome: &'a Genome,
    /// The run's throughput table.
    pub throughput: Option<&'a ThroughputTable>,
    /// The mean of a metric over a task's items.
    pub task: &'a dyn Fn(Metric, &str) -> Result<f64>,
}

impl Objective {
    /// Reads `params`, `choice_nll:arc_easy` or `accuracy:arc_easy+piqa`.
    ///
    /// # Errors
    /// Names in no row, a task where none belongs and none where one does.
    pub fn parse(text: &str) -> Result<Objective> {
        let (name, tasks) = match text.split_once(':') {
            Some((name, tasks)) => (name, Some(tasks)),
            None => (text, None),
        };
        let row = TABLE
            .iter()
            .find(|row| row.name == name)
            .ok_or_else(|| Error::unknown("objective", text, TABLE.iter().map(Row::usage)))?;
        let takes_task = matches!(row.source, Source::Task(_));
        let tasks: Vec<String> = tasks.map_or(Vec::new(), |tasks| tasks.split('+').map(str::to_string).collect());
        if takes_task == tasks.is_empty() || tasks.iter().any(String::is_empty) {
            return Err(Error::invalid("objective", format!("`{text}`"), format!("`{}`", row.usage())));
        }
        Ok(Objective { row, tasks })
    }

    /// What a metric is called in objectives.
    pub fn name_of(metric: Metric) -> &'static str {
        let is = |row: &&Row| matches!(row.source, Source::Task(of) if of == metric);
        TABLE.iter().find(is).map_or("score", |row| row.name)
    }

    /// The unit of its values.
    pub fn unit(&self) -> &'static str {
        self.row.unit
    }

    /// Whether larger values are better.
    pub fn maximize(&self) -> bool {
        self.row.maximize
    }

    /// The tasks it is a mean over; none for sizes and throughput.
    pub fn tasks(&self) -> &[String] {
        &self.tasks
    }

    /// What its value on one of its tasks is called: the objective of that task alone.
    pub fn on(&self, task: &str) -> String {
        format!("{}:{task}", self.row.name)
    }

    /// The metric of its tasks.
    pub fn metric(&self) -> Option<Metric> {
        match self.row.source {
            Source::Task(metric) => Some(metric),
            _ => None,
        }
    }

    /// Whether it needs a throughput table.
    pub fn needs_throughput(&self) -> bool {
        matches!(self.row.source, Source::Throughput(_))
    }

    /// Whether that table must say what a token that is written takes.
    pub fn needs_decoding(&self) -> bool {
        self.needs_throughput() && self.row.name != "prefill_tps"
    }

    /// Its value in its own unit and direction; several tasks are the unweighted mean.
    pub fn value(&self, measured: &Measured) -> Result<f64> {
        match self.row.source {
            Source::Task(metric) => {
                let values: Result<Vec<f64>> = self.tasks.iter().map(|task| (measured.task)(metric, task)).collect();
                Ok(values?.iter().sum::<f64>() / self.tasks.len() as f64)
            }
            Source::Cost(of) => Ok(of(&Cost::of(measured.shape, measured.genome)) as f64),
            Source::Throughput(of) => {
                let value = measured.throughput.and_then(|table| of(table, measured.genome));
                value.ok_or_else(|| {
                    Error::invalid(
                        self.to_string(),
                        "no table of that",
                        "one measured on this device; see `criadero measure`",
                    )
                })
            }
        }
    }
}

impl Row {
    fn usage(&self) -> String {
        match self.source {
            Source::Task(_) => format!("{}:TASK", self.name),
            _ => self.name.to_string(),
        }
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.row.name)?;
        if !self.tasks.is_empty() {
            write!(f, ":{}", self.tasks.join("+"))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_its_own_text() {
        for text in ["params", "choice_nll:arc_easy", "accuracy:arc_easy+piqa", "prefill_tps"] {
            assert_eq!(Objective::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn lists_the_known_names_for_an_unknown_one() {
        let error = Objective::parse("size").unwrap_err().to_string();
        assert!(error.contains("unknown objective `size`") && error.contains("choice_nll:TASK"), "{error}");
    }

    #[test]
    fn refuses_tasks_where_they_do_not_belong() {
        for text in ["params:arc_easy", "accuracy", "accuracy:", "accuracy:a+"] {
            let error = Objective::parse(text).unwrap_err().to_string();
            assert!(error.starts_with("objective: found"), "{text}: {error}");
        }
    }

    #[test]
    fn means_tasks_without_weights() {
        let shape =
            ModelShape { layers: 1, hidden: 8, heads: 2, kv_heads: 1, head_dim: 4, mlp: 8, vocab: 9, tied: true };
        let genome: Genome = "2x8".parse().unwrap();
        let task = |_: Metric, task: &str| Ok(if task == "a" { 0.25 } else { 0.75 });
        let measured = Measured { shape: &shape, genome: &genome, throughput: None, task: &task };
        assert_eq!(Objective::parse("accuracy:a+b").unwrap().value(&measured).unwrap(), 0.5);
        assert!(Objective::parse("prefill_tps").unwrap().value(&measured).is_err());
    }
}
