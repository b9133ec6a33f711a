//! Widths of MLPs token by token (Flextron, Cai et al. 2024, arXiv:2406.10260, section 3.2). Heads are not chosen so: later tokens read
//! the keys of earlier ones.
//!
//! Letters: as in `forward.rs`; `r` rank of a router, `n` widths that it chooses from.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

use super::stream::Stream;

/// Added to the mean square of hidden states before its root is taken.
const EPSILON: f64 = 1e-6;

/// What chooses the width of one MLP.
pub struct LayerRouter {
    /// The widths, ascending; 0 leaves the MLP away.
    pub widths: Vec<u32>,
    /// (r, d)
    pub down: Tensor,
    /// (n, r)
    pub up: Tensor,
    /// What every token is given beforehand, (n).
    pub bias: Tensor,
}

/// What chooses the widths of a model's MLPs.
pub struct TokenRouter {
    layers: Vec<Option<LayerRouter>>,
    /// Whether each token gets the choice of another one, drawn by chance.
    by_chance: bool,
    /// Tokens that got each width, of all handles together; what is computed twice is counted twice.
    tokens: Arc<Vec<Vec<AtomicU64>>>,
}

/// Scores of an MLP's widths by what a token's hidden state says: (t, d) to (t, n), float32. Hidden states are first brought to a mean
/// square of 1.
pub fn token_scores(down: &Tensor, up: &Tensor, hidden: &Tensor) -> Tensor {
    let hidden = hidden.to_kind(Kind::Float);
    let scale = (hidden.square().mean_dim([-1_i64].as_slice(), true, Kind::Float) + EPSILON).rsqrt(); // (t, 1)
    (hidden * scale).matmul(&down.tr()).silu().matmul(&up.tr()) // (t, n)
}

impl LayerRouter {
    /// The place of each token's width: (t, d) to (t), int64.
    fn choose(&self, hidden: &Tensor) -> Tensor {
        (token_scores(&self.down, &self.up, hidden) + &self.bias).argmax(1, false)
    }
}

impl TokenRouter {
    /// A router of a model's layers. With `by_chance` the same widths are dealt to other tokens: what choosing is worth.
    pub fn new(layers: Vec<Option<LayerRouter>>, by_chance: bool) -> TokenRouter {
        let none = |layer: &Option<LayerRouter>| {
            let widths = layer.as_ref().map_or(0, |layer| layer.widths.len());
            (0..widths).map(|_| AtomicU64::new(0)).collect()
        };
        TokenRouter { tokens: Arc::new(layers.iter().map(none).collect()), layers, by_chance }
    }

    /// Handles of the same tensors and counts.
    pub fn share(&self) -> TokenRouter {
        self.with(&Tensor::shallow_clone)
    }

    /// The same on a device, with the same counts.
    pub fn on(&self, device: Device) -> TokenRouter {
        self.with(&|tensor| tensor.to_device(device))
    }

    fn with(&self, of: &dyn Fn(&Tensor) -> Tensor) -> TokenRouter {
        let handles = |layer: &LayerRouter| LayerRouter {
            widths: layer.widths.clone(),
            down: of(&layer.down),
            up: of(&layer.up),
            bias: of(&layer.bias),
        };
        let layers = self.layers.iter().map(|layer| layer.as_ref().map(handles)).collect();
        TokenRouter { layers, by_chance: self.by_chance, tokens: self.tokens.clone() }
    }

    /// Of each layer the widths that it chooses from with the tokens that got each so far.
    pub fn tokens(&self) -> Vec<Vec<(u32, u64)>> {
        let of = |(layer, counts): (&Option<LayerRouter>, &Vec<AtomicU64>)| {
            let widths = layer.iter().flat_map(|layer| layer.widths.iter().copied());
            widths.zip(counts.iter().map(|count| count.load(Ordering::Relaxed))).collect()
        };
        self.layers.iter().zip(self.tokens.iter()).map(of).collect()
    }

    /// How many weights it has.
    pub fn weights(&self) -> u64 {
        let of = |layer: &LayerRouter| layer.down.numel() + layer.up.numel() + layer.bias.numel();
        self.layers.iter().flatten().map(of).sum::<usize>() as u64
    }

    /// An MLP half layer of this width at each token's own, where the router chooses for it: tokens of one width are computed together, by
    /// `at`.
    pub(super) fn feed(
        &self,
        layer: usize,
        width: u32,
        before: &Stream,
        at: &dyn Fn(u32, &Stream) -> Stream,
    ) -> Option<Stream> {
        let router = self.layers.get(layer)?.as_ref()?;
        if router.widths.last() != Some(&width) {
            return None;
        }
        let hidden = before.hidden();
        let mut choices = Vec::<i64>::try_from(&router.choose(hidden)).expect("one number a token");
        if self.by_chance {
            choices.shuffle(&mut ChaCha8Rng::seed_from_u64(layer as u64));
        }
        let mut rows: Vec<Vec<i64>> = vec![Vec::new(); router.widths.len()];
        for (row, &place) in choices.iter().enumerate() {
            rows[place as usize].push(row as i64);
        }
        let mut after = Tensor::empty_like(hidden);
        for ((&width, rows), count) in router.widths.iter().zip(&rows).zip(&self.tokens[layer]) {
            count.fetch_add(rows.len() as u64, Ordering::Relaxed);
            if rows.len() == choices.len() {
                return Some(at(width, before));
            }
            if !rows.is_empty() {
                let rows = Tensor::from_slice(rows).to_device(hidden.device());
                let part = Stream::new(hidden.index_select(0, &rows)); // (t, d)
                let fed = at(width, &part).into_hidden();
                let _ = after.index_copy_(0, &rows, &fed);
            }
        }
        Some(Stream::new(after))
    }
}
