//! Random search, the baseline: the same seeds, then genomes drawn gene by gene.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::algorithm::{Algorithm, AlgorithmState, Asked, Told};
use crate::error::{Error, Result};
use crate::space::{Genome, SearchSpace};

/// Rounds of drawing after which a population stays as it is.
pub(super) const ROUNDS: usize = 64;

/// The state of a [`RandomSearch`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomState {
    population: usize,
    rng: ChaCha8Rng,
    asked: Asked,
}

/// Asks for genomes drawn gene by gene, never the same twice.
#[derive(Clone, Debug)]
pub struct RandomSearch {
    space: SearchSpace,
    state: RandomState,
}

impl RandomSearch {
    /// A search that asks for `first`, then for `population` genomes at a time.
    ///
    /// # Errors
    /// A population of 0.
    pub fn new(space: &SearchSpace, population: usize, first: Vec<Genome>, seed: u64) -> Result<RandomSearch> {
        let rng = ChaCha8Rng::seed_from_u64(seed);
        RandomSearch::resume(space, RandomState { population, rng, asked: Asked::starting_with(first) })
    }

    /// The search that was in this state.
    ///
    /// # Errors
    /// A population of 0.
    pub fn resume(space: &SearchSpace, state: RandomState) -> Result<RandomSearch> {
        if state.population == 0 {
            return Err(Error::invalid("population size", 0, "at least 1"));
        }
        Ok(RandomSearch { space: space.clone(), state })
    }
}

impl Algorithm for RandomSearch {
    fn ask(&mut self) -> Vec<Genome> {
        let RandomState { population: count, rng, asked } = &mut self.state;
        asked.take_first().unwrap_or_else(|| {
            let mut population = Vec::new();
            draw(&self.space, rng, asked, &mut population, *count);
            population
        })
    }

    fn tell(&mut self, genomes: &[Genome], _: &[Told]) {
        for genome in genomes {
            self.state.asked.note(genome);
        }
    }

    fn state(&self) -> AlgorithmState {
        AlgorithmState::Random(self.state.clone())
    }
}

/// Tops a population up to `count` with genomes that were not asked before, as far as a bounded number of draws
/// finds them.
pub(super) fn draw(
    space: &SearchSpace,
    rng: &mut ChaCha8Rng,
    asked: &mut Asked,
    population: &mut Vec<Genome>,
    count: usize,
) {
    for _ in 0..ROUNDS {
        if population.len() >= count {
            break;
        }
        let drawn = (population.len()..count).map(|_| space.sample(rng)).collect();
        asked.take_new(population, drawn, count);
    }
}
