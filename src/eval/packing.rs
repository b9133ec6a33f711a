//! Packing: items become tokens once, in chunks that never depend on the genomes.

use std::ops::Range;

use super::eval_set::{Chunk, EvalSet, PackedItem, PackingOptions};
use crate::checkpoint::Tokenizer;
use crate::error::{Error, Result};
use crate::model::{Targets, TreeBuilder};
use crate::task::{Item, Scoring, Selection, Task, TextSize};

/// One request as tokens: `sequence` is fed to the model, and its last `scored.len()` rows predict `scored`.
#[derive(Debug, PartialEq, Eq)]
struct Encoded {
    sequence: Vec<u32>,
    scored: Vec<u32>,
    /// Left-truncated, or a window of a longer text: positions do not start where others' do.
    alone: bool,
}

/// Tokenizes and packs a selection of a task's items, and counts words and bytes as the task does.
///
/// # Errors
/// As [`pack_items`].
pub fn pack_task(
    name: &str,
    task: &Task,
    selection: &Selection,
    tokenizer: &Tokenizer,
    options: PackingOptions,
) -> Result<EvalSet> {
    let items: Vec<&Item> = selection.items.iter().collect();
    let mut set = pack_items(name, task.scoring(), &items, tokenizer, options)?;
    for (item, size) in set.items.iter_mut().zip(&selection.sizes) {
        (item.words, item.bytes) = (size.words, size.bytes);
    }
    Ok(set)
}

/// Tokenizes and packs items in the order given.
///
/// # Errors
/// When an item has no token to score, or there are no items.
pub fn pack_items(
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
            close(&mut set, std::mem::take(&mut open), place);
            let nodes = open.insert(&requests);
            open.items.push(nodes);
        } else {
            open.items.push(nodes);
        }
        set.items.push(packed_item(item, &requests));
    }
    close(&mut set, open, items.len());
    set.digest = set.compute_digest();
    Ok(set)
}

fn close(set: &mut EvalSet, open: OpenChunk, end: usize) {
    let start = set.chunks.last().map_or(0, |chunk| chunk.items.end);
    let chunk = open.finish(start..end, set.scoring == Scoring::LastWord);
    set.packed_tokens += chunk.tree.len();
    set.chunks.push(chunk);
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
