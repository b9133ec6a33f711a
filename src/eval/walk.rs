//! Many networks on one chunk: what they have in common from the first layer on is computed once.

use std::collections::BTreeMap;

use tch::Tensor;

use super::eval_set::Chunk;
use super::evaluator::{ItemScore, Outcome};
use super::trie::{HalfLayers, Kept};
use super::{ChunkId, trie};
use crate::error::Result;
use crate::model::{Forward, Head, Llama, Reference, Stream, TreeBatch};
use crate::space::{Bits, Ends, Genome, HalfGene};

/// Where a walk finds hidden states of earlier populations, and leaves its own.
pub type KeptStates<'a> = Kept<'a, Place, Stream>;

/// What a hidden state belongs to: a chunk, and how its embedding is stored.
pub type Place = (ChunkId, Bits);

/// Scores `genomes` (each once) on one chunk. Networks that begin alike share hidden states, as [`trie::walk`] says,
/// also with those of earlier populations that are `kept`: a score is bit for bit the same without. With `parent`,
/// scores say how far each network is from it. `on_leaf` gets a network's place in `genomes` and its outcome, and says
/// whether to go on.
///
/// # Errors
/// When a genome does not fit the model or a chunk its positions.
pub fn walk(
    model: &Llama,
    chunk: &Chunk,
    parent: Option<&Reference>,
    genomes: &[Genome],
    kept: Option<&KeptStates>,
    on_leaf: &mut dyn FnMut(usize, Outcome) -> bool,
) -> Result<()> {
    let mut by_ends: BTreeMap<Ends, Vec<usize>> = BTreeMap::new();
    for (place, genome) in genomes.iter().enumerate() {
        by_ends.entry(genome.ends()).or_default().push(place);
    }
    for (ends, members) in by_ends {
        let alike: Vec<Genome> = members.iter().map(|&place| genomes[place].clone()).collect();
        let on_chunk =
            OnChunk { forward: Forward::of(model, &alike)?, chunk, parent, batch: model.batch(&chunk.tree)? };
        let mut go_on = true;
        let mut score = |places: &[usize], stream: &Stream| {
            let outcome = on_chunk.score(stream.hidden());
            go_on = places.iter().all(|&place| on_leaf(members[place], outcome.clone()));
            go_on
        };
        let kept = kept.map(|kept| Kept { place: (kept.place.0, ends.embedding), ..*kept });
        tch::no_grad(|| trie::walk(&on_chunk, &alike, kept.as_ref(), &mut score));
        if !go_on {
            break;
        }
    }
    Ok(())
}

/// What the whole model predicts on a chunk, for [`walk`] to compare networks with.
pub fn reference(model: &Llama, chunk: &Chunk) -> Result<Reference> {
    let (network, batch) = (model.whole()?, model.batch(&chunk.tree)?);
    Ok(tch::no_grad(|| network.reference(&batch, &chunk.targets)))
}

/// Networks on a chunk.
struct OnChunk<'a> {
    forward: Forward,
    chunk: &'a Chunk,
    parent: Option<&'a Reference>,
    batch: TreeBatch,
}

impl HalfLayers for OnChunk<'_> {
    type State = Stream;

    fn first(&self) -> Stream {
        Stream::new(self.forward.embed(&self.batch))
    }

    fn after(&self, level: usize, half: HalfGene, before: &Stream) -> Stream {
        if level.is_multiple_of(2) {
            self.forward.attend(level / 2, half, before, &self.batch)
        } else {
            self.forward.feed(level / 2, half, before)
        }
    }
}

impl OnChunk<'_> {
    fn score(&self, hidden: &Tensor) -> Outcome {
        scored(self.forward.head(), hidden, self.chunk, self.parent)
    }
}

/// What the last layer's output, (t, d), says of a chunk's items; with `parent` also how far it is from that.
pub(super) fn scored(head: &Head, hidden: &Tensor, chunk: &Chunk, parent: Option<&Reference>) -> Outcome {
    let predictions = head.predict(hidden, &chunk.targets, parent);
    if let Some(place) = predictions.log_probs.iter().position(|log_prob| !log_prob.is_finite()) {
        let (row, token) = chunk.targets.pairs[place];
        return Outcome::Failed(format!(
            "log-probability of token {token} in row {row} is {}",
            predictions.log_probs[place]
        ));
    }
    let log_likelihood =
        |pairs: &Vec<u32>| pairs.iter().map(|&pair| f64::from(predictions.log_probs[pair as usize])).sum();
    let divergence = |requests: &Vec<Vec<u32>>| -> f64 {
        let row = |&pair: &u32| chunk.targets.pairs[pair as usize].0 as usize;
        requests.iter().flatten().map(|pair| f64::from(predictions.divergences[row(pair)])).sum()
    };
    let score = |requests: &Vec<Vec<u32>>| ItemScore {
        divergence: parent.map(|_| divergence(requests)),
        log_likelihoods: requests.iter().map(log_likelihood).collect(),
        answer: None,
        greedy: chunk.targets.greedy && requests.iter().flatten().all(|&pair| predictions.greedy[pair as usize]),
    };
    Outcome::Scored(chunk.requests.iter().map(score).collect())
}
