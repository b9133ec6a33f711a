//! Rows of a text file: one JSON object a line, or all of them in one array.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::string_slice, clippy::cast_possible_truncation, clippy::cast_sign_loss)
)]

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use serde_json::value::RawValue;

use super::row::{Place, Row, RowNumber};
use crate::error::{Error, Result};

/// The most bytes of a row, as JSON: a compressed file of a few can claim any number.
pub const MAX_ROW: u64 = 1 << 24;
/// The longest array read from a text file: a guard against a compressed bomb.
const MAX_ARRAY: u64 = 1 << 33;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// Rows of a text: of an array where its first character is `[`, of lines otherwise.
pub fn json_rows(path: Arc<Path>, source: impl Read + 'static) -> Result<Box<dyn Iterator<Item = Result<Row>>>> {
    let mut reader = BufReader::with_capacity(1 << 16, source);
    let start = reader.fill_buf().map_err(|error| Error::format(&path, "JSON lines", error.to_string()))?;
    let start = start.strip_prefix(BOM).unwrap_or(start).trim_ascii_start();
    if start.starts_with(b"[") { array(path, reader) } else { Ok(Box::new(lines(path, reader))) }
}

/// Rows of a text with one JSON object a line; blank lines are skipped. A line that is no object is an error of its own.
fn lines(path: Arc<Path>, mut reader: impl BufRead) -> impl Iterator<Item = Result<Row>> {
    let mut number = 0;
    let mut line = Vec::new();
    let mut failed = false;
    std::iter::from_fn(move || {
        while !failed {
            line.clear();
            number += 1;
            let place = || Place { file: path.clone(), row: RowNumber::Line(number) };
            match reader.by_ref().take(MAX_ROW).read_until(b'\n', &mut line) {
                Ok(0) => return None,
                Ok(read) if read as u64 == MAX_ROW && line.last() != Some(&b'\n') => {
                    failed = true;
                    let reason = format!("line {number}: found {MAX_ROW} bytes without a line end, expected less");
                    return Some(Err(Error::format(&path, "JSON lines", reason)));
                }
                Ok(_) => {}
                Err(error) => {
                    failed = true;
                    return Some(Err(Error::format(&path, "JSON lines", format!("line {number}: {error}"))));
                }
            }
            let text = line.strip_prefix(BOM).unwrap_or(&line).trim_ascii();
            if !text.is_empty() {
                return Some(object(place(), "JSON lines", text));
            }
        }
        None
    })
}

/// Rows of a text that is one JSON array. An element that is no object is an error of its own.
fn array(path: Arc<Path>, reader: impl Read) -> Result<Box<dyn Iterator<Item = Result<Row>>>> {
    let wrong = |reason: String| Error::format(&path, "JSON", reason);
    let mut bytes = Vec::new();
    reader.take(MAX_ARRAY).read_to_end(&mut bytes).map_err(|error| wrong(error.to_string()))?;
    if bytes.len() as u64 == MAX_ARRAY {
        return Err(wrong(format!(
            "found an array of {MAX_ARRAY} bytes or more, expected less; write one object a line"
        )));
    }
    let bytes = bytes.strip_prefix(BOM).unwrap_or(&bytes);
    let elements: Vec<&RawValue> = serde_json::from_slice(bytes).map_err(|error| wrong(error.to_string()))?;
    let (mut read, mut line) = (0, 1);
    let mut rows = Vec::with_capacity(elements.len());
    for (before, raw) in elements.into_iter().enumerate() {
        // An element borrows from the file's bytes, so the distance of both is its place in the file.
        let start = raw.get().as_ptr() as usize - bytes.as_ptr() as usize;
        let passed = bytes.get(read..start).unwrap_or_default();
        line += passed.iter().filter(|&&byte| byte == b'\n').count();
        read = start;
        let place = Place { file: path.clone(), row: RowNumber::Record { number: before + 1, line } };
        rows.push(object(place, "JSON", raw.get().as_bytes()));
    }
    Ok(Box::new(rows.into_iter()))
}

/// The object that a text is.
fn object(place: Place, format: &'static str, text: &[u8]) -> Result<Row> {
    match serde_json::from_slice(text) {
        Ok(value @ Value::Object(_)) => Ok(Row { place, value }),
        Ok(value) => {
            let found = kind_of(&value);
            Err(place.error(format, format!("found {found}, which is no object; expected {{\"field\": ...}}")))
        }
        // A line is a text of its own to the parser, whose first line is not the file's.
        Err(error) => Err(place.error(format, error.to_string().replace(" at line 1 column ", " at column "))),
    }
}

/// What a value is, for a message.
pub(crate) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Each row's place and value, or what is said about it.
    fn rows(text: &str) -> Result<Vec<(String, Value)>> {
        let rows = json_rows(Arc::from(Path::new("a.json")), std::io::Cursor::new(text.as_bytes().to_vec()))?;
        let row = |row: Result<Row>| match row {
            Ok(row) => Ok((row.place.row.to_string(), row.value)),
            Err(Error::Row { place, reason, .. }) => Ok((place, json!(reason))),
            Err(error) => Err(error),
        };
        rows.map(row).collect()
    }

    #[test]
    fn arrays_and_lines_know_where_their_rows_are() {
        let row = |place: &str, number: i64| (place.to_string(), json!({ "a": number }));
        let array = "\u{feff} [\n  {\"a\": 1}, {\"a\":\n 2},\n\n{\"a\": 3}]\n";
        let expected = [row("record 1, line 2", 1), row("record 2, line 2", 2), row("record 3, line 5", 3)];
        assert_eq!(rows(array).unwrap(), expected);
        assert_eq!(rows("{\"a\": 1}\n\n{\"a\": 2}").unwrap(), [row("line 1", 1), row("line 3", 2)]);
        assert_eq!((rows("[]").unwrap(), rows("").unwrap()), (vec![], vec![]));
    }

    #[test]
    fn a_bad_row_does_not_end_the_file() {
        let no_object = "found a number, which is no object; expected {\"field\": ...}";
        let found = rows("{\"a\": \n7\n{\"a\": 3}\n").unwrap();
        assert_eq!(found[0].1, "EOF while parsing a value at column 5");
        assert_eq!(found[1], ("line 2".to_string(), json!(no_object)));
        assert_eq!(found[2].1, json!({ "a": 3 }));
        let found = rows("[{\"a\": \"\\ud800\"},\n 7,\n {\"a\": 3}]").unwrap();
        assert_eq!(found[0].0, "record 1, line 1");
        assert_eq!(found[1], ("record 2, line 2".to_string(), json!(no_object)));
        assert_eq!(found[2].1, json!({ "a": 3 }));
        let error = rows("[{\"a\": 1},\n {]").unwrap_err().to_string();
        assert_eq!(error, "a.json: not a valid JSON file: key must be a string at line 2 column 3");
    }
}
