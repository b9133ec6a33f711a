//! Rows of data files: JSON lines and JSON arrays (plain or gzip), Parquet, and Arrow IPC (stream or file).
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::string_slice, clippy::cast_possible_truncation, clippy::cast_sign_loss)
)]

use std::fs::{self, File};
use std::io::{BufReader, Read, Seek};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_json::writer::{LineDelimited, WriterBuilder};
use flate2::read::MultiGzDecoder;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::json_rows::{MAX_ROW, json_rows};
use super::row::{Place, Row, RowNumber};
use crate::cache_dir::cache_dir;
use crate::error::{Error, Result};
use crate::sandbox::{Inside, Limits, Sandbox, Subject, Work};

/// Where `criadero fetch demo` puts data, and where tasks look without `--data`: `assets` in the [cache](cache_dir). Only the command
/// line calls this.
pub fn default_data_dir() -> PathBuf {
    cache_dir().join("assets")
}

/// The data files of a task, in the order their rows count.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Dataset {
    files: Vec<PathBuf>,
}

impl Dataset {
    /// Finds the files of `patterns` under the first of `roots` that has any. In a pattern `*` stands for any part
    /// of one path component; its files come in the order of their names.
    ///
    /// # Errors
    /// [`Error::Missing`] with `remedy` when a pattern fits no file.
    pub fn find(patterns: &[String], roots: &[PathBuf], remedy: &str) -> Result<Dataset> {
        let mut files = Vec::new();
        for pattern in patterns {
            let found = roots.iter().map(|root| expand(root, Path::new(pattern))).find(|found| !found.is_empty());
            files.extend(found.ok_or_else(|| Error::Missing {
                what: "task data".to_string(),
                path: roots.last().map_or_else(|| PathBuf::from(pattern), |root| root.join(pattern)),
                remedy: remedy.to_string(),
            })?);
        }
        Ok(Dataset { files })
    }

    /// One file.
    pub fn file(path: impl Into<PathBuf>) -> Dataset {
        Dataset { files: vec![path.into()] }
    }

    /// The first of its files, for messages about all of them.
    pub fn path(&self) -> &Path {
        self.files.first().map_or(Path::new(""), PathBuf::as_path)
    }

    /// All rows, file by file, read in a [sandbox](crate::sandbox). After an [`Error::Row`] there may be more of them.
    pub fn rows(&self) -> impl Iterator<Item = Result<Row>> + '_ {
        self.files.iter().flat_map(|path| {
            let file = Dataset::file(path);
            let rows: Box<dyn Iterator<Item = Result<Row>>> =
                match Sandbox::<Rows>::open(Subject::new(path, "data"), &file) {
                    Ok(sandbox) => Box::new(sandbox.map(|row| row.and_then(|row| row))),
                    Err(error) => Box::new(std::iter::once(Err(error))),
                };
            rows
        })
    }

    /// The same for work that is in a sandbox already.
    pub(super) fn rows_here(&self) -> impl Iterator<Item = Result<Row>> + '_ {
        self.files.iter().flat_map(|path| rows_of(path).unwrap_or_else(|error| Box::new(std::iter::once(Err(error)))))
    }
}

/// The work of reading rows.
struct Rows;

impl Work for Rows {
    type Setup = Dataset;
    type Question = ();
    type Answer = Result<Row>;
    const LIMITS: Limits = Limits::DATA;

    fn work(files: Dataset, inside: &mut Inside<Rows>) -> Result<()> {
        files.rows_here().try_for_each(|row| match row {
            Ok(_) | Err(Error::Row { .. }) => inside.answer(&row),
            Err(error) => Err(error),
        })
    }
}

/// The files that `pattern` stands for under `root`, sorted component by component.
fn expand(root: &Path, pattern: &Path) -> Vec<PathBuf> {
    let mut places = vec![root.to_path_buf()];
    for component in pattern.components() {
        let name = component.as_os_str().to_string_lossy();
        let Component::Normal(_) = component else {
            places.iter_mut().for_each(|place| place.push(component));
            continue;
        };
        if !name.contains('*') {
            places.iter_mut().for_each(|place| place.push(component));
            continue;
        }
        let inside = |place: &PathBuf| {
            let entries = fs::read_dir(place).into_iter().flatten().flatten();
            let fitting = entries.filter(|entry| fits(&name, &entry.file_name().to_string_lossy()));
            let mut paths: Vec<PathBuf> = fitting.map(|entry| entry.path()).collect();
            paths.sort();
            paths
        };
        places = places.iter().flat_map(inside).collect();
    }
    places.retain(|path| path.is_file());
    places
}

/// Whether `name` fits a pattern in which `*` stands for any characters.
fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.split_once(part) {
            Some((_, behind)) => rest = behind,
            None => return false,
        }
    }
    rest.is_empty()
}

