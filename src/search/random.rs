//! Random search, the baseline: the same seeds, then genomes drawn gene by gene.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::algorithm::{Algorithm, Told};
use super::asked::Asked;
use super::kind::{AlgorithmKind, Beginning, restored};
use crate::count::Population;
use crate::error::Result;
use crate::space::{Genome, SearchSpace};

/// Random search by name.
pub const RANDOM: AlgorithmKind = AlgorithmKind {
    name: "random",
    about: "random search, the baseline",
    frozen: |population| json!({ "name": "random", "population": population }),
    begin: |Beginning { space, population, first, seed, .. }| {
        Ok(Box::new(RandomSearch::new(space, population, first, seed)?))
    },
};

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
        state.check()?;
        Ok(RandomSearch { space: space.clone(), state })
    }
}

impl RandomState {
    fn check(&self) -> Result<()> {
        Population::check("population size", self.population)
    }
}

impl Algorithm for RandomSearch {
    fn ask(&mut self) -> Vec<Genome> {
        let RandomState { population: count, rng, asked } = &mut self.state;
        asked.take_first().unwrap_or_else(|| {
            let mut population = Vec::new();
            asked.draw(&self.space, rng, &mut population, *count);
            population
        })
    }

    fn tell(&mut self, genomes: &[Genome], _: &[Told]) {
        for genome in genomes {
            self.state.asked.note(genome);
        }
    }

    fn can_follow(&self, genomes: &[Genome], _: &[Told], cut: bool) -> bool {
        self.state.asked.can_be(genomes, cut)
    }

    fn name(&self) -> &str {
        RANDOM.name
    }

    fn state(&self) -> Value {
        json!(self.state)
    }

    fn restore(&mut self, state: Value) -> Result<()> {
        let state: RandomState = restored(self.name(), state)?;
        state.check()?;
        self.state = state;
        Ok(())
    }
}
