//! What a search asked for so far, so that nothing is asked for twice.

use std::collections::BTreeSet;

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::space::{Genome, SearchSpace};

/// Rounds of drawing or breeding after which a population stays as it is.
pub const ROUNDS: usize = 64;

/// What was asked so far, and the first population until it is asked. Ordered, so that equal states are equal bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    first: Vec<Genome>,
    all: BTreeSet<Genome>,
}

impl Asked {
    /// Nothing yet, with a first population to come, each genome once.
    pub fn starting_with(first: Vec<Genome>) -> Asked {
        let mut seen = BTreeSet::new();
        let first = first.into_iter().filter(|genome| seen.insert(genome.clone())).collect();
        Asked { first, all: BTreeSet::new() }
    }

    /// The first population, once, unless nothing of it is new.
    pub fn take_first(&mut self) -> Option<Vec<Genome>> {
        let mut first = std::mem::take(&mut self.first);
        first.retain(|genome| self.note(genome));
        (!first.is_empty()).then_some(first)
    }

    /// Notes a genome; false when it was noted before.
    pub fn note(&mut self, genome: &Genome) -> bool {
        !self.all.contains(genome) && self.all.insert(genome.clone())
    }

    /// Whether these genomes can be all that was asked for and evaluated; `cut` where not all of what was asked for was.
    pub fn can_be(&self, genomes: &[Genome], cut: bool) -> bool {
        let distinct: BTreeSet<&Genome> = genomes.iter().collect();
        let asked_once = distinct.len() == genomes.len() && genomes.iter().all(|genome| self.contains(genome));
        asked_once && (cut || genomes.len() == self.count()) && (genomes.is_empty() || self.first.is_empty())
    }

    /// How many genomes were noted.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// Whether a genome was noted.
    pub fn contains(&self, genome: &Genome) -> bool {
        self.all.contains(genome)
    }

    /// Moves those `candidates` that are new to `population`, until it holds `count`.
    pub fn take_new(&mut self, population: &mut Vec<Genome>, candidates: Vec<Genome>, count: usize) {
        for genome in candidates {
            if population.len() < count && self.note(&genome) {
                population.push(genome);
            }
        }
    }

    /// Tops a population up to `count` with genomes that were not asked before, as far as a bounded number of draws
    /// finds them.
    pub fn draw(&mut self, space: &SearchSpace, rng: &mut ChaCha8Rng, population: &mut Vec<Genome>, count: usize) {
        for _ in 0..ROUNDS {
            if population.len() >= count {
                break;
            }
            let drawn = (population.len()..count).map(|_| space.sample(rng)).collect();
            self.take_new(population, drawn, count);
        }
    }
}
