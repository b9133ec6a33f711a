//! The families of checkpoints that the forward pass computes, as one table.

use crate::space::{Extra, Extras};

/// A family of published models: LLaMA's layers, perhaps with biases, norms of query and key heads, or windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// LLaMA 1 to 3, and what calls itself so.
    Llama,
    /// Mistral: LLaMA with sliding windows.
    Mistral,
    /// Qwen 2 and 2.5: biases of queries, keys and values.
    Qwen2,
    /// Qwen 3: norms of query and key heads.
    Qwen3,
}

/// A row of the table.
pub struct FamilyRow {
    /// The family.
    pub family: Family,
    /// What transformers calls it in `model_type`, and the module of its classes.
    pub model_type: &'static str,
    /// What its classes begin with: `…ForCausalLM`.
    pub class: &'static str,
    /// What layers have whatever the configuration says.
    pub extras: Extras,
    /// Whether the configuration's `attention_bias` and `mlp_bias` say more.
    pub bias_keys: &'static [&'static str],
    /// Where the configuration does not say it: transformers' defaults.
    pub defaults: Defaults,
}

/// What transformers takes for what a configuration leaves out.
pub struct Defaults {
    /// Key/value heads; as many as query heads where there is no number.
    pub kv_heads: Option<usize>,
    /// Size of a head; the hidden size divided by the query heads where there is no number.
    pub head_dim: Option<usize>,
    /// `max_position_embeddings`.
    pub positions: usize,
    /// `sliding_window`.
    pub window: Option<usize>,
    /// `bos_token_id` and `eos_token_id`.
    pub ends: Option<[u32; 2]>,
}

/// All of them, in the order of [`Family`].
pub static FAMILIES: [FamilyRow; 4] = [
    FamilyRow {
        family: Family::Llama,
        model_type: "llama",
        class: "Llama",
        extras: Extras::NONE,
        bias_keys: &["attention_bias", "mlp_bias"],
        defaults: Defaults { kv_heads: None, head_dim: None, positions: 2048, window: None, ends: Some([1, 2]) },
    },
    FamilyRow {
        family: Family::Mistral,
        model_type: "mistral",
        class: "Mistral",
        extras: Extras::NONE,
        bias_keys: &[],
        defaults: Defaults {
            kv_heads: Some(8),
            head_dim: None,
            positions: 131_072,
            window: Some(4096),
            ends: Some([1, 2]),
        },
    },
    FamilyRow {
        family: Family::Qwen2,
        model_type: "qwen2",
        class: "Qwen2",
        extras: Extras::NONE.with(Extra::QkvBias),
        bias_keys: &[],
        defaults: Defaults { kv_heads: Some(32), head_dim: None, positions: 32_768, window: Some(4096), ends: None },
    },
    FamilyRow {
        family: Family::Qwen3,
        model_type: "qwen3",
        class: "Qwen3",
        extras: Extras::NONE.with(Extra::HeadNorms),
        bias_keys: &["attention_bias"],
        defaults: Defaults {
            kv_heads: Some(32),
            head_dim: Some(128),
            positions: 32_768,
            window: Some(4096),
            ends: None,
        },
    },
];

impl Family {
    /// Its row of the table.
    pub fn row(self) -> &'static FamilyRow {
        &FAMILIES[self as usize]
    }

    /// The one that transformers calls so.
    pub fn of_model_type(model_type: &str) -> Option<Family> {
        FAMILIES.iter().find(|row| row.model_type == model_type).map(|row| row.family)
    }

    /// What is supported, for messages.
    pub fn supported() -> String {
        FAMILIES.iter().map(|row| row.model_type).collect::<Vec<_>>().join(", ")
    }
}
