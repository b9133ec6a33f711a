//! Numbers that count something: from 1 on, and not more than makes sense, whether they come from flags or from files.

use serde::{Deserialize, Deserializer};

use crate::error::{Error, Result};

/// Numbers from 1 to `MAX`.
pub enum Count<const MAX: usize> {}

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
/// Networks of a population, and generations between two of them.
pub type Population = Count<1_000_000>;

impl<const MAX: usize> Count<MAX> {
    /// The number of a flag.
    ///
    /// # Errors
    /// What was expected.
    pub fn parse(text: &str) -> std::result::Result<usize, String> {
        text.parse().ok().filter(Self::contains).ok_or_else(Self::expected)
    }

    /// The number of a file.
    ///
    /// # Errors
    /// What was found and what was expected.
    pub fn read<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<usize, D::Error> {
        let number = usize::deserialize(deserializer)?;
        let wrong = || serde::de::Error::custom(format!("found {number}, {}", Self::expected()));
        Some(number).filter(Self::contains).ok_or_else(wrong)
    }

    /// The number of an argument.
    ///
    /// # Errors
    /// `Invalid` with what it is, what was found and what was expected.
    pub fn check(what: &str, number: usize) -> Result<()> {
        match Self::contains(&number) {
            true => Ok(()),
            false => Err(Error::invalid(what, number, Self::range())),
        }
    }

    fn contains(number: &usize) -> bool {
        (1..=MAX).contains(number)
    }

    fn expected() -> String {
        format!("expected {}", Self::range())
    }

    fn range() -> String {
        format!("a number from 1 to {MAX}")
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
            assert_eq!(Threads::parse(text).ok(), number, "{text}");
            let file = serde_json::from_str::<File>(&format!("{{\"threads\": {text}}}"));
            assert_eq!(file.ok().map(|file| file.threads), number, "{text}");
            assert_eq!(Threads::check("threads", text.parse().unwrap()).is_ok(), number.is_some(), "{text}");
        }
        assert_eq!(Threads::parse("-1").unwrap_err(), "expected a number from 1 to 1024");
        let error = serde_json::from_str::<File>("{\"threads\": 0}").unwrap_err().to_string();
        assert!(error.starts_with("found 0, expected a number from 1 to 1024"), "{error}");
    }
}
