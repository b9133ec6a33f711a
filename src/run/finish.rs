//! The end of a run: its front, measured on held-out items next to the parent.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use super::evaluations::Evaluation;
use super::front::{Front, FrontPoint, HeldOut};
use super::journal::Journal;
use super::race::Dropped;
use super::run::{Progress, Run, State};
use super::scoring::{Part, Scores};
use crate::error::{Error, Result};
use crate::eval::{Evaluator, Metric, Objective};
use crate::pareto::{hypervolume, non_dominated};
use crate::space::{Cost, Genome};

impl Run {
    /// The search split's non-dominated networks, measured on held-out items next to the parent.
    pub(super) fn front(
        &self,
        state: &State,
        evaluator: &mut dyn Evaluator,
        journal: &mut Journal,
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<Front> {
        let scored: Vec<&Evaluation> =
            state.evaluations.iter().filter(|row| self.is_whole(row) && row.violation == 0.0).collect();
        if scored.is_empty() {
            let reasons: BTreeSet<&str> = state.evaluations.iter().filter_map(|row| row.failed.as_deref()).collect();
            let reasons: Vec<&str> = reasons.into_iter().collect();
            let found = format!(
                "{} evaluated networks, none of them feasible ({})",
                state.evaluations.len(),
                reasons.join("; ")
            );
            return Err(Error::invalid("front", found, "a network that meets the constraints"));
        }
        let columns = self.columns();
        let all: Vec<Vec<f64>> = scored.iter().map(|row| self.losses(row)).collect();
        let mut rows: Vec<&Evaluation> = non_dominated(&all).into_iter().map(|place| scored[place]).collect();
        let shape = *self.settings.space.shape();
        rows.sort_by_key(|row| (self.settings.space.size(&row.genome), row.id));
        let parent = self.settings.space.largest();
        let mut networks: Vec<Genome> = rows.iter().map(|row| row.genome.clone()).collect();
        if !networks.contains(&parent) {
            networks.push(parent.clone());
        }
        on_progress(Progress::HeldOut { networks: networks.len() });
        let start = Instant::now();
        let scores = Scores { run: self, sets: &evaluator.sets().clone(), journal };
        let (search, held_out) = (scores.split("search"), scores.split("held_out"));
        self.score(evaluator, journal, &held_out, &networks, on_progress)?;
        self.score(evaluator, journal, &search, std::slice::from_ref(&parent), on_progress)?;
        journal.sync()?;
        self.log_time(state.populations, networks.len(), start)?;
        let scores = Scores { run: self, sets: evaluator.sets(), journal };
        let known = state.evaluations.iter().find(|row| row.genome == parent);
        let (id, population) =
            known.map_or((state.evaluations.len(), state.populations), |row| (row.id, row.population));
        let parent_row = scores.row(id, population, &parent, &Dropped::new())?;
        let point = |row: &Evaluation| self.front_point(row, &parent, &scores);
        let parent_point = point(&parent_row)?;
        let mut points: Vec<FrontPoint> = rows.iter().map(|row| point(row)).collect::<Result<_>>()?;
        self.mark_dominated(&mut points);
        let front = Front {
            shape,
            model: self.model_name(),
            objectives: columns,
            chance: self.settings.tasks.iter().map(|task| task.chance).collect(),
            hypervolume: self.held_out_hypervolume(&points, &parent_point),
            parent: parent_point,
            points,
            evaluations: state.evaluations.len(),
        };
        front.write_csv(&self.dir.join("front.csv"))?;
        front.write_json(&self.dir.join("front.json"))?;
        Ok(front)
    }

    /// The last part of the model's path, without `.gguf`: what pictures call it.
    fn model_name(&self) -> String {
        let path = Path::new(&self.settings.model);
        let name = if path.extension().is_some_and(|end| end == "gguf") { path.file_stem() } else { path.file_name() };
        name.map_or_else(|| self.settings.model.clone(), |name| name.to_string_lossy().into_owned())
    }

    fn front_point(&self, row: &Evaluation, parent: &Genome, scores: &Scores) -> Result<FrontPoint> {
        let cost = Cost::of(self.settings.space.shape(), &row.genome);
        let mut held_out = Vec::new();
        let parts = scores.split("held_out");
        let mut metrics: Vec<(String, Metric, Part)> = Vec::new();
        for (task, &part) in self.settings.tasks.iter().zip(&parts) {
            let metric = Metric::headline(scores.sets[part.set].scoring);
            metrics.push((format!("{}:{}", Objective::name_of(metric), task.name), metric, part));
        }
        for objective in &self.objectives {
            let Some(metric) = objective.metric() else { continue };
            for task in objective.tasks() {
                let name = objective.on(task);
                if !metrics.iter().any(|(known, ..)| *known == name) {
                    metrics.push((name, metric, parts[self.task_place(task)]));
                }
            }
        }
        for (name, metric, part) in metrics {
            let of = |genome: &Genome| {
                let known = scores.contributions(genome, part, metric);
                known.map_err(|reason| Error::invalid(format!("held-out score of {genome}"), reason, "a finite score"))
            };
            let (ours, theirs) = (of(&row.genome)?, of(parent)?);
            let (estimate, delta) = (metric.estimate(&ours), metric.difference(&ours, &theirs));
            held_out.push(HeldOut {
                name,
                items: ours.len(),
                value: estimate.value,
                stderr: estimate.stderr,
                delta: delta.value,
                delta_stderr: delta.stderr,
            });
        }
        let table = self.settings.frozen.throughput.as_ref();
        Ok(FrontPoint {
            id: row.id,
            genome: row.genome.clone(),
            objectives: row.objectives.clone(),
            params: cost.params,
            weight_bytes: cost.weight_bytes,
            prefill_tps: table.and_then(|table| table.prefill_tps(&row.genome)),
            decode_tps: table.and_then(|table| table.decode_tps(&row.genome)),
            held_out,
            dominated_on_held_out: false,
        })
    }

    /// Marks points that another one beats when the objectives' own metrics are taken on held-out items.
    fn mark_dominated(&self, points: &mut [FrontPoint]) {
        let columns = self.columns();
        let losses: Vec<Vec<f64>> = points
            .iter()
            .map(|point| {
                let loss = |(place, objective): (usize, &Objective)| {
                    let value = match objective.metric() {
                        None => point.objectives[place],
                        Some(_) => {
                            let of = |task: &String| {
                                let column = objective.on(task);
                                point.held_out.iter().find(|one| one.name == column).map_or(f64::NAN, |one| one.value)
                            };
                            objective.tasks().iter().map(of).sum::<f64>() / objective.tasks().len() as f64
                        }
                    };
                    columns[place].loss(value)
                };
                self.objectives.iter().enumerate().map(loss).collect()
            })
            .collect();
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
                .filter(|(_, score)| score.name.starts_with("accuracy:"))
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
