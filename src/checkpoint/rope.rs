//! Rotary frequencies, and how checkpoints stretch them to contexts longer than they were trained on.
//!
//! Formulas and defaults as in transformers 5.23's `modeling_rope_utils.py`; where they come from stands at each kind.

use std::f64::consts::PI;

use serde::Serialize;

/// How the rotary frequencies are stretched (`rope_type`).
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum RopeScaling {
    /// LLaMA 3's (`llama3`).
    Llama3(Llama3Scaling),
    /// Positions divided by a factor (`linear`).
    Linear {
        /// What positions are divided by.
        linear_factor: f64,
    },
    /// A larger base for sequences beyond `max_position_embeddings` (`dynamic`). Up to there, which is as far as sequences
    /// go here, frequencies are plain: how long a sequence becomes does not change what its beginning means.
    Dynamic {
        /// How much longer sequences would get.
        dynamic_factor: f64,
    },
    /// YaRN (Peng et al. 2023; `yarn`).
    Yarn(YarnScaling),
    /// A divisor for each frequency (`longrope`).
    LongRope(LongRopeScaling),
}

/// LLaMA 3's stretching of the rotary frequencies (`rope_type: llama3`).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Llama3Scaling {
    /// By how much the lowest frequencies are divided.
    pub factor: f64,
    /// Wavelengths above `original / low_freq_factor` are divided by `factor`.
    pub low_freq_factor: f64,
    /// Wavelengths below `original / high_freq_factor` are left alone.
    pub high_freq_factor: f64,
    /// The context the model was trained on before it was stretched.
    pub original_max_position_embeddings: usize,
}

/// YaRN's: high frequencies stay, low ones are divided, those between are mixed, and the angles' cosines and sines grow.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct YarnScaling {
    /// What the lowest frequencies are divided by.
    pub factor: f64,
    /// The context the model was trained on before it was stretched.
    pub original_max_position_embeddings: usize,
    /// What cosines and sines are multiplied by.
    pub attention_factor: f64,
    /// Frequencies that turn more often than this in the original context stay.
    pub beta_fast: f64,
    /// Frequencies that turn less often than this are divided.
    pub beta_slow: f64,
    /// Whether the bounds between them are whole frequencies.
    pub truncate: bool,
}

/// LongRoPE's (Ding et al. 2024): divisors for sequences up to the original context, and others beyond it. Sequences here end
/// at the original context: beyond it every position's angle would change.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LongRopeScaling {
    /// What each frequency is divided by up to the original context.
    pub short_factor: Vec<f64>,
    /// What each is divided by in longer sequences.
    pub long_factor: Vec<f64>,
    /// The context the model was trained on before it was stretched.
    pub original_max_position_embeddings: usize,
    /// What cosines and sines are multiplied by.
    pub attention_factor: f64,
}

/// The plain frequencies, `head_dim / 2` values (Su et al. 2021): `theta^(−2i / head_dim)`.
pub fn plain_frequencies(head_dim: usize, rope_theta: f64) -> Vec<f64> {
    (0..head_dim / 2).map(|pair| rope_theta.powf(-(2.0 * pair as f64) / head_dim as f64)).collect()
}

impl RopeScaling {
    /// What each plain frequency is divided by, `head_dim / 2` values.
    pub fn divisors(&self, head_dim: usize, rope_theta: f64) -> Vec<f64> {
        let all = |divisor| vec![divisor; head_dim / 2];
        match self {
            RopeScaling::Llama3(llama3) => llama3.divisors(head_dim, rope_theta),
            RopeScaling::Linear { linear_factor } => all(*linear_factor),
            RopeScaling::Dynamic { .. } => all(1.0),
            RopeScaling::Yarn(yarn) => yarn.divisors(head_dim, rope_theta),
            RopeScaling::LongRope(long) => long.short_factor.clone(),
        }
    }

