//! Tasks, eval sets and evaluators: from question files to scores of networks.

pub mod dataset;
pub mod evaluator;
pub mod item;
pub mod latency;
pub mod local;
pub mod metrics;
pub mod mock;
pub mod objective;
pub mod packing;
pub mod population;
pub mod task;

pub use evaluator::{ChunkId, Evaluator, ItemScore, Outcome, Partial, Work};
pub use local::{LocalEvaluator, Workers};
pub use metrics::{Contribution, Estimate, Metric};
pub use mock::MockEvaluator;
pub use objective::{Measured, Objective};
pub use packing::{EvalSet, PackedItem, PackingOptions};
