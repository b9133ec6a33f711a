//! A limit of `--to`, as it was written.

use std::fmt;
use std::str::FromStr;

use criadero::space::Constraint;

/// What the result must keep to, such as `params<=100M`.
#[derive(Clone, Debug, PartialEq)]
pub struct Limit {
    text: String,
    /// What it says.
    pub constraint: Constraint,
}

impl FromStr for Limit {
    type Err = criadero::Error;

    fn from_str(text: &str) -> criadero::Result<Limit> {
        Ok(Limit { text: text.trim().to_string(), constraint: text.parse()? })
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
