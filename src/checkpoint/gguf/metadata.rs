//! GGUF's key-value metadata (ggml `docs/gguf.md`, version 3): kept as the bytes of the file, so that what is
//! copied is copied verbatim, and given out as checked values.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::string_slice, clippy::cast_possible_truncation, clippy::cast_sign_loss)
)]

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// What errors call the format.
pub(crate) const FORMAT: &str = "GGUF";

/// Codes of value types.
pub(crate) const U32: u32 = 4;
pub(crate) const I32: u32 = 5;
pub(crate) const F32: u32 = 6;
pub(crate) const BOOL: u32 = 7;
pub(crate) const STRING: u32 = 8;
pub(crate) const ARRAY: u32 = 9;

/// Arrays of arrays may nest this deep; llama.cpp writes none at all.
const MAX_DEPTH: usize = 4;

/// The size of a value that has always the same: `None` for strings, arrays and unknown codes.
fn fixed_size(ty: u32) -> Option<u64> {
    match ty {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

/// Reads little-endian values one after the other, never past the end.
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// Why bytes cannot be read: without the file's name, which the caller adds.
pub(crate) type Reason<T> = std::result::Result<T, String>;

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { bytes, at: 0 }
    }

    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// What was passed from a position on.
    fn since(&self, start: usize) -> &'a [u8] {
        self.bytes.get(start..self.at).unwrap_or_default()
    }

    pub(crate) fn take(&mut self, len: u64, what: &str) -> Reason<&'a [u8]> {
        let end = usize::try_from(len).ok().and_then(|len| self.at.checked_add(len));
        let Some((end, taken)) = end.and_then(|end| Some((end, self.bytes.get(self.at..end)?))) else {
            let (at, end) = (self.at, self.bytes.len());
            return Err(format!(
                "{what} needs {len} bytes at offset {at}, and the file ends at {end}: is it a download that was cut off?"
            ));
        };
        self.at = end;
        Ok(taken)
    }

    pub(crate) fn u32(&mut self, what: &str) -> Reason<u32> {
        Ok(u32::from_le_bytes(self.take(4, what)?.try_into().expect("four bytes were taken")))
    }

    pub(crate) fn u64(&mut self, what: &str) -> Reason<u64> {
        Ok(u64::from_le_bytes(self.take(8, what)?.try_into().expect("eight bytes were taken")))
    }

    pub(crate) fn string(&mut self, what: &str) -> Reason<&'a [u8]> {
        let len = self.u64(what)?;
        self.take(len, what)
    }

    /// A string that must be text.
    pub(crate) fn text(&mut self, what: &str) -> Reason<String> {
        String::from_utf8(self.string(what)?.to_vec()).map_err(|_| format!("{what} is not UTF-8"))
    }

    /// Passes over one value without keeping it, checking every length in it.
    fn skip(&mut self, ty: u32, what: &str, depth: usize) -> Reason<()> {
        if let Some(size) = fixed_size(ty) {
            return self.take(size, what).map(drop);
        }
        match ty {
            STRING => self.string(what).map(drop),
            ARRAY if depth < MAX_DEPTH => {
                let (item, count) = (self.u32(what)?, self.u64(what)?);
                if let Some(size) = fixed_size(item) {
                    let len = count.checked_mul(size).ok_or_else(|| format!("{what}: {count} values"))?;
                    return self.take(len, what).map(drop);
                }
                // Every string or array takes at least its length field: a count past the end stops there.
                (0..count).try_for_each(|_| self.skip(item, what, depth + 1))
            }
            ARRAY => Err(format!("{what}: arrays nested deeper than {MAX_DEPTH}")),
            _ => Err(format!("{what}: unknown value type {ty}")),
        }
    }
}

/// One value: its type and its bytes as they stand in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    ty: u32,
    bytes: Vec<u8>,
}

impl Entry {
    /// Reads the type and value at the cursor.
    pub(crate) fn read(cursor: &mut Cursor, key: &str) -> Reason<Entry> {
        let ty = cursor.u32(key)?;
        let start = cursor.position();
        cursor.skip(ty, key, 0)?;
        Ok(Entry { ty, bytes: cursor.since(start).to_vec() })
    }

    pub(crate) fn u32(value: u32) -> Entry {
        Entry { ty: U32, bytes: value.to_le_bytes().into() }
    }

    pub(crate) fn f32(value: f32) -> Entry {
        Entry { ty: F32, bytes: value.to_le_bytes().into() }
    }

    pub(crate) fn bool(value: bool) -> Entry {
        Entry { ty: BOOL, bytes: vec![value.into()] }
    }

    pub(crate) fn string(value: &str) -> Entry {
        Entry { ty: STRING, bytes: string_bytes(value).collect() }
    }

    pub(crate) fn strings<S: AsRef<str>>(values: &[S]) -> Entry {
        Entry::array(STRING, values.len(), values.iter().flat_map(|value| string_bytes(value.as_ref())))
    }

    pub(crate) fn i32s(values: &[i32]) -> Entry {
        Entry::array(I32, values.len(), values.iter().flat_map(|value| value.to_le_bytes()))
    }

