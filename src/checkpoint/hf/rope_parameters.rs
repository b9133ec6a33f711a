//! The keys of `config.json` that say how positions turn: `rope_theta`, `rope_scaling` and, since transformers 5,
//! `rope_parameters`, which joins the two.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::checkpoint::config::LlamaConfig;
use crate::checkpoint::rope::{Llama3Scaling, LongRopeScaling, RopeScaling, YarnScaling, scale_of_logits};

/// Base of the rotary frequencies where nothing is said.
const DEFAULT_THETA: f64 = 10_000.0;
/// YaRN's bounds where nothing is said.
const BETAS: [f64; 2] = [32.0, 1.0];

/// `rope_scaling` or `rope_parameters` as it stands.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub(super) struct RawRope {
    rope_type: Option<String>,
    /// The older spelling of `rope_type`.
    #[serde(rename = "type")]
    kind: Option<String>,
    rope_theta: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<usize>,
    attention_factor: Option<f64>,
    beta_fast: Option<f64>,
    beta_slow: Option<f64>,
    mscale: Option<f64>,
    mscale_all_dim: Option<f64>,
    truncate: Option<bool>,
    short_factor: Option<Vec<f64>>,
    long_factor: Option<Vec<f64>>,
    partial_rotary_factor: Option<f64>,
    /// One a kind of layer, instead of everything above.
    full_attention: Option<Value>,
    sliding_attention: Option<Value>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

impl RawRope {
    /// Whether nothing stands in it: as good as not there.
    fn is_empty(&self) -> bool {
        *self == RawRope::default()
    }

    fn name(&self) -> &str {
        self.rope_type.as_deref().or(self.kind.as_deref()).unwrap_or("default")
    }

    /// Two names that differ, and keys that are not applied: those of several positions a token change the function.
    fn look_at_names(&self, problems: &mut Vec<String>, notes: &mut Vec<String>) {
        if let (Some(new), Some(old)) = (&self.rope_type, &self.kind)
            && new != old
        {
            notes.push(format!("rope_type is `{new}` and type `{old}`: rope_type counts, as in transformers"));
        }
        let said = self.others.iter().filter(|(key, value)| *key != "finetuned" && !value.is_null());
        let (sections, others): (Vec<_>, Vec<_>) =
            said.map(|(key, _)| key.as_str()).partition(|key| key.contains("section"));
        problems
            .extend(sections.iter().map(|key| format!("rope scaling, {key}: found, expected one position a token")));
        if !others.is_empty() {
            notes.push(format!(
                "keys of the rope parameters that are not known here and not applied: {}",
                others.join(", ")
            ));
        }
    }
}

/// All that a configuration says about rotary frequencies.
pub(super) struct RopeKeys<'a> {
    /// `rope_scaling`.
    pub(super) scaling: Option<&'a RawRope>,
    /// `rope_parameters`.
    pub(super) parameters: Option<&'a RawRope>,
    /// `rope_theta` beside them.
    pub(super) theta: Option<f64>,
    /// `partial_rotary_factor` beside them.
    pub(super) partial: Option<f64>,
    /// `original_max_position_embeddings` beside them.
    pub(super) original: Option<usize>,
    /// `max_position_embeddings`.
    pub(super) positions: usize,
}

