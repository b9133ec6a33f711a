//! The size of a text, by which its perplexity is divided.

use serde::{Deserialize, Serialize};

/// Words and bytes of a document as it was written, the denominators of word and byte perplexity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextSize {
    /// Pieces between runs of white space, as Python's `re.split(r"\s+", text)` counts them.
    pub words: usize,
    /// Bytes in UTF-8.
    pub bytes: usize,
}

impl TextSize {
    /// The size of `text`.
    pub fn of(text: &str) -> TextSize {
        let starts = text.chars().zip(std::iter::once('x').chain(text.chars()));
        let runs = starts.filter(|(here, before)| here.is_whitespace() && !before.is_whitespace()).count();
        TextSize { words: runs + 1, bytes: text.len() }
    }
}
