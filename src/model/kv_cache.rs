//! Keys and values of the tokens so far, layer by layer: what generation computes once.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use super::context::Context;
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
    /// What is no token of its sequence, where sequences are not equally long.
    padding: Option<Padding>,
}

/// Places between the tokens that all sequences begin with and each one's own.
struct Padding {
    /// Tokens that all begin with.
    common: i64,
    /// Places behind them that are empty, int64, (b).
    empty: Tensor,
    /// What the next tokens see, by the window of a layer: the same for all layers that have it, until those tokens are kept.
    seen: BTreeMap<i64, Tensor>,
}

impl Padding {
    /// Which of the places so far the next `n` see, of which `len` are kept: bool, (b, 1, n, s). An empty place sees itself, so that what
    /// it computes is a number.
    fn seen(&mut self, [len, n]: [i64; 2], window: i64) -> Tensor {
        let Padding { common, empty, seen } = self;
        let see = || {
            let (s, device) = (len + n, empty.device());
            let places = |from: i64| Tensor::arange_start(from, s, (Kind::Int64, device));
            let (row, column) = (places(len).view([1, n, 1]), places(0).view([1, 1, s]));
            let end = (&*empty + *common).view([-1, 1, 1]); // (b, 1, 1)
            let is_token = column.lt(*common).logical_or(&column.ge_tensor(&end)); // (b, 1, s)
            // The window counts tokens. Those before the padding are further away in places than they are in tokens.
            let gap = column.lt(*common).to_kind(Kind::Int64) * empty.view([-1, 1, 1]); // (b, 1, s)
            let near = (&row - &column - gap).lt(window); // (b, n, s)
            let seen = is_token.logical_and(&near).logical_and(&column.le_tensor(&row));
            seen.logical_or(&row.eq_tensor(&column)).unsqueeze(1)
        };
        seen.entry(window).or_insert_with(see).shallow_clone()
    }
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
        Ok(KvCache { layers: attending.map(of).collect::<Result<_>>()?, len: 0, capacity, padding: None })
    }

    /// Room for so many sequences that all begin with the one that is here: `empty` places behind it, one entry a sequence, belong to
    /// none of its tokens. So sequences that are not equally long end at the same place.
    ///
    /// # Errors
    /// As [`KvCache::new`].
    pub(super) fn spread(
        &self,
        config: &LlamaConfig,
        genome: &Genome,
        empty: &[i64],
        capacity: usize,
    ) -> Result<KvCache> {
        let sequences = empty.len();
        // A network without attention keeps nothing, wherever that is.
        let options = self.layers.values().next().map(|layer| (layer.key.kind(), layer.key.device()));
        let (kind, device) = options.unwrap_or((Kind::Float, Device::Cpu));
        let mut spread = KvCache::new(config, genome, [sequences, capacity], (kind, device))?;
        for (layer, Layer { key, value }) in &mut spread.layers {
            let own = &self.layers[layer];
            for (room, own) in [(key, &own.key), (value, &own.value)] {
                room.narrow(2, 0, self.len).copy_(&own.narrow(2, 0, self.len));
            }
        }
        let empty = Tensor::from_slice(empty).to_device(device);
        (spread.len, spread.padding) = (self.len, Some(Padding { common: self.len, empty, seen: BTreeMap::new() }));
        Ok(spread)
    }

    /// Keys and values of a layer so far: (b, k, s, e) each.
    pub(super) fn kept(&self) -> impl Iterator<Item = (usize, [Tensor; 2])> + '_ {
        let so_far = |of: &Tensor| of.narrow(2, 0, self.len);
        self.layers.iter().map(move |(&layer, Layer { key, value })| (layer, [so_far(key), so_far(value)]))
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

    /// Fills the cache with `len` tokens' worth of nothing: timings do not depend on what is there.
    pub fn pretend(&mut self, len: usize) {
        self.len = (len as i64).min(self.capacity);
    }
}

impl Context for KvCache {
    /// Empty places have some.
    fn positions(&self, [b, n]: [i64; 2], device: Device) -> Result<Tensor> {
        if self.len > 0 && n > 1 && self.padding.is_none() {
            return Err(Error::invalid("tokens behind others", n, "one a sequence"));
        }
        let end = self.len + n;
        if end > self.capacity {
            let room = format!("{} at most, the room that the cache was made with", self.capacity);
            return Err(Error::invalid("context", format!("{end} tokens"), room));
        }
        let places = Tensor::arange_start(self.len, end, (Kind::Int64, device)); // (n)
        Ok(match &self.padding {
            None => places.repeat([b]),
            Some(Padding { common, empty, .. }) => {
                let behind: Tensor = places.unsqueeze(0) - empty.to_device(device).unsqueeze(1); // (b, n)
                behind.clamp_min(*common).view([-1])
            }
        })
    }

    fn attend(&mut self, layer: usize, [query, key, value]: [&Tensor; 3], window: Option<usize>) -> Tensor {
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
        if let Some(padding) = &mut self.padding {
            let seen = padding.seen([self.len, n], window);
            let query = query.permute([0, 2, 3, 1, 4]).reshape([b, k, g * n, e]);
            let seen = if n == 1 { seen } else { seen.repeat([1, 1, g, 1]) }; // (b, 1, g·n, s), or one row for all g
            let out = Tensor::scaled_dot_product_attention(&query, &keys, &values, Some(seen), 0.0, false, None, false);
            return out.view([b, k, g, n, e]).permute([0, 3, 1, 2, 4]).reshape([t, k * g * e]);
        }
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

    fn advance(&mut self, n: i64) {
        self.len += n;
        self.padding.iter_mut().for_each(|padding| padding.seen.clear());
    }
}
