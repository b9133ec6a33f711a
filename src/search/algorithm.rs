//! Ask and tell: the seam between search algorithms and whoever evaluates.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::linas::{Linas, LinasState};
use super::nsga2::{Nsga2, Nsga2State};
use super::random::{RandomSearch, RandomState};
use super::surrogate::prediction::Prediction;
use crate::error::Result;
use crate::space::{Genome, SearchSpace};

/// What is told about one evaluated genome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// One value an objective, smaller is better; nothing when the evaluation failed. Values that are not all
    /// finite count as failed.
    pub objectives: Option<Vec<f64>>,
    /// By how much hard constraints are violated, 0 or less when they are met. Not finite counts as failed.
    pub violation: f64,
}

impl Told {
    /// The objectives of an evaluation that meets all constraints.
    pub fn feasible(objectives: impl Into<Vec<f64>>) -> Told {
        Told { objectives: Some(objectives.into()), violation: 0.0 }
    }

    /// An evaluation that gave no score.
    pub fn failed() -> Told {
        Told { objectives: None, violation: 0.0 }
    }

    /// The objectives, unless the evaluation failed.
    pub fn score(&self) -> Option<&[f64]> {
        let finite = |values: &&[f64]| values.iter().all(|value| value.is_finite()) && self.violation.is_finite();
        self.objectives.as_deref().filter(finite)
    }
}

/// What is known of a genome without measuring it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exact {
    /// One an objective, smaller is better; nothing for those that must be measured.
    pub losses: Vec<Option<f64>>,
    /// By how much hard constraints on such values are violated, 0 or less when they are met.
    pub violation: f64,
}

/// Gives what is known of any genome. Objectives are known for all genomes or for none.
pub type ClosedForm = Arc<dyn Fn(&Genome) -> Exact + Send + Sync>;

/// A search algorithm. The same seed, first population and scores give the same genomes, on any number of threads.
pub trait Algorithm: Send {
    /// The next population to evaluate: distinct genomes that were never asked for before. Fewer than the
    /// population size, or none, when the space holds no more that can be found.
    fn ask(&mut self) -> Vec<Genome>;

    /// Takes the results of a population, one for each genome; whatever has no counterpart is ignored. Genomes
    /// that were not asked for are welcome.
    fn tell(&mut self, genomes: &[Genome], results: &[Told]);

    /// Everything needed to go on: [`AlgorithmState::resume`] gives an algorithm that continues as this one does.
    fn state(&self) -> AlgorithmState;

    /// How good its predictions were so far, for those that predict.
    fn predictions(&self) -> &[Prediction] {
        &[]
    }
}

/// The state of any algorithm, as `state.json` stores it. The space is stored elsewhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AlgorithmState {
    /// Of [`Linas`].
    Linas(LinasState),
    /// Of [`Nsga2`].
    Nsga2(Nsga2State),
    /// Of [`RandomSearch`].
    Random(RandomState),
}

impl AlgorithmState {
    /// The algorithm that was in this state, over the space and with the closed form it was in.
    ///
    /// # Errors
    /// Settings out of range, in a file that something else wrote.
    pub fn resume(self, space: &SearchSpace, closed_form: &ClosedForm) -> Result<Box<dyn Algorithm>> {
        Ok(match self {
            AlgorithmState::Linas(state) => Box::new(Linas::resume(space, closed_form, state)?),
            AlgorithmState::Nsga2(state) => Box::new(Nsga2::resume(space, state)?),
            AlgorithmState::Random(state) => Box::new(RandomSearch::resume(space, state)?),
        })
    }
}

/// What was asked so far, and the first population until it is asked. Ordered, so that equal states are equal bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Asked {
    first: Vec<Genome>,
    all: BTreeSet<Genome>,
}

impl Asked {
    pub(super) fn starting_with(first: Vec<Genome>) -> Asked {
        let mut seen = BTreeSet::new();
        let first = first.into_iter().filter(|genome| seen.insert(genome.clone())).collect();
        Asked { first, all: BTreeSet::new() }
    }

    /// The first population, once, unless nothing of it is new.
    pub(super) fn take_first(&mut self) -> Option<Vec<Genome>> {
        let mut first = std::mem::take(&mut self.first);
        first.retain(|genome| self.note(genome));
        (!first.is_empty()).then_some(first)
    }

    /// Notes a genome; false when it was noted before.
    pub(super) fn note(&mut self, genome: &Genome) -> bool {
        !self.all.contains(genome) && self.all.insert(genome.clone())
    }

    /// Whether a genome was noted.
    pub(super) fn contains(&self, genome: &Genome) -> bool {
        self.all.contains(genome)
    }

