//! The end of a run: its front, measured on held-out items next to the parent.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use super::budgets::{Offer, mean_contributions};
use super::evaluations::Evaluation;
use super::front::{Front, FrontPoint, HeldOut, OverBudgets};
use super::goals::Goals;
use super::progress::Progress;
use super::score_change::ScoreChange;
use super::scoring::{Dropped, Scores};
use super::session::{Part, Session};
use super::settings::RunSettings;
use super::state::State;
use super::timings;
use super::values::Values;
use crate::error::{Error, Result};
use crate::eval::{Contribution, Measured, Metric, Objective};
use crate::pareto::{hypervolume, non_dominated};
use crate::space::Genome;
use crate::task::Split;

/// What stands for the model's name where none scored the networks.
const MOCK: &str = "mock scores";

/// What the end of a run is made of.
pub(super) struct Finish<'a> {
    pub dir: &'a Path,
    pub settings: &'a RunSettings,
    pub goals: &'a Goals,
}

impl Finish<'_> {
    /// The search split's non-dominated networks, measured on held-out items next to the parent, and written down.
    pub(super) fn front(&self, state: &State, session: &mut Session) -> Result<Front> {
        let rows = self.best(&state.evaluations)?;
        let parent = self.settings.space.largest();
        let mut networks: Vec<Genome> = rows.iter().map(|row| row.genome.clone()).collect();
        if !networks.contains(&parent) {
            networks.push(parent.clone());
        }
        session.forecast().end(networks.len());
        session.tell(Progress::HeldOut { networks: networks.len() });
        let start = Instant::now();
        let mut parts = session.parts(Split::HeldOut);
        parts.extend(session.float32_parts().into_iter().flatten());
        session.score(&parts, &networks)?;
        session.score(&session.parts(Split::Search), std::slice::from_ref(&parent))?;
        session.sync()?;
        timings::append(self.dir, state.populations, networks.len(), start.elapsed())?;
        let scores = Scores { settings: self.settings, goals: self.goals, session };
        let known = state.evaluations.iter().find(|row| row.genome == parent);
        let (id, population) =
            known.map_or((state.evaluations.len(), state.populations), |row| (row.id, row.population));
        let parent_row = scores.row(id, population, &parent, &Dropped::new())?;
        let parent_point = self.front_point(&parent_row, &parent, &scores)?;
        let point = |row: &&Evaluation| self.front_point(row, &parent, &scores);
        let mut points: Vec<FrontPoint> = rows.iter().map(point).collect::<Result<_>>()?;
        let over_budgets = self.over_budgets(&rows, &parent, &scores)?;
        self.mark_dominated(&mut points);
        if session.float32_parts().is_some() {
            self.changes(&points).into_iter().for_each(|note| session.tell(Progress::Note(note)));
        }
        let front = Front {
            shape: *self.settings.space.shape(),
            model: self.model_name(),
            objectives: self.goals.columns().to_vec(),
            chance: self.settings.tasks.iter().map(|task| task.chance).collect(),
            hypervolume: self.held_out_hypervolume(&points, &parent_point),
            over_budgets,
            parent: parent_point,
            points,
            evaluations: state.evaluations.len(),
        };
        front.write_csv(&self.dir.join("front.csv"))?;
        front.write_json(&self.dir.join("front.json"))?;
        Ok(front)
    }

    /// The non-dominated networks of the search split, the smallest first.
    fn best<'a>(&self, evaluations: &'a [Evaluation]) -> Result<Vec<&'a Evaluation>> {
        let mut rows = self.goals.front(evaluations);
        if rows.is_empty() {
            return Err(self.nothing_fits(evaluations));
        }
        rows.sort_by_key(|row| (self.settings.space.size(&row.genome), row.id));
        Ok(rows)
    }

    /// Why no evaluated network may be on the front, and what to do about it.
    fn nothing_fits(&self, evaluations: &[Evaluation]) -> Error {
        let reasons: BTreeSet<&str> = evaluations.iter().filter_map(|row| row.failed.as_deref()).collect();
        let mut found = vec![format!("none among {} evaluated networks", evaluations.len())];
        found.extend(reasons.iter().map(|reason| format!("some failed: {reason}")));
        let whole = evaluations.iter().filter(|row| row.failed.is_none());
        if let Some(nearest) =
            whole.min_by(|a, b| a.violation.total_cmp(&b.violation)).filter(|row| row.violation > 0.0)
        {
            found.push(format!(
                "the nearest, {}, is beyond the limits by {:.1}%",
                nearest.genome,
                100.0 * nearest.violation
            ));
        }
        let limits: Vec<String> = self.settings.constraints.iter().map(|limit| limit.to_string()).collect();
        let expected = match limits.is_empty() {
            true => "a network whose score is a number".to_string(),
            false => format!("one that meets {}; widen them, or give more --evals", limits.join(" and ")),
        };
        Error::invalid("front", found.join("; "), expected)
    }

    /// What the arithmetic of the search changed of the points' objectives: a line for each that scores a task.
    fn changes(&self, points: &[FrontPoint]) -> Vec<String> {
        let change = |objective: &Objective| {
            let name = objective.to_string();
            let both = |point: &FrontPoint| Some((point.value(&name)?, point.value(&Front::float32_name(&name))?));
            let (ours, exact): (Vec<f64>, Vec<f64>) = points.iter().filter_map(both).unzip();
            let ScoreChange { tau, mean, most } = ScoreChange::of(&ours, &exact);
            format!(
                "{name} of the front in {} and in float32: they differ by {mean:.4} on the mean, {most:.4} at most; Kendall's tau {tau:.3}",
                self.settings.frozen.arithmetic,
            )
        };
        self.goals.objectives().iter().filter(|objective| objective.metric().is_some()).map(change).collect()
    }

    /// The last part of the model's path, without `.gguf`: what pictures call it.
    fn model_name(&self) -> String {
        let path = Path::new(&self.settings.model);
        let name = if path.extension().is_some_and(|end| end == "gguf") { path.file_stem() } else { path.file_name() };
        let name = name.map_or_else(|| self.settings.model.clone(), |name| name.to_string_lossy().into_owned());
        if self.settings.is_mock() { format!("{MOCK} (not {name})") } else { name }
    }

    fn front_point(&self, row: &Evaluation, parent: &Genome, scores: &Scores) -> Result<FrontPoint> {
        let mut held_out = Vec::new();
        let parts = scores.session.parts(Split::HeldOut);
        let mut metrics: Vec<(String, Metric, Part)> = Vec::new();
        for (task, &part) in self.settings.tasks.iter().zip(&parts) {
            let metric = Metric::headline_of(scores.session.set(part.set));
            metrics.push((metric.on(&task.name), metric, part));
        }
        for objective in self.goals.objectives() {
            let Some(metric) = objective.metric() else { continue };
            for task in objective.tasks() {
                let name = objective.on(task);
                if !metrics.iter().any(|(known, ..)| *known == name) {
                    metrics.push((name, metric, parts[self.goals.task_place(task)]));
                }
            }
        }
        for (name, metric, part) in metrics {
            let of = |genome: &Genome| held_out_contributions(scores, genome, part, metric);
            held_out.push(HeldOut::of(name, metric, &of(&row.genome)?, &of(parent)?));
        }
        Ok(FrontPoint {
            id: row.id,
            genome: row.genome.clone(),
            values: self.values(row, scores)?,
            held_out,
            dominated_on_held_out: false,
        })
    }

    /// The held-out accuracies that the front's networks have over all budgets from the smallest network to the parent.
    fn over_budgets(&self, rows: &[&Evaluation], parent: &Genome, scores: &Scores) -> Result<Option<OverBudgets>> {
        let space = &self.settings.space;
        let budgets = space.size(&space.smallest())..space.size(&parent.unquantized());
        let searched = self.goals.objectives().iter().position(|objective| objective.metric().is_some());
        let loss = |row: &Evaluation| searched.map_or(0.0, |place| self.goals.losses(&row.objectives)[place]);
        let mut all = Vec::new();
        for (task, &part) in self.settings.tasks.iter().zip(&scores.session.parts(Split::HeldOut)) {
            let metric = Metric::headline_of(scores.session.set(part.set));
            if !metric.is_fraction() {
                continue;
            }
            let of = |genome: &Genome| held_out_contributions(scores, genome, part, metric);
            let offer = |row: &&Evaluation| {
                Ok(Offer { size: space.size(&row.genome), loss: loss(row), contributions: of(&row.genome)? })
            };
            let offers: Vec<Offer> = rows.iter().map(offer).collect::<Result<_>>()?;
            let mean = mean_contributions(&offers, budgets.clone(), task.chance);
            all.push(HeldOut::of(metric.on(&task.name), metric, &mean, &of(parent)?));
        }
        Ok((!all.is_empty()).then_some(OverBudgets { from: budgets.start, to: budgets.end, scores: all }))
    }

    /// The objectives of a network, and whatever else every front says where it is known.
    fn values(&self, row: &Evaluation, scores: &Scores) -> Result<Values> {
        let task = |_: Metric, task: &str| Err(Error::invalid("size or speed", task, "no task"));
        let measured = Measured {
            shape: self.settings.space.shape(),
            genome: &row.genome,
            throughput: self.settings.frozen.throughput.as_ref(),
            task: &task,
        };
        let objectives = self.goals.columns().iter().zip(&row.objectives);
        let mut values: Values = objectives.map(|(column, &value)| (&column.name, value)).collect();
        for (objective, value) in scores.float32_values(&row.genome)? {
            values.set(&Front::float32_name(&objective.to_string()), value);
        }
        for quantity in Objective::reported() {
            if let Ok(value) = quantity.value(&measured) {
                values.set(&quantity.to_string(), value);
            }
        }
        Ok(values)
    }

    /// Marks points that another one beats by what tables show: objectives that score tasks by the tasks' accuracies on held-out items
    /// (perplexities where there is nothing to choose), the others by their values.
    fn mark_dominated(&self, points: &mut [FrontPoint]) {
        let (columns, tasks) = (self.goals.columns(), self.settings.tasks.len());
        let headline = |point: &FrontPoint, task: &String| {
            let score = &point.held_out[..tasks][self.goals.task_place(task)];
            Objective::parse(&score.name).map_or(f64::NAN, |metric| metric.loss(score.value))
        };
        let loss = |point: &FrontPoint, (place, objective): (usize, &Objective)| match objective.tasks() {
            [] => columns[place].loss(point.value(&columns[place].name).unwrap_or(f64::NAN)),
            of => of.iter().map(|task| headline(point, task)).sum::<f64>() / of.len() as f64,
        };
        let losses =
            |point: &FrontPoint| self.goals.objectives().iter().enumerate().map(|one| loss(point, one)).collect();
        let losses: Vec<Vec<f64>> = points.iter().map(losses).collect();
        let best: BTreeSet<usize> = non_dominated(&losses).into_iter().collect();
        for (place, point) in points.iter_mut().enumerate() {
            point.dominated_on_held_out = !best.contains(&place);
        }
    }

    /// Hypervolume of held-out accuracy against size, both normalised; reference (chance, 1.05 x the unquantized parent),
    /// ideal (1, 0). Size is parameters, or where networks are quantized the bytes of their weights. Tasks without an accuracy are left out; without any the hypervolume is 0.
    fn held_out_hypervolume(&self, points: &[FrontPoint], parent: &FrontPoint) -> f64 {
        let accuracies = |point: &FrontPoint| -> Vec<f64> {
            let tasks = self.settings.tasks.iter().zip(&point.held_out);
            tasks
                .filter(|(task, score)| score.name == Metric::ACCURACY.on(&task.name))
                .map(|(task, score)| (1.0 - score.value) / (1.0 - task.chance))
                .collect()
        };
        let size = |genome: &Genome| self.settings.space.size(genome) as f64;
        let normalised: Vec<[f64; 2]> = points
            .iter()
            .filter_map(|point| {
                let losses = accuracies(point);
                let size = size(&point.genome) / (1.05 * size(&parent.genome.unquantized()));
                (!losses.is_empty()).then(|| [losses.iter().sum::<f64>() / losses.len() as f64, size])
            })
            .collect();
        hypervolume(&normalised, &[1.0, 1.0])
    }
}

/// What a network's held-out items contribute to a metric.
fn held_out_contributions(scores: &Scores, genome: &Genome, part: Part, metric: Metric) -> Result<Vec<Contribution>> {
    let known = scores.contributions(genome, part, metric);
    known.map_err(|reason| Error::invalid(format!("held-out score of {genome}"), reason, "a finite score"))
}
