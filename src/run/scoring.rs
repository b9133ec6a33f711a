//! From partial scores to the rows of `evaluations.csv`.

use super::evaluations::Evaluation;
use super::journal::Journal;
use super::race::Dropped;
use super::run::Run;
use crate::error::Result;
use crate::eval::{ChunkId, Contribution, EvalSet, ItemScore, Measured, Metric, Objective, Outcome};
use crate::space::Genome;

/// An eval set and how many of its chunks, from the first on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Part {
    pub set: usize,
    pub chunks: usize,
}

/// What the journal says about networks.
pub(super) struct Scores<'a> {
    pub run: &'a Run,
    pub sets: &'a [EvalSet],
    pub journal: &'a Journal,
}

impl Scores<'_> {
    /// All of a split, one part a task.
    pub fn split(&self, name: &str) -> Vec<Part> {
        let places = self.run.sets_of(self.sets, name);
        places.into_iter().map(|set| Part { set, chunks: self.sets[set].chunks.len() }).collect()
    }

    /// The items' scores of a network, or why it has none.
    pub fn items(&self, genome: &Genome, part: Part) -> Result<Vec<ItemScore>, String> {
        let set = &self.sets[part.set];
        let mut scores = Vec::with_capacity(set.items.len());
        for chunk in 0..part.chunks {
            match self.journal.outcome(ChunkId { set: part.set, chunk }, genome) {
                Some(Outcome::Scored(items)) => scores.extend_from_slice(items),
                Some(Outcome::Failed(reason)) => return Err(reason.clone()),
                None => return Err(format!("chunk {chunk} of {} was not scored", set.name)),
            }
        }
        Ok(scores)
    }

    /// What the items of a part contribute to a metric, or why they do not.
    pub fn contributions(&self, genome: &Genome, part: Part, metric: Metric) -> Result<Vec<Contribution>, String> {
        Ok(metric.contributions(&self.sets[part.set], &self.items(genome, part)?))
    }

    /// The value of every objective and then of every constraint's objective, or why there is none.
    fn values(&self, genome: &Genome, parts: &[Part]) -> Result<Result<Vec<f64>, String>> {
        let mut scored = Vec::with_capacity(parts.len());
        for &part in parts {
            match self.items(genome, part) {
                Ok(items) => scored.push((&self.sets[part.set], items)),
                Err(reason) => return Ok(Err(reason)),
            }
        }
        let task = |metric: Metric, task: &str| {
            let (set, scores) = &scored[self.run.task_place(task)];
            Ok(metric.estimate(&metric.contributions(set, scores)).value)
        };
        let measured = Measured {
            shape: self.run.settings.space.shape(),
            genome,
            throughput: self.run.settings.frozen.throughput.as_ref(),
            task: &task,
        };
        let quantities = self.run.objectives.iter().chain(self.run.limits.iter().map(|(objective, _)| objective));
        let values: Vec<(&Objective, f64)> =
            quantities.map(|one| Ok((one, one.value(&measured)?))).collect::<Result<_>>()?;
        Ok(match values.iter().find(|(_, value)| !value.is_finite()) {
            Some((objective, value)) => Err(format!("{objective} is {value}")),
            None => Ok(values.into_iter().map(|(_, value)| value).collect()),
        })
    }

    /// The same of a network that may have been dropped: then what was measured is its rival's value, plus what the
    /// network was worse by on the items of both. So it stays dominated, whatever items it was not scored on.
    fn estimates(&self, genome: &Genome, dropped: &Dropped) -> Result<Result<Vec<f64>, String>> {
        let Some((parts, rival)) = dropped.get(genome) else {
            return self.values(genome, &self.split("search"));
        };
        let (ours, theirs, rivals) =
            (self.values(genome, parts)?, self.values(rival, parts)?, self.values(rival, &self.split("search"))?);
        let (Ok(ours), Ok(theirs), Ok(rivals)) = (&ours, theirs, rivals) else {
            return Ok(ours);
        };
        let quantities = self.run.objectives.iter().chain(self.run.limits.iter().map(|(objective, _)| objective));
        let estimate = |(place, quantity): (usize, &Objective)| match quantity.metric() {
            Some(metric) => metric.in_range(rivals[place] + (ours[place] - theirs[place])),
            None => ours[place],
        };
        Ok(Ok(quantities.enumerate().map(estimate).collect()))
    }

    /// The row of a network that was scored, as far as it was.
    pub fn row(&self, id: usize, population: usize, genome: &Genome, dropped: &Dropped) -> Result<Evaluation> {
        let parts = dropped.get(genome).map_or_else(|| self.split("search"), |(parts, _)| parts.clone());
        let mut row = Evaluation {
            id,
            population,
            genome: genome.clone(),
            items: 0,
            objectives: Vec::new(),
            violation: 0.0,
            search_accuracy: Vec::new(),
            failed: None,
        };
        match self.estimates(genome, dropped)? {
            Err(reason) => row.failed = Some(reason),
            Ok(mut values) => {
                let limits = values.split_off(self.run.objectives.len());
                let violations = self.run.limits.iter().zip(limits).map(|((_, limit), value)| limit.violation(value));
                row.violation = violations.sum();
                row.objectives = values;
                for &part in &parts {
                    let metric = Metric::headline(self.sets[part.set].scoring);
                    let contributions = self.contributions(genome, part, metric).unwrap_or_default();
                    row.items += contributions.len();
                    row.search_accuracy.push(metric.estimate(&contributions).value);
                }
            }
        }
        Ok(row)
    }
}

impl Run {
    /// Whether a network has a score on the whole search split.
    pub(super) fn is_whole(&self, row: &Evaluation) -> bool {
        row.failed.is_none() && row.items == self.settings.tasks.iter().map(|task| task.search_items).sum::<usize>()
    }
}