/// Rows of one file. The first bytes say what it is, whatever its name.
fn rows_of(path: &Path) -> Result<Box<dyn Iterator<Item = Result<Row>>>> {
    let mut file = File::open(path).map_err(Error::io(path))?;
    let mut magic = Vec::new();
    file.by_ref().take(6).read_to_end(&mut magic).map_err(Error::io(path))?;
    file.rewind().map_err(Error::io(path))?;
    let shared: Arc<Path> = Arc::from(path);
    let wrong = |format, reason: String| Error::format(path, format, reason);
    match magic.as_slice() {
        [0x1f, 0x8b, ..] => json_rows(shared, MultiGzDecoder::new(BufReader::new(file))),
        [b'P', b'A', b'R', b'1', ..] => {
            let reader = ParquetRecordBatchReaderBuilder::try_new(file).and_then(|builder| builder.build());
            Ok(Box::new(table(shared, PARQUET, reader.map_err(|error| wrong(PARQUET, error.to_string()))?)))
        }
        b"ARROW1" => {
            let reader = arrow_ipc::reader::FileReader::try_new_buffered(file, None);
            Ok(Box::new(table(shared, ARROW, reader.map_err(|error| wrong(ARROW, error.to_string()))?)))
        }
        [0xff, 0xff, 0xff, 0xff, ..] => {
            let reader = arrow_ipc::reader::StreamReader::try_new_buffered(file, None);
            Ok(Box::new(table(shared, ARROW, reader.map_err(|error| wrong(ARROW, error.to_string()))?)))
        }
        _ => json_rows(shared, file),
    }
}

const ARROW: &str = "Arrow IPC";
const PARQUET: &str = "Parquet";
/// Rows of a table that are written as JSON together.
const PIECE: usize = 1024;
/// The most rows of a table: a few bytes can claim any number of them.
const MAX_ROWS: usize = 1 << 28;

/// Rows of a table, batch by batch.
fn table<E: std::fmt::Display>(
    path: Arc<Path>,
    format: &'static str,
    batches: impl Iterator<Item = std::result::Result<RecordBatch, E>>,
) -> impl Iterator<Item = Result<Row>> {
    let mut number = 0;
    let mut failed = false;
    let mut pieces = batches.flat_map(|batch| -> Box<dyn Iterator<Item = Result<Vec<Value>, String>>> {
        let refused = |reason| Box::new(std::iter::once(Err(reason)));
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => return refused(error.to_string()),
        };
        let rows = batch.num_rows();
        if rows > MAX_ROWS {
            return refused(format!("found {rows} rows at once, expected at most {MAX_ROWS}"));
        }
        let starts = (0..rows).step_by(PIECE);
        Box::new(starts.map(move |start| json_values(&batch.slice(start, PIECE.min(rows - start)))))
    });
    let rows = std::iter::from_fn(move || {
        let values = if failed { None } else { pieces.next() };
        let values = values?.and_then(|values| match number + values.len() {
            rows if rows > MAX_ROWS => Err(format!("found more than {MAX_ROWS} rows, expected at most as many")),
            _ => Ok(values),
        });
        failed = values.is_err();
        let rows: Vec<Result<Row>> = match values {
            Err(reason) => vec![Err(Error::format(&path, format, reason))],
            Ok(values) => {
                let before = number;
                number += values.len();
                let row = |(place, value)| {
                    let row = RowNumber::Row(before + place + 1);
                    Ok(Row { place: Place { file: path.clone(), row }, value })
                };
                values.into_iter().enumerate().map(row).collect()
            }
        };
        Some(rows)
    });
    rows.flatten()
}

