//! A question as the evaluator sees it: requests, the true ones among them, and the side of the split it is on.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::row::Place;

/// One log-likelihood to compute: of `continuation` after `context`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Request {
    /// The text before; may be empty.
    pub context: String,
    /// The text that is scored, with its leading space where lm-evaluation-harness has one.
    pub continuation: String,
}

/// How an item's log-likelihoods become its score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scoring {
    /// One context, several continuations: right when a true one has the largest log-likelihood.
    Choices,
    /// Several contexts, one continuation (WinoGrande): right when the true context makes it likeliest.
    Contexts,
    /// As `Choices`, over TruthfulQA's list with one true answer.
    Mc1,
    /// TruthfulQA's list with several true answers: their share of the probability.
    Mc2,
    /// One continuation (LAMBADA): right when every token of it is the model's first guess.
    LastWord,
    /// A whole document: perplexity.
    Rolling,
    /// A text that the network writes itself: right when what is taken out of it is one of the answers.
    Generate,
}

impl Scoring {
    /// What a task scored so consists of, for messages.
    pub fn about(self) -> &'static str {
        match self {
            Scoring::Choices => "multiple choice",
            Scoring::Contexts => "one continuation of several contexts",
            Scoring::Mc1 => "multiple choice with one true answer",
            Scoring::Mc2 => "multiple choice with several true answers",
            Scoring::LastWord => "last words, without choices",
            Scoring::Rolling => "running text, without choices",
            Scoring::Generate => "answers that are written, without choices",
        }
    }
}

/// One question of a task, rendered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// The row it was made of.
    pub place: Place,
    /// Bytes that each context begins with which are the task's own words, before worked examples and question.
    #[serde(default)]
    pub preamble: usize,
    /// Number among the rows of the task's files that `where` keeps, from 0: those that were left out count too.
    pub index: usize,
    /// One a choice; one for `LastWord`, `Rolling` and `Generate`, whose continuation is the first answer.
    pub requests: Vec<Request>,
    /// The true choices, ascending: one, or several for `Mc2`.
    pub gold: Vec<usize>,
    /// What `Generate` accepts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<String>,
    /// The denominators of `acc_norm`, one a request: Unicode characters without the joining space. They are
    /// the choice's, and for `Contexts`, where the scored text is the same for all, the continuation's.
    pub choice_chars: Vec<usize>,
    /// BLAKE3 of the normalised context and choices: [`split`] and the order of evaluation come from it. Few-shot
    /// examples and preambles are left out, so that a question stays on its side whatever stands before it.
    pub key: [u8; 32],
}

/// Characters of a passage, at least, but for the last.
const PASSAGE: usize = 2000;

impl Item {
    /// The item as a conversation, as lm-evaluation-harness 0.4.13 makes one with `--apply_chat_template`: the task's own words are
    /// what the system says, worked examples and question are what the user says, and a choice follows without what joins it to a
    /// plain context. `render` makes a text of the two.
    ///
    /// # Errors
    /// Those of `render`.
    pub fn in_chat<E>(
        &self,
        scoring: Scoring,
        render: &mut dyn FnMut(&str, &str) -> Result<String, E>,
    ) -> Result<Item, E> {
        let mut item = self.clone();
        for (request, &chars) in item.requests.iter_mut().zip(&self.choice_chars) {
            let (system, user) = request.context.split_at(self.preamble.min(request.context.len()));
            request.context = render(system, user)?;
            // The word of `last_word` brings its blank itself, as the harness' does.
            if scoring != Scoring::LastWord {
                let joint = request.continuation.chars().count().saturating_sub(chars);
                request.continuation = request.continuation.chars().skip(joint).collect();
            }
        }
        item.preamble = 0;
        Ok(item)
    }

    /// A document cut into passages at line ends, so that a single text has items for both sides of a split.
    /// Each is scored on its own, without what came before it.
    pub fn passages(&self) -> Vec<Item> {
        let mut texts = vec![String::new()];
        for line in self.requests.iter().flat_map(|request| request.continuation.split_inclusive('\n')) {
            let last = texts.last_mut().expect("starts with one");
            if last.len() < PASSAGE { last.push_str(line) } else { texts.push(line.to_string()) }
        }
        texts.retain(|text| !text.trim().is_empty());
        let passage = |(index, text): (usize, String)| Item {
            place: self.place.clone(),
            preamble: 0,
            index,
            key: key([""], [text.as_str()]),
            gold: Vec::new(),
            answers: Vec::new(),
            choice_chars: Vec::new(),
            requests: vec![Request { context: String::new(), continuation: text }],
        };
        texts.into_iter().enumerate().map(passage).collect()
    }
}

/// The two halves of a task's items.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// What a search may look at.
    Search,
    /// What the front is measured on afterwards.
    HeldOut,
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Split::Search => "search",
            Split::HeldOut => "held_out",
        })
    }
}

