//! NSGA-II (Deb et al., "A fast and elitist multiobjective genetic algorithm: NSGA-II", 2002) for categorical genomes.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::algorithm::{Algorithm, Told};
use super::asked::{Asked, ROUNDS};
use super::kind::{AlgorithmKind, Beginning, restored};
use super::operators::Operators;
use super::scored::Scored;
use super::survival::{Standing, standings};
use crate::count::Population;
use crate::error::{Error, Result};
use crate::space::{Genome, SearchSpace};

/// NSGA-II by name.
pub const NSGA2: AlgorithmKind = AlgorithmKind {
    name: "nsga2",
    about: "NSGA-II: tournaments, crossover and mutation, survival by rank and crowding",
    frozen: |population| json!({ "name": "nsga2", "population": population }),
    begin: |Beginning { space, population, first, seed, .. }| {
        Ok(Box::new(Nsga2::new(space, Nsga2Settings::new(population), first, seed)?))
    },
};

/// How [`Nsga2`] breeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nsga2Settings {
    /// Genomes that survive a generation, and that are asked for in one.
    pub population: usize,
    /// Probability that a child has two parents; else it is a mutated copy of one.
    pub crossover_rate: f64,
}

impl Nsga2Settings {
    /// The customary settings for a population of this size.
    pub fn new(population: usize) -> Nsga2Settings {
        Nsga2Settings { population, crossover_rate: 0.9 }
    }

    /// # Errors
    /// A population of 0 or beyond a million, a rate that is no probability.
    pub fn check(&self) -> Result<()> {
        Population::check("population size", self.population)?;
        if !(0.0..=1.0).contains(&self.crossover_rate) {
            return Err(Error::invalid("crossover rate", self.crossover_rate, "a probability between 0 and 1"));
        }
        Ok(())
    }
}

/// The state of an [`Nsga2`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nsga2State {
    settings: Nsga2Settings,
    rng: ChaCha8Rng,
    asked: Asked,
    survivors: Vec<Scored>,
}

/// NSGA-II: binary tournaments on constraint violation, rank and crowding; crossover and mutation; survival of the
/// best of parents and children.
///
/// No genome is asked for twice in a run. Failed genomes never survive: there is nothing to breed towards in them.
#[derive(Clone)]
pub struct Nsga2 {
    space: SearchSpace,
    operators: Operators,
    state: Nsga2State,
}

impl Nsga2 {
    /// A search that asks for `first`, then breeds. An empty `first` is a random population. Genomes of `first`
    /// may lie outside the space; their descendants do not.
    ///
    /// # Errors
    /// A population of 0, a rate that is no probability.
    pub fn new(space: &SearchSpace, settings: Nsga2Settings, first: Vec<Genome>, seed: u64) -> Result<Nsga2> {
        let rng = ChaCha8Rng::seed_from_u64(seed);
        let asked = Asked::starting_with(first);
        Nsga2::resume(space, Nsga2State { settings, rng, asked, survivors: Vec::new() })
    }

    /// The search that was in this state.
    ///
    /// # Errors
    /// A population of 0, a rate that is no probability.
    pub fn resume(space: &SearchSpace, state: Nsga2State) -> Result<Nsga2> {
        state.settings.check()?;
        Ok(Nsga2 { space: space.clone(), operators: Operators::default(), state })
    }

    /// The same search with operators of the caller's own. They are no part of its state.
    pub fn with_operators(self, operators: Operators) -> Nsga2 {
        Nsga2 { operators, ..self }
    }

    /// The current population, best fronts first.
    pub fn survivors(&self) -> impl Iterator<Item = (&Genome, &[f64])> {
        self.state.survivors.iter().map(|survivor| (&survivor.genome, &survivor.objectives[..]))
    }

    /// A child, not necessarily a new one, that depends on nothing but the population and its own seed: so children
    /// can be bred on any number of threads.
    fn breed(&self, standings: &[Standing], seed: u64) -> Genome {
        let rng = &mut ChaCha8Rng::seed_from_u64(seed);
        let first = self.winner(standings, rng);
        let child = if rng.random_bool(self.state.settings.crossover_rate) {
            let second = self.winner(standings, rng);
            (self.operators.crossover)(&self.space, first, second, rng)
        } else {
            first.clone()
        };
        (self.operators.mutation)(&self.space, &child, rng)
    }

    /// The better of two random survivors; the first drawn of equals.
    fn winner(&self, standings: &[Standing], rng: &mut ChaCha8Rng) -> &Genome {
        let (first, second) = (rng.random_range(0..standings.len()), rng.random_range(0..standings.len()));
        let winner = if standings[second].beats(&standings[first]) { second } else { first };
        &self.state.survivors[winner].genome
    }
}

