//! Eval sets: a task's items as tokens, packed once into chunks that never depend on the genomes.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::checkpoint::Tokenizer;
use crate::error::{Error, Result};
use crate::model::{Targets, TokenTree, TreeBuilder};
use crate::task::{Item, Scoring, Selection, Task, TextSize};

/// How requests become tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackingOptions {
    /// Tokens of a chunk; an item with more has a chunk of its own.
    pub chunk_tokens: usize,
    /// The longest sequence, in tokens: the model's positions, or less.
    pub max_length: usize,
}

/// What scoring an item needs, without its text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PackedItem {
    /// The item's place in its file.
    pub index: usize,
    /// The true choices.
    pub gold: Vec<usize>,
    /// Unicode characters of each choice: the denominators of normalised metrics.
    pub choice_chars: Vec<usize>,
    /// Tokens scored, over all requests.
    pub scored_tokens: usize,
    /// Words of the scored text, for word perplexity.
    pub words: usize,
    /// UTF-8 bytes of the scored text, for byte perplexity.
    pub bytes: usize,
}

/// The unit of evaluation work: whole items, as one forest of tokens.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Chunk {
    /// The forest.
    pub tree: TokenTree,
    /// Which rows predict which tokens.
    pub targets: Targets,
    /// The items, as places in [`EvalSet::items`].
    pub items: Range<usize>,
    /// For each item, for each of its requests: the entries of `targets.pairs` that make its log-likelihood.
    pub requests: Vec<Vec<Vec<u32>>>,
}

/// A task's or text's items, packed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvalSet {
    /// Its name, such as `arc_easy/search`.
    pub name: String,
    /// How its items are scored.
    pub scoring: Scoring,
    /// The items in packed order.
    pub items: Vec<PackedItem>,
    /// The chunks, covering the items in order.
    pub chunks: Vec<Chunk>,
    /// BLAKE3 over tokens and targets: two sets with the same digest score alike.
    pub digest: String,
    /// Tokens a forward pass sees.
    pub packed_tokens: usize,
    /// Tokens a forward pass would see if every request were run alone.
    pub naive_tokens: usize,
    /// Requests that were longer than `max_length` and lost their first tokens.
    pub truncated: usize,
    /// Whether networks are also compared with the whole model token by token: [`Metric::compares`](super::Metric::compares) says for which metrics.
    pub divergence: bool,
}

/// One request as tokens: `sequence` is fed to the model, and its last `scored.len()` rows predict `scored`.
#[derive(Debug, PartialEq, Eq)]
struct Encoded {
    sequence: Vec<u32>,
    scored: Vec<u32>,
    /// Left-truncated, or a window of a longer text: positions do not start where others' do.
    alone: bool,
}

impl EvalSet {
    /// Tokenizes and packs a selection of a task's items, and counts words and bytes as the task does.
    ///
    /// # Errors
    /// As [`EvalSet::pack`].
    pub fn of(
        name: &str,
        task: &Task,
        selection: &Selection,
        tokenizer: &Tokenizer,
        options: PackingOptions,
    ) -> Result<EvalSet> {
        let items: Vec<&Item> = selection.items.iter().collect();
        let mut set = EvalSet::pack(name, task.scoring(), &items, tokenizer, options)?;
        for (item, size) in set.items.iter_mut().zip(&selection.sizes) {
            (item.words, item.bytes) = (size.words, size.bytes);
        }
        Ok(set)
    }

    /// Tokenizes and packs items in the order given.
    ///
    /// # Errors
    /// When an item has no token to score, or there are no items.
    pub fn pack(
        name: &str,
        scoring: Scoring,
        items: &[&Item],
        tokenizer: &Tokenizer,
        options: PackingOptions,
    ) -> Result<EvalSet> {
        if items.is_empty() {
            return Err(Error::invalid(format!("eval set `{name}`"), "no items", "at least one item"));
        }
        let mut set = EvalSet {
            name: name.to_string(),
            scoring,
            items: Vec::with_capacity(items.len()),
            chunks: Vec::new(),
            digest: String::new(),
            packed_tokens: 0,
            naive_tokens: 0,
            truncated: 0,
            divergence: false,
        };
        let mut open = OpenChunk::default();
        for (place, item) in items.iter().enumerate() {
            let requests = encode_item(scoring, item, tokenizer, options.max_length)?;
            set.truncated += requests.iter().filter(|request| request.alone && scoring != Scoring::Rolling).count();
            set.naive_tokens += requests.iter().map(|request| request.sequence.len()).sum::<usize>();
            let before = open.builder.len();
            let nodes = open.insert(&requests);
            if open.builder.len() > options.chunk_tokens && before > 0 {
                open.builder.truncate(before);
                set.close(std::mem::take(&mut open), place);
                let nodes = open.insert(&requests);
                open.items.push(nodes);
            } else {
                open.items.push(nodes);
            }
            set.items.push(packed_item(item, &requests));
        }
        set.close(open, items.len());
        set.digest = set.compute_digest();
        Ok(set)
    }

