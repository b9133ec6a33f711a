//! Packing: items become tokens once, in chunks that never depend on the genomes.

use std::collections::HashMap;
use std::ops::Range;

use super::eval_set::{Chunk, EvalSet, PackedItem, PackingOptions};
use crate::checkpoint::Tokenizer;
use crate::error::{Error, Result};
use crate::model::{Targets, TreeBuilder};
use crate::task::{ExactMatch, Item, LeftOut, Scoring, Selection, Task, TextSize};

/// One request as tokens: `sequence` is fed to the model, and its last `scored.len()` rows predict `scored`.
#[derive(Debug, PartialEq, Eq)]
struct Encoded {
    sequence: Vec<u32>,
    scored: Vec<u32>,
    /// Left-truncated, or a window of a longer text: positions do not start where others' do.
    alone: bool,
    /// The continuation was tokenized by itself.
    apart: bool,
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
    let mut set = match task.exact_match() {
        Some(rule) => {
            // A text of its own, as long as the rule says, has room behind each prompt.
            let room = options.max_length.checked_sub(rule.max_tokens).filter(|&room| room > 0).ok_or_else(|| {
                let found = format!("{} tokens", rule.max_tokens);
                let expected = format!("fewer than the longest sequence, {} tokens", options.max_length);
                Error::invalid(format!("`exact_match.max_tokens` of task `{}`", task.name()), found, expected)
            })?;
            let set = pack_items(name, task.scoring(), &items, tokenizer, options)?;
            with_prompts(set, (rule, room), &items, tokenizer)?
        }
        None => pack_items(name, task.scoring(), &items, tokenizer, options)?,
    };
    let sizes = selection.items.iter().map(|item| item.index).zip(&selection.sizes);
    let sizes: HashMap<usize, &TextSize> = sizes.collect();
    for item in &mut set.items {
        if let Some(size) = sizes.get(&item.index) {
            (item.words, item.bytes) = (size.words, size.bytes);
        }
    }
    Ok(set)
}

/// Tokenizes and packs items in the order given. Items that cannot be scored are left out: one without a token to score, one whose
/// continuation is longer than the model's positions.
///
/// # Errors
/// When there are no items, or more than half of them cannot be scored.
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
    let mut set = EvalSet::empty(name, scoring);
    let mut open = OpenChunk::default();
    let mut left_out = LeftOut::default();
    for item in items {
        let encoded = encode_item(scoring, item, tokenizer, options.max_length);
        let encoded = encoded.map_err(|error| item.place.error("task data", error));
        let Some(requests) = left_out.keep(encoded)? else { continue };
        set.truncated += requests.iter().filter(|request| request.alone && scoring != Scoring::Rolling).count();
        set.apart += requests.iter().filter(|request| request.apart).count();
        set.naive_tokens += requests.iter().map(|request| request.sequence.len()).sum::<usize>();
        let before = open.builder.len();
        let nodes = open.insert(&requests);
        if open.builder.len() > options.chunk_tokens && before > 0 {
            open.builder.truncate(before);
            let end = set.items.len();
            close(&mut set, std::mem::take(&mut open), end);
            let nodes = open.insert(&requests);
            open.items.push(nodes);
        } else {
            open.items.push(nodes);
        }
        set.items.push(packed_item(item, &requests));
    }
    set.left_out = left_out.out_of(items.len(), &format!("eval set `{name}`"), &items[0].place.file)?;
    let end = set.items.len();
    close(&mut set, open, end);
    set.digest = set.compute_digest();
    Ok(set)
}

/// A chunk of one item: continuations, as tokens, of a context, whose last token predicts the first of each.
///
/// # Errors
/// `Invalid` for a context or a continuation without tokens.
pub fn pack_choices(context: &[u32], continuations: &[Vec<u32>]) -> Result<Chunk> {
    if context.is_empty() || continuations.iter().any(Vec::is_empty) {
        return Err(Error::invalid("choices", "a prompt or a choice without a token", "one token of each at least"));
    }
    let request = |scored: &Vec<u32>| {
        let sequence = [context, &scored[..scored.len() - 1]].concat();
        Encoded { sequence, scored: scored.clone(), alone: false, apart: false }
    };
    let requests: Vec<Encoded> = continuations.iter().map(request).collect();
    let mut open = OpenChunk::default();
    let nodes = open.insert(&requests);
    open.items.push(nodes);
    Ok(open.finish(0..1, false))
}

