//! What tokens see of those before them.
//!
//! Letters: as in `forward.rs`; `b` sequences, `n` new tokens of each, `s` tokens so far.

use tch::{Device, Tensor};

use crate::error::Result;

/// Keys and values of sequences so far, layer by layer.
pub(crate) trait Context {
    /// The positions of the next `n` tokens of `b` sequences: int64, (b·n).
    ///
    /// # Errors
    /// `Invalid` where there is no room for them, or they cannot come together.
    fn positions(&self, sequences_and_tokens: [i64; 2], device: Device) -> Result<Tensor>;

    /// Attention of the next tokens to themselves and all before, or to the last `window` of those: queries (b·n, k, g, e),
    /// keys and values (b·n, k, e), which are kept, to (b·n, h·e).
    fn attend(&mut self, layer: usize, heads: [&Tensor; 3], window: Option<usize>) -> Tensor;

    /// All layers have kept `n` tokens more of each sequence.
    fn advance(&mut self, n: i64);
}