    /// The same set for a vocabulary of `vocab` tokens: every token's number modulo that. What random weights make of it means
    /// as much, and a forward pass is as large.
    pub fn folded(mut self, vocab: usize) -> EvalSet {
        let fold = |token: &mut u32| *token %= vocab as u32;
        for chunk in &mut self.chunks {
            chunk.tree.tokens_mut().iter_mut().for_each(fold);
            chunk.targets.pairs.iter_mut().for_each(|(_, token)| fold(token));
        }
        self.digest = self.compute_digest();
        self
    }

    fn close(&mut self, open: OpenChunk, end: usize) {
        let start = self.chunks.last().map_or(0, |chunk| chunk.items.end);
        let chunk = open.finish(start..end, self.scoring == Scoring::LastWord);
        self.packed_tokens += chunk.tree.len();
        self.chunks.push(chunk);
    }

    fn compute_digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let mut number = |value: usize| {
            hasher.update(&(value as u64).to_le_bytes());
        };
        for chunk in &self.chunks {
            number(chunk.tree.len());
            for node in 0..chunk.tree.len() {
                number(chunk.tree.tokens()[node] as usize);
                number(chunk.tree.parent(node).map_or(usize::MAX, |parent| parent));
            }
            chunk.targets.rows.iter().for_each(|&row| number(row as usize));
            chunk.targets.pairs.iter().for_each(|&(row, token)| {
                number(row as usize);
                number(token as usize);
            });
            chunk.requests.iter().flatten().flatten().for_each(|&pair| number(pair as usize));
        }
        for item in &self.items {
            item.gold.iter().chain(&item.choice_chars).for_each(|&value| number(value));
        }
        hasher.finalize().to_hex().to_string()
    }
}

/// A chunk being filled. A request is its nodes in order and the tokens that the last of them predict.
#[derive(Default)]
struct OpenChunk {
    builder: TreeBuilder,
    items: Vec<Vec<(Vec<u32>, Vec<u32>)>>,
}

impl OpenChunk {
    fn insert(&mut self, requests: &[Encoded]) -> Vec<(Vec<u32>, Vec<u32>)> {
        let insert = |request: &Encoded| {
            let nodes = if request.alone {
                self.builder.insert_alone(&request.sequence)
            } else {
                self.builder.insert(&request.sequence)
            };
            (nodes[nodes.len() - request.scored.len()..].to_vec(), request.scored.clone())
        };
        requests.iter().map(insert).collect()
    }

    fn finish(self, items: Range<usize>, greedy: bool) -> Chunk {
        let (tree, place) = self.builder.finish();
        let scored = |(nodes, tokens): &(Vec<u32>, Vec<u32>)| -> Vec<(u32, u32)> {
            nodes.iter().map(|&node| place[node as usize]).zip(tokens.iter().copied()).collect()
        };
        let requests: Vec<Vec<Vec<(u32, u32)>>> =
            self.items.iter().map(|requests| requests.iter().map(scored).collect()).collect();
        let mut pairs: Vec<(u32, u32)> = requests.iter().flatten().flatten().copied().collect();
        pairs.sort_unstable();
        pairs.dedup();
        let mut rows: Vec<i64> = pairs.iter().map(|&(node, _)| i64::from(node)).collect();
        rows.dedup();
        let find = |pair: &(u32, u32)| pairs.binary_search(pair).expect("every pair was collected") as u32;
        let requests = requests
            .iter()
            .map(|requests| requests.iter().map(|pairs| pairs.iter().map(find).collect()).collect())
            .collect();
        let row_of = |node: u32| rows.binary_search(&i64::from(node)).expect("every row was collected") as u32;
        let pairs = pairs.iter().map(|&(node, token)| (row_of(node), token)).collect();
        Chunk { tree, targets: Targets { rows, pairs, greedy }, items, requests }
    }
}

