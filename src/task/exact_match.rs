//! What a network is let write, and when that is the answer: the rule of a task that is scored by what is written.

use serde::{Deserialize, Serialize};

/// How an answer is written, and how it is compared, as `generation_kwargs`, the filters and `exact_match` of lm-evaluation-harness
/// 0.4.13 say it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExactMatch {
    /// The text ends before the first of these; the model's own end of text ends it too.
    #[serde(default)]
    pub until: Vec<String>,
    /// Tokens that are written at most.
    #[serde(default = "tokens")]
    pub max_tokens: usize,
    /// What is taken out of the text: a match of this, of its first group that is not empty where it has groups. Without it, all of the text
    /// but the white space around it.
    #[serde(default)]
    pub regex: Option<String>,
    /// Which of several matches.
    #[serde(default)]
    pub take: Take,
    /// Regular expressions whose matches are left out of both texts, one after the other.
    #[serde(default)]
    pub ignore: Vec<String>,
    /// Whether upper case is lower case.
    #[serde(default)]
    pub ignore_case: bool,
    /// Whether ASCII punctuation is left out of both texts.
    #[serde(default)]
    pub ignore_punctuation: bool,
}

/// Which of several matches is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Take {
    /// The first.
    #[default]
    First,
    /// The last.
    Last,
}

/// As many as lm-evaluation-harness lets a model write.
fn tokens() -> usize {
    256
}

impl ExactMatch {
    /// The rule of rows without a task file: the first line that is written, 64 tokens at most.
    pub fn of_a_line() -> ExactMatch {
        ExactMatch {
            until: vec!["\n".to_string()],
            max_tokens: 64,
            regex: None,
            take: Take::First,
            ignore: Vec::new(),
            ignore_case: false,
            ignore_punctuation: false,
        }
    }
}
