//! A row of a data file, and where it is.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use crate::error::Error;

/// One row of a data file.
#[derive(Clone, Debug)]
pub struct Row {
    /// Where it is.
    pub place: Place,
    /// An object.
    pub value: Value,
}

/// A row's file and its place in it, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The file.
    pub file: Arc<Path>,
    /// Where in the file.
    pub row: RowNumber,
}

/// A row's place in its file, as an editor or a table counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
