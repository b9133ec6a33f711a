//! Keys and values of the tokens so far, layer by layer: what generation computes once.

use std::collections::BTreeMap;
use std::ops::Range;

use tch::{Device, Kind, Tensor};

use crate::checkpoint::LlamaConfig;
use crate::error::{Error, Result};
use crate::space::Genome;

/// Room for the keys and values of `b` sequences of one network. A layer takes as much as its own KV heads need; one
/// without attention takes nothing.
pub struct KvCache {
    layers: BTreeMap<usize, Layer>,
    /// Tokens of each sequence so far.
    len: i64,
    /// Tokens there is room for.
    capacity: i64,
}

struct Layer {
    /// (b, k, capacity, e)
    key: Tensor,
    /// (b, k, capacity, e)
    value: Tensor,
}

impl KvCache {
    /// Room for so many sequences of so many tokens, in this kind on this device.
    ///
    /// # Errors
    /// `Invalid` when that is more than the model's positions; libtorch's, when there is not so much memory.
    pub fn new(
        config: &LlamaConfig,
        genome: &Genome,
        [sequences, capacity]: [usize; 2],
        options: (Kind, Device),
    ) -> Result<KvCache> {
        if capacity > config.positions() {
            let most = format!("{} tokens at most, the model's positions", config.positions());
            return Err(Error::invalid("context", format!("{capacity} tokens"), most));
        }
        let (b, capacity, e) = (sequences as i64, capacity as i64, config.shape.head_dim as i64);
        let of = |(layer, heads): (usize, u32)| {
            let k = config.shape.kv_heads_of(heads as usize) as i64;
            let room = || Tensor::f_zeros([b, k, capacity, e], options);
            Ok((layer, Layer { key: room()?, value: room()? }))
        };
        let attending = genome.kept().map(|(layer, gene)| (layer, gene.heads)).filter(|&(_, heads)| heads > 0);
        Ok(KvCache { layers: attending.map(of).collect::<Result<_>>()?, len: 0, capacity })
    }

    /// Tokens of each sequence so far.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of all layers.
    pub fn bytes(&self) -> u64 {
        let of = |tensor: &Tensor| (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64;
        self.layers.values().map(|layer| of(&layer.key) + of(&layer.value)).sum()
    }

    /// The positions of the next `n` tokens.
    pub(super) fn positions(&self, n: i64) -> Result<Range<i64>> {
        if self.len > 0 && n > 1 {
            return Err(Error::invalid("tokens behind others", n, "one a sequence"));
        }
        match self.len + n {
            end if end > self.capacity => {
                let room = format!("{} at most, the room that the cache was made with", self.capacity);
                Err(Error::invalid("context", format!("{end} tokens"), room))
            }
            end => Ok(self.len..end),
        }
    }

    /// Attention of the next tokens to themselves and all before, or to the last `window` of those: queries (b·n, k, g, e),
    /// keys and values (b·n, k, e), which are kept, to (b·n, h·e).
    pub(super) fn attend(&mut self, layer: usize, [query, key, value]: [&Tensor; 3], window: Option<usize>) -> Tensor {
        let Layer { key: keys, value: values } = self.layers.get_mut(&layer).expect("made for the network's layers");
        let (b, k, e) = (keys.size()[0], keys.size()[1], keys.size()[3]);
        let (t, g) = (query.size()[0], query.size()[2]);
        let n = t / b;
        let keep = |kept: &Tensor, new: &Tensor| {
            kept.narrow(2, self.len, n).copy_(&new.view([b, n, k, e]).permute([0, 2, 1, 3]));
            kept.narrow(2, 0, self.len + n) // (b, k, s, e)
        };
        let (keys, values) = (keep(keys, key), keep(values, value));
        let query = query.view([b, n, k, g, e]);
        let window = window.map_or(i64::MAX, |window| window as i64);
        if n == 1 {
            let seen = window.min(self.len + 1);
            let [keys, values] = [keys, values].map(|of| of.narrow(2, self.len + 1 - seen, seen));
            // All queries of a group see all keys: they are rows beside each other, and no key is copied.
            let query = query.view([b, k, g, e]);
            let out =
                Tensor::scaled_dot_product_attention(&query, &keys, &values, None::<Tensor>, 0.0, false, None, false);
            return out.reshape([t, k * g * e]);
        }
        let query = query.permute([0, 2, 3, 1, 4]).reshape([b, k * g, n, e]);
        let expand = |of: Tensor| if g == 1 { of } else { of.repeat_interleave_self_int(g, 1, None) };
        let (keys, values) = (expand(keys), expand(values));
        // Several tokens are the first ones.
        let mask = (n > window).then(|| {
            let all = Tensor::ones([n, n], (Kind::Bool, keys.device()));
            all.tril(0).logical_and(&all.triu(1 - window))
        });
        let causal = mask.is_none();
        let out = Tensor::scaled_dot_product_attention(&query, &keys, &values, mask, 0.0, causal, None, false);
        out.permute([0, 2, 1, 3]).reshape([t, k * g * e]) // from (b, h, n, e)
    }

    pub(super) fn advance(&mut self, n: i64) {
        self.len += n;
    }

    /// Fills the cache with `len` tokens' worth of nothing: timings do not depend on what is there.
    pub fn pretend(&mut self, len: usize) {
        self.len = (len as i64).min(self.capacity);
    }
}
