//! Checkpoints of seeded random weights: the size and speed of a model without downloading one.
//!
//! Weights are a hash of seed, tensor and place, so that the same ones come out piece by piece, on the CPU and on a card.

use std::collections::BTreeMap;

use serde_json::{Map, json};
use tch::{Device, Kind, Tensor};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use super::hf::TokenizerFiles;
use crate::checkpoint::config::{Dtype, LlamaConfig};
use crate::checkpoint::family::Family;
use crate::checkpoint::names::TensorName;
use crate::error::Result;
use crate::space::ModelShape;

/// Standard deviation of the weights, as LLaMA's `initializer_range`.
const DEVIATION: f64 = 0.02;
/// Weights made at a time.
const PIECE: i64 = 1 << 24;
/// Multiplier of a 32-bit integer hash (Mueller, "What integer hash function are good", 2012): with 27 bits, a product
/// with 32 bits never leaves an int64.
const MULTIPLIER: i64 = 0x045d_9f3b;
const LOW_32: i64 = 0xffff_ffff;
/// Positions of a model of which only the shape is known: LLaMA 2's.
pub const POSITIONS: usize = 4096;
/// Tokens before those of single bytes: unknown, begin and end of a text.
const SPECIAL: [&str; 3] = ["<unk>", "<s>", "</s>"];

/// A model of which only the shape is known, with LLaMA 2's constants.
pub fn config(shape: ModelShape, dtype: Dtype) -> LlamaConfig {
    LlamaConfig {
        shape,
        genome: shape.parent(),
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: None,
        max_position_embeddings: POSITIONS,
        bos_token_id: (shape.vocab > 2).then_some(1),
        eos_token_ids: if shape.vocab > 2 { vec![2] } else { vec![] },
        sliding_window: None,
        dtype,
        quantized: false,
        family: Family::Llama,
    }
}

/// A tensor of such a model: norms are ones, everything else uniform around 0 with a standard deviation of 0.02, rounded to
/// bfloat16, so that every kind holds the same numbers.
///
/// # Errors
/// libtorch's, when there is no memory.
pub fn tensor(name: TensorName, shape: &[usize], seed: u64, device: Device, kind: Kind) -> Result<Tensor> {
    let sizes: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
    if name.is_norm() {
        return Ok(Tensor::f_ones(&sizes, (kind, device))?);
    }
    let hash = blake3::hash(format!("{seed} {}", name.hf()).as_bytes());
    let key = u32::from_le_bytes(hash.as_bytes()[..4].try_into().expect("a hash has 32 bytes"));
    let out = Tensor::f_empty(&sizes, (kind, device))?;
    let flat = out.f_view([-1])?;
    let len: i64 = sizes.iter().product();
    for at in (0..len).step_by(PIECE as usize) {
        let count = PIECE.min(len - at);
        flat.f_narrow(0, at, count)?.f_copy_(&piece(at, count, i64::from(key), device)?)?;
    }
    Ok(out)
}

/// Weights `at..at + count` of a tensor's, bfloat16.
fn piece(at: i64, count: i64, key: i64, device: Device) -> Result<Tensor> {
    let mixed = |x: Tensor| -> Result<Tensor> {
        let high = x.f_bitwise_right_shift_tensor_scalar(16)?;
        Ok(x.f_bitwise_xor_tensor(&high)?.f_mul_scalar(MULTIPLIER)?.f_bitwise_and(LOW_32)?)
    };
    // The place, and what it became with the key, twice each.
    let place = mixed(mixed(Tensor::f_arange_start(at, at + count, (Kind::Int64, device))?)?)?;
    let x = mixed(mixed(place.f_bitwise_xor(key)?)?)?;
    let half = f64::from(1u32 << 31);
    let bound = DEVIATION * 3.0_f64.sqrt();
    // Exact until the multiplication: 24 of the 32 bits fill a float32.
    let unit = x.f_bitwise_right_shift_tensor_scalar(8)?.f_to_kind(Kind::Float)? / (half / 256.0) - 1.0;
    Ok((unit * bound).f_to_kind(Kind::BFloat16)?)
}

