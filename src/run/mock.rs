//! A scorer without a model, for trying a search and for tests.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::experiment::Experiment;
use super::scorer::Scorer;
use super::settings::{Frozen, MOCK, RunTask};
use crate::arithmetic::Arithmetic;
use crate::error::Result;
use crate::eval::{Evaluator, MockEvaluator, PackingOptions};
use crate::task::LeftOut;

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
    let (evaluator, tasks) = mock_evaluator(experiment, items, delay, stop)?;
    Ok(Scorer {
        name: MOCK.to_string(),
        space: experiment.space.clone(),
        model_digest: String::new(),
        device: "none".to_string(),
        tasks,
        frozen: Frozen {
            arithmetic: Arithmetic::F32,
            packing: PackingOptions { chunk_tokens: 1, max_length: 1 },
            workers: 1,
            threads: 1,
            machine: String::new(),
            throughput: None,
        },
        worth: None,
        evaluator: Box::new(evaluator),
    })
}

/// The evaluator alone, and the tasks that it makes up.
///
/// # Errors
/// As [`mock_scorer`].
pub fn mock_evaluator(
    experiment: &Experiment,
    items: [usize; 2],
    delay: Duration,
    stop: Arc<AtomicBool>,
) -> Result<(MockEvaluator, Vec<RunTask>)> {
    let names: Vec<String> = experiment.tasks()?.into_iter().map(|(name, _)| name).collect();
    let sets: Vec<(String, usize)> =
        names.iter().flat_map(|name| RunTask::set_names(name).into_iter().zip(items)).collect();
    let evaluator = MockEvaluator::new(*experiment.space.shape(), &sets, delay, stop);
    let pairs = names.iter().zip(evaluator.sets().chunks_exact(2));
    let tasks =
        pairs.map(|(name, sets)| RunTask::new(name, [&sets[0], &sets[1]], CHANCE, LeftOut::default())).collect();
    Ok((evaluator, tasks))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::error::Error;
    use crate::run::{Front, Pick, Progress};
    use crate::search::algorithm_named;
    use crate::space::SearchSpace;

    fn search(dir: &Path, stop_after: usize) -> Result<Front> {
        let space = SearchSpace::open("tiny")?;
        let experiment =
            Experiment { evals: 30, population: 10, ..Experiment::new("none", space, ["choice_nll:t", "params"]) };
        let stop = Arc::new(AtomicBool::new(false));
        let scorer = mock_scorer(&experiment, [64, 64], Duration::ZERO, stop.clone())?;
        experiment.run(scorer, dir, &mut |progress| match progress {
            Progress::Population { evaluations, .. } if evaluations >= stop_after => {
                stop.store(true, Ordering::Relaxed)
            }
            _ => {}
        })
    }

    /// What is left, as it was expected and as it was, in scores.
    #[test]
    fn half_way_through_the_rest_is_known_to_a_third() {
        let space = SearchSpace::open("tiny").unwrap();
        let experiment =
            Experiment { evals: 80, population: 10, ..Experiment::new("none", space, ["choice_nll:t", "params"]) };
        let experiment = Experiment { algorithm: algorithm_named("nsga2").unwrap(), ..experiment };
        let scorer = mock_scorer(&experiment, [128, 128], Duration::ZERO, Arc::default()).unwrap();
        let mut all = Vec::new();
        let dir = tempfile::tempdir().unwrap();
        let on_progress =
            &mut |progress| all.extend(if let Progress::Scored(headway) = progress { Some(headway) } else { None });
        let front = experiment.run(scorer, dir.path(), on_progress).unwrap();
        let end = all.last().unwrap();
        assert_eq!((end.count, end.of, end.left), (front.points.len(), front.points.len(), 0.0));
        assert!(all.iter().filter(|now| now.of == 80).map(|now| now.count).is_sorted());
        for half in all.iter().filter(|now| now.of == 80 && (40..60).contains(&now.count)) {
            let left = end.done - half.done;
            assert!((half.left / left - 1.0).abs() < 0.34, "{half:?}: {left} were left");
        }
    }

    #[test]
    fn a_whole_run_needs_no_model_and_resumes_with_the_same_bytes() {
        let [whole, stopped] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let front = search(whole.path(), usize::MAX).unwrap();
        assert!(front.points.len() > 2 && "knee".parse::<Pick>().unwrap().choose(&front).is_ok());
        assert!(matches!(search(stopped.path(), 20), Err(Error::Interrupted)));
        assert_eq!(search(stopped.path(), usize::MAX).unwrap(), front);
        for name in ["run.json", "evaluations.csv", "front.csv", "state.json"] {
            let read = |dir: &Path| std::fs::read(dir.join(name)).unwrap();
            assert_eq!(read(whole.path()), read(stopped.path()), "{name}");
        }
    }
}