fn packed_item(item: &Item, requests: &[Encoded]) -> PackedItem {
    let text: Vec<&str> = item.requests.iter().map(|request| request.continuation.as_str()).collect();
    PackedItem {
        index: item.index,
        gold: item.gold.clone(),
        choice_chars: item.choice_chars.clone(),
        scored_tokens: requests.iter().map(|request| request.scored.len()).sum(),
        words: text.iter().map(|text| TextSize::of(text).words).sum(),
        bytes: text.iter().map(|text| TextSize::of(text).bytes).sum(),
    }
}

fn encode_item(scoring: Scoring, item: &Item, tokenizer: &Tokenizer, max_length: usize) -> Result<Vec<Encoded>> {
    let mut encoded = Vec::with_capacity(item.requests.len());
    for (place, request) in item.requests.iter().enumerate() {
        let before = encoded.len();
        match scoring {
            Scoring::Rolling => encoded.extend(encode_windows(&request.continuation, tokenizer, max_length)?),
            _ => encoded.push(encode_pair(&request.context, &request.continuation, tokenizer, max_length)?),
        }
        if encoded[before..].iter().all(|request| request.scored.is_empty()) {
            let found = format!("no token in {:?}", request.continuation);
            return Err(Error::invalid(format!("item {}, request {place}", item.index), found, "a text to score"));
        }
    }
    Ok(encoded)
}

/// The token that stands before a text without context: BOS, else EOS.
fn prefix_token(tokenizer: &Tokenizer) -> Result<u32> {
    tokenizer.bos().or(tokenizer.eos()).ok_or_else(|| {
        Error::invalid("tokenizer", "neither BOS nor EOS", "one of them, to stand before a text without context")
    })
}

/// A request as lm-evaluation-harness encodes it (`TemplateLM._encode_pair` and `HFLM._loglikelihood_tokens`,
/// version 0.4.13): trailing spaces of the context move to the continuation, the continuation's tokens are
/// those of the joined text behind as many tokens as the context alone has, and a sequence that is too long
/// loses its first tokens.
fn encode_pair(context: &str, continuation: &str, tokenizer: &Tokenizer, max_length: usize) -> Result<Encoded> {
    let stem = context.trim_end();
    let (mut sequence, scored) = if context.is_empty() {
        let prefix = prefix_token(tokenizer)?;
        let mut tokens = tokenizer.encode(continuation)?;
        if tokens.first() == Some(&prefix) {
            tokens.remove(0);
        }
        (vec![prefix], tokens)
    } else {
        let joined = tokenizer.encode(&[context, continuation].concat())?;
        let context = tokenizer.encode(stem)?;
        let scored = joined.get(context.len()..).unwrap_or_default().to_vec();
        (context, scored)
    };
    sequence.extend(&scored);
    sequence.pop();
    let alone = sequence.len() > max_length;
    if alone {
        sequence.drain(..sequence.len() - max_length);
    }
    if sequence.len() < scored.len() {
        let found = format!("{} tokens to score", scored.len());
        return Err(Error::invalid("continuation", found, format!("at most the model's {max_length}")));
    }
    Ok(Encoded { sequence, scored, alone })
}

/// A text as disjoint windows, as `get_rolling_token_windows` and `make_disjoint_window` of
/// lm-evaluation-harness cut it: the first behind a prefix token, the last with preceding tokens as context.
fn encode_windows(text: &str, tokenizer: &Tokenizer, max_length: usize) -> Result<Vec<Encoded>> {
    let prefix = prefix_token(tokenizer)?;
    let mut tokens = vec![prefix];
    let own = tokenizer.encode(text)?;
    tokens.extend(own.strip_prefix(&[prefix]).unwrap_or(&own));
    let mut windows = Vec::new();
    let mut predicted = 0;
    while predicted + 1 < tokens.len() {
        let end = (predicted + max_length).min(tokens.len() - 1);
        let start = end.saturating_sub(max_length);
        windows.push(Encoded {
            sequence: tokens[start..end].to_vec(),
            scored: tokens[predicted + 1..=end].to_vec(),
            alone: true,
        });
        predicted = end;
    }
    Ok(windows)
}
