//! All search algorithms. Adding one is a file, and a row here.

use super::kind::AlgorithmKind;
use super::linas::LINAS;
use super::nsga2::NSGA2;
use super::random::RANDOM;
use crate::error::{Error, Result};

/// One row an algorithm; the first is the default.
pub const ALGORITHMS: [AlgorithmKind; 3] = [LINAS, NSGA2, RANDOM];

/// The algorithm of this name.
///
/// # Errors
/// `Unknown`, with all names.
pub fn algorithm_named(name: &str) -> Result<AlgorithmKind> {
    let known = || ALGORITHMS.iter().map(|kind| kind.name);
    let found = ALGORITHMS.iter().find(|kind| kind.name == name).copied();
    found.ok_or_else(|| Error::unknown("algorithm", name, known()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use serde_json::json;

    use super::super::algorithm::{Algorithm, ClosedForm, Exact, Told};
    use super::super::kind::Beginning;
    use super::super::linas::Linas;
    use super::super::linas::LinasSettings;
    use super::super::nsga2::{Nsga2, Nsga2Settings};
    use super::super::random::RandomSearch;
    use super::*;
    use crate::space::{Genome, SearchSpace};

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
        let linas = LinasSettings { generations: 10, ..LinasSettings::new(16) };
        [
            Box::new(Linas::new(space, &closed_form(), linas, first.clone(), seed).unwrap()),
            Box::new(Nsga2::new(space, Nsga2Settings::new(16), first.clone(), seed).unwrap()),
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
                let state = serde_json::from_str(&bytes(&*stopped)).unwrap();
                assert_eq!(state, stopped.state());
                // Begun otherwise: the state says all.
                let mut resumed = all(&space, 7).into_iter().find(|other| other.name() == stopped.name()).unwrap();
                resumed.restore(state).unwrap();
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
            let state = serde_json::from_str(&none).unwrap();
            let mut resumed = all(&space, 1).into_iter().find(|other| other.name() == algorithm.name()).unwrap();
            let error = resumed.restore(state).unwrap_err().to_string();
            assert_eq!(error, "population size: found 0, expected a number from 1 to 1000000");
            let error = resumed.restore(json!({ "population": [] })).unwrap_err().to_string();
            assert!(error.contains(&format!("a state of `{}`", algorithm.name())), "{error}");
        }
    }

    #[test]
    fn every_row_begins_the_algorithm_of_its_name() {
        let space = SearchSpace::from_yaml(SPACE).unwrap();
        for kind in &ALGORITHMS {
            assert_eq!(algorithm_named(kind.name).unwrap().name, kind.name);
            let frozen = (kind.frozen)(16);
            assert_eq!((&frozen["name"], &frozen["population"]), (&json!(kind.name), &json!(16)));
            let closed_form = &closed_form();
            let first = vec![space.largest()];
            let beginning = Beginning { space: &space, closed_form, population: 16, worth: None, first, seed: 1 };
            let mut algorithm = (kind.begin)(beginning).unwrap();
            assert_eq!(step(&mut *algorithm), [space.largest()]);
            assert_eq!(algorithm.name(), kind.name);
        }
        let error = algorithm_named("annealing").unwrap_err().to_string();
        assert_eq!(error, "unknown algorithm `annealing`; known: linas, nsga2, random");
    }
}
