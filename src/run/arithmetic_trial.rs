//! A short trial of a faster arithmetic before a search: how fast it is here, and how far its scores are from float32's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::arithmetic_error::ArithmeticError;
use crate::error::Result;
use crate::eval::division::{self, Division};
use crate::eval::{
    ChunkId, Contribution, EvalSet, Evaluator, ItemScore, LocalEvaluator, Metric, Outcome, Work, Workers,
};
use crate::model::Llama;
use crate::space::Genome;

/// What a task's items say of an arithmetic.
pub(super) struct TrialTask {
    /// The first items of the search split, in small chunks.
    pub set: EvalSet,
    /// What is asked of them.
    pub metrics: Vec<Metric>,
    /// Items of the whole search split.
    pub all: usize,
}

/// A model in a faster arithmetic with itself in float32 beside it, and what both are tried on.
pub(super) struct Trial<'a> {
    pub model: &'a Llama,
    pub exact: &'a Llama,
    pub tasks: Vec<TrialTask>,
    pub networks: Vec<Genome>,
    pub workers: Workers,
    pub stop: &'a Arc<AtomicBool>,
}

impl Trial<'_> {
    /// How many times as fast as float32 two layers and the head of the parent are.
    pub(super) fn speed_up(&self, on_progress: &mut dyn FnMut(usize, usize)) -> Result<f64> {
        let packings = [(0, self.tasks[0].set.clone())];
        let mut speed = |model| {
            let measured = division::measure(model, &packings, &[self.workers], self.stop, on_progress)?;
            Ok::<f64, crate::Error>(measured.iter().map(|one: &Division| one.tokens_per_second).fold(0.0, f64::max))
        };
        Ok(speed(self.model)? / speed(self.exact)?)
    }

    /// What changes in each quantity that is asked for: its name, and by how much.
    pub(super) fn errors(&self) -> Result<Vec<(String, ArithmeticError)>> {
        let sets = || self.tasks.iter().map(|task| task.set.clone());
        let exact = |set| EvalSet { float32: true, ..set };
        let both = sets().chain(sets().map(exact)).collect();
        let model = std::slice::from_ref(self.model);
        let mut evaluator = LocalEvaluator::start(model, both, self.workers, 0, self.stop.clone());
        let mut errors = Vec::new();
        for (place, task) in self.tasks.iter().enumerate() {
            let ours = self.scores(&mut evaluator, place)?;
            let exact = self.scores(&mut evaluator, self.tasks.len() + place)?;
            for metric in &task.metrics {
                let of = |scores: &[Vec<ItemScore>]| -> Vec<Vec<Contribution>> {
                    scores.iter().map(|items| metric.contributions(&task.set, items)).collect()
                };
                let error = ArithmeticError::of(*metric, &of(&ours), &of(&exact), task.all);
                errors.push((metric.on(&task.set.name), error));
            }
        }
        Ok(errors)
    }

    /// The items' scores of each network that can be scored.
    fn scores(&self, evaluator: &mut LocalEvaluator, set: usize) -> Result<Vec<Vec<ItemScore>>> {
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
