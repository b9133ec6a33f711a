//! Many networks on one chunk: what they have in common from the first layer on is computed once.

use tch::Tensor;

use super::evaluator::{ItemScore, Outcome};
use super::packing::Chunk;
use crate::error::Result;
use crate::model::{Llama, Reference, TreeBatch};
use crate::space::Genome;

/// Scores `genomes` (each once) on one chunk. Networks are the leaves of a trie whose levels are half
/// layers; it is walked depth-first, so a hidden state is computed once for all networks below it and at
/// most one a level is alive. With `parent`, scores say how far each network is from it. `on_leaf` gets a network's place in `genomes` and its outcome, and says
/// whether to go on.
///
/// # Errors
/// When a genome does not fit the model or a chunk its positions.
pub fn walk(
    model: &Llama,
    chunk: &Chunk,
    parent: Option<&Reference>,
    genomes: &[Genome],
    on_leaf: &mut dyn FnMut(usize, Outcome) -> bool,
) -> Result<()> {
    genomes.iter().try_for_each(|genome| model.check(genome))?;
    let mut order: Vec<usize> = (0..genomes.len()).collect();
    order.sort_by_key(|&place| &genomes[place]);
    let batch = model.batch(&chunk.tree)?;
    let mut walk = Walk { model, chunk, parent, genomes, batch: &batch, on_leaf, stopped: false };
    tch::no_grad(|| walk.descend(0, model.embed(&batch), &order));
    Ok(())
}

/// What the whole model predicts on a chunk, for [`walk`] to compare networks with.
pub fn reference(model: &Llama, chunk: &Chunk) -> Result<Reference> {
    let batch = model.batch(&chunk.tree)?;
    let genome = model.config().genome.clone();
    Ok(tch::no_grad(|| model.reference(&model.hidden(&genome, &batch), &chunk.targets)))
}

struct Walk<'a> {
    model: &'a Llama,
    chunk: &'a Chunk,
    parent: Option<&'a Reference>,
    genomes: &'a [Genome],
    batch: &'a TreeBatch,
    on_leaf: &'a mut dyn FnMut(usize, Outcome) -> bool,
    stopped: bool,
}

impl Walk<'_> {
    /// Visits the networks of `group`, which all have computed `hidden` (t, d) before this half layer.
    fn descend(&mut self, level: usize, hidden: Tensor, group: &[usize]) {
        let genomes = self.genomes;
        let layer = level / 2;
        if layer == self.model.config().shape.layers {
            let outcome = self.score(&hidden);
            for &place in group {
                self.stopped |= !(self.on_leaf)(place, outcome.clone());
            }
            return;
        }
        let attention = level.is_multiple_of(2);
        let width = |place: &usize| {
            let gene = genomes[*place].genes()[layer];
            if attention { gene.heads } else { gene.mlp }
        };
        // The last branch needs the hidden state no more: it is freed before going down.
        let mut hidden = Some(hidden);
        let mut rest = group;
        while let (Some(first), false) = (rest.first(), self.stopped) {
            let count = rest.partition_point(|place| width(place) <= width(first));
            let (branch, others) = rest.split_at(count);
            rest = others;
            let before = hidden.as_ref().expect("kept until the last branch");
            let after = match attention {
                true => self.model.attend(layer, width(first), before, self.batch),
                false => self.model.feed(layer, width(first), before),
            };
            if rest.is_empty() {
                hidden = None;
            }
            self.descend(level + 1, after, branch);
        }
    }

    fn score(&self, hidden: &Tensor) -> Outcome {
        let predictions = self.model.predict(hidden, &self.chunk.targets, self.parent);
        if let Some(place) = predictions.log_probs.iter().position(|log_prob| !log_prob.is_finite()) {
            let (row, token) = self.chunk.targets.pairs[place];
            return Outcome::Failed(format!(
                "log-probability of token {token} in row {row} is {}",
                predictions.log_probs[place]
            ));
        }
        let log_likelihood =
            |pairs: &Vec<u32>| pairs.iter().map(|&pair| f64::from(predictions.log_probs[pair as usize])).sum();
        let divergence = |requests: &Vec<Vec<u32>>| -> f64 {
            let row = |&pair: &u32| self.chunk.targets.pairs[pair as usize].0 as usize;
            requests.iter().flatten().map(|pair| f64::from(predictions.divergences[row(pair)])).sum()
        };
        let score = |requests: &Vec<Vec<u32>>| ItemScore {
            divergence: self.parent.map(|_| divergence(requests)),
            log_likelihoods: requests.iter().map(log_likelihood).collect(),
            greedy: self.chunk.targets.greedy
                && requests.iter().flatten().all(|&pair| predictions.greedy[pair as usize]),
        };
        Outcome::Scored(self.chunk.requests.iter().map(score).collect())
    }
}
