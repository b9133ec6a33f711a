//! Tasks, eval sets and evaluators: from question files to scores of networks.

pub mod dataset;
pub mod item;
pub mod question;
pub mod shipped;
pub mod task;
pub mod task_file;
pub mod template;

pub mod block_times;
pub mod calibration;
pub mod evaluator;
pub mod latency;
pub mod local;
pub mod metrics;
pub mod mock;
pub mod objective;
pub mod packing;
pub mod population;
pub mod prefix_cache;
pub mod timing;
pub mod trie;
pub mod worker;

pub use evaluator::{ChunkId, Evaluator, ItemScore, Outcome, Partial, Work};
pub use item::{Item, Request, Scoring, Split};
pub use local::{LocalEvaluator, Workers};
pub use metrics::{Contribution, Estimate, Metric};
pub use mock::MockEvaluator;
pub use objective::{Measured, Objective};
pub use packing::{EvalSet, PackedItem, PackingOptions};
pub use task::Task;
pub use worker::{Fault, Faults, LostDevice};
