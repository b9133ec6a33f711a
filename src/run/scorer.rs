//! What scores the networks of a run, and what the run must know of it to be repeated.

use super::settings::{Frozen, RunTask};
use crate::eval::Evaluator;
use crate::search::Worth;
use crate::space::SearchSpace;

/// An evaluator whose eval sets are `TASK/search` and `TASK/held_out` of every task of the run.
pub struct Scorer {
    /// What it is called in `run.json`.
    pub name: String,
    /// The evaluator.
    pub evaluator: Box<dyn Evaluator>,
    /// The space of the experiment, its layers dropped in the order of the model's ranking.
    pub space: SearchSpace,
    /// BLAKE3 of the model; empty without one.
    pub model_digest: String,
    /// Device and kind of the weights.
    pub device: String,
    /// The tasks of all objectives and constraints.
    pub tasks: Vec<RunTask>,
    /// Measured or chosen once.
    pub frozen: Frozen,
    /// What the model's ranking says that networks are worth, where it was ranked.
    pub worth: Option<Worth>,
}