    pub(crate) fn f32s(values: &[f32]) -> Entry {
        Entry::array(F32, values.len(), values.iter().flat_map(|value| value.to_le_bytes()))
    }

    fn array(item: u32, count: usize, values: impl Iterator<Item = u8>) -> Entry {
        let head = item.to_le_bytes().into_iter().chain((count as u64).to_le_bytes());
        Entry { ty: ARRAY, bytes: head.chain(values).collect() }
    }

    /// Gives each value of an array, or the one value of a scalar, to `visit`: its number, type and bytes.
    fn visit(&self, mut visit: impl FnMut(u64, u32, &[u8]) -> Reason<()>) -> Reason<()> {
        let mut cursor = Cursor::new(&self.bytes);
        let (ty, count) = if self.ty == ARRAY { (cursor.u32("array")?, cursor.u64("array")?) } else { (self.ty, 1) };
        for index in 0..count {
            let bytes = match fixed_size(ty) {
                Some(size) => cursor.take(size, "array")?,
                None if ty == STRING => cursor.string("array")?,
                None => return Err("found an array of arrays".into()),
            };
            visit(index, ty, bytes)?;
        }
        Ok(())
    }
}

fn string_bytes(text: &str) -> impl Iterator<Item = u8> + '_ {
    (text.len() as u64).to_le_bytes().into_iter().chain(text.bytes())
}

/// A number of any of the format's types.
fn number(ty: u32, bytes: &[u8]) -> Option<f64> {
    Some(match ty {
        0 => u8::from_le_bytes(*bytes.first_chunk()?).into(),
        1 => i8::from_le_bytes(*bytes.first_chunk()?).into(),
        2 => u16::from_le_bytes(*bytes.first_chunk()?).into(),
        3 => i16::from_le_bytes(*bytes.first_chunk()?).into(),
        U32 => u32::from_le_bytes(*bytes.first_chunk()?).into(),
        I32 => i32::from_le_bytes(*bytes.first_chunk()?).into(),
        // The shortest decimal that is this single is what its author wrote: 1e-5, not 9.999999747e-6.
        F32 => f32::from_le_bytes(*bytes.first_chunk()?).to_string().parse().ok()?,
        10 => u64::from_le_bytes(*bytes.first_chunk()?) as f64,
        11 => i64::from_le_bytes(*bytes.first_chunk()?) as f64,
        12 => f64::from_le_bytes(*bytes.first_chunk()?),
        _ => return None,
    })
}

/// All key-value pairs of a file, in the order of their keys.
#[derive(Clone, Debug)]
pub(crate) struct Metadata {
    path: PathBuf,
    entries: BTreeMap<String, Entry>,
}

impl Metadata {
    /// Metadata for a file at `path`, which error messages name.
    pub(crate) fn new(path: &Path) -> Metadata {
        Metadata { path: path.into(), entries: BTreeMap::new() }
    }

    /// Adds a pair; false when the key was there before.
    pub(crate) fn insert(&mut self, key: impl Into<String>, entry: Entry) -> bool {
        self.entries.insert(key.into(), entry).is_none()
    }

    /// The pairs whose keys begin with `prefix`.
    pub(crate) fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a String, &'a Entry)> {
        self.entries.iter().filter(move |(key, _)| key.starts_with(prefix))
    }

    /// How many pairs there are.
    pub(crate) fn pairs(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Writes every pair.
    pub(crate) fn write(&self, writer: &mut impl Write) -> std::io::Result<()> {
        for (key, entry) in &self.entries {
            writer.write_all(&string_bytes(key).collect::<Vec<u8>>())?;
            writer.write_all(&entry.ty.to_le_bytes())?;
            writer.write_all(&entry.bytes)?;
        }
        Ok(())
    }

    pub(crate) fn wrong(&self, key: &str, reason: impl std::fmt::Display) -> Error {
        Error::format(&self.path, FORMAT, format!("{key}: {reason}"))
    }

    fn all<T>(&self, key: &str, expected: &str, parse: impl Fn(u32, &[u8]) -> Option<T>) -> Result<Option<Vec<T>>> {
        let Some(entry) = self.entries.get(key) else { return Ok(None) };
        let mut values = vec![];
        entry
            .visit(|index, ty, bytes| {
                values.push(parse(ty, bytes).ok_or_else(|| format!("value {index}: expected {expected}"))?);
                Ok(())
            })
            .map_err(|reason| self.wrong(key, reason))?;
        Ok(Some(values))
    }

    fn one<T>(&self, key: &str, expected: &str, parse: impl Fn(u32, &[u8]) -> Option<T>) -> Result<Option<T>> {
        let Some(mut values) = self.all(key, expected, parse)? else { return Ok(None) };
        match (values.pop(), values.len()) {
            (Some(value), 0) => Ok(Some(value)),
            (value, before) => {
                let found = before + usize::from(value.is_some());
                Err(self.wrong(key, format!("{found} values, expected one {expected}")))
            }
        }
    }

    /// How many values an array has.
    pub(crate) fn len_of(&self, key: &str) -> Option<u64> {
        let entry = self.entries.get(key).filter(|entry| entry.ty == ARRAY)?;
        let mut cursor = Cursor::new(&entry.bytes);
        cursor.u32(key).ok()?;
        cursor.u64(key).ok()
    }

    /// Numbers of an array, or a scalar as an array of one.
    pub(crate) fn numbers(&self, key: &str) -> Result<Option<Vec<f64>>> {
        self.all(key, "a number", number)
    }

    /// Counts of an array, or a scalar as an array of one.
    pub(crate) fn counts(&self, key: &str) -> Result<Option<Vec<u32>>> {
        self.all(key, "a count", |ty, bytes| count(number(ty, bytes)?))
    }

    pub(crate) fn number(&self, key: &str) -> Result<Option<f64>> {
        self.one(key, "number", number)
    }

    pub(crate) fn count(&self, key: &str) -> Result<Option<u32>> {
        self.one(key, "count", |ty, bytes| count(number(ty, bytes)?))
    }

    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.one(key, "flag", |ty, bytes| (ty == BOOL).then(|| bytes != [0]))
    }

    pub(crate) fn text(&self, key: &str) -> Result<Option<String>> {
        self.one(key, "text", text)
    }

    pub(crate) fn texts(&self, key: &str) -> Result<Option<Vec<String>>> {
        self.all(key, "text", text)
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is a whole number of this range")]
fn count(value: f64) -> Option<u32> {
    (value.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&value)).then_some(value as u32)
}

