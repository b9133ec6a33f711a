//! What networks write themselves, and whether that is the answer.

use std::ops::Range;
use std::sync::Arc;

use super::eval_set::{Chunk, EvalSet};
use super::evaluator::ItemScore;
use crate::checkpoint::{Checkpoint, Tokenizer};
use crate::error::{Error, Result};
use crate::model::Llama;
use crate::model::generation::write_greedily;
use crate::space::Genome;
use crate::task::Matcher;

/// Tokens whose keys and values are kept at a time, unless a single text has more.
pub const WRITTEN_TOKENS: usize = 8192;

/// Eval sets, and what writing takes where networks write.
#[derive(Clone)]
pub struct Exam {
    /// The sets.
    pub sets: Vec<EvalSet>,
    /// For those that [write](EvalSet::writes).
    pub writer: Option<Writer>,
}

impl From<Vec<EvalSet>> for Exam {
    fn from(sets: Vec<EvalSet>) -> Exam {
        Exam { sets, writer: None }
    }
}

/// Turns tokens into text, and knows which end one.
#[derive(Clone)]
pub struct Writer {
    tokenizer: Arc<Tokenizer>,
    ends: Vec<u32>,
}

impl Writer {
    /// A writer with a checkpoint's tokenizer.
    ///
    /// # Errors
    /// `Format` where the checkpoint's generation settings cannot be read.
    pub fn new(checkpoint: &Checkpoint, tokenizer: Arc<Tokenizer>) -> Result<Writer> {
        let ends = checkpoint.ends(&tokenizer)?;
        Ok(Writer { tokenizer, ends })
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Lets a network write behind a chunk's prompts, and adds its answers to their `scores`. Which prompts go together depends on the
    /// chunk alone, and so do the bits of their logits.
    ///
    /// # Errors
    /// Logits that are no numbers; a genome that does not fit.
    pub(super) fn answer(
        &self,
        model: &Llama,
        (set, chunk): (&EvalSet, &Chunk),
        genome: &Genome,
        scores: &mut [ItemScore],
    ) -> Result<()> {
        let Some(rule) = &set.exact_match else { return Ok(()) };
        let matcher = Matcher::new(rule).map_err(|problems| {
            Error::invalid(format!("rule of `{}`", set.name), problems.join("; "), "expressions that compile")
        })?;
        // A stop that is one token, such as the end of a turn, may have no text.
        let stops = rule.until.iter().filter_map(|stop| self.tokenizer.token(stop));
        let ends: Vec<u32> = self.ends.iter().copied().chain(stops).collect();
        let items = &set.items[chunk.items.clone()];
        for places in groups(chunk.prompts.iter().map(|prompt| prompt.len() + rule.max_tokens)) {
            let prompts: Vec<&[u32]> = chunk.prompts[places.clone()].iter().map(Vec::as_slice).collect();
            let mut texts = vec![String::new(); prompts.len()];
            let mut streams: Vec<_> = prompts.iter().map(|_| self.tokenizer.stream()).collect();
            write_greedily(model, genome, &prompts, rule.max_tokens, &mut |row, token| {
                if ends.contains(&token) {
                    return Ok(false);
                }
                texts[row] += &streams[row](token)?;
                let end = matcher.end(&texts[row]);
                if let Some(end) = end {
                    texts[row].truncate(end);
                }
                Ok(end.is_none())
            })?;
            for (place, text) in places.zip(texts) {
                let answer = matcher.answer(&text);
                scores[place].greedy = matcher.is_right(answer, &items[place].answers);
                scores[place].answer = Some(answer.to_string());
            }
        }
        Ok(())
    }
}

/// Texts of so many tokens in groups of at most [`WRITTEN_TOKENS`], where each takes as much as the longest; one at least.
fn groups(tokens: impl Iterator<Item = usize>) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    let mut longest = 0;
    for (place, tokens) in tokens.enumerate() {
        match groups.last_mut() {
            Some(group) if (group.len() + 1) * longest.max(tokens) <= WRITTEN_TOKENS => {
                group.end = place + 1;
                longest = longest.max(tokens);
            }
            _ => {
                groups.push(place..place + 1);
                longest = tokens;
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_go_together_as_far_as_there_is_room() {
        assert_eq!(groups([4096, 4096, 10].into_iter()), [0..2, 2..3]);
        assert_eq!(groups([10, 4097, 10, 9000, 1].into_iter()), [0..1, 1..2, 2..3, 3..4, 4..5]);
        assert_eq!(groups([2000; 5].into_iter()), [0..4, 4..5]);
        assert!(groups([].into_iter()).is_empty());
    }
}