/// A batch's rows as JSON objects.
fn json_values(batch: &RecordBatch) -> Result<Vec<Value>, String> {
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
    writer.write(batch).and_then(|()| writer.finish()).map_err(|error| error.to_string())?;
    let text = writer.into_inner();
    if let Some(row) = text.split(|&byte| byte == b'\n').position(|row| row.len() as u64 > MAX_ROW) {
        return Err(format!(
            "a row, number {} of {} that were read together: found more than {MAX_ROW} bytes, expected less",
            row + 1,
            batch.num_rows()
        ));
    }
    let rows = serde_json::Deserializer::from_slice(&text).into_iter();
    rows.collect::<Result<_, _>>().map_err(|error: serde_json::Error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use arrow_array::{Int64Array, ListArray, StringArray, types::Int64Type};
    use serde_json::json;

    use super::*;

    fn rows(path: &Path) -> Result<Vec<Value>> {
        Dataset::file(path).rows().map(|row| row.map(|row| row.value)).collect()
    }

    fn batch() -> RecordBatch {
        let lists = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None]), None]);
        RecordBatch::try_from_iter_with_nullable([
            ("text", Arc::new(StringArray::from(vec![Some("é\n"), None])) as arrow_array::ArrayRef, true),
            ("number", Arc::new(Int64Array::from(vec![7, i64::MIN])), true),
            ("list", Arc::new(lists), true),
        ])
        .unwrap()
    }

    fn stream() -> Vec<u8> {
        let mut writer = arrow_ipc::writer::StreamWriter::try_new(Vec::new(), &batch().schema()).unwrap();
        writer.write(&batch()).unwrap();
        writer.write(&batch()).unwrap();
        writer.into_inner().unwrap()
    }

    fn tables() -> [(&'static str, Vec<u8>); 3] {
        let mut file = arrow_ipc::writer::FileWriter::try_new(Vec::new(), &batch().schema()).unwrap();
        file.write(&batch()).unwrap();
        file.write(&batch()).unwrap();
        let mut parquet = parquet::arrow::ArrowWriter::try_new(Vec::new(), batch().schema(), None).unwrap();
        parquet.write(&batch()).unwrap();
        parquet.write(&batch()).unwrap();
        [("stream", stream()), ("file", file.into_inner().unwrap()), ("parquet", parquet.into_inner().unwrap())]
    }

    #[test]
    fn every_format_gives_the_same_rows_whatever_the_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows");
        let two = [
            json!({"text": "é\n", "number": 7, "list": [1, null]}),
            json!({"text": null, "number": i64::MIN, "list": null}),
        ];
        let four = [two.clone(), two].concat();
        let text: String = four.iter().map(|row| format!("{row}\n\n")).collect();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(text.as_bytes()).unwrap();
        let texts = [("jsonl", format!("\u{feff}{text}").into_bytes()), ("gzip", gzip.finish().unwrap())];
        for (format, bytes) in tables().into_iter().chain(texts) {
            fs::write(&path, bytes).unwrap();
            assert_eq!(rows(&path).unwrap(), four, "{format}");
        }
    }

    #[test]
    fn damaged_tables_are_errors_and_never_panics() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows");
        for (format, bytes) in tables() {
            let mut rejected = 0;
            for place in (0..bytes.len()).step_by(11) {
                let mut damaged = bytes.clone();
                damaged[place] ^= 0x55;
                fs::write(&path, &damaged).unwrap();
                rejected += usize::from(rows(&path).is_err());
                fs::write(&path, &bytes[..place]).unwrap();
                let _ = rows(&path);
            }
            assert!(rejected > 3, "{format}: only {rejected} damages were noticed");
        }
    }

    #[test]
    fn bad_lines_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.jsonl");
        for (text, reason) in [
            ("{\"a\": 1}\n\n{\"a\": \n", "line 3: EOF while parsing"),
            ("{}\n[1]\n", "line 2: found a list, which is no object"),
            ("{\"a\": \"\u{1}\"}", "line 1: control character"),
            (&("{\"a\": ".to_string() + &"[".repeat(10_000)), "line 1: recursion limit"),
        ] {
            fs::write(&path, text).unwrap();
            let error = rows(&path).unwrap_err().to_string();
            assert!(error.contains(&format!("rows.jsonl: not a valid JSON lines file: {reason}")), "{error}");
        }
        fs::write(&path, [0x1f, 0x8b, 8, 0, 1, 2, 3]).unwrap();
        assert!(rows(&path).is_err(), "a cut gzip file");
        fs::write(&path, b"").unwrap();
        assert_eq!(rows(&path).unwrap(), Vec::<Value>::new());
    }

    #[test]
    fn patterns_find_files_in_the_order_of_their_names() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b/test/x.arrow", "a/test/y.arrow", "a/test/x.json", "a/dev/x.arrow"] {
            fs::create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
            fs::write(dir.path().join(name), "{}").unwrap();
        }
        let roots = [dir.path().join("nowhere"), dir.path().to_path_buf()];
        let found = |pattern: &str| Dataset::find(&[pattern.to_string()], &roots, "fetch it").map(|set| set.files);
        assert_eq!(
            found("*/test/*.arrow").unwrap(),
            [dir.path().join("a/test/y.arrow"), dir.path().join("b/test/x.arrow")]
        );
        assert_eq!(found("a/*/x.*").unwrap().len(), 2);
        let error = found("c/*.arrow").unwrap_err().to_string();
        assert!(error.starts_with("task data not found: ") && error.ends_with("c/*.arrow; fetch it"), "{error}");
    }

    #[test]
    fn stars_stand_for_any_part_of_a_name() {
        for (pattern, name, fit) in [
            ("*", "", true),
            ("a*", "ab", true),
            ("*.b*.c", "a.b.b.c", true),
            ("a*a", "a", false),
            ("ab", "abc", false),
        ] {
            assert_eq!(fits(pattern, name), fit, "{pattern} {name}");
        }
    }
}
