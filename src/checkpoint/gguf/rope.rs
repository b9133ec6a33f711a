//! How a GGUF file says that positions are stretched: by keys, and by divisors of the frequencies in a tensor.
//!
//! Rules as in llama.cpp's `llama_model_base::load_hparams` and `llama_context`: without a type a factor is linear, the older key
//! counts where the newer is missing, type `none` switches a factor off, divisors and factors multiply.

use tch::{Kind, Tensor};

use super::architecture::{ArchitectureRow, is_in_keys};
use super::metadata::{Entry, Metadata};
use crate::checkpoint::config::LlamaConfig;
use crate::checkpoint::raw_tensor::FoundTensors;
use crate::checkpoint::rope::{Llama3Scaling, LongRopeScaling, RopeScaling, YarnScaling};
use crate::error::Result;

/// Divisors of the rotary frequencies.
const FREQUENCIES: &str = "rope_freqs.weight";
/// LongRoPE's, for sequences up to the original context and for longer ones.
const SHORT_AND_LONG: [&str; 2] = ["rope_factors_short.weight", "rope_factors_long.weight"];
/// What lets LLaMA 3's numbers be read back from the divisors.
const LLAMA3_KEYS: [&str; 3] =
    ["criadero.rope.low_freq_factor", "criadero.rope.high_freq_factor", "criadero.rope.original_context_length"];
/// Keys of YaRN that no published file has, and the values at which they say nothing.
const RARE_YARN: [(&str, f64); 3] = [
    ("rope.scaling.yarn_ext_factor", 1.0),
    ("rope.scaling.yarn_attn_factor", 1.0),
    ("rope.scaling.yarn_log_multiplier", 0.0),
];

/// The tensors that say how positions are stretched, of those that llama.cpp reads under this architecture and scaling.
pub(super) fn divisors_of(architecture: &ArchitectureRow, scaling: Option<&RopeScaling>) -> &'static [&'static str] {
    match scaling {
        _ if !architecture.divisors => &[],
        Some(RopeScaling::LongRope(long)) if long.long_factor != long.short_factor => &SHORT_AND_LONG,
        _ => &[FREQUENCIES],
    }
}

/// A file, as far as rotary frequencies need it.
pub(super) struct RopeSource<'a> {
    pub(super) metadata: &'a Metadata,
    pub(super) found: &'a FoundTensors,
    pub(super) architecture: &'a ArchitectureRow,
    /// `head_dim`, `rope_theta` and positions.
    pub(super) config: &'a LlamaConfig,
}

