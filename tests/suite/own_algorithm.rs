//! A search algorithm of a user's own drives a run: no file of the crate changes for it.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use criadero::run::{Experiment, Progress, mock_scorer};
use criadero::search::{Algorithm, AlgorithmKind, Beginning, Told, mutate};
use criadero::space::{Genome, SearchSpace};
use criadero::{Error, Result};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

/// Mutates the network with the best first objective.
struct HillClimber {
    space: SearchSpace,
    population: usize,
    rng: ChaCha8Rng,
    first: Vec<Genome>,
    best: Option<(f64, Genome)>,
}

const HILL_CLIMBER: AlgorithmKind = AlgorithmKind {
    name: "hill-climber",
    about: "mutates the best",
    frozen: |population| json!({ "name": "hill-climber", "population": population }),
    begin: |Beginning { space, population, first, seed, .. }| {
        let rng = ChaCha8Rng::seed_from_u64(seed);
        Ok(Box::new(HillClimber { space: space.clone(), population, rng, first, best: None }))
    },
};

impl Algorithm for HillClimber {
    fn ask(&mut self) -> Vec<Genome> {
        match &self.best {
            None => std::mem::take(&mut self.first),
            Some((_, best)) => {
                let child = |_| mutate(&self.space, best, 0.3, &mut self.rng);
                (0..self.population).map(child).collect()
            }
        }
    }

    fn tell(&mut self, genomes: &[Genome], results: &[Told]) {
        for (genome, told) in genomes.iter().zip(results) {
            let Some(score) = told.score() else { continue };
            if self.best.as_ref().is_none_or(|(best, _)| score[0] < *best) {
                self.best = Some((score[0], genome.clone()));
            }
        }
    }

    fn name(&self) -> &str {
        HILL_CLIMBER.name
    }

    fn state(&self) -> Value {
        json!({ "rng": self.rng, "best": self.best })
    }

    fn restore(&mut self, mut state: Value) -> Result<()> {
        let wrong = |error| Error::invalid("state", error, "a hill climber's");
        self.rng = serde_json::from_value(state["rng"].take()).map_err(wrong)?;
        self.best = serde_json::from_value(state["best"].take()).map_err(wrong)?;
        Ok(())
    }
}

/// Runs it; `stop_after` networks the user interrupts.
fn run(dir: &Path, stop_after: usize) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    let space = SearchSpace::open("tiny")?;
    let objectives = ["choice_nll:arc_easy", "params"];
    let experiment =
        Experiment { evals: 40, population: 8, algorithm: HILL_CLIMBER, ..Experiment::new("none", space, objectives) };
    let stop = Arc::new(AtomicBool::new(false));
    let scorer = mock_scorer(&experiment, [64, 64], Duration::ZERO, stop.clone())?;
    experiment.run(scorer, dir, &mut |progress| match progress {
        Progress::Population { evaluations, .. } if evaluations >= stop_after => stop.store(true, Ordering::Relaxed),
        Progress::Note(note) => notes.push(note),
        _ => {}
    })?;
    Ok(notes)
}

#[test]
fn an_algorithm_of_the_users_own_drives_a_run_and_resumes() {
    let [whole, stopped] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    run(whole.path(), usize::MAX).unwrap();
    assert!(matches!(run(stopped.path(), 16), Err(Error::Interrupted)));
    let state = fs::read_to_string(stopped.path().join("state.json")).unwrap();
    assert!(state.starts_with("{\"algorithm\":{\"hill-climber\":{\"rng\":"), "{state}");
    assert_eq!(run(stopped.path(), usize::MAX).unwrap(), [""; 0], "it goes on from its state");
    for name in ["run.json", "evaluations.csv", "front.csv", "front.json", "state.json"] {
        let read = |dir: &Path| fs::read_to_string(dir.join(name)).unwrap();
        assert_eq!(read(stopped.path()), read(whole.path()), "{name}");
    }
    let front = fs::read_to_string(whole.path().join("front.csv")).unwrap();
    assert!(front.lines().count() > 2, "{front}");
}

#[test]
fn a_state_of_another_algorithm_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), usize::MAX).unwrap();
    let path = dir.path().join("state.json");
    let state = fs::read_to_string(&path).unwrap().replace("\"hill-climber\":", "\"nsga2\":");
    // Without its seal, as older versions wrote it; a seal of other bytes makes it no state at all.
    let (unsealed, _) = state.rsplit_once(",\"seal\":").unwrap();
    fs::write(&path, format!("{unsealed}}}")).unwrap();
    let error = run(dir.path(), usize::MAX).unwrap_err().to_string();
    assert!(error.contains("found `nsga2`, expected `hill-climber`"), "{error}");
}
