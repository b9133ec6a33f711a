//! Numbers that count something: from 1 on, and not more than makes sense, whether they come from flags or from files.

use std::str::FromStr;

use serde::{Deserialize, Deserializer};

/// A number from 1 to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count<const MAX: usize>(usize);

/// Threads, of one worker or of all together.
pub type Threads = Count<1024>;
/// Threads that take work.
pub type Workers = Count<1024>;
/// Tokens of a sequence, of a chunk or to be written.
pub type Tokens = Count<{ 1 << 28 }>;
/// Items of a task, sequences, steps.
pub type Items = Count<{ 1 << 40 }>;
/// Networks that are evaluated.
pub type Evals = Count<100_000_000>;
/// Networks of a population.
pub type Population = Count<1_000_000>;

impl<const MAX: usize> Count<MAX> {
    /// The number, if it is one.
    ///
    /// # Errors
    /// What was expected.
    pub fn new(number: usize) -> Result<Count<MAX>, String> {
        match number {
            1.. if number <= MAX => Ok(Count(number)),
            _ => Err(format!("found {number}, {}", Self::expected())),
        }
    }

    /// The number.
    pub fn get(self) -> usize {
        self.0
    }

    /// Reads the number of a file: for fields that are plain numbers in memory.
    pub fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
        Count::<MAX>::new(usize::deserialize(deserializer)?).map(Count::get).map_err(serde::de::Error::custom)
    }

    fn expected() -> String {
        format!("expected a number from 1 to {MAX}")
    }
}

impl<const MAX: usize> FromStr for Count<MAX> {
    type Err = String;

    fn from_str(text: &str) -> Result<Count<MAX>, String> {
        let number = text.parse().ok().and_then(|number| Count::new(number).ok());
        number.ok_or_else(Self::expected)
    }
}

impl<const MAX: usize> From<Count<MAX>> for usize {
    fn from(count: Count<MAX>) -> usize {
        count.0
    }
}

impl<const MAX: usize> std::fmt::Display for Count<MAX> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_files_pass_the_same_check() {
        #[derive(Debug, Deserialize)]
        struct File {
            #[serde(deserialize_with = "Threads::read")]
            threads: usize,
        }
        for (text, number) in [("1", Some(1)), ("1024", Some(1024)), ("0", None), ("1025", None), ("4294967296", None)]
        {
            assert_eq!(text.parse::<Threads>().ok().map(usize::from), number, "{text}");
            let file = serde_json::from_str::<File>(&format!("{{\"threads\": {text}}}"));
            assert_eq!(file.ok().map(|file| file.threads), number, "{text}");
        }
        assert_eq!("-1".parse::<Threads>().unwrap_err(), "expected a number from 1 to 1024");
        let error = serde_json::from_str::<File>("{\"threads\": 0}").unwrap_err().to_string();
        assert!(error.starts_with("found 0, expected a number from 1 to 1024"), "{error}");
    }
}
