//! One network of a model: the one way to a forward pass.

use tch::Tensor;

use super::forward::{Forward, check};
use super::head::{Predictions, Reference};
use super::kv_cache::KvCache;
use super::stream::Stream;
use super::targets::Targets;
use super::tree_batch::TreeBatch;
use super::weights::Llama;
use crate::error::Result;
use crate::space::Genome;

/// A network, checked once, with everything that it multiplies by. Handles of the model's tensors, no copies.
pub struct Network {
    forward: Forward,
    genome: Genome,
}

impl Llama {
    /// The network that a genome cuts from this model.
    ///
    /// # Errors
    /// `Mismatch` for a genome that is no set of prefixes of the model, `Invalid` for quantized matrices with adapters beside
    /// them, and for a weight that blocks cannot hold.
    pub fn network(&self, genome: &Genome) -> Result<Network> {
        Ok(Network { forward: Forward::of(self, std::slice::from_ref(genome))?, genome: genome.clone() })
    }

    /// The model itself as a network.
    ///
    /// # Errors
    /// As [`Llama::network`].
    pub fn whole(&self) -> Result<Network> {
        self.network(&self.config().genome.clone())
    }

    /// Refuses a genome that [`Llama::network`] would refuse for what it is.
    ///
    /// # Errors
    /// As there, but for weights.
    pub fn check(&self, genome: &Genome) -> Result<()> {
        check(self, genome)
    }
}

impl Network {
    /// Its genome.
    pub fn genome(&self) -> &Genome {
        &self.genome
    }

    /// Its half layers.
    pub(crate) fn parts(&self) -> &Forward {
        &self.forward
    }

    /// The last layer's output: (t, d).
    pub fn hidden(&self, batch: &TreeBatch) -> Tensor {
        let first = Stream::new(self.forward.embed(batch));
        let layer = |stream, (layer, gene)| self.forward.layer(layer, gene, &stream, batch);
        self.genome.kept().fold(first, layer).into_hidden()
    }

    /// Logits of the last layer's output, float32: (t, d) to (t, v).
    pub fn logits(&self, hidden: &Tensor) -> Tensor {
        self.forward.head().logits(hidden)
    }

    /// The whole forward pass: float32 logits of every token, (t, v).
    pub fn forward(&self, batch: &TreeBatch) -> Tensor {
        self.logits(&self.hidden(batch))
    }

    /// What a few rows say about the tokens after them, and how far they are from `parent` where it is given.
    pub fn predict(&self, batch: &TreeBatch, targets: &Targets, parent: Option<&Reference>) -> Predictions {
        self.forward.head().predict(&self.hidden(batch), targets, parent)
    }

    /// What it predicts at the rows of `targets`, to measure others against.
    pub fn reference(&self, batch: &TreeBatch, targets: &Targets) -> Reference {
        self.forward.head().reference(&self.hidden(batch), targets)
    }

    /// Room for the keys and values of `sequences` of `capacity` tokens.
    ///
    /// # Errors
    /// As [`KvCache::new`].
    pub fn cache(&self, sequences: usize, capacity: usize) -> Result<KvCache> {
        let model = self.forward.model();
        KvCache::new(model.config(), &self.genome, [sequences, capacity], (model.kind(), model.device()))
    }

    /// The same for sequences that begin with the one in `cache`, with so many empty places behind it: one entry a sequence.
    ///
    /// # Errors
    /// As [`KvCache::new`].
    pub(super) fn spread(&self, cache: &KvCache, empty: &[i64], capacity: usize) -> Result<KvCache> {
        cache.spread(self.forward.model().config(), &self.genome, empty, capacity)
    }

    /// Goes on with `b` sequences whose beginning is in the cache, which is this network's: `tokens` (b, n) to the last layer's
    /// output (b·n, d). An empty cache takes any number of tokens, one that is not empty one token a sequence.
    ///
    /// # Errors
    /// `Invalid` when the cache has no room, or for several tokens behind others.
    pub fn extend(&self, tokens: &Tensor, cache: &mut KvCache) -> Result<Tensor> {
        self.forward.extend(&self.genome, tokens, cache)
    }
}
