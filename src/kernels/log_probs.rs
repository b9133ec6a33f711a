//! Log-probabilities of chosen tokens, without a float32 copy of all logits.

use half::bf16;
use tch::{Kind, Tensor};

use super::card::Argument::{Int, Tensor as Values};
use super::cpu::{self, Band, Element};
use super::{Kernels, LoopKind};

/// Largest difference of the kernel from [`reference()`], nats: float32 exponentials of 2 units in error, added in another order.
pub const BOUND: f64 = 1e-4;

/// Threads of a row.
const THREADS: u32 = 512;

/// What rows say about chosen tokens.
pub struct Chosen {
    /// Natural-log probability of each token, float32, (p).
    pub log_probs: Tensor,
    /// Whether each is its row's most likely token, the first of several, (p).
    pub best: Option<Tensor>,
}

impl Kernels {
    /// The log-probabilities of `tokens` by the logits of `rows`: (r, v) and p pairs, by row ascending. `best` asks for
    /// whether each token is the most likely one.
    pub fn log_probs(&self, logits: &Tensor, rows: &[i64], tokens: &[i64], best: bool) -> Chosen {
        let (r, v) = logits.size2().expect("rows of the vocabulary");
        let device = logits.device();
        let Some(card) = self.card_for(&[logits]).filter(|_| !rows.is_empty()) else {
            return match self.loop_for(&[logits], &[]) {
                Some(LoopKind::F32) => looped::<f32>(logits, rows, tokens, best),
                Some(LoopKind::Bf16) => looped::<bf16>(logits, rows, tokens, best),
                None => reference(logits, rows, tokens, best),
            };
        };
        let first: Vec<i32> = (0..=r).map(|row| rows.partition_point(|&of| of < row) as i32).collect();
        let first = Tensor::from_slice(&first).to_device(device);
        let tokens = Tensor::from_slice(tokens).to_kind(Kind::Int).to_device(device);
        let log_probs = Tensor::empty([rows.len() as i64], (Kind::Float, device));
        let likeliest = Tensor::empty([rows.len() as i64], (Kind::Bool, device));
        let out = [Values(&log_probs), Values(&likeliest), Int(v as i32)];
        let arguments: Vec<_> = [Values(logits), Values(&first), Values(&tokens)].into_iter().chain(out).collect();
        card.launch("log_probs", [r as u32, 1], THREADS, &arguments);
        Chosen { log_probs, best: best.then_some(likeliest) }
    }
}

/// The CPU's loop.
fn looped<E: Element>(logits: &Tensor, rows: &[i64], tokens: &[i64], best: bool) -> Chosen {
    let (r, v) = logits.size2().expect("rows of the vocabulary");
    let (r, v) = (r as usize, v as usize);
    let (mut most, mut totals) = (vec![0.0; r], vec![0.0; r]);
    let values = cpu::values::<E>(logits);
    let band = cpu::rows_a_band(r, v);
    let parts = values.chunks((band * v).max(1)).zip(most.chunks_mut(band).zip(totals.chunks_mut(band)));
    cpu::run(parts.map(|(logits, (most, totals))| Rows { logits, most, totals }));
    let pairs = || rows.iter().zip(tokens).map(|(&row, &token)| (row as usize, token as usize));
    let logit = |(row, token): (usize, usize)| values[row * v + token].load();
    let log_probs: Vec<f32> = pairs().map(|pair| logit(pair) - totals[pair.0]).collect();
    // The first of several most likely ones: none before it is as large.
    let is_best = |(row, token): (usize, usize)| {
        let row_of = &values[row * v..][..token];
        logit((row, token)) == most[row] && row_of.iter().all(|other| other.load() < most[row])
    };
    let best = best.then(|| Tensor::from_slice(&pairs().map(is_best).collect::<Vec<bool>>()));
    Chosen { log_probs: Tensor::from_slice(&log_probs), best }
}

/// Some rows, their largest logit and the logarithm of the sum of their exponentials.
struct Rows<'a, E> {
    logits: &'a [E],
    most: &'a mut [f32],
    totals: &'a mut [f32],
}

impl<E: Element> Band for Rows<'_, E> {
    #[inline(always)]
    fn run(self) {
        let v = self.logits.len() / self.most.len();
        for ((row, most), total) in self.logits.chunks_exact(v).zip(self.most).zip(self.totals) {
            let largest = cpu::largest(row);
            *most = largest;
            *total = largest + cpu::sum(row, |sum, value| sum + cpu::exp(value - largest)).ln();
        }
    }
}

/// The plain operations, in float32.
pub fn reference(logits: &Tensor, rows: &[i64], tokens: &[i64], best: bool) -> Chosen {
    let logits = logits.to_kind(Kind::Float); // (r, v)
    let row = Tensor::from_slice(rows).to_device(logits.device()); // (p)
    let token = Tensor::from_slice(tokens).to_device(logits.device()); // (p)
    let total = logits.logsumexp([1], false).index_select(0, &row); // (p)
    let chosen = logits.index(&[Some(&row), Some(&token)]); // (p)
    let best = best.then(|| logits.argmax(1, false).index_select(0, &row).eq_tensor(&token)); // (p)
    Chosen { log_probs: chosen - total, best }
}
