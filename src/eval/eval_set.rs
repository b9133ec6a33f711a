//! Eval sets: a task's items as tokens, in chunks that never depend on the genomes.

use std::ops::Range;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::count::Tokens;
use crate::model::{Targets, TokenTree};
use crate::task::{ExactMatch, LeftOut, Scoring};

/// How requests become tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackingOptions {
    /// Tokens of a chunk; an item with more has a chunk of its own.
    #[serde(deserialize_with = "Tokens::read")]
    pub chunk_tokens: usize,
    /// The longest sequence, in tokens: the model's positions, or less.
    #[serde(deserialize_with = "Tokens::read")]
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
    /// UTF-8 bytes that are scored of each choice, the joining space among them.
    pub choice_bytes: Vec<usize>,
    /// Tokens scored, over all requests.
    pub scored_tokens: usize,
    /// Words of the scored text, for word perplexity.
    pub words: usize,
    /// UTF-8 bytes of the scored text, for byte perplexity.
    pub bytes: usize,
    /// What is right to write.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<String>,
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
    /// For each item what the network writes behind; none where nothing is written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prompts: Vec<Vec<u32>>,
}

impl Chunk {
    /// Marks the nodes that an item's scores depend on, by its place in the chunk: those of its requests.
    fn mark(&self, item: usize, needed: &mut [bool]) {
        for &pair in self.requests[item].iter().flatten() {
            let mut node = Some(self.targets.rows[self.targets.pairs[pair as usize].0 as usize] as usize);
            while let Some(next) = node.filter(|&next| !needed[next]) {
                needed[next] = true;
                node = self.tree.parent(next);
            }
        }
    }

    /// Some of the items, by their places in the chunk, ascending, and the nodes of the chunk that they need, in order. What networks
    /// write is left away.
    pub fn part(&self, items: &[usize]) -> (Chunk, Vec<i64>) {
        let mut keep = vec![false; self.tree.len()];
        items.iter().for_each(|&item| self.mark(item, &mut keep));
        let nodes: Vec<i64> = (0..self.tree.len()).filter(|&node| keep[node]).map(|node| node as i64).collect();
        let mut pairs: Vec<u32> =
            items.iter().flat_map(|&item| self.requests[item].iter().flatten()).copied().collect();
        pairs.sort_unstable();
        pairs.dedup();
        let old = |pair: &u32| self.targets.pairs[*pair as usize];
        let mut rows: Vec<u32> = pairs.iter().map(|pair| old(pair).0).collect();
        rows.dedup();
        let find = |of: &[u32], what: u32| of.binary_search(&what).expect("it was collected") as u32;
        let row = |&row: &u32| nodes.binary_search(&self.targets.rows[row as usize]).expect("its node is kept") as i64;
        let targets = Targets {
            rows: rows.iter().map(row).collect(),
            pairs: pairs.iter().map(|pair| (find(&rows, old(pair).0), old(pair).1)).collect(),
            greedy: self.targets.greedy,
        };
        let request = |request: &Vec<u32>| request.iter().map(|&pair| find(&pairs, pair)).collect();
        let requests = items.iter().map(|&item| self.requests[item].iter().map(request).collect()).collect();
        let tree = self.tree.part(&keep);
        (Chunk { tree, targets, items: 0..items.len(), requests, prompts: Vec::new() }, nodes)
    }
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
    /// Requests that were longer than `max_length` and lost the first tokens of their context.
    pub truncated: usize,
    /// Requests whose continuation was tokenized by itself, because joined to its context it has no token of its own.
    #[serde(default)]
    pub apart: usize,
    /// The items that cannot be scored.
    #[serde(default)]
    pub left_out: LeftOut,
    /// What is written behind the prompts, and how it is compared; in sets of [`Scoring::Generate`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exact_match: Option<ExactMatch>,
    /// Whether networks also write, as they do unless no metric that is asked for [does](super::Metric::writes): it takes far longer than
    /// the log-likelihood of the first answer.
    #[serde(default)]
    pub writes: bool,
    /// Whether networks are also compared with the whole model token by token: [`Metric::compares`](super::Metric::compares) says for which metrics.
    pub divergence: bool,
    /// Whether its scores are float32 even where the model's arithmetic is another, and the model has itself in float32 beside it.
    #[serde(default)]
    pub float32: bool,
}

impl EvalSet {
    /// A set without items.
    pub(super) fn empty(name: &str, scoring: Scoring) -> EvalSet {
        EvalSet {
            name: name.to_string(),
            scoring,
            items: Vec::new(),
            chunks: Vec::new(),
            digest: String::new(),
            packed_tokens: 0,
            naive_tokens: 0,
            truncated: 0,
            apart: 0,
            left_out: LeftOut::default(),
            exact_match: None,
            writes: false,
            divergence: false,
            float32: false,
        }
    }

