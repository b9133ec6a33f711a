//! From a budget to scores of widths: Linear, LeakyReLU, Linear, as NVIDIA's released router of Flextron.
//!
//! Letters: `b` budgets that it is trained on, `c` choices of all half layers together, `i` inner width.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};
use tch::{Kind, Tensor};

/// Inner width.
const INNER: usize = 128;
/// Standard deviation of weights at the start.
const DEVIATION: f64 = 0.1;
/// Slope of the LeakyReLU below 0.
const SLOPE: f64 = 0.1;
/// What a half layer's widest choice is given at the start: a router begins near the whole model.
const WIDEST: f32 = 1.0;

/// Scores of widths by budget.
pub(super) struct Budgeted {
    /// (i, b)
    pub first: Tensor,
    /// (i)
    pub first_bias: Tensor,
    /// (c, i)
    pub second: Tensor,
    /// (c)
    pub second_bias: Tensor,
}

/// A matrix of normal numbers.
pub(super) fn normal(rng: &mut ChaCha8Rng, [rows, columns]: [usize; 2], deviation: f64) -> Tensor {
    let normal = Normal::new(0.0, deviation).expect("a deviation above 0");
    let values: Vec<f32> = (0..rows * columns).map(|_| normal.sample(rng) as f32).collect();
    Tensor::from_slice(&values).view([rows as i64, columns as i64])
}

/// Noise of Gumbel's distribution, of any shape: with it the likeliest choice is a draw (Jang, Gu and Poole 2017, "Categorical
/// Reparameterization with Gumbel-Softmax").
pub(super) fn gumbel(rng: &mut ChaCha8Rng, size: &[i64]) -> Tensor {
    let count: i64 = size.iter().product();
    let draw = |_| -(-rng.random_range(f32::MIN_POSITIVE..1.0).ln()).ln();
    Tensor::from_slice(&(0..count).map(draw).collect::<Vec<f32>>()).view(size)
}

impl Budgeted {
    /// A router that knows nothing yet; `halves` are the choices of each half layer.
    pub(super) fn new(rng: &mut ChaCha8Rng, budgets: usize, halves: &[Vec<u32>]) -> Budgeted {
        let count = halves.iter().map(Vec::len).sum();
        let bias: Vec<f32> = halves
            .iter()
            .flat_map(|widths| (1..=widths.len()).map(|place| if place == widths.len() { WIDEST } else { 0.0 }))
            .collect();
        Budgeted {
            first: normal(rng, [INNER, budgets], DEVIATION),
            first_bias: Tensor::zeros([INNER as i64], (Kind::Float, tch::Device::Cpu)),
            second: normal(rng, [count, INNER], DEVIATION),
            second_bias: Tensor::from_slice(&bias),
        }
    }

    /// Its tensors by name.
    pub(super) fn named(&self) -> [(&'static str, &Tensor); 4] {
        let Budgeted { first, first_bias, second, second_bias } = self;
        [("first", first), ("first_bias", first_bias), ("second", second), ("second_bias", second_bias)]
    }

    /// The same values in tensors of their own.
    pub(super) fn copy(&self) -> Budgeted {
        let [first, first_bias, second, second_bias] = self.named().map(|(_, tensor)| tensor.detach().copy());
        Budgeted { first, first_bias, second, second_bias }
    }

    /// Scores of all choices, (c), of a mixture of budgets, (b).
    pub(super) fn scores(&self, budget: &Tensor) -> Tensor {
        let inner = self.first.mv(budget) + &self.first_bias; // (i)
        let inner = inner.maximum(&(&inner * SLOPE));
        self.second.mv(&inner) + &self.second_bias // (c)
    }
}
