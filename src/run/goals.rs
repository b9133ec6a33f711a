//! What a run is after: its objectives, the limits it keeps to, and the tasks that both are scored on.

use super::evaluations::Evaluation;
use super::front::Column;
use super::settings::RunSettings;
use crate::error::{Error, Result};
use crate::eval::Objective;
use crate::pareto::non_dominated;
use crate::search::Told;
use crate::space::Constraint;

/// Objectives and limits of a run, parsed.
pub(super) struct Goals {
    objectives: Vec<Objective>,
    limits: Vec<(Objective, Constraint)>,
    columns: Vec<Column>,
    tasks: Vec<String>,
    search_items: usize,
}

impl Goals {
    /// # Errors
    /// Unknown objectives, and fewer than two.
    pub(super) fn of(settings: &RunSettings) -> Result<Goals> {
        let parse = |text: &String| Objective::parse(text);
        let objectives: Vec<Objective> = settings.objectives.iter().map(parse).collect::<Result<_>>()?;
        if objectives.len() < 2 {
            return Err(Error::invalid("objectives", objectives.len(), "two or more"));
        }
        let limit = |limit: &Constraint| Ok((parse(&limit.objective)?, limit.clone()));
        let column = |objective: &Objective| Column {
            name: objective.to_string(),
            unit: objective.unit().to_string(),
            maximize: objective.maximize(),
        };
        Ok(Goals {
            limits: settings.constraints.iter().map(limit).collect::<Result<_>>()?,
            columns: objectives.iter().map(column).collect(),
            objectives,
            tasks: settings.tasks.iter().map(|task| task.name.clone()).collect(),
            search_items: settings.tasks.iter().map(|task| task.search_items).sum(),
        })
    }

    /// The objectives in the order of the run.
    pub(super) fn objectives(&self) -> &[Objective] {
        &self.objectives
    }

    /// Each limit with the objective that it is about.
    pub(super) fn limits(&self) -> &[(Objective, Constraint)] {
        &self.limits
    }

    /// Everything that has a value: the objectives, then what the limits are about.
    pub(super) fn quantities(&self) -> impl Iterator<Item = &Objective> {
        self.objectives.iter().chain(self.limits.iter().map(|(objective, _)| objective))
    }

    /// The objectives as columns.
    pub(super) fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Values of the objectives as smaller-is-better.
    pub(super) fn losses(&self, values: &[f64]) -> Vec<f64> {
        values.iter().zip(&self.columns).map(|(&value, column)| column.loss(value)).collect()
    }

    /// What an algorithm is told of a network.
    pub(super) fn told(&self, row: &Evaluation) -> Told {
        let objectives = row.failed.is_none().then(|| self.losses(&row.objectives));
        Told { objectives, violation: row.violation }
    }

    /// A task's place in the run's list.
    pub(super) fn task_place(&self, name: &str) -> usize {
        self.tasks.iter().position(|known| known == name).expect("every objective's task is a task of the run")
    }

    /// Whether a network has a score on the whole search split.
    pub(super) fn is_whole(&self, row: &Evaluation) -> bool {
        row.failed.is_none() && row.items == self.search_items
    }

    /// The share of the search split that a network was scored on.
    pub(super) fn share(&self, row: &Evaluation) -> f64 {
        if row.failed.is_some() { 1.0 } else { row.items as f64 / self.search_items.max(1) as f64 }
    }

    /// The networks that none of these dominates, of those that a front may hold.
    pub(super) fn front<'a>(&self, evaluations: &'a [Evaluation]) -> Vec<&'a Evaluation> {
        let rows = self.eligible(evaluations);
        let losses: Vec<Vec<f64>> = rows.iter().map(|row| self.losses(&row.objectives)).collect();
        non_dominated(&losses).into_iter().map(|place| rows[place]).collect()
    }

    /// The networks that a front may hold: scored to the end and within all limits.
    fn eligible<'a>(&self, evaluations: &'a [Evaluation]) -> Vec<&'a Evaluation> {
        evaluations.iter().filter(|row| self.is_whole(row) && row.violation == 0.0).collect()
    }
}
