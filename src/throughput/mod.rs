//! Measured throughput: timings of whole networks, and the tables that are fitted to them.

mod block_times;
mod measure;
mod table;
mod timing;

pub use block_times::BlockTimes;
pub use measure::{hardware, key_here, measure_table};
pub use table::{LatencyOptions, PhaseTable, TableKey, ThroughputTable};
pub use timing::Phase;