fn text(ty: u32, bytes: &[u8]) -> Option<String> {
    (ty == STRING).then(|| String::from_utf8(bytes.to_vec()).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(entries: impl IntoIterator<Item = (&'static str, Entry)>) -> Metadata {
        let mut metadata = Metadata::new(Path::new("m.gguf"));
        for (key, entry) in entries {
            assert!(metadata.insert(key, entry));
        }
        metadata
    }

    #[test]
    fn reads_back_what_it_wrote() {
        let written = metadata([
            ("a", Entry::u32(7)),
            ("b", Entry::f32(1e-5)),
            ("c", Entry::bool(true)),
            ("d", Entry::strings(&["Ġthe", "\0"])),
            ("e", Entry::i32s(&[-1, 3])),
            ("f", Entry::f32s(&[0.5])),
        ]);
        let mut bytes = vec![];
        written.write(&mut bytes).unwrap();
        let mut cursor = Cursor::new(&bytes);
        let mut read = Metadata::new(Path::new("m.gguf"));
        for _ in 0..written.pairs() {
            let key = cursor.text("key").unwrap();
            let entry = Entry::read(&mut cursor, &key).unwrap();
            assert!(read.insert(key, entry));
        }
        assert_eq!(read.entries, written.entries);
        assert_eq!(read.count("a").unwrap(), Some(7));
        assert_eq!(read.number("b").unwrap(), Some(1e-5));
        assert_eq!(read.flag("c").unwrap(), Some(true));
        assert_eq!(read.texts("d").unwrap().unwrap(), ["Ġthe", "\0"]);
        assert_eq!(read.numbers("e").unwrap().unwrap(), [-1.0, 3.0]);
        assert_eq!(read.counts("a").unwrap().unwrap(), [7], "a scalar is an array of one");
        assert_eq!(read.text("absent").unwrap(), None);
        assert_eq!((read.len_of("d"), read.len_of("a"), read.len_of("absent")), (Some(2), None, None));
    }

    #[test]
    fn rejects_values_of_another_type() {
        let found = metadata([("negative", Entry::i32s(&[-1])), ("two", Entry::i32s(&[1, 2])), ("n", Entry::u32(1))]);
        assert!(found.counts("negative").unwrap_err().to_string().contains("negative: value 0: expected a count"));
        assert!(found.count("two").unwrap_err().to_string().contains("2 values, expected one count"));
        assert!(found.text("n").is_err() && found.flag("n").is_err() && found.texts("n").is_err());
    }

    #[test]
    fn rejects_lengths_past_the_end() {
        let u32s = |values: &[u32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        let cases = [
            (u32s(&[STRING, 5, 0]), "needs 5 bytes"),
            (u32s(&[STRING, u32::MAX, u32::MAX]), "needs 18446744073709551615 bytes"),
            (u32s(&[ARRAY, U32, u32::MAX, u32::MAX]), "18446744073709551615 values"),
            (u32s(&[ARRAY, STRING, u32::MAX, u32::MAX]), "needs 8 bytes"),
            (u32s(&[ARRAY, ARRAY, 9, 0, ARRAY, 9, 0, ARRAY, 9, 0, ARRAY, 9, 0, ARRAY, 9, 0]), "nested deeper"),
            (u32s(&[13]), "unknown value type 13"),
            (u32s(&[U32]), "needs 4 bytes"),
            (vec![], "needs 4 bytes"),
        ];
        for (bytes, reason) in cases {
            let error = Entry::read(&mut Cursor::new(&bytes), "key").unwrap_err();
            assert!(error.starts_with("key") && error.contains(reason), "`{reason}` is not in: {error}");
        }
    }
}
