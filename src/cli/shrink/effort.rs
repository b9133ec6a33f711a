//! How much a shrinking takes on: the sizes of its search, and what it may train.

use serde::{Deserialize, Serialize};

/// `--quick`, neither, or `--thorough`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effort {
    /// A first look.
    Quick,
    /// What is asked for by saying nothing.
    Moderate,
    /// What is worth a night.
    Thorough,
}

/// What an effort means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// Networks that the search evaluates.
    pub evals: usize,
    /// Networks of a population.
    pub population: usize,
    /// Items of each task that they are scored on.
    pub limit: usize,
    /// Items of each task that the result is measured on.
    pub held_out: usize,
    /// Most steps of fine-tuning; 0 does none.
    pub tune_steps: usize,
    /// Most steps of recovery; 0 does none.
    pub recover_steps: usize,
    /// Seconds that training leaves the whole within, where `--time` says nothing.
    pub seconds: f64,
}

impl Effort {
    /// What it means.
    pub fn terms(self) -> Terms {
        let [evals, population, limit, held_out, tune_steps, recover_steps, minutes] = match self {
            Effort::Quick => [56, 16, 64, 200, 0, 0, 20],
            Effort::Moderate => [128, 32, 200, 400, 140, 200, 120],
            Effort::Thorough => [400, 50, 400, 1000, 500, 1000, 720],
        };
        Terms { evals, population, limit, held_out, tune_steps, recover_steps, seconds: 60.0 * minutes as f64 }
    }
}
