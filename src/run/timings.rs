//! `timings.csv`: how long each population took. Times never go where bytes must repeat.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use crate::error::{Error, Result};

/// Appends a population's row, below a header where the file is new.
pub(super) fn append(dir: &Path, population: usize, networks: usize, took: Duration) -> Result<()> {
    let path = dir.join("timings.csv");
    let header = if path.exists() { "" } else { "population,networks,seconds\n" };
    let mut file = OpenOptions::new().append(true).create(true).open(&path).map_err(Error::io(&path))?;
    let row = format!("{header}{population},{networks},{:.3}\n", took.as_secs_f64());
    file.write_all(row.as_bytes()).map_err(Error::io(&path))
}
