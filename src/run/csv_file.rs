//! Tables and other files of a run directory: written whole, and missed with what to do.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use crate::error::{Error, Result};
use crate::output;

/// The file's bytes; one that is not there means a run that has not come so far.
pub(super) fn read(path: &Path, what: &str) -> Result<Vec<u8>> {
    fs::read(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => Error::Missing {
            what: what.into(),
            path: path.to_path_buf(),
            remedy: "a search writes it into its results directory; repeat the search's command to finish it".into(),
        },
        _ => Error::Io { path: path.to_path_buf(), cause: source },
    })
}

/// Writes a table atomically. A name that is there twice would be read as one, so it is refused.
pub(super) fn write_csv(path: &Path, names: &[String], rows: &[Vec<String>]) -> Result<()> {
    let mut known = HashSet::new();
    if let Some(name) = names.iter().find(|name| !known.insert(*name)) {
        return Err(Error::invalid(format!("columns of {}", path.display()), name, "a name only once"));
    }
    output::write_with(path, |file| {
        let mut writer = csv::Writer::from_writer(file);
        let written =
            std::iter::once(names).chain(rows.iter().map(Vec::as_slice)).try_for_each(|row| writer.write_record(row));
        written.map_err(|error| Error::io(path)(error.into()))?;
        writer.flush().map_err(Error::io(path))
    })
}
