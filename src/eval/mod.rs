//! Eval sets and evaluators: from items to scores of networks.

mod contribution;
pub mod division;
pub mod evaluator;
pub mod local;
pub mod metrics;
pub mod mock;
pub mod objective;
pub mod packing;
pub mod prefix_cache;
mod quantity;
mod queue;
mod scores;
pub mod trie;
pub mod walk;
pub mod worker;

pub use contribution::Contribution;
pub use evaluator::{ChunkId, Evaluator, ItemScore, LostDevice, Outcome, Partial, Work};
pub use local::{LocalEvaluator, Workers};
pub use metrics::{Estimate, Metric};
pub use mock::MockEvaluator;
pub use objective::{Measured, Objective};
pub use packing::{EvalSet, PackedItem, PackingOptions};
pub use scores::{NetworkScores, score};
pub use worker::{Fault, Faults};
