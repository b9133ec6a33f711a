//! The search algorithms by name, with the settings that a run freezes.

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::search::linas::{Linas, LinasSettings};
use crate::search::nsga2::{Nsga2, Nsga2Settings};
use crate::search::operators::{Crossover, Mutation};
use crate::search::random::RandomSearch;
use crate::search::{Algorithm, ClosedForm, PredictorKind};
use crate::space::{Genome, SearchSpace};

/// Which algorithm.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum AlgorithmKind {
    /// NSGA-II.
    #[default]
    Nsga2,
    /// LINAS.
    Linas,
    /// Random search.
    Random,
}

/// How a first population is made beside the extremes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Start {
    /// Ladders of evenly narrowed networks.
    #[default]
    Ladders,
    /// The parent with one gene changed.
    Sensitivities,
}

/// An algorithm and what is not left to its defaults.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AlgorithmOptions {
    /// Which.
    pub kind: AlgorithmKind,
    /// What predicts the scores of LINAS.
    pub predictor: Option<PredictorKind>,
    /// First population.
    pub start: Start,
    /// Of algorithms that breed.
    pub crossover: Option<Crossover>,
    /// Of algorithms that breed.
    pub mutation: Option<Mutation>,
}

impl AlgorithmOptions {
    /// # Errors
    /// Options that the algorithm does not take.
    pub fn check(&self) -> Result<()> {
        if self.predictor.is_some() && self.kind != AlgorithmKind::Linas {
            let expected = "`--algorithm linas`; the other algorithms predict nothing";
            return Err(Error::invalid("--predictor", format!("{:?}", self.kind), expected));
        }
        if (self.crossover.is_some() || self.mutation.is_some()) && self.kind == AlgorithmKind::Random {
            let expected = "an algorithm that breeds; random search only draws";
            return Err(Error::invalid("--crossover or --mutation", "random", expected));
        }
        self.mutation().check()
    }

    fn crossover(&self) -> Crossover {
        self.crossover.unwrap_or_default()
    }

    fn mutation(&self) -> Mutation {
        self.mutation.unwrap_or_default()
    }

    fn linas(&self, population: usize) -> LinasSettings {
        let defaults = LinasSettings::new(population);
        let inner = self.nsga2(defaults.inner.population);
        LinasSettings { predictor: self.predictor.unwrap_or(defaults.predictor), inner, ..defaults }
    }

    fn nsga2(&self, population: usize) -> Nsga2Settings {
        Nsga2Settings { crossover: self.crossover(), mutation: self.mutation(), ..Nsga2Settings::new(population) }
    }

    /// What `run.json` keeps.
    pub fn frozen(&self, population: usize) -> Value {
        match self.kind {
            AlgorithmKind::Random => json!({ "name": "random", "population": population }),
            AlgorithmKind::Nsga2 => json!({
                "name": "nsga2",
                "population": population,
                "crossover": self.crossover(),
                "mutation": self.mutation(),
            }),
            AlgorithmKind::Linas => {
                let linas = self.linas(population);
                json!({
                    "name": "linas",
                    "population": population,
                    "predictor": linas.predictor,
                    "inner_generations": linas.generations,
                    "inner_population": linas.inner.population,
                    "explore": linas.explore,
                    "crossover": self.crossover(),
                    "mutation": self.mutation(),
                    "start": format!("{:?}", self.start).to_lowercase(),
                })
            }
        }
    }

    /// The algorithm at its start.
    pub fn begin(
        &self,
        space: &SearchSpace,
        closed_form: &ClosedForm,
        population: usize,
        first: Vec<Genome>,
        seed: u64,
    ) -> Result<Box<dyn Algorithm>> {
        Ok(match self.kind {
            AlgorithmKind::Random => Box::new(RandomSearch::new(space, population, first, seed)?),
            AlgorithmKind::Nsga2 => Box::new(Nsga2::new(space, self.nsga2(population), first, seed)?),
            AlgorithmKind::Linas => Box::new(Linas::new(space, closed_form, self.linas(population), first, seed)?),
        })
    }
}
