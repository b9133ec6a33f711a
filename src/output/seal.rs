//! A checksum as the last member of a JSON object: a file that is read again is seen to be what was written.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::string_slice, clippy::cast_possible_truncation, clippy::cast_sign_loss)
)]

use std::path::Path;

use crate::error::{Error, Result};

/// What comes before a seal, in an object on one line and in an indented one.
const NAMES: [&str; 2] = [",\"seal\":\"", ",\n  \"seal\": \""];
/// Hexadecimal digits of a seal: the first half of a BLAKE3.
const DIGITS: usize = 32;

/// What a file's seal says of the members before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seal {
    /// They are what was written.
    Whole,
    /// They are not.
    Broken {
        /// What the file says.
        found: String,
        /// What its content has.
        expected: String,
    },
    /// There is none: of a version that wrote none, or of another program.
    Missing,
}

impl Seal {
    /// An object that has members, with its seal as the last one: of all other bytes of the file.
    ///
    /// # Panics
    /// When it is no object.
    pub fn put(json: &str) -> String {
        let open = json.trim_end().strip_suffix('}').expect("what is sealed is an object").trim_end();
        let end = json.strip_prefix(open).unwrap_or_default();
        let [line, indented] = NAMES;
        let name = if end.starts_with('\n') { indented } else { line };
        format!("{open}{name}{}\"{end}", digest(open.as_bytes(), end.as_bytes()))
    }

    /// A file's bytes without their seal, and what it says of them.
    pub fn take(bytes: &[u8]) -> (Vec<u8>, Seal) {
        let place =
            |name: &&str| Some((bytes.windows(name.len()).rposition(|found| found == name.as_bytes())?, name.len()));
        let Some((at, length)) = NAMES.iter().filter_map(place).max() else { return (bytes.to_vec(), Seal::Missing) };
        let (open, rest) = bytes.split_at(at);
        let (_, rest) = rest.split_at(length);
        let (found, end) = rest.split_at(rest.len().min(DIGITS));
        let (quote, end) = end.split_at(end.len().min(1));
        let expected = digest(open, end);
        let whole = found == expected.as_bytes() && quote == b"\"";
        let seal = match whole {
            true => Seal::Whole,
            false => Seal::Broken { found: String::from_utf8_lossy(found).into_owned(), expected },
        };
        ([open, end].concat(), seal)
    }

    /// The same of a file that cannot be had from elsewhere: one without a seal is taken as it is.
    ///
    /// # Errors
    /// `Format` for a broken seal, with what to do.
    pub fn open(path: &Path, format: &'static str, bytes: &[u8], remedy: &str) -> Result<Vec<u8>> {
        match Seal::take(bytes) {
            (content, Seal::Whole | Seal::Missing) => Ok(content),
            (_, Seal::Broken { found, expected }) => {
                let reason = format!(
                    "damaged or changed since it was written: its seal is {found}, its content's {expected}; {remedy}"
                );
                Err(Error::format(path, format, reason))
            }
        }
    }
}

fn digest(open: &[u8], end: &[u8]) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(open).update(end);
    hasher.finalize().to_hex().chars().take(DIGITS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"algorithm":{"nsga2":{"rng":[1,2]}},"evaluations":[],"populations":0}"#;
    const INDENTED: &str = "{\n  \"format\": 1,\n  \"order\": [\n    2\n  ]\n}\n";

    #[test]
    fn no_flipped_bit_goes_unseen_but_in_the_seals_own_name() {
        for (json, name) in [(LINE, NAMES[0]), (INDENTED, NAMES[1])] {
            let whole = Seal::put(json);
            let read: serde_json::Value = serde_json::from_str(&whole).unwrap();
            assert!(read["seal"].as_str().is_some_and(|seal| seal.len() == DIGITS), "{whole}");
            assert_eq!(Seal::take(whole.as_bytes()), (json.as_bytes().to_vec(), Seal::Whole));
            let start = json.trim_end().strip_suffix('}').unwrap().trim_end().len();
            for bit in 0..whole.len() * 8 {
                let mut bytes = whole.clone().into_bytes();
                bytes[bit / 8] ^= 1 << (bit % 8);
                let (_, seal) = Seal::take(&bytes);
                // What comes before the name is as it was then.
                let in_name = (start..start + name.len()).contains(&(bit / 8));
                assert_eq!(seal == Seal::Missing, in_name, "bit {bit}: {seal:?}");
                assert_ne!(seal, Seal::Whole, "bit {bit}");
            }
            for end in 0..whole.len() {
                assert_ne!(Seal::take(&whole.as_bytes()[..end]).1, Seal::Whole);
            }
            assert_eq!(
                Seal::take(json.as_bytes()),
                (json.as_bytes().to_vec(), Seal::Missing),
                "as older versions wrote it"
            );
        }
    }

    #[test]
    fn a_broken_seal_is_an_error_with_what_to_do() {
        let path = Path::new("front.json");
        let broken = Seal::put(INDENTED).replace('2', "3");
        let error = Seal::open(path, "front.json", broken.as_bytes(), "search again").unwrap_err().to_string();
        assert!(
            error.starts_with("front.json: ") && error.contains("its seal is ") && error.ends_with("; search again")
        );
        assert_eq!(Seal::open(path, "front.json", INDENTED.as_bytes(), "").unwrap(), INDENTED.as_bytes());
    }
}
