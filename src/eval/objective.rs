//! Objectives: what a search may optimise or constrain, each a row of the table of quantities.

use std::fmt;

use super::metrics::Metric;
use super::quantity::{Quantity, Source, TABLE};
use crate::error::{Error, Result};
use crate::space::{Cost, Genome, ModelShape};
use crate::throughput::ThroughputTable;

/// One objective of a run, as the user named it. A name with a task is written `NAME:TASK`.
#[derive(Clone)]
pub struct Objective {
    quantity: &'static Quantity,
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
        let quantity = TABLE.iter().find(|row| row.name == name);
        let quantity = quantity.ok_or_else(|| Error::unknown("objective", text, TABLE.iter().map(usage)))?;
        let takes_task = matches!(quantity.source, Source::Items(_));
        let tasks: Vec<String> = tasks.map_or(Vec::new(), |tasks| tasks.split('+').map(str::to_string).collect());
        if takes_task == tasks.is_empty() || tasks.iter().any(String::is_empty) {
            return Err(Error::invalid("objective", format!("`{text}`"), format!("`{}`", usage(quantity))));
        }
        Ok(Objective { quantity, tasks })
    }

    /// What every front says of its networks where it is known, in this order.
    pub fn reported() -> impl Iterator<Item = Objective> {
        let reported = |row: &&Quantity| match row.source {
            Source::Items(_) => false,
            Source::Size { reported, .. } | Source::Speed { reported, .. } => reported,
        };
        TABLE.iter().filter(reported).map(|quantity| Objective { quantity, tasks: Vec::new() })
    }

    /// The unit of its values.
    pub fn unit(&self) -> &'static str {
        self.quantity.unit
    }

    /// Whether larger values are better.
    pub fn maximize(&self) -> bool {
        self.quantity.maximize
    }

    /// A value as smaller-is-better, the only direction that the search knows.
    pub fn loss(&self, value: f64) -> f64 {
        if self.maximize() { -value } else { value }
    }

    /// The size of networks of that cost, where it is a size: what the genome alone says.
    pub fn size(&self, cost: &Cost) -> Option<f64> {
        match &self.quantity.source {
            Source::Size { of, .. } => Some(of(cost) as f64),
            _ => None,
        }
    }

    /// The tasks it is a mean over; none for sizes and throughput.
    pub fn tasks(&self) -> &[String] {
        &self.tasks
    }

    /// What its value on one of its tasks is called: the objective of that task alone.
    pub fn on(&self, task: &str) -> String {
        format!("{}:{task}", self.quantity.name)
    }

    /// The metric of its tasks.
    pub fn metric(&self) -> Option<Metric> {
        Metric::of(self.quantity)
    }

    /// Whether it needs a throughput table.
    pub fn needs_throughput(&self) -> bool {
        matches!(self.quantity.source, Source::Speed { .. })
    }

    /// Whether that table must say what a token that is written takes.
    pub fn needs_decoding(&self) -> bool {
        matches!(self.quantity.source, Source::Speed { decoding: true, .. })
    }

    /// Its value in its own unit and direction; several tasks are the unweighted mean.
    ///
    /// # Errors
    /// `Invalid` where the throughput table does not know it, and what `measured.task` refuses.
    pub fn value(&self, measured: &Measured) -> Result<f64> {
        match &self.quantity.source {
            Source::Items(_) => {
                let metric = Metric::of(self.quantity).expect("its source is items");
                let values: Result<Vec<f64>> = self.tasks.iter().map(|task| (measured.task)(metric, task)).collect();
                Ok(values?.iter().sum::<f64>() / self.tasks.len() as f64)
            }
            Source::Size { of, .. } => Ok(of(&Cost::of(measured.shape, measured.genome)) as f64),
            Source::Speed { of, .. } => {
                let value = measured.throughput.and_then(|table| of(table, measured.genome));
                value.ok_or_else(|| {
                    let expected = "one measured on this device; see `criadero measure`";
                    Error::invalid(self.to_string(), "no table of that", expected)
                })
            }
        }
    }
}

/// How a row is written as an objective.
fn usage(quantity: &Quantity) -> String {
    match quantity.source {
        Source::Items(_) => format!("{}:TASK", quantity.name),
        _ => quantity.name.to_string(),
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.quantity.name)?;
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
    use crate::space::shape::tests::TINY;
    use crate::task::Scoring;

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
        let genome: Genome = "2x8".parse().unwrap();
        let task = |_: Metric, task: &str| Ok(if task == "a" { 0.25 } else { 0.75 });
        let measured = Measured { shape: &TINY, genome: &genome, throughput: None, task: &task };
        assert_eq!(Objective::parse("accuracy:a+b").unwrap().value(&measured).unwrap(), 0.5);
        assert!(Objective::parse("prefill_tps").unwrap().value(&measured).is_err());
    }

    #[test]
    fn a_row_is_all_that_a_quantity_needs() {
        let genome: Genome = "2x8".parse().unwrap();
        let task = |_: Metric, _: &str| Ok(0.5);
        let measured = Measured { shape: &TINY, genome: &genome, throughput: None, task: &task };
        let scorings = [Scoring::Choices, Scoring::Contexts, Scoring::Mc1, Scoring::Mc2, Scoring::LastWord];
        for row in &TABLE {
            let objective = Objective::parse(&usage(row)).unwrap();
            assert_eq!((objective.to_string(), objective.unit().is_empty()), (usage(row), false));
            match (objective.metric(), objective.needs_throughput()) {
                (Some(metric), false) => {
                    assert!(
                        scorings
                            .into_iter()
                            .chain([Scoring::Rolling, Scoring::Generate])
                            .any(|scoring| metric.applies_to(scoring))
                    );
                    assert_eq!((metric.name(), objective.value(&measured).unwrap()), (row.name, 0.5));
                    assert_eq!(Metric::all().filter(|other| other.eval_name() == metric.eval_name()).count(), 1);
                }
                (None, false) => assert!(objective.value(&measured).unwrap() > 0.0, "{objective}"),
                (_, needs) => assert!(needs && objective.value(&measured).is_err(), "{objective}"),
            }
        }
        let reported: Vec<String> = Objective::reported().map(|objective| objective.to_string()).collect();
        assert_eq!(reported, ["params", "weight_bytes", "prefill_tps", "decode_tps"]);
    }
}