    /// Moves those `candidates` that are new to `population`, until it holds `count`.
    pub(super) fn take_new(&mut self, population: &mut Vec<Genome>, candidates: Vec<Genome>, count: usize) {
        for genome in candidates {
            if population.len() < count && self.note(&genome) {
                population.push(genome);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::linas::LinasSettings;
    use super::super::nsga2::Nsga2Settings;
    use super::super::operators::Crossover;
    use super::*;

    const SPACE: &str = "
shape: { layers: 12, hidden: 64, heads: 4, kv_heads: 4, head_dim: 16, mlp: 128, vocab: 512 }
depth: [8, 10, 12]
heads: [0, 2, 4]
mlp: [0, 32, 64, 128]
bits: [4, 8, 16]
layers:
  0: { heads: [4] }
";

    /// Width against depth, with a failure and a violation now and then.
    fn score(genome: &Genome) -> Told {
        let width: u32 = genome.genes().iter().map(|gene| gene.mlp + gene.heads).sum();
        match width % 11 {
            0 => Told::failed(),
            1 => Told::feasible([f64::NAN, 0.0]),
            2 => Told { violation: 0.1, ..Told::feasible([f64::from(width), 1.0]) },
            _ => Told::feasible([f64::from(width) / 3.0, 1.0 / (1 + genome.depth()) as f64]),
        }
    }

    fn step(algorithm: &mut dyn Algorithm) -> Vec<Genome> {
        let genomes = algorithm.ask();
        let results: Vec<Told> = genomes.iter().map(score).collect();
        algorithm.tell(&genomes, &results);
        genomes
    }

    fn bytes(algorithm: &dyn Algorithm) -> String {
        serde_json::to_string(&algorithm.state()).unwrap()
    }

    /// The second objective of [`score`] is known.
    fn closed_form() -> ClosedForm {
        Arc::new(|genome| Exact { losses: vec![None, Some(1.0 / (1 + genome.depth()) as f64)], violation: 0.0 })
    }

    /// All algorithms, with populations of 16.
    fn all(space: &SearchSpace, seed: u64) -> [Box<dyn Algorithm>; 3] {
        let first = vec![space.largest(), space.smallest(), space.largest()];
        let settings = Nsga2Settings { crossover: Crossover::Uniform, ..Nsga2Settings::new(16) };
        let linas = LinasSettings { generations: 10, ..LinasSettings::new(16) };
        [
            Box::new(Linas::new(space, &closed_form(), linas, first.clone(), seed).unwrap()),
            Box::new(Nsga2::new(space, settings, first.clone(), seed).unwrap()),
            Box::new(RandomSearch::new(space, 16, first, seed).unwrap()),
        ]
    }

    #[test]
    fn asks_the_first_population_once_without_repeats() {
        let space = SearchSpace::from_yaml(SPACE).unwrap();
        for mut algorithm in all(&space, 1) {
            assert_eq!(step(&mut *algorithm), [space.largest(), space.smallest()]);
            let mut seen = BTreeSet::from([space.largest(), space.smallest()]);
            for _ in 0..20 {
                let genomes = step(&mut *algorithm);
                assert_eq!(genomes.len(), 16);
                assert!(genomes.iter().all(|genome| space.contains(genome)));
                assert!(genomes.into_iter().all(|genome| seen.insert(genome)), "nothing is asked twice");
            }
        }
    }

    #[test]
    fn goes_on_from_its_json_as_if_it_had_never_stopped() {
        let space = SearchSpace::from_yaml(SPACE).unwrap();
        for stop in 0..6 {
            for (mut whole, mut stopped) in all(&space, 3).into_iter().zip(all(&space, 3)) {
                (0..6).for_each(|_| drop(step(&mut *whole)));
                (0..stop).for_each(|_| drop(step(&mut *stopped)));
                let state: AlgorithmState = serde_json::from_str(&bytes(&*stopped)).unwrap();
                assert_eq!(state, stopped.state());
                let mut resumed = state.resume(&space, &closed_form()).unwrap();
                (stop..6).for_each(|_| drop(step(&mut *resumed)));
                assert_eq!(bytes(&*resumed), bytes(&*whole), "stopped after {stop} populations");
            }
        }
    }

    #[test]
    fn another_seed_is_another_search() {
        let space = SearchSpace::from_yaml(SPACE).unwrap();
        for (mut one, mut other) in all(&space, 1).into_iter().zip(all(&space, 2)) {
            assert_eq!(step(&mut *one), step(&mut *other), "the first population is given");
            assert_ne!(step(&mut *one), step(&mut *other));
        }
    }

    #[test]
    fn does_not_depend_on_the_number_of_threads() {
        let space = SearchSpace::from_yaml(SPACE).unwrap();
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                all(&space, 5).map(|mut algorithm| {
                    (0..6).for_each(|_| drop(step(&mut *algorithm)));
                    bytes(&*algorithm)
                })
            })
        };
        assert_eq!(run(1), run(4));
    }

    #[test]
    fn ends_when_the_space_is_exhausted() {
        // 2 depths; the layer that may go has 2 widths: 2 + 4 networks.
        let space = SearchSpace::from_yaml(
            "{ shape: { layers: 2, hidden: 64, heads: 4, kv_heads: 4, head_dim: 16, mlp: 128, vocab: 512 }, \
             depth: [1, 2], heads: [4], mlp: [64, 128] }",
        )
        .unwrap();
        for mut algorithm in all(&space, 1) {
            let mut seen = BTreeSet::new();
            for _ in 0..4 {
                seen.extend(step(&mut *algorithm));
            }
            assert_eq!(seen.len(), 6, "all were found");
            assert!(algorithm.ask().is_empty());
        }
    }

    #[test]
    fn rejects_a_state_that_cannot_be() {
        let space = SearchSpace::from_yaml(SPACE).unwrap();
        for algorithm in all(&space, 1) {
            let none = bytes(&*algorithm).replace("\"population\":16", "\"population\":0");
            let state: AlgorithmState = serde_json::from_str(&none).unwrap();
            let error = state.resume(&space, &closed_form()).err().unwrap().to_string();
            assert_eq!(error, "population size: found 0, expected at least 1");
        }
    }
}