impl RopeSource<'_> {
    /// How the frequencies are stretched.
    pub(super) fn scaling(&self, notes: &mut Vec<String>) -> Result<Option<RopeScaling>> {
        let key = |name: &str| format!("{}.{name}", self.architecture.name);
        let wrong = |name: &str, reason: String| self.metadata.wrong(&key(name), reason);
        let number = |name: &str| self.metadata.number(&key(name));
        let (new, old) = (number("rope.scaling.factor")?, number("rope.scale_linear")?);
        if let (Some(new), Some(old)) = (new, old)
            && new != old
        {
            notes.push(format!(
                "rope.scaling.factor is {new} and rope.scale_linear {old}: the first counts, as in llama.cpp"
            ));
        }
        let factor = new.or(old).filter(|&factor| factor != 0.0).unwrap_or(1.0);
        let attention = number("rope.scaling.attn_factor")?.unwrap_or(1.0);
        let original = match self.metadata.count(&key("rope.scaling.original_context_length"))? {
            Some(original) => original as usize,
            None => self.config.max_position_embeddings,
        };
        let kind = self.metadata.text(&key("rope.scaling.type"))?.unwrap_or("linear".into());
        let linear = |factor| (factor != 1.0).then_some(RopeScaling::Linear { linear_factor: factor });
        let scaling = match kind.as_str() {
            "none" => {
                if factor != 1.0 {
                    notes.push(format!(
                        "rope.scaling.type is none: the factor {factor} does not count, as in llama.cpp"
                    ));
                }
                self.with_divisors(None, attention)?
            }
            "linear" => self.with_divisors(linear(factor), attention)?,
            "yarn" => {
                for (name, neutral) in RARE_YARN {
                    if let Some(value) = number(name)?.filter(|&value| value != neutral) {
                        return Err(wrong(name, format!("found {value}, expected {neutral} or no such key")));
                    }
                }
                let yarn = YarnScaling {
                    factor,
                    original_max_position_embeddings: original,
                    attention_factor: attention * YarnScaling::usual_attention_factor(factor),
                    beta_fast: number("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
                    beta_slow: number("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
                    truncate: true,
                };
                self.with_divisors(Some(RopeScaling::Yarn(yarn)), 1.0)?
            }
            "longrope" => {
                let [short, long] = SHORT_AND_LONG.map(|name| self.divisors(name));
                let (Some(short), Some(long)) = (short?, long?) else {
                    let expected = format!("{} beside it", SHORT_AND_LONG.join(" and "));
                    return Err(wrong("rope.scaling.type", format!("found `longrope`, expected {expected}")));
                };
                let times = |list: Vec<f64>| list.into_iter().map(|divisor| divisor * factor).collect();
                Some(RopeScaling::LongRope(LongRopeScaling {
                    short_factor: times(short),
                    long_factor: times(long),
                    original_max_position_embeddings: original,
                    attention_factor: attention,
                }))
            }
            other => {
                let reason = format!("found `{other}`, expected none, linear, yarn or longrope");
                return Err(wrong("rope.scaling.type", reason));
            }
        };
        let problem = scaling.as_ref().and_then(|scaling| scaling.problem(self.config.shape.head_dim));
        problem.map_or(Ok(scaling), |problem| Err(wrong("rope.scaling", problem)))
    }

    /// A stretching, and the file's own divisors of the frequencies on top of it.
    fn with_divisors(&self, scaling: Option<RopeScaling>, attention: f64) -> Result<Option<RopeScaling>> {
        let theta = self.config.rope_theta;
        let divisors = if self.architecture.divisors { self.divisors(FREQUENCIES)? } else { None };
        let head_dim = self.config.shape.head_dim;
        if let (Some(divisors), None) = (&divisors, &scaling)
            && attention == 1.0
            && let Some(llama3) = self.llama3(divisors)?
        {
            return Ok(Some(RopeScaling::Llama3(llama3)));
        }
        if divisors.is_none() && attention == 1.0 {
            return Ok(scaling);
        }
        let mut list = divisors.unwrap_or_else(|| vec![1.0; head_dim / 2]);
        let more = scaling.as_ref().map(|scaling| scaling.divisors(head_dim, theta)).unwrap_or_default();
        list.iter_mut().zip(more).for_each(|(divisor, more)| *divisor *= more);
        let attention_factor = attention * scaling.as_ref().map_or(1.0, RopeScaling::attention_factor);
        Ok(Some(RopeScaling::LongRope(LongRopeScaling {
            short_factor: list.clone(),
            long_factor: list,
            original_max_position_embeddings: self.config.max_position_embeddings,
            attention_factor,
        })))
    }

    /// LLaMA 3's numbers, where the divisors are theirs: those of every published model, or those that our own files keep.
    fn llama3(&self, divisors: &[f64]) -> Result<Option<Llama3Scaling>> {
        let [low, high, original] = LLAMA3_KEYS;
        let scaling = Llama3Scaling {
            factor: divisors.iter().copied().fold(1.0, f64::max),
            low_freq_factor: self.metadata.number(low)?.unwrap_or(1.0),
            high_freq_factor: self.metadata.number(high)?.unwrap_or(4.0),
            original_max_position_embeddings: self.metadata.count(original)?.unwrap_or(8192) as usize,
        };
        let expected = RopeScaling::Llama3(scaling).divisors(self.config.shape.head_dim, self.config.rope_theta);
        let close = |(found, expected): (&f64, &f64)| (found - expected).abs() <= 1e-4 * expected;
        Ok(divisors.iter().zip(&expected).all(close).then_some(scaling))
    }

    fn divisors(&self, name: &str) -> Result<Option<Vec<f64>>> {
        let Some(raw) = self.found.get(name) else { return Ok(None) };
        let expected = [self.config.shape.head_dim / 2];
        if raw.shape != expected {
            return Err(self.metadata.wrong(name, format!("found shape {:?}, expected {expected:?}", raw.shape)));
        }
        let singles: Vec<f32> = Vec::try_from(&raw.read(Kind::Float)?)?;
        Ok(Some(singles.into_iter().map(f64::from).collect()))
    }
}

/// The keys of an architecture that say how a model's positions are stretched.
pub(crate) fn keys(config: &LlamaConfig) -> Vec<(&'static str, Entry)> {
    let single = |value: f64| Entry::f32(value as f32);
    let original = |positions: usize| ("rope.scaling.original_context_length", Entry::u32(positions as u32));
    match config.rope_scaling.as_ref() {
        None | Some(RopeScaling::Dynamic { .. } | RopeScaling::Llama3(_)) => vec![],
        Some(RopeScaling::Linear { linear_factor }) => {
            vec![("rope.scaling.type", Entry::string("linear")), ("rope.scaling.factor", single(*linear_factor))]
        }
        Some(scaling @ RopeScaling::Yarn(yarn)) if is_in_keys(scaling) => {
            let attention = yarn.attention_factor / YarnScaling::usual_attention_factor(yarn.factor);
            vec![
                ("rope.scaling.type", Entry::string("yarn")),
                ("rope.scaling.factor", single(yarn.factor)),
                original(yarn.original_max_position_embeddings),
                ("rope.scaling.attn_factor", single(attention)),
                ("rope.scaling.yarn_beta_fast", single(yarn.beta_fast)),
                ("rope.scaling.yarn_beta_slow", single(yarn.beta_slow)),
            ]
        }
        Some(RopeScaling::LongRope(long)) if long.long_factor != long.short_factor => {
            vec![
                ("rope.scaling.type", Entry::string("longrope")),
                original(long.original_max_position_embeddings),
                ("rope.scaling.attn_factor", single(long.attention_factor)),
            ]
        }
        Some(scaling) => {
            vec![
                ("rope.scaling.type", Entry::string("none")),
                ("rope.scaling.attn_factor", single(scaling.attention_factor())),
            ]
        }
    }
}

/// Keys of our own that let LLaMA 3's numbers be read back.
pub(crate) fn own_keys(config: &LlamaConfig) -> Vec<(&'static str, Entry)> {
    let Some(RopeScaling::Llama3(scaling)) = &config.rope_scaling else { return vec![] };
    let [low, high, original] = LLAMA3_KEYS;
    vec![
        (low, Entry::f32(scaling.low_freq_factor as f32)),
        (high, Entry::f32(scaling.high_freq_factor as f32)),
        (original, Entry::u32(scaling.original_max_position_embeddings as u32)),
    ]
}

/// The divisors that a file holds as tensors, by name: (head_dim / 2).
pub(crate) fn tensors(config: &LlamaConfig) -> Result<Vec<(&'static str, Tensor)>> {
    let Some(scaling) = config.rope_scaling.as_ref().filter(|scaling| !is_in_keys(scaling)) else { return Ok(vec![]) };
    let singles = |list: &[f64]| -> Result<Tensor> {
        Ok(Tensor::f_from_slice(&list.iter().map(|&divisor| divisor as f32).collect::<Vec<_>>())?)
    };
    match scaling {
        RopeScaling::LongRope(long) if long.long_factor != long.short_factor => {
            let [short, rest] = SHORT_AND_LONG;
            Ok(vec![(short, singles(&long.short_factor)?), (rest, singles(&long.long_factor)?)])
        }
        _ => Ok(vec![(FREQUENCIES, singles(&scaling.divisors(config.shape.head_dim, config.rope_theta))?)]),
    }
}
