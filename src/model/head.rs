//! The last norm and the output matrix: from hidden states to what they say about the next tokens.
//!
//! Letters: as in `forward.rs`, and `r` rows that predict something.

use std::cell::RefCell;

use tch::{Kind, Tensor};

use super::targets::Targets;
use crate::kernels::Kernels;
use crate::kernels::log_probs::Chosen;

/// Logits are computed for this many rows at a time, so that a float32 (rows, v) stays small. Part of
/// what makes a score reproducible, so a constant.
pub const HEAD_ROWS: i64 = 256;

/// The end of a model.
pub struct Head {
    /// (d)
    pub(super) norm: Tensor,
    /// (v, d); the embedding itself when tied.
    pub(super) matrix: Tensor,
    pub(super) epsilon: f64,
    pub(super) kernels: Kernels,
    /// Where the logits of some rows go before the next ones' do: mapping so much memory takes longer than filling it.
    room: RefCell<Tensor>,
}

impl Head {
    /// The end of a model with this norm, (d), and output matrix, (v, d).
    pub(super) fn new(norm: Tensor, matrix: Tensor, epsilon: f64, kernels: Kernels) -> Head {
        let room = RefCell::new(Tensor::empty([0], (matrix.kind(), matrix.device())));
        Head { norm, matrix, epsilon, kernels, room }
    }

    /// The same with this output matrix.
    pub(super) fn with_matrix(&self, matrix: Tensor) -> Head {
        Head::new(self.norm.shallow_clone(), matrix, self.epsilon, self.kernels.clone())
    }

    /// Handles of the same tensors.
    pub(super) fn share(&self) -> Head {
        self.with_matrix(self.matrix.shallow_clone())
    }

    /// The output matrix, (v, d).
    pub fn matrix(&self) -> &Tensor {
        &self.matrix
    }

    /// Logits, float32: (t, d) to (t, v).
    pub fn logits(&self, hidden: &Tensor) -> Tensor {
        self.logits_of_normed(&self.final_norm(hidden))
    }

    /// The last layer's output as the output matrix takes it: (t, d) to (t, d).
    pub fn final_norm(&self, hidden: &Tensor) -> Tensor {
        self.kernels.rms_norm(hidden, &self.norm, self.epsilon, self.matrix.kind())
    }

    /// Logits of what [`Head::final_norm`] gave, float32: (t, d) to (t, v).
    pub fn logits_of_normed(&self, normed: &Tensor) -> Tensor {
        normed.matmul(&self.matrix.tr()).to_kind(Kind::Float)
    }

    /// What a few rows say about the tokens after them, and how far they are from `parent` where it is given.
    /// `hidden` is the last layer's output (t, d).
    pub fn predict(&self, hidden: &Tensor, targets: &Targets, parent: Option<&Reference>) -> Predictions {
        let mut predictions = Predictions::default();
        let rows = hidden.index_select(0, &Tensor::from_slice(&targets.rows).to_device(self.matrix.device())); // (r, d)
        let mut room = self.room.borrow_mut();
        let mut pair = 0;
        for first in (0..targets.rows.len() as i64).step_by(HEAD_ROWS as usize) {
            let count = HEAD_ROWS.min(targets.rows.len() as i64 - first);
            let normed = self.final_norm(&rows.narrow(0, first, count)); // (r, d)
            let logits = normed.matmul_out(&room.resize_([count, self.matrix.size()[0]]), &self.matrix.tr()); // (r, v)
            let end = pair + targets.pairs[pair..].partition_point(|&(row, _)| i64::from(row) < first + count);
            let here = &targets.pairs[pair..end];
            pair = end;
            let row: Vec<i64> = here.iter().map(|&(row, _)| i64::from(row) - first).collect();
            let token: Vec<i64> = here.iter().map(|&(_, token)| i64::from(token)).collect();
            let Chosen { log_probs, best } = self.kernels.log_probs(&logits, &row, &token, targets.greedy);
            predictions.log_probs.extend(Vec::<f32>::try_from(log_probs).expect("a one-dimensional float tensor"));
            if let Some(best) = best {
                predictions.greedy.extend(Vec::<bool>::try_from(best).expect("a one-dimensional bool tensor"));
            }
            if let Some(parent) = parent {
                let divergences = parent.divergences(first, &logits, &self.kernels); // (r)
                predictions.divergences.extend(Vec::<f32>::try_from(divergences).expect("one-dimensional floats"));
            }
        }
        predictions
    }

    /// What this network predicts at the rows of `targets`, to measure others against.
    pub fn reference(&self, hidden: &Tensor, targets: &Targets) -> Reference {
        let rows = hidden.index_select(0, &Tensor::from_slice(&targets.rows).to_device(self.matrix.device())); // (r, d)
        let (mut tokens, mut log_probs) = (Vec::new(), Vec::new());
        for first in (0..targets.rows.len() as i64).step_by(HEAD_ROWS as usize) {
            let count = HEAD_ROWS.min(targets.rows.len() as i64 - first);
            let all = self.logits(&rows.narrow(0, first, count)).log_softmax(1, Kind::Float); // (r, v)
            let (values, places) = all.topk(TOP_TOKENS.min(all.size()[1]), 1, true, false); // (r, 64) each
            tokens.push(places);
            log_probs.push(values);
        }
        Reference { tokens: Tensor::cat(&tokens, 0), log_probs: Tensor::cat(&log_probs, 0) }
    }
}

/// What the parent predicts at the rows of a chunk: its most likely tokens; all others are one bucket.
pub struct Reference {
    /// (r, 64)
    tokens: Tensor,
    /// Natural logarithms, float32, (r, 64)
    log_probs: Tensor,
}

/// Tokens of a [`Reference`].
const TOP_TOKENS: i64 = 64;

impl Reference {
    /// Forward divergence KL(parent ‖ network) of rows from `first` on, nats: (r, v) logits to (r).
    fn divergences(&self, first: i64, logits: &Tensor, kernels: &Kernels) -> Tensor {
        let count = logits.size()[0];
        let parent = self.log_probs.narrow(0, first, count); // (r, 64)
        let tokens = self.tokens.narrow(0, first, count); // (r, 64)
        let most = tokens.size()[1];
        let rows: Vec<i64> = (0..count * most).map(|pair| pair / most).collect();
        let tokens = Vec::<i64>::try_from(tokens.reshape([-1])).expect("one-dimensional numbers");
        let ours = kernels.log_probs(logits, &rows, &tokens, false).log_probs.view([count, most]); // (r, 64)
        let top = (parent.exp() * (&parent - &ours)).sum_dim_intlist([1_i64].as_slice(), false, Kind::Float); // (r)
        // The rest's share is at least the rounding of a sum of float32 probabilities.
        let rest =
            |of: &Tensor| (1.0_f64 - of.exp().sum_dim_intlist([1_i64].as_slice(), false, Kind::Float)).clamp_min(1e-7);
        let (parent, ours) = (rest(&parent), rest(&ours)); // (r)
        top + &parent * (parent.log() - ours.log())
    }
}

/// One entry a pair of [`Targets`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Predictions {
    /// Natural-log probability of the token.
    pub log_probs: Vec<f32>,
    /// Whether it is the most likely token; empty when not asked for.
    pub greedy: Vec<bool>,
    /// KL(parent ‖ network) in nats, one entry a row of [`Targets`]; empty when not asked for.
    pub divergences: Vec<f32>,
}
