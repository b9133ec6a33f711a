//! From partial scores to the rows of `evaluations.csv`.

use std::collections::HashMap;

use super::evaluations::Evaluation;
use super::goals::Goals;
use super::session::{Part, Session};
use super::settings::RunSettings;
use crate::error::{Error, Result};
use crate::eval::{Contribution, Measured, Metric, Objective};
use crate::space::Genome;
use crate::task::Split;

/// The networks that lost their race: what each was scored on, and which network surely dominates it.
pub(super) type Dropped = HashMap<Genome, (Vec<Part>, Genome)>;

/// What the partial scores of a session make of networks.
pub(super) struct Scores<'a, 's> {
    pub settings: &'a RunSettings,
    pub goals: &'a Goals,
    pub session: &'a Session<'s>,
}

impl Scores<'_, '_> {
    /// What the items of a part contribute to a metric, or why they do not.
    pub(super) fn contributions(
        &self,
        genome: &Genome,
        part: Part,
        metric: Metric,
    ) -> Result<Vec<Contribution>, String> {
        Ok(metric.contributions(self.session.set(part.set), &self.session.items(genome, part)?))
    }

    /// The values of the measured objectives in float32, where the search is in another arithmetic.
    pub(super) fn float32_values(&self, genome: &Genome) -> Result<Vec<(&Objective, f64)>> {
        let Some(parts) = self.session.float32_parts() else { return Ok(Vec::new()) };
        let values = self.values(genome, &parts)?;
        let values = values.map_err(|reason| Error::invalid(format!("score of {genome}"), reason, "a finite score"))?;
        let objectives = self.goals.objectives().iter().zip(values);
        Ok(objectives.filter(|(objective, _)| objective.metric().is_some()).collect())
    }

    /// The value of every objective and then of every constraint's objective, or why there is none.
    fn values(&self, genome: &Genome, parts: &[Part]) -> Result<Result<Vec<f64>, String>> {
        let mut scored = Vec::with_capacity(parts.len());
        for &part in parts {
            match self.session.items(genome, part) {
                Ok(items) => scored.push((self.session.set(part.set), items)),
                Err(reason) => return Ok(Err(reason)),
            }
        }
        let task = |metric: Metric, task: &str| {
            let (set, scores) = &scored[self.goals.task_place(task)];
            Ok(metric.estimate(&metric.contributions(set, scores)).value)
        };
        let measured = Measured {
            shape: self.settings.space.shape(),
            genome,
            throughput: self.settings.frozen.throughput.as_ref(),
            task: &task,
        };
        let value = |one| Ok((one, Objective::value(one, &measured)?));
        let values: Vec<(&Objective, f64)> = self.goals.quantities().map(value).collect::<Result<_>>()?;
        Ok(match values.iter().find(|(_, value)| !value.is_finite()) {
            Some((objective, value)) => Err(format!("{objective} is {value}")),
            None => Ok(values.into_iter().map(|(_, value)| value).collect()),
        })
    }

    /// The same of a network that may have been dropped: then what was measured is its rival's value, plus what the
    /// network was worse by on the items of both. So it stays dominated, whatever items it was not scored on.
    fn estimates(&self, genome: &Genome, dropped: &Dropped) -> Result<Result<Vec<f64>, String>> {
        let whole = self.session.parts(Split::Search);
        let Some((parts, rival)) = dropped.get(genome) else { return self.values(genome, &whole) };
        let (ours, theirs, rivals) =
            (self.values(genome, parts)?, self.values(rival, parts)?, self.values(rival, &whole)?);
        let (Ok(ours), Ok(theirs), Ok(rivals)) = (&ours, theirs, rivals) else {
            return Ok(ours);
        };
        let estimate = |(place, quantity): (usize, &Objective)| match quantity.metric() {
            Some(metric) => metric.in_range(rivals[place] + (ours[place] - theirs[place])),
            None => ours[place],
        };
        Ok(Ok(self.goals.quantities().enumerate().map(estimate).collect()))
    }

    /// The row of a network that was scored, as far as it was.
    pub(super) fn row(&self, id: usize, population: usize, genome: &Genome, dropped: &Dropped) -> Result<Evaluation> {
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
        let mut values = match self.estimates(genome, dropped)? {
            Ok(values) => values,
            Err(reason) => return Ok(Evaluation { failed: Some(reason), ..row }),
        };
        let limits = values.split_off(self.goals.objectives().len());
        row.violation = self.goals.limits().iter().zip(limits).map(|((_, limit), value)| limit.violation(value)).sum();
        row.objectives = values;
        let parts = dropped.get(genome).map_or_else(|| self.session.parts(Split::Search), |(parts, _)| parts.clone());
        for part in parts {
            let metric = Metric::headline_of(self.session.set(part.set));
            let contributions = self.contributions(genome, part, metric).unwrap_or_default();
            row.items += contributions.len();
            row.search_accuracy.push(metric.estimate(&contributions).value);
        }
        Ok(row)
    }
}