    /// What cosines and sines are multiplied by.
    pub fn attention_factor(&self) -> f64 {
        match self {
            RopeScaling::Llama3(_) | RopeScaling::Linear { .. } | RopeScaling::Dynamic { .. } => 1.0,
            RopeScaling::Yarn(yarn) => yarn.attention_factor,
            RopeScaling::LongRope(long) => long.attention_factor,
        }
    }

    /// The longest sequence whose every token has the angles of these divisors, where that is shorter than the model's
    /// positions.
    pub fn longest(&self) -> Option<usize> {
        match self {
            RopeScaling::LongRope(long) if long.long_factor != long.short_factor => {
                Some(long.original_max_position_embeddings)
            }
            _ => None,
        }
    }

    /// What is impossible about it, for heads of this size.
    pub(super) fn problem(&self, head_dim: usize) -> Option<String> {
        let positive = |values: &[f64]| values.iter().all(|value| value.is_finite() && *value > 0.0);
        let fits = match self {
            RopeScaling::Llama3(one) => {
                let Llama3Scaling { factor, low_freq_factor: low, high_freq_factor: high, .. } = *one;
                positive(&[factor, low, high]) && low < high && one.original_max_position_embeddings > 0
            }
            RopeScaling::Linear { linear_factor: factor } | RopeScaling::Dynamic { dynamic_factor: factor } => {
                positive(&[*factor])
            }
            RopeScaling::Yarn(one) => {
                let YarnScaling { factor, attention_factor, beta_fast: fast, beta_slow: slow, .. } = *one;
                positive(&[factor, attention_factor, fast, slow])
                    && fast >= slow
                    && one.original_max_position_embeddings > 0
            }
            RopeScaling::LongRope(one) => {
                let lists = [&one.short_factor, &one.long_factor];
                lists.iter().all(|list| list.len() == head_dim / 2 && positive(list))
                    && positive(&[one.attention_factor])
                    && one.original_max_position_embeddings > 0
            }
        };
        let expected = match self {
            RopeScaling::Llama3(_) => "positive numbers with low_freq_factor < high_freq_factor".into(),
            RopeScaling::Yarn(_) => "positive numbers with beta_slow at most beta_fast".into(),
            RopeScaling::LongRope(_) => format!("two lists of {} positive factors, half a head", head_dim / 2),
            RopeScaling::Linear { .. } | RopeScaling::Dynamic { .. } => "a positive factor".to_string(),
        };
        (!fits).then(|| format!("rope scaling: found {self:?}, expected {expected}"))
    }
}

impl Llama3Scaling {
    /// Between the two bounds the divided and the plain frequency are mixed linearly in `original / wavelength`
    /// (`_compute_llama3_parameters`).
    fn divisors(&self, head_dim: usize, rope_theta: f64) -> Vec<f64> {
        let original = self.original_max_position_embeddings as f64;
        let (low, high) = (self.low_freq_factor, self.high_freq_factor);
        (0..head_dim / 2)
            .map(|i| {
                let wavelength = 2.0 * PI * rope_theta.powf(2.0 * i as f64 / head_dim as f64);
                if wavelength < original / high {
                    1.0
                } else if wavelength > original / low {
                    self.factor
                } else {
                    let smooth = (original / wavelength - low) / (high - low);
                    1.0 / ((1.0 - smooth) / self.factor + smooth)
                }
            })
            .collect()
    }
}

impl YarnScaling {
    /// YaRN's attention factor where a checkpoint names none: 0.1 · ln(factor) + 1 (Peng et al. 2023, equation 22).
    pub fn usual_attention_factor(factor: f64) -> f64 {
        scale_of_logits(factor, 1.0)
    }

    /// Mixes plain and divided frequencies by a ramp between the two bounds (`_compute_yarn_parameters`).
    fn divisors(&self, head_dim: usize, rope_theta: f64) -> Vec<f64> {
        let dim = head_dim as f64;
        let original = self.original_max_position_embeddings as f64;
        // The frequency, by its number, that turns so often in the original context.
        let number = |turns: f64| dim * (original / (turns * 2.0 * PI)).ln() / (2.0 * rope_theta.ln());
        let (mut low, mut high) = (number(self.beta_fast), number(self.beta_slow));
        if self.truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        let (low, mut high) = (low.max(0.0), high.min(dim - 1.0));
        if low == high {
            high += 0.001;
        }
        let ramp = |pair: usize| ((pair as f64 - low) / (high - low)).clamp(0.0, 1.0);
        (0..head_dim / 2).map(|pair| 1.0 / (ramp(pair) / self.factor + 1.0 - ramp(pair))).collect()
    }
}