/// A tokenizer of single bytes, for models that have none: three special tokens, then one a byte, [`BYTE_TOKENS`] in all.
pub fn byte_tokenizer() -> TokenizerFiles {
    let mut letters: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    letters.sort_unstable();
    let mut vocab = Map::new();
    let tokens = SPECIAL.iter().map(ToString::to_string).chain(letters.iter().map(char::to_string));
    for (id, token) in tokens.enumerate() {
        vocab.insert(token, json!(id));
    }
    let special = |(id, content): (usize, &&str)| {
        json!({ "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true })
    };
    let level = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": SPECIAL.iter().enumerate().map(special).collect::<Vec<_>>(),
        "normalizer": null,
        "pre_tokenizer": level,
        "post_processor": null,
        "decoder": level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": [],
        },
    });
    let settings = json!({
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": SPECIAL[1], "eos_token": SPECIAL[2],
        "unk_token": SPECIAL[0], "add_bos_token": false,
    });
    let text = |value: &serde_json::Value| format!("{value:#}\n").into_bytes();
    let files = [("tokenizer.json", text(&tokenizer)), ("tokenizer_config.json", text(&settings))];
    TokenizerFiles(BTreeMap::from(files.map(|(name, bytes)| (name.to_string(), bytes))))
}

/// Tokens of [`byte_tokenizer`].
pub const BYTE_TOKENS: usize = SPECIAL.len() + 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{Checkpoint, LayerTensor, hf};
    use crate::space::Extras;

    const SHAPE: ModelShape = ModelShape {
        layers: 2,
        hidden: 64,
        heads: 4,
        kv_heads: 2,
        head_dim: 16,
        mlp: 96,
        vocab: 300,
        tied: false,
        extras: Extras::NONE,
    };

    fn weights(name: TensorName, seed: u64) -> Tensor {
        let shape = config(SHAPE, Dtype::BF16).tensor_shape(name).unwrap();
        tensor(name, &shape, seed, Device::Cpu, Kind::Float).unwrap()
    }

    #[test]
    fn is_as_wide_as_llama_begins() {
        let shape = [1500, 1500];
        let all = tensor(TensorName::Embedding, &shape, 1, Device::Cpu, Kind::Float).unwrap();
        let (mean, deviation) = (all.mean(Kind::Float).double_value(&[]), all.std(true).double_value(&[]));
        // 2.25 million draws: the mean's own deviation is 1.3e-5.
        assert!(mean.abs() < 7e-5 && (deviation - DEVIATION).abs() < 1e-4, "{mean} {deviation}");
        assert!(all.abs().max().double_value(&[]) < 0.0348);
        // Neighbours and rows tell nothing of each other.
        let product = |other: Tensor, one: Tensor| (one * other).mean(Kind::Float).double_value(&[]).abs();
        let columns = product(all.narrow(1, 1, 1499), all.narrow(1, 0, 1499));
        let rows = product(all.narrow(0, 1, 1499), all.narrow(0, 0, 1499));
        assert!(columns < 2e-6 && rows < 2e-6, "{columns} {rows}");
    }

    #[test]
    fn depends_on_seed_and_name_and_nothing_else() {
        let (q, k) = (TensorName::Layer(0, LayerTensor::Q), TensorName::Layer(1, LayerTensor::Q));
        assert_eq!(weights(q, 1), weights(q, 1));
        assert_ne!(weights(q, 1), weights(q, 2));
        assert_ne!(weights(q, 1), weights(k, 1));
        assert_eq!(weights(TensorName::FinalNorm, 1), Tensor::ones([64], (Kind::Float, Device::Cpu)));
        // Pieces are the same as the whole.
        let whole = piece(0, 1000, 5, Device::Cpu).unwrap();
        assert_eq!(piece(600, 400, 5, Device::Cpu).unwrap(), whole.narrow(0, 600, 400));
    }

    #[test]
    fn is_a_checkpoint_with_a_tokenizer_of_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let (config, out) = (config(SHAPE, Dtype::BF16), dir.path().join("model"));
        hf::write(&out, &config, &|name| Ok(weights(name, 3)), &byte_tokenizer(), Dtype::BF16).unwrap();
        let read = Checkpoint::open(&out).unwrap();
        assert_eq!(read.config(), &config);
        let name = TensorName::Layer(1, LayerTensor::Down);
        assert_eq!(read.tensor(name, Kind::Float).unwrap(), weights(name, 3), "bfloat16 loses nothing");
        let tokenizer = read.tokenizer().unwrap();
        let text = "Añejo 12,\n\tllama";
        let ids = tokenizer.encode(text).unwrap();
        assert_eq!(ids.len(), text.len());
        assert_eq!(tokenizer.decode(&ids).unwrap(), text);
        assert!(ids.iter().all(|&id| (id as usize) < BYTE_TOKENS));
    }
}