impl RopeKeys<'_> {
    /// Base of the rotary frequencies, and how they are stretched. Rules as in transformers 5.23's
    /// `convert_rope_params_to_dict`: `rope_scaling` replaces `rope_parameters` as a whole, a `rope_theta` inside goes before
    /// one beside, `original_max_position_embeddings` beside goes before one inside.
    pub(super) fn read(&self, problems: &mut Vec<String>, notes: &mut Vec<String>) -> (f64, Option<RopeScaling>) {
        let scaling = self.scaling.filter(|rope| !rope.is_empty());
        if let (Some(old), Some(new)) = (scaling, self.parameters)
            && old != new
        {
            notes.push("rope_scaling and rope_parameters differ: rope_scaling counts, as in transformers".into());
        }
        let chosen = scaling.or(self.parameters);
        let nested = |rope: &&RawRope| rope.full_attention.is_some() || rope.sliding_attention.is_some();
        let rope = chosen.filter(|rope| !nested(rope));
        if chosen.is_some_and(|rope| nested(&rope)) {
            // The classes of these families in transformers pass over such parameters, or fail on them.
            problems
                .push("rope_parameters: found some for each kind of layer, expected the same for all layers".into());
        }
        if let Some(rope) = rope {
            if rope.name() == "default"
                && let Some(factor) = rope.factor
            {
                notes.push(format!("a factor of {factor} without a rope_type does not count, as in transformers"));
            }
            rope.look_at_names(problems, notes);
        }
        let inside = rope.and_then(|rope| rope.rope_theta);
        if let (Some(inside), Some(beside)) = (inside, self.theta)
            && inside != beside
        {
            let counts = format!("{inside} counts, as in transformers");
            notes.push(format!("rope_theta is {inside} among the rope parameters and {beside} beside them: {counts}"));
        }
        let theta = inside.or(self.theta).unwrap_or(DEFAULT_THETA);
        if let Some(lost) = self.parameters.and_then(|rope| rope.rope_theta).filter(|&lost| lost != theta) {
            let why = "rope_scaling replaces rope_parameters, as in transformers";
            notes.push(format!("rope_theta {lost} in rope_parameters does not count, {theta} does: {why}"));
        }
        for part in [self.partial, rope.and_then(|rope| rope.partial_rotary_factor)].into_iter().flatten() {
            if part != 1.0 {
                problems.push(format!("partial_rotary_factor: found {part}, expected 1 (whole heads are rotated)"));
            }
        }
        let scaling = rope.and_then(|rope| match self.scaling_of(rope) {
            Ok(scaling) => scaling,
            Err(problem) => {
                problems.push(problem);
                None
            }
        });
        (theta, scaling)
    }

    fn scaling_of(&self, rope: &RawRope) -> Result<Option<RopeScaling>, String> {
        let name = rope.name();
        let number = |key: &str, value: Option<f64>| {
            value.ok_or_else(|| format!("rope scaling {name}: {key} is missing, expected a number"))
        };
        let original = self.original.or(rope.original_max_position_embeddings).unwrap_or(self.positions);
        let ratio = self.positions as f64 / original as f64;
        Ok(Some(match name {
            "default" => return Ok(None),
            "linear" => RopeScaling::Linear { linear_factor: number("factor", rope.factor)? },
            "dynamic" => RopeScaling::Dynamic { dynamic_factor: number("factor", rope.factor)? },
            "llama3" => RopeScaling::Llama3(Llama3Scaling {
                factor: number("factor", rope.factor)?,
                low_freq_factor: number("low_freq_factor", rope.low_freq_factor)?,
                high_freq_factor: number("high_freq_factor", rope.high_freq_factor)?,
                original_max_position_embeddings: original,
            }),
            "yarn" => {
                let factor = rope.factor.unwrap_or(ratio);
                // transformers takes a zero for nothing said.
                let said = |value: Option<f64>| value.filter(|&value| value != 0.0);
                let by_scales = said(rope.mscale).zip(said(rope.mscale_all_dim));
                let usual = by_scales.map_or_else(
                    || YarnScaling::usual_attention_factor(factor),
                    |(one, all)| scale_of_logits(factor, one) / scale_of_logits(factor, all),
                );
                RopeScaling::Yarn(YarnScaling {
                    factor,
                    original_max_position_embeddings: original,
                    attention_factor: rope.attention_factor.unwrap_or(usual),
                    beta_fast: said(rope.beta_fast).unwrap_or(BETAS[0]),
                    beta_slow: said(rope.beta_slow).unwrap_or(BETAS[1]),
                    truncate: rope.truncate.unwrap_or(true),
                })
            }
            "longrope" => {
                let list = |key: &str, list: &Option<Vec<f64>>| {
                    list.clone().ok_or_else(|| format!("rope scaling longrope: {key} is missing, expected a list"))
                };
                let usual = LongRopeScaling::usual_attention_factor(rope.factor.unwrap_or(ratio), original);
                RopeScaling::LongRope(LongRopeScaling {
                    short_factor: list("short_factor", &rope.short_factor)?,
                    long_factor: list("long_factor", &rope.long_factor)?,
                    original_max_position_embeddings: original,
                    attention_factor: rope.attention_factor.unwrap_or(usual),
                })
            }
            other => {
                let expected = "default, linear, dynamic, yarn, longrope or llama3";
                return Err(format!("rope type: found `{other}`, expected {expected}"));
            }
        }))
    }
}

/// `rope_scaling` as transformers 4.57 and 5 read it; nothing where frequencies are plain.
pub(super) fn rope_scaling(config: &LlamaConfig) -> Option<Value> {
    Some(match config.rope_scaling.as_ref()? {
        RopeScaling::Llama3(llama3) => json!({
            "rope_type": "llama3",
            "factor": llama3.factor,
            "low_freq_factor": llama3.low_freq_factor,
            "high_freq_factor": llama3.high_freq_factor,
            "original_max_position_embeddings": llama3.original_max_position_embeddings,
        }),
        RopeScaling::Linear { linear_factor } => json!({ "rope_type": "linear", "factor": linear_factor }),
        RopeScaling::Dynamic { dynamic_factor } => json!({ "rope_type": "dynamic", "factor": dynamic_factor }),
        RopeScaling::Yarn(yarn) => json!({
            "rope_type": "yarn",
            "factor": yarn.factor,
            "original_max_position_embeddings": yarn.original_max_position_embeddings,
            "attention_factor": yarn.attention_factor,
            "beta_fast": yarn.beta_fast,
            "beta_slow": yarn.beta_slow,
            "truncate": yarn.truncate,
        }),
        RopeScaling::LongRope(long) => json!({
            "rope_type": "longrope",
            // Not used beside an attention factor, but transformers 4 misses it.
            "factor": config.max_position_embeddings as f64 / long.original_max_position_embeddings as f64,
            "short_factor": long.short_factor,
            "long_factor": long.long_factor,
            "original_max_position_embeddings": long.original_max_position_embeddings,
            "attention_factor": long.attention_factor,
        }),
    })
}
