//! A row of a data file, and where it is.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::error::Error;

/// One row of a data file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// Where it is.
    pub place: Place,
    /// An object.
    pub value: Value,
}

/// A row's file and its place in it, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Place {
    /// The file.
    #[serde(serialize_with = "write_path", deserialize_with = "read_path")]
    pub file: Arc<Path>,
    /// Where in the file.
    pub row: RowNumber,
}

/// A row's place in its file, as an editor or a table counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RowNumber {
    /// A line of text.
    Line(usize),
    /// A row of a table.
    Row(usize),
    /// An element of a JSON array, and the line it begins on.
    Record {
        /// The element.
        number: usize,
        /// The line.
        line: usize,
    },
}

fn write_path<S: Serializer>(path: &Arc<Path>, serializer: S) -> Result<S::Ok, S::Error> {
    path.serialize(serializer)
}

fn read_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<Path>, D::Error> {
    PathBuf::deserialize(deserializer).map(Arc::from)
}

impl fmt::Display for RowNumber {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            RowNumber::Line(line) => write!(f, "line {line}"),
            RowNumber::Row(row) => write!(f, "row {row}"),
            RowNumber::Record { number, line } => write!(f, "record {number}, line {line}"),
        }
    }
}

impl Place {
    /// An error about this row alone; `format` is what its file should be.
    pub fn error(&self, format: &'static str, reason: impl fmt::Display) -> Error {
        let reason = reason.to_string();
        Error::Row { path: self.file.to_path_buf(), format, place: self.row.to_string(), reason }
    }
}
