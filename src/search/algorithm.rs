//! Ask and tell: the seam between search algorithms and whoever evaluates.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::surrogate::Prediction;
use crate::error::Result;
use crate::space::Genome;

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

    /// What it is called in `run.json` and `state.json`.
    fn name(&self) -> &str;

    /// Everything needed to go on, as `state.json` stores it. What it was begun with, such as the space, is stored elsewhere.
    fn state(&self) -> Value;

    /// Goes on from a state of this algorithm, begun over the same space, as the one that was in it would have.
    ///
    /// # Errors
    /// A state that no such algorithm was in.
    fn restore(&mut self, state: Value) -> Result<()>;

    /// Whether it can stand where it does after these results, all that it was told; `cut` where the last population
    /// was evaluated in part only. An algorithm that cannot tell says yes.
    fn can_follow(&self, _genomes: &[Genome], _results: &[Told], _cut: bool) -> bool {
        true
    }

    /// How good its predictions were so far, for those that predict.
    fn predictions(&self) -> &[Prediction] {
        &[]
    }
}