/// The side an item is on: the first half of the hash space is the search's. Equal texts have equal keys, so
/// a duplicate never sits on both sides.
pub fn split(key: &[u8; 32]) -> Split {
    if key[0] < 0x80 { Split::Search } else { Split::HeldOut }
}

/// The items of one side in hash order (by key, then by index), in which any prefix is a random sample.
pub fn split_items(items: &[Item], side: Split) -> Vec<&Item> {
    let mut chosen: Vec<&Item> = items.iter().filter(|item| split(&item.key) == side).collect();
    chosen.sort_by_key(|item| (item.key, item.index));
    chosen
}

/// An item's key: of its contexts and its continuations, each a set whose order does not count, in lower case
/// with single spaces. Every text is hashed with its length before it, so that no two items run together.
pub fn key<'a>(
    contexts: impl IntoIterator<Item = &'a str>,
    continuations: impl IntoIterator<Item = &'a str>,
) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    let mut add = |texts: Vec<String>| {
        hasher.update(&(texts.len() as u64).to_le_bytes());
        for text in texts {
            hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
        }
    };
    add(normalised(contexts));
    add(normalised(continuations));
    *hasher.finalize().as_bytes()
}

fn normalised<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let normal = |text: &str| text.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ");
    let mut texts: Vec<String> = texts.into_iter().map(normal).collect();
    texts.sort();
    texts
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::super::row::RowNumber;
    use super::*;

    fn place() -> Place {
        Place { file: Arc::from(Path::new("a.jsonl")), row: RowNumber::Line(1) }
    }

    #[test]
    fn keys_ignore_case_spaces_and_the_order_of_choices_only() {
        let one = key(["Question: Who?\nAnswer:"], ["Ann", "Bob"]);
        assert_eq!(one, key([" question:  who? answer: "], ["bob", "ANN "]));
        assert_ne!(one, key(["Question: Who?\nAnswer:"], ["Ann", "Bob", "Bob"]));
        assert_ne!(one, key(["Question: Who?\nAnswer: Ann"], ["Bob"]));
        assert_ne!(key(["ab"], ["c"]), key(["a"], ["bc"]));
    }

    #[test]
    fn sides_are_halves_of_the_hash_space_in_hash_order() {
        let item = |index, first| {
            let mut key = [0; 32];
            key[0] = first;
            let (preamble, requests, gold, answers, choice_chars) = Default::default();
            Item { place: place(), preamble, index, requests, gold, answers, choice_chars, key }
        };
        let items = [item(0, 0x7f), item(1, 0x80), item(2, 0x00), item(3, 0xff), item(4, 0x00)];
        let places = |side| split_items(&items, side).iter().map(|item| item.index).collect::<Vec<_>>();
        assert_eq!(places(Split::Search), [2, 4, 0]);
        assert_eq!(places(Split::HeldOut), [1, 3]);
    }

    #[test]
    fn a_question_becomes_what_a_user_says_and_a_choice_what_is_answered() {
        let request =
            |choice: &str| Request { context: "Be brief.\n\nWho?".into(), continuation: format!(" {choice}") };
        let item = Item {
            place: place(),
            preamble: 11,
            index: 0,
            requests: ["Ann", "Éva"].map(request).to_vec(),
            gold: vec![1],
            answers: vec![],
            choice_chars: vec![3, 3],
            key: [0; 32],
        };
        let render = |system: &str, user: &str| Ok::<_, ()>(format!("<{system}|{user}>"));
        let texts = |scoring| {
            let item = item.in_chat(scoring, &mut { render }).unwrap();
            item.requests.iter().map(|request| request.context.clone() + &request.continuation).collect::<Vec<_>>()
        };
        assert_eq!(texts(Scoring::Choices), ["<Be brief.\n\n|Who?>Ann", "<Be brief.\n\n|Who?>Éva"]);
        assert_eq!(texts(Scoring::LastWord)[1], "<Be brief.\n\n|Who?> Éva");
        assert_eq!(item.in_chat(Scoring::Choices, &mut |_, _| Err("no")), Err("no"));
    }

    #[test]
    fn cuts_a_text_into_passages_without_losing_any_of_it() {
        let text: String = (0..300).map(|line| format!("line {line} of a long text\n")).collect();
        let request = Request { context: String::new(), continuation: text.clone() };
        let whole = Item {
            place: place(),
            preamble: 0,
            index: 0,
            requests: vec![request],
            gold: vec![],
            answers: vec![],
            choice_chars: vec![],
            key: [0; 32],
        };
        let passages = whole.passages();
        assert_eq!(passages.iter().map(|item| item.requests[0].continuation.as_str()).collect::<String>(), text);
        assert!(passages.len() > 2 && passages.iter().all(|item| item.requests[0].continuation.len() < 2 * PASSAGE));
        assert!(passages.iter().any(|item| item.key != passages[0].key));
    }
}
