//! A short trial of a faster arithmetic before a search: how fast it is here, and how far its scores are from float32's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::arithmetic_error::ArithmeticError;
use crate::error::Result;
use crate::eval::division::{self, Division};
use crate::eval::{
    ChunkId, Contribution, EvalSet, Evaluator, Exam, ItemScore, LocalEvaluator, Metric, Outcome, Work, Workers, Writer,
};
use crate::model::Llama;
use crate::space::Genome;

/// A longer trial is shortened.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a task's items say of an arithmetic.
pub(super) struct TrialTask {
    /// The first items of the search split, in small chunks.
    pub set: EvalSet,
    /// What is asked of them.
    pub metrics: Vec<Metric>,
    /// Items of the whole search split.
    pub all: usize,
}

/// By task and network the items' scores.
pub(super) type Scores = Vec<Vec<Vec<ItemScore>>>;

/// What a model is tried on in faster arithmetics and in float32.
pub(super) struct Trial<'a> {
    pub tasks: Vec<TrialTask>,
    pub networks: Vec<Genome>,
    pub workers: Workers,
    pub writer: &'a Writer,
    pub stop: &'a Arc<AtomicBool>,
}

impl Trial<'_> {
    /// Tokens a second through two layers and the head of the parent, in each of some faster arithmetics and in float32: of the former the best
    /// of two turns, since they are told apart by little; a glance tells float32 from them.
    pub(super) fn speeds(
        &self,
        others: &[Llama],
        exact: &Llama,
        on_progress: &mut dyn FnMut(usize, usize),
    ) -> Result<(Vec<f64>, f64)> {
        let packings = [(0, self.tasks[0].set.clone())];
        let mut speed = |model: &Llama, rounds| -> Result<f64> {
            let measured = division::measure(model, &packings, &[self.workers], rounds, self.stop, on_progress)?;
            Ok(measured.iter().map(|one: &Division| one.tokens_per_second).fold(0.0, f64::max))
        };
        let mut best = vec![0.0_f64; others.len()];
        for _ in 0..2 {
            for (best, model) in best.iter_mut().zip(others) {
                *best = best.max(speed(model, division::ROUNDS)?);
            }
        }
        Ok((best, speed(exact, 1)?))
    }

    /// The trial of every other network on one chunk a task, where all of it would take too long at so many tokens a second
    /// through two of all the layers.
    pub(super) fn within_patience(mut self, layers: usize, speed: f64) -> Self {
        let tokens: usize = self.tasks.iter().map(|task| task.set.packed_tokens + task.set.written_tokens()).sum();
        let layers = layers as f64 / 2.0;
        if (self.networks.len() * tokens) as f64 * layers / speed > PATIENCE.as_secs_f64() {
            self.networks = self.networks.into_iter().step_by(2).collect();
            for TrialTask { set, .. } in &mut self.tasks {
                set.chunks.truncate(1);
                set.items.truncate(set.chunks.first().map_or(0, |chunk| chunk.items.end));
            }
        }
        self
    }

    /// What changes in each quantity that is asked for where a model is not in float32 but as it is: its name, and by how much. `exact` are
    /// its scores in float32, of [`Trial::scores`].
    pub(super) fn errors(&self, model: &Llama, exact: &Scores) -> Result<Vec<(String, ArithmeticError)>> {
        let ours = self.scores(model, false)?;
        let mut errors = Vec::new();
        for (task, (ours, exact)) in self.tasks.iter().zip(ours.iter().zip(exact)) {
            for metric in &task.metrics {
                let of = |scores: &[Vec<ItemScore>]| -> Vec<Vec<Contribution>> {
                    scores.iter().map(|items| metric.contributions(&task.set, items)).collect()
                };
                let error = ArithmeticError::of(*metric, &of(ours), &of(exact), task.all);
                errors.push((metric.on(&task.set.name), error));
            }
        }
        Ok(errors)
    }

    /// The items' scores on every task, as a model is or in the float32 that is beside it.
    pub(super) fn scores(&self, model: &Llama, float32: bool) -> Result<Scores> {
        let sets = self.tasks.iter().map(|task| EvalSet { float32, ..task.set.clone() });
        let exam = Exam { sets: sets.collect(), writer: Some(self.writer.clone()) };
        let mut evaluator =
            LocalEvaluator::start(std::slice::from_ref(model), exam, self.workers, 0, self.stop.clone());
        (0..self.tasks.len()).map(|set| self.scores_on(&mut evaluator, set)).collect()
    }

    /// The items' scores of each network that can be scored.
    fn scores_on(&self, evaluator: &mut LocalEvaluator, set: usize) -> Result<Vec<Vec<ItemScore>>> {
        let chunks = evaluator.sets()[set].chunks.len();
        let work = |chunk| Work { chunk: ChunkId { set, chunk }, genomes: self.networks.clone() };
        let mut scored: BTreeMap<(Genome, usize), Vec<ItemScore>> = BTreeMap::new();
        evaluator.evaluate((0..chunks).map(work).collect(), &mut |partial| {
            if let Outcome::Scored(items) = partial.outcome {
                scored.insert((partial.genome, partial.chunk.chunk), items);
            }
            Ok(())
        })?;
        let whole = |network: &Genome| {
            let chunks = (0..chunks).map(|chunk| scored.remove(&(network.clone(), chunk)));
            chunks.collect::<Option<Vec<_>>>().map(|chunks| chunks.concat())
        };
        Ok(self.networks.iter().filter_map(whole).collect())
    }
}
