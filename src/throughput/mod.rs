//! Measured throughput: timings of whole networks, and the tables that are fitted to them.

mod block_times;
mod table;
mod timing;

pub use block_times::BlockTimes;
pub use table::{LatencyOptions, PhaseTable, TableKey, ThroughputTable, processor, space_digest};
pub use timing::Phase;