/// A set whose items are written, with their prompts: a context's last `room` tokens, as lm-evaluation-harness 0.4.13 encodes it
/// (`HFLM.tok_batch_encode`).
fn with_prompts(
    mut set: EvalSet,
    (rule, room): (&ExactMatch, usize),
    items: &[&Item],
    tokenizer: &Tokenizer,
) -> Result<EvalSet> {
    let contexts: HashMap<usize, &str> =
        items.iter().map(|item| (item.index, item.requests[0].context.as_str())).collect();
    let prompt = |item: &PackedItem| {
        let mut tokens = tokenizer.encode(contexts[&item.index])?;
        if tokens.is_empty() {
            tokens.push(prefix_token(tokenizer)?);
        }
        Ok(tokens.split_off(tokens.len().saturating_sub(room)))
    };
    for chunk in &mut set.chunks {
        chunk.prompts = set.items[chunk.items.clone()].iter().map(prompt).collect::<Result<_>>()?;
    }
    (set.exact_match, set.writes) = (Some(rule.clone()), true);
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
        Chunk { tree, targets: Targets { rows, pairs, greedy }, items, requests, prompts: Vec::new() }
    }
}

fn packed_item(item: &Item, requests: &[Encoded]) -> PackedItem {
    let text: Vec<&str> = item.requests.iter().map(|request| request.continuation.as_str()).collect();
    PackedItem {
        index: item.index,
        gold: item.gold.clone(),
        choice_chars: item.choice_chars.clone(),
        choice_bytes: text.iter().map(|text| text.len()).collect(),
        scored_tokens: requests.iter().map(|request| request.scored.len()).sum(),
        words: text.iter().map(|text| TextSize::of(text).words).sum(),
        bytes: text.iter().map(|text| TextSize::of(text).bytes).sum(),
        answers: item.answers.clone(),
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
            return Err(Error::invalid(format!("choice {place}"), found, "a text to score"));
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
///
/// Two requests that end the run there are scored here. A context of spaces alone has no token, so the prefix token stands
/// before the text, as before one without context. A continuation that merges with the context's last token is tokenized
/// by itself.
fn encode_pair(context: &str, continuation: &str, tokenizer: &Tokenizer, max_length: usize) -> Result<Encoded> {
    let stem = context.trim_end();
    let before = if context.is_empty() { Vec::new() } else { tokenizer.encode(stem)? };
    let joined = tokenizer.encode(&[context, continuation].concat())?;
    let mut apart = false;
    let (mut sequence, scored) = if before.is_empty() {
        let prefix = prefix_token(tokenizer)?;
        (vec![prefix], joined.strip_prefix(&[prefix]).unwrap_or(&joined).to_vec())
    } else {
        let mut scored = joined.get(before.len()..).unwrap_or_default().to_vec();
        apart = scored.is_empty();
        if apart {
            scored = tokenizer.encode_inside(&[&context[stem.len()..], continuation].concat())?;
        }
        (before, scored)
    };
    if scored.is_empty() {
        return Err(Error::invalid("continuation", format!("no token in {continuation:?}"), "a text to score"));
    }
    if scored.len() > max_length {
        let found = format!("{} tokens to score", scored.len());
        return Err(Error::invalid("continuation", found, format!("at most the model's {max_length}")));
    }
    sequence.extend(&scored);
    sequence.pop();
    let alone = sequence.len() > max_length;
    if alone {
        sequence.drain(..sequence.len() - max_length);
    }
    Ok(Encoded { sequence, scored, alone, apart })
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
            apart: false,
        });
        predicted = end;
    }
    Ok(windows)
}
