//! Eval sets and evaluators: from items to scores of networks.

mod contribution;
mod eval_set;
mod evaluator;
mod metrics;
mod mock;
mod objective;
mod quantity;
mod scores;

#[cfg(feature = "torch")]
pub(crate) mod division;
#[cfg(feature = "torch")]
mod escalation;
#[cfg(feature = "torch")]
mod local;
#[cfg(feature = "torch")]
mod packing;
#[cfg(feature = "torch")]
mod prefix_cache;
#[cfg(feature = "torch")]
mod queue;
#[cfg(feature = "torch")]
pub mod trie;
#[cfg(feature = "torch")]
mod walk;
#[cfg(feature = "torch")]
mod worker;
#[cfg(feature = "torch")]
mod writing;

pub use contribution::Contribution;
pub use eval_set::{Chunk, EvalSet, PackedItem, PackingOptions};
pub use evaluator::{ChunkId, Evaluator, ItemScore, LostDevice, Outcome, Partial, Work};
pub use metrics::{Estimate, Metric};
pub use mock::MockEvaluator;
pub use objective::{Measured, Objective};
pub use scores::{NetworkScores, score};

#[cfg(feature = "torch")]
pub(crate) use contribution::{hit, likeliest, log_gold_share, per_character};
#[cfg(feature = "torch")]
pub use {
    escalation::{Answered, Escalation, shared_halves},
    local::{LocalEvaluator, Workers},
    packing::{pack_choices, pack_items, pack_task},
    prefix_cache::{PrefixCache, half_layers},
    walk::{KeptStates, Place, walk},
    worker::{Fault, Faults},
    writing::{Exam, WRITTEN_TOKENS, Writer},
};
