//! One record of a training file: its fields, and where it is in the file.

use std::path::Path;
use std::sync::Arc;
use std::{fmt, fs};

use serde_json::Value;
use serde_json::value::RawValue;

use crate::error::{Error, Result};
use crate::task::{Dataset, Row};

/// What a training file is called in messages about it.
pub(super) const FORMAT: &str = "training data";

/// A record's fields and its place.
#[derive(Clone, Debug)]
pub struct Record {
    path: Arc<Path>,
    place: Place,
    fields: Value,
}

/// Where a record is, counted from 1.
#[derive(Clone, Copy, Debug)]
enum Place {
    Line(usize),
    Row(usize),
    Element { number: usize, line: usize },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Place::Line(line) => write!(f, "line {line}"),
            Place::Row(row) => write!(f, "row {row}"),
            Place::Element { number, line } => write!(f, "record {number}, line {line}"),
        }
    }
}

impl Record {
    /// Whether a file of this name holds records: JSON, JSON lines (also compressed), Parquet, Arrow.
    pub fn are_in(path: &Path) -> bool {
        matches!(extension(path).as_str(), "json" | "jsonl" | "gz" | "parquet" | "arrow")
    }

    /// All records of a file. A `.json` or `.jsonl` that begins with `[` is one array, any other has one record a line.
    pub fn read_all(path: &Path) -> Result<Vec<Record>> {
        let place = match extension(path).as_str() {
            "json" | "jsonl" => {
                let bytes = fs::read(path).map_err(Error::io(path))?;
                let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
                if bytes.trim_ascii_start().starts_with(b"[") {
                    return elements(path, bytes);
                }
                Place::Line
            }
            "gz" => Place::Line,
            _ => Place::Row,
        };
        let record =
            |row: Result<Row>| row.map(|row| Record { path: row.path, place: place(row.number), fields: row.value });
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
        Error::format(&self.path, FORMAT, format!("{}: {reason}", self.place))
    }
}

/// What a value is, for a message.
pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn extension(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase()
}

/// The records of a file that is one JSON array.
fn elements(path: &Path, bytes: &[u8]) -> Result<Vec<Record>> {
    let wrong = |error: serde_json::Error| Error::format(path, "JSON", error.to_string());
    let raw: Vec<&RawValue> = serde_json::from_slice(bytes).map_err(wrong)?;
    let path: Arc<Path> = Arc::from(path);
    let (mut read, mut line) = (0, 1);
    let mut records = Vec::with_capacity(raw.len());
    for (place, raw) in raw.into_iter().enumerate() {
        // An element borrows from the file's bytes, so the distance of both is its place in the file.
        let start = raw.get().as_ptr() as usize - bytes.as_ptr() as usize;
        line += bytes[read..start].iter().filter(|&&byte| byte == b'\n').count();
        read = start;
        let place = Place::Element { number: place + 1, line };
        let record = Record { path: path.clone(), place, fields: Value::Null };
        let fields: Value = serde_json::from_str(raw.get()).map_err(|error| record.error(error))?;
        if !fields.is_object() {
            return Err(record.error(format!("found {}, expected an object", kind_of(&fields))));
        }
        records.push(Record { fields, ..record });
    }
    Ok(records)
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    /// A record of these fields, in line 7 of `a.jsonl`.
    pub(in crate::tune) fn record(fields: Value) -> Record {
        Record { path: Arc::from(Path::new("a.jsonl")), place: Place::Line(7), fields }
    }

    fn read(name: &str, text: &str) -> Result<Vec<Record>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        Record::read_all(&path)
    }

    fn places(name: &str, text: &str) -> Vec<(String, Value)> {
        read(name, text).unwrap().into_iter().map(|record| (record.place.to_string(), record.fields)).collect()
    }

    #[test]
    fn arrays_and_lines_know_where_their_records_are() {
        let place = |place: &str, number: i64| (place.to_string(), json!({ "a": number }));
        let array = "\u{feff} [\n  {\"a\": 1}, {\"a\":\n 2},\n\n{\"a\": 3}]\n";
        let expected = [place("record 1, line 2", 1), place("record 2, line 2", 2), place("record 3, line 5", 3)];
        assert_eq!(places("a.json", array), expected);
        assert_eq!(places("a.JSONL", array), expected, "the content says that it is an array");
        let lines = "{\"a\": 1}\n\n{\"a\": 2}";
        assert_eq!(places("a.jsonl", lines), [place("line 1", 1), place("line 3", 2)]);
        assert_eq!(places("a.json", lines), [place("line 1", 1), place("line 3", 2)]);
        assert_eq!(places("a.json", "[]"), []);
        assert_eq!(places("a.json", ""), []);
    }

    #[test]
    fn rejects_text_that_is_not_json() {
        for (name, text, reason) in [
            ("a.json", "[{\"a\": 1},\n 2]", "a.json: not a valid training data file: record 2, line 2: found a number"),
            ("a.json", "[{\"a\": 1},\n {]", "a.json: not a valid JSON file: key must be a string at line 2 column 3"),
            ("a.json", "[{\"a\": \"\\ud800\"}]", "record 1, line 1: "),
            ("a.jsonl", "{}\nHello", "a.jsonl: not a valid JSON lines file: line 2: expected value"),
        ] {
            let error = read(name, text).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        assert!(Record::read_all(Path::new("nowhere.json")).unwrap_err().to_string().starts_with("nowhere.json: "));
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