impl Algorithm for Nsga2 {
    fn ask(&mut self) -> Vec<Genome> {
        if let Some(first) = self.state.asked.take_first() {
            return first;
        }
        let count = self.state.settings.population;
        let mut population = Vec::with_capacity(count);
        let (points, violations) = Scored::columns(&self.state.survivors);
        let standings = standings(&points, &violations);
        let rounds = if standings.is_empty() { 0 } else { ROUNDS };
        for _ in 0..rounds {
            if population.len() == count {
                break;
            }
            let seeds: Vec<u64> = (population.len()..count).map(|_| self.state.rng.random()).collect();
            let children = seeds.into_par_iter().map(|seed| self.breed(&standings, seed)).collect();
            self.state.asked.take_new(&mut population, children, count);
        }
        self.state.asked.draw(&self.space, &mut self.state.rng, &mut population, count);
        population
    }

    fn tell(&mut self, genomes: &[Genome], results: &[Told]) {
        let Nsga2State { settings, asked, survivors, .. } = &mut self.state;
        for (genome, _) in genomes.iter().zip(results) {
            asked.note(genome);
        }
        Scored::learn(survivors, genomes, results);
        let (points, violations) = Scored::columns(survivors);
        let best = (self.operators.survival)(&points, &violations, settings.population);
        *survivors = best.into_iter().map(|survivor| survivors[survivor].clone()).collect();
    }

    fn name(&self) -> &str {
        NSGA2.name
    }

    fn state(&self) -> Value {
        json!(self.state)
    }

    fn can_follow(&self, genomes: &[Genome], results: &[Told], cut: bool) -> bool {
        self.state.asked.can_be(genomes, cut) && Scored::are_of(&self.state.survivors, genomes, results)
    }

    fn restore(&mut self, state: Value) -> Result<()> {
        let state: Nsga2State = restored(self.name(), state)?;
        state.settings.check()?;
        self.state = state;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space() -> SearchSpace {
        SearchSpace::from_yaml(
            "{ shape: { layers: 16, hidden: 64, heads: 4, kv_heads: 4, head_dim: 16, mlp: 128, vocab: 512 }, \
             depth: [16], heads: [4], mlp: [32, 64, 128] }",
        )
        .unwrap()
    }

    fn nsga2(population: usize) -> Nsga2 {
        Nsga2::new(&space(), Nsga2Settings::new(population), Vec::new(), 1).unwrap()
    }

    fn width(genome: &Genome) -> f64 {
        genome.genes().iter().map(|gene| f64::from(gene.mlp)).sum()
    }

    #[test]
    fn failed_genomes_never_survive() {
        let mut nsga2 = nsga2(8);
        let genomes = nsga2.ask();
        let mut results = vec![Told::failed(); 8];
        results[1] = Told::feasible([f64::INFINITY, 0.0]);
        results[2] = Told { violation: f64::NAN, ..Told::feasible([0.0, 0.0]) };
        nsga2.tell(&genomes, &results);
        assert_eq!(nsga2.survivors().count(), 0);
        let genomes = nsga2.ask();
        assert_eq!(genomes.len(), 8, "with nobody to breed from it draws at random");
        results[5] = Told::feasible([1.0, 1.0]);
        nsga2.tell(&genomes, &results);
        assert_eq!(nsga2.survivors().collect::<Vec<_>>(), [(&genomes[5], &[1.0, 1.0][..])]);
        assert_eq!(nsga2.ask().len(), 8, "one survivor is enough to breed from");
    }

    #[test]
    fn what_is_told_last_counts_and_gaps_are_ignored() {
        let mut nsga2 = nsga2(4);
        let genomes = nsga2.ask();
        nsga2.tell(&genomes, &[Told::feasible([1.0, 2.0]), Told::feasible([2.0, 1.0])]);
        nsga2.tell(&genomes[..1], &[Told::feasible([3.0, 3.0])]);
        assert_eq!(nsga2.survivors().collect::<Vec<_>>(), [(&genomes[1], &[2.0, 1.0][..]), (&genomes[0], &[3.0, 3.0])]);
        nsga2.tell(&genomes[..1], &[Told::feasible([0.5])]);
        nsga2.tell(&genomes, &[]);
        assert_eq!(nsga2.survivors().count(), 2, "an objective less is a bad value, no panic");
    }

    #[test]
    fn children_take_after_the_best() {
        let mut nsga2 = nsga2(20);
        for _ in 0..30 {
            let genomes = nsga2.ask();
            // Only networks of at most 800 channels are feasible; among them wide is good.
            let told = |genome: &Genome| Told {
                violation: width(genome) - 800.0,
                ..Told::feasible([-width(genome), -f64::from(genome.genes()[0].mlp)])
            };
            let results: Vec<Told> = genomes.iter().map(told).collect();
            nsga2.tell(&genomes, &results);
        }
        let best = nsga2.survivors().next().unwrap().0;
        assert_eq!(width(best), 800.0, "{best}");
        assert_eq!(best.genes()[0].mlp, 128);
    }

    #[test]
    fn rejects_settings_out_of_range() {
        let good = Nsga2Settings::new(10);
        for (settings, message) in [
            (Nsga2Settings::new(0), "population size: found 0, expected a number from 1 to 1000000"),
            (
                Nsga2Settings { crossover_rate: 1.5, ..good.clone() },
                "crossover rate: found 1.5, expected a probability between 0 and 1",
            ),
        ] {
            assert_eq!(Nsga2::new(&space(), settings, Vec::new(), 1).err().unwrap().to_string(), message);
        }
    }
}
