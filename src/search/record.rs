//! What a run leaves behind, as plain values: the rows of `evaluations.csv` and the content of `front.json`.

use serde::{Deserialize, Serialize};

use crate::space::{Genome, ModelShape};

/// An objective as a column: its name, unit and direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// The name the user gave, such as `choice_nll:arc_easy`.
    pub name: String,
    /// Its unit, such as `nats per item`.
    pub unit: String,
    /// Whether larger values are better.
    pub maximize: bool,
}

/// One evaluated network: a row of `evaluations.csv`. Values are as the user reads them (not negated).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Place in ask order, from 0.
    pub id: usize,
    /// The population it was asked in, from 0.
    pub population: usize,
    /// The network.
    pub genome: Genome,
    /// One value an objective, on the search split; empty when it failed.
    pub objectives: Vec<f64>,
    /// Hard-constraint violation, 0 when feasible.
    pub violation: f64,
    /// Accuracy on the search split, one value a task, from the same forward pass.
    pub search_accuracy: Vec<f64>,
    /// Why it has no score.
    pub failed: Option<String>,
}

/// A score on held-out items beside the parent's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeldOut {
    /// The metric and task, such as `accuracy:arc_easy`.
    pub name: String,
    /// Items it is the mean of.
    pub items: usize,
    /// The score.
    pub value: f64,
    /// Its standard error.
    pub stderr: f64,
    /// Paired difference to the parent on the same items.
    pub delta: f64,
    /// Standard error of that difference.
    pub delta_stderr: f64,
}

/// One network of the front.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FrontPoint {
    /// Its row in `evaluations.csv`.
    pub id: usize,
    /// The network.
    pub genome: Genome,
    /// One value an objective, on the search split.
    pub objectives: Vec<f64>,
    /// Parameters of the mathematical network.
    pub params: u64,
    /// Bytes of the GGUF it exports to, fillers included.
    pub weight_bytes: u64,
    /// Prefill throughput in tokens per second, where a table was measured.
    pub prefill_tps: Option<f64>,
    /// Scores on the held-out split: accuracy of each task first, then the objectives' own metrics.
    pub held_out: Vec<HeldOut>,
    /// Whether another point of the front dominates it on the held-out scores.
    pub dominated_on_held_out: bool,
}

/// The content of `front.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Front {
    /// Parent's sizes.
    pub shape: ModelShape,
    /// The model's name as the user gave it.
    pub model: String,
    /// What was optimised.
    pub objectives: Vec<Column>,
    /// The parent, measured like every point.
    pub parent: FrontPoint,
    /// Non-dominated networks of the search split, by the first size-like objective ascending.
    pub points: Vec<FrontPoint>,
    /// Accuracy of guessing, one value a task, in the order of `held_out`'s accuracies.
    pub chance: Vec<f64>,
    /// Normalised hypervolume of the held-out scores (reference: accuracy = chance, size = 1.05 x parent).
    pub hypervolume: f64,
    /// Networks evaluated.
    pub evaluations: usize,
}
