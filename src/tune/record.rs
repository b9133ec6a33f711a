//! One record of a training file: its fields, and where it is in the file.

use std::fmt;
use std::path::Path;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::task::{Dataset, Place, Row, kind_of};

/// What a training file is called in messages about it.
pub(super) const FORMAT: &str = "training data";

/// A record's fields and its place.
#[derive(Clone, Debug)]
pub struct Record {
    place: Place,
    fields: Value,
}

impl Record {
    /// Whether a file of this name holds records: JSON, JSON lines (also compressed), Parquet, Arrow.
    pub fn are_in(path: &Path) -> bool {
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        matches!(extension.as_str(), "json" | "jsonl" | "gz" | "parquet" | "arrow")
    }

    /// All records of a file, or what is wrong with one of them.
    pub fn read_all(path: &Path) -> Vec<Result<Record>> {
        let record = |row: Result<Row>| row.map(|row| Record { place: row.place, fields: row.value });
        Dataset::file(path).rows().map(record).collect()
    }

    /// Whether there is a field of this name.
    pub fn has(&self, field: &str) -> bool {
        self.fields.get(field).is_some()
    }

    /// A field's value, where there is one that is not null.
    pub fn value(&self, field: &str) -> Option<&Value> {
        self.fields.get(field).filter(|value| !value.is_null())
    }

    /// A field that must be text.
    pub fn text(&self, field: &str) -> Result<&str> {
        match self.fields.get(field) {
            Some(Value::String(text)) => Ok(text),
            Some(other) => Err(self.error(format!("`{field}`: found {}, expected text", kind_of(other)))),
            None => Err(self.error(format!("found {}, expected `{field}`", self.names()))),
        }
    }

    /// A field that must be text, or null, or not there; nothing is empty text.
    pub fn optional_text(&self, field: &str) -> Result<&str> {
        match self.value(field) {
            Some(_) => self.text(field),
            None => Ok(""),
        }
    }

    /// The fields' names for a message, not too many.
    pub fn names(&self) -> String {
        const SHOWN: usize = 12;
        let fields = self.fields.as_object().into_iter().flatten();
        let names: Vec<String> = fields.map(|(name, _)| format!("`{name}`")).collect();
        match names.len() {
            0 => "no fields".to_string(),
            1..=SHOWN => names.join(", "),
            count => format!("{} and {} more", names[..SHOWN].join(", "), count - SHOWN),
        }
    }

    /// An error about this record.
    pub fn error(&self, reason: impl fmt::Display) -> Error {
        self.place.error(FORMAT, reason)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::task::RowNumber;

    /// A record of these fields, in line 7 of `a.jsonl`.
    pub(in crate::tune) fn record(fields: Value) -> Record {
        Record { place: Place { file: Arc::from(Path::new("a.jsonl")), row: RowNumber::Line(7) }, fields }
    }

    #[test]
    fn errors_name_the_fields_that_are_there() {
        let error = record(json!({ "prompt": "a", "answer": "b" })).text("text").unwrap_err().to_string();
        assert!(error.ends_with("line 7: found `prompt`, `answer`, expected `text`"), "{error}");
        let many: serde_json::Map<String, Value> = (0..14).map(|number| (number.to_string(), json!(0))).collect();
        assert!(record(Value::Object(many)).names().ends_with("`11` and 2 more"));
        assert_eq!(record(json!({})).names(), "no fields");
        assert_eq!(record(json!({ "a": null })).optional_text("a").unwrap(), "");
    }
}
