//! A scorer without a model, for trying a search and for tests.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::experiment::Experiment;
use super::scorer::Scorer;
use super::settings::{Frozen, RunTask};
use crate::error::Result;
use crate::eval::{Evaluator, MockEvaluator, PackingOptions};

/// Accuracy of guessing on a mock task, whose items have four choices.
const CHANCE: f64 = 0.25;

/// Scores without a model, each network on each chunk after `delay`: tasks of so many search and held-out items.
///
/// # Errors
/// Unknown objectives, and none that scores a task.
pub fn mock_scorer(
    experiment: &Experiment,
    items: [usize; 2],
    delay: Duration,
    stop: Arc<AtomicBool>,
) -> Result<Scorer> {
    let names: Vec<String> = experiment.tasks()?.into_iter().map(|(name, _)| name).collect();
    let sets: Vec<(String, usize)> =
        names.iter().flat_map(|name| RunTask::set_names(name).into_iter().zip(items)).collect();
    let evaluator = MockEvaluator::new(*experiment.space.shape(), &sets, delay, stop);
    let pairs = names.iter().zip(evaluator.sets().chunks_exact(2));
    let tasks = pairs.map(|(name, sets)| RunTask::new(name, [&sets[0], &sets[1]], CHANCE)).collect();
    Ok(Scorer {
        name: "mock".to_string(),
        space: experiment.space.clone(),
        model_digest: String::new(),
        device: "none".to_string(),
        tasks,
        frozen: Frozen {
            packing: PackingOptions { chunk_tokens: 0, max_length: 0 },
            workers: 1,
            threads: 1,
            throughput: None,
        },
        importance: None,
        evaluator: Box::new(evaluator),
    })
}
