//! Measured throughput: timings of whole networks, and the tables that are fitted to them.

mod block_times;
mod phase;
mod table;

#[cfg(feature = "torch")]
mod measure;
#[cfg(feature = "torch")]
mod timing;

pub use block_times::BlockTimes;
pub use phase::Phase;
#[cfg(all(test, feature = "torch"))]
pub(crate) use table::tests::key as key_of_tests;
pub use table::{LatencyCheck, LatencyOptions, PhaseTable, TableKey, ThroughputTable};

#[cfg(feature = "torch")]
pub use measure::{hardware, key_here, measure_table};
#[cfg(feature = "torch")]
pub use timing::time_networks;