    /// How requests became tokens where that is not plain: one line each, for people.
    pub fn notes(&self, max_length: usize) -> Vec<String> {
        let note = |count: usize, what: String| (count > 0).then(|| format!("requests {what}: {count}"));
        let truncated = format!("longer than {max_length} tokens, which lost the first tokens of their context");
        let apart = "whose continuation merges with the end of its context, so it was tokenized by itself".to_string();
        [note(self.truncated, truncated), note(self.apart, apart)].into_iter().flatten().collect()
    }

    /// The accuracy of guessing: the mean of true choices over choices; 0 where there is nothing to choose from.
    pub fn chance(&self) -> f64 {
        if self.items.is_empty() || matches!(self.scoring, Scoring::LastWord | Scoring::Rolling | Scoring::Generate) {
            return 0.0;
        }
        let share = |item: &PackedItem| item.gold.len() as f64 / item.choice_chars.len() as f64;
        self.items.iter().map(share).sum::<f64>() / self.items.len() as f64
    }

    /// Of each item the tokens that a network reads for it, common ones of several items for each of them.
    pub fn item_tokens(&self) -> Vec<f64> {
        let of_chunk = |chunk: &Chunk| {
            let needed = |item: usize| {
                let mut needed = vec![false; chunk.tree.len()];
                chunk.mark(item, &mut needed);
                needed.into_iter().filter(|needed| *needed).count() as f64
            };
            (0..chunk.requests.len()).map(needed).collect::<Vec<f64>>()
        };
        self.chunks.iter().flat_map(of_chunk).collect()
    }

    /// Tokens that are written at most.
    pub fn written_tokens(&self) -> usize {
        let rule = self.exact_match.as_ref().filter(|_| self.writes);
        rule.map_or(0, |rule| rule.max_tokens * self.items.len())
    }

    /// The same chunks in an order that `seed` draws; each item keeps its company, and so the bits of its scores.
    pub fn shuffled(mut self, seed: u64) -> EvalSet {
        let mut chunks = std::mem::take(&mut self.chunks);
        chunks.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        let mut items = Vec::with_capacity(self.items.len());
        for chunk in &mut chunks {
            let start = items.len();
            items.extend_from_slice(&self.items[chunk.items.clone()]);
            chunk.items = start..items.len();
        }
        (self.items, self.chunks) = (items, chunks);
        self.digest = self.compute_digest();
        self
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

    /// BLAKE3 over tokens and targets.
    pub(super) fn compute_digest(&self) -> String {
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
        if let Some(rule) = &self.exact_match {
            let prompts: Vec<&Vec<u32>> = self.chunks.iter().flat_map(|chunk| &chunk.prompts).collect();
            let answers: Vec<&Vec<String>> = self.items.iter().map(|item| &item.answers).collect();
            let written = serde_json::to_vec(&(rule, prompts, answers)).expect("texts and numbers");
            hasher.update(&written);
        }
        hasher.finalize().to_hex().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_the_order_of_chunks_and_items_go_with_theirs() {
        let item = |index: usize| PackedItem {
            index,
            gold: vec![index % 3],
            choice_chars: vec![1; 3],
            choice_bytes: vec![1; 3],
            scored_tokens: 3,
            words: 1,
            bytes: 3,
            answers: Vec::new(),
        };
        let chunk = |items: Range<usize>| {
            let requests = items.clone().map(|item| vec![vec![item as u32]]).collect();
            Chunk { items, requests, ..Chunk::default() }
        };
        let chunks = (0..10).map(|place| chunk(place * 4..place * 4 + 4)).collect();
        let empty = EvalSet::empty("t/search", Scoring::Choices);
        let mut set = EvalSet { items: (0..40).map(item).collect(), chunks, ..empty };
        set.digest = set.compute_digest();
        let [one, same, other] = [3, 3, 4].map(|seed| set.clone().shuffled(seed));
        assert_eq!(one, same);
        assert!(one.digest != other.digest && one.digest != set.digest);
        for (place, chunk) in one.chunks.iter().enumerate() {
            assert_eq!(chunk.items, place * 4..place * 4 + 4);
            let indices: Vec<usize> = one.items[chunk.items.clone()].iter().map(|item| item.index).collect();
            let own: Vec<usize> = chunk.requests.iter().map(|request| request[0][0] as usize).collect();
            assert_eq!(indices, own, "an item's requests are its chunk's");
        }
    }
}