/// YaRN's `mscale`: how much attention logits grow when positions are stretched.
pub(super) fn scale_of_logits(factor: f64, mscale: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 0.1 * mscale * factor.ln() + 1.0 }
}

impl LongRopeScaling {
    /// LongRoPE's attention factor where a checkpoint names none: √(1 + ln(factor) / ln(original)).
    pub fn usual_attention_factor(factor: f64, original: usize) -> f64 {
        if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / (original as f64).ln()).sqrt() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: &[f64], expected: &[(usize, f64)]) {
        for &(index, expected) in expected {
            assert!((found[index] - expected).abs() < 1e-4 * expected, "{index}: {}, not {expected}", found[index]);
        }
    }

    // The expected values of these tests: transformers 5.23.0, ROPE_INIT_FUNCTIONS, plain / stretched frequencies.

    #[test]
    fn stretches_frequencies_as_llama_3_1_does() {
        let scaling = Llama3Scaling {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 8192,
        };
        let divisors = scaling.divisors(128, 500000.0);
        assert_eq!(divisors.len(), 64);
        assert_eq!((divisors[0], divisors[63]), (1.0, 8.0));
        near(&divisors, &[(28, 1.0), (29, 1.207484), (31, 2.026313), (34, 5.257327), (35, 8.0)]);
    }

    #[test]
    fn mixes_plain_and_divided_frequencies_as_yarn_does() {
        let qwen = YarnScaling {
            factor: 4.0,
            original_max_position_embeddings: 32768,
            attention_factor: YarnScaling::usual_attention_factor(4.0),
            beta_fast: 32.0,
            beta_slow: 1.0,
            truncate: true,
        };
        assert!((qwen.attention_factor - 1.138629436).abs() < 1e-9);
        let divisors = qwen.divisors(128, 1e6);
        near(&divisors, &[(0, 1.0), (23, 1.0), (24, 1.046154), (31, 1.545454), (39, 3.4), (40, 4.0), (63, 4.0)]);
        let own = YarnScaling {
            factor: 8.0,
            original_max_position_embeddings: 1024,
            beta_fast: 16.0,
            beta_slow: 2.0,
            truncate: false,
            ..qwen
        };
        near(&own.divisors(64, 1e4), &[(8, 1.0), (9, 1.127854), (12, 1.910937), (15, 6.251266), (16, 8.0)]);
        let many = scale_of_logits(40.0, 1.0) / scale_of_logits(40.0, 0.8);
        assert!((many - 1.0569662567531275).abs() < 1e-12, "{many}");
    }

    #[test]
    fn long_contexts_have_their_own_divisors_and_sequences_end_before_them() {
        let short_factor = vec![1.0, 1.1, 1.2, 1.3];
        let usual = LongRopeScaling::usual_attention_factor(131072.0 / 4096.0, 4096);
        assert!((usual - 1.1902380714238083).abs() < 1e-12, "{usual}");
        let long = |long_factor: &[f64]| {
            RopeScaling::LongRope(LongRopeScaling {
                short_factor: short_factor.clone(),
                long_factor: long_factor.to_vec(),
                original_max_position_embeddings: 4096,
                attention_factor: usual,
            })
        };
        let scaling = long(&[1.0, 2.0, 3.0, 4.0]);
        assert_eq!((scaling.divisors(8, 1e4), scaling.longest()), (short_factor.clone(), Some(4096)));
        assert_eq!(long(&short_factor).longest(), None, "one list for all lengths");
        assert!(scaling.problem(16).unwrap().contains("two lists of 8 positive factors"));
        assert_eq!(scaling.problem(8), None);
    }
}
