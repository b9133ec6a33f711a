//! What a network does while it is timed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What is timed. Written `prefill:256` and `decode:256x1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Phase {
    /// One prompt of so many tokens is read.
    Prefill {
        /// Its tokens.
        tokens: usize,
    },
    /// Each of some sequences goes on by one token.
    Decode {
        /// Tokens that each has already.
        context: usize,
        /// Sequences that share a step.
        sequences: usize,
    },
}

impl Phase {
    /// Tokens that one step reads or writes.
    pub fn tokens(self) -> usize {
        match self {
            Phase::Prefill { tokens } => tokens,
            Phase::Decode { sequences, .. } => sequences,
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Phase::Prefill { tokens } => write!(f, "prefill:{tokens}"),
            Phase::Decode { context, sequences } => write!(f, "decode:{context}x{sequences}"),
        }
    }
}

impl FromStr for Phase {
    type Err = Error;

    fn from_str(text: &str) -> Result<Phase> {
        let number = |digits: &str| digits.parse::<usize>().ok().filter(|&number| number > 0);
        let read = || match text.split_once(':')? {
            ("prefill", tokens) => Some(Phase::Prefill { tokens: number(tokens)? }),
            ("decode", sizes) => {
                let (context, sequences) = sizes.split_once('x')?;
                Some(Phase::Decode { context: number(context)?, sequences: number(sequences)? })
            }
            _ => None,
        };
        let expected = "`prefill:TOKENS` or `decode:CONTEXTxSEQUENCES`, such as `decode:256x1`";
        read().ok_or_else(|| Error::invalid("phase", format!("`{text}`"), expected))
    }
}

impl TryFrom<String> for Phase {
    type Error = Error;

    fn try_from(text: String) -> Result<Phase> {
        text.parse()
    }
}

impl From<Phase> for String {
    fn from(phase: Phase) -> String {
        phase.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_its_own_text() {
        for text in ["prefill:256", "decode:1024x8"] {
            assert_eq!(text.parse::<Phase>().unwrap().to_string(), text);
        }
        for text in ["prefill", "prefill:0", "decode:4", "decode:4x", "decode:0x1", "train:4", ""] {
            assert!(text.parse::<Phase>().is_err(), "{text}");
        }
        assert_eq!("decode:1024x8".parse::<Phase>().unwrap().tokens(), 8);
    }
}
