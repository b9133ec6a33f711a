//! `timings.csv`: how long each population took. Times never go where bytes must repeat.

use std::path::Path;
use std::time::Duration;

use crate::error::Result;
use crate::output::Log;

/// Appends a population's row, below a header where the file is new.
pub(super) fn append(dir: &Path, population: usize, networks: usize, took: Duration) -> Result<()> {
    let (mut log, bytes) = Log::open(&dir.join("timings.csv"))?;
    let header = if bytes.is_empty() { "population,networks,seconds\n" } else { "" };
    let row = format!("{header}{population},{networks},{:.3}\n", took.as_secs_f64());
    log.append(row.as_bytes())
}
