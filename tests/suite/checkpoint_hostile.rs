//! Hostile and damaged weight files: always an error that says what is wrong, never a panic.

use std::fs;
use std::path::{Path, PathBuf};

use criadero::checkpoint::export::Gguf;
use criadero::checkpoint::{Checkpoint, LayerTensor, TensorName, export};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tempfile::TempDir;

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/tiny-llama")
}

/// The tiny LLaMA's configuration beside other weights.
fn with_weights(bytes: &[u8]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::copy(tiny().join("config.json"), dir.path().join("config.json")).unwrap();
    fs::write(dir.path().join("model.safetensors"), bytes).unwrap();
    dir
}

/// The error on opening; opening must not succeed.
fn refusal(path: &Path) -> String {
    match Checkpoint::open(path) {
        Ok(_) => panic!("{} was opened", path.display()),
        Err(error) => error.to_string(),
    }
}

#[track_caller]
fn assert_says(error: &str, reason: &str) {
    assert!(error.contains(reason), "`{reason}` is not in: {error}");
}

/// The header of a safetensors file and the weights behind it.
fn split(bytes: &[u8]) -> (Value, Vec<u8>) {
    let len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    (serde_json::from_slice(&bytes[8..8 + len]).unwrap(), bytes[8 + len..].to_vec())
}

fn joined(header: &Value, weights: &[u8]) -> Vec<u8> {
    let header = header.to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), weights].concat()
}

#[test]
fn rejects_hostile_safetensors_headers() {
    let plain = fs::read(tiny().join("model.safetensors")).unwrap();
    let (header, weights) = split(&plain);
    let q = "model.layers.0.self_attn.q_proj.weight";
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut header = header.clone();
        change(&mut header);
        joined(&header, &weights)
    };
    let length = |len: u64| [&len.to_le_bytes()[..], &plain[8..]].concat();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty file", vec![], "0 bytes, expected at least 8"),
        ("seven bytes", vec![0; 7], "7 bytes, expected at least 8"),
        ("header longer than the file", length(plain.len() as u64), "invalid header length"),
        ("header of 2^64 bytes", length(u64::MAX), "header too large"),
        ("header of no bytes", length(0), "invalid JSON"),
        ("header that is no JSON", length(40), "invalid JSON"),
        ("offsets past the end", changed(&|h| h[q]["data_offsets"] = json!([0, 1u64 << 40])), "invalid"),
        ("offsets backwards", changed(&|h| h[q]["data_offsets"] = json!([8192, 0])), "invalid offset"),
        (
            "overlapping offsets",
            changed(&|h| h[q]["data_offsets"] = h["lm_head.weight"]["data_offsets"].clone()),
            "invalid",
        ),
        ("a shape too large for its bytes", changed(&|h| h[q]["shape"] = json!([64, 65])), "invalid shape"),
        ("a shape that overflows", changed(&|h| h[q]["shape"] = json!([u64::MAX, u64::MAX])), "overflow"),
        ("an unknown dtype", changed(&|h| h[q]["dtype"] = json!("F12")), "invalid JSON"),
        ("integers for weights", changed(&|h| h[q]["dtype"] = json!("I16")), "q_proj.weight: found dtype I16"),
        ("bytes behind the last tensor", [&plain[..], &[0; 8]].concat(), "not fully covered"),
    ];
    for (what, bytes, reason) in cases {
        let dir = with_weights(&bytes);
        let error = refusal(dir.path());
        assert!(error.contains(reason) && error.contains("model.safetensors"), "{what}: {error}");
    }
}

#[test]
fn rejects_truncated_safetensors() {
    let plain = fs::read(tiny().join("model.safetensors")).unwrap();
    for len in (0..plain.len()).step_by(plain.len() / 60).chain([plain.len() - 1]) {
        assert_says(&refusal(with_weights(&plain[..len]).path()), "not a valid safetensors file");
    }
}

#[test]
fn lists_every_contradiction_of_config_and_tensors() {
    let (mut header, weights) = split(&fs::read(tiny().join("model.safetensors")).unwrap());
    let tensors = header.as_object_mut().unwrap();
    let moved = tensors.shift_remove("model.layers.1.mlp.up_proj.weight").unwrap();
    tensors.insert("model.layers.1.mlp.up_proj.bias".into(), moved);
    tensors["model.layers.2.self_attn.k_proj.weight"]["shape"] = json!([64, 32]);
    tensors["model.norm.weight"]["shape"] = json!([8, 8]);
    let error = refusal(with_weights(&joined(&header, &weights)).path());
    assert_says(&error, "model.layers.1.mlp.up_proj.weight: missing, expected shape [128, 64]");
    assert_says(&error, "model.layers.1.mlp.up_proj.bias: found, but the model has no such tensor");
    assert_says(&error, "model.layers.2.self_attn.k_proj.weight: found shape [64, 32], expected [32, 64]");
    assert_says(&error, "model.norm.weight: found shape [8, 8], expected [64]");
    assert_eq!(error.lines().count(), 5, "one line each: {error}");
}

#[test]
fn rejects_directories_that_are_no_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    assert_says(&refusal(&dir.path().join("absent")), "give a Hugging Face checkpoint directory or a .gguf file");
    assert_says(&refusal(dir.path()), "config.json");
    fs::copy(tiny().join("config.json"), dir.path().join("config.json")).unwrap();
    assert_says(&refusal(dir.path()), "model.safetensors or model.safetensors.index.json not found");
    let index = dir.path().join("model.safetensors.index.json");
    let cases = [
        ("{", "not a valid shard index"),
        (r#"{"weight_map": {"a": "../x.safetensors"}}"#, "`../x.safetensors`: not a plain file name"),
        (r#"{"weight_map": {"a": "/etc/passwd"}}"#, "`/etc/passwd`: not a plain file name"),
        (r#"{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}"#, "2.safetensors: missing"),
    ];
    for (text, reason) in cases {
        fs::write(&index, text).unwrap();
        assert_says(&refusal(dir.path()), reason);
    }
    for shard in ["1.safetensors", "2.safetensors"] {
        fs::copy(tiny().join("model.safetensors"), dir.path().join(shard)).unwrap();
    }
    assert_says(&refusal(dir.path()), "a: not in 1.safetensors");
}

/// A GGUF of the tiny LLaMA's first layers, which differ.
fn gguf() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let parent = Checkpoint::open(tiny()).unwrap();
    let genome = "4x128:4x64:-*2".parse().unwrap();
    fs::read(export(&parent, &genome, &Gguf, None, dir.path()).unwrap()).unwrap()
}

fn refusal_of_gguf(bytes: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    fs::write(&path, bytes).unwrap();
    refusal(&path)
}

/// `bytes` with others in place, `skip` bytes behind the first `mark`.
fn patched(bytes: &[u8], mark: &str, skip: usize, with: &[u8]) -> Vec<u8> {
    let found = bytes.windows(mark.len()).position(|window| window == mark.as_bytes());
    let at = found.unwrap_or_else(|| panic!("no {mark}")) + mark.len() + skip;
    let mut bytes = bytes.to_vec();
    bytes[at..at + with.len()].copy_from_slice(with);
    bytes
}

#[test]
fn rejects_hostile_gguf_headers() {
    let plain = gguf();
    let u32s = |value: u32| value.to_le_bytes().to_vec();
    let u64s = |value: u64| value.to_le_bytes().to_vec();
    let at = |offset: usize, with: Vec<u8>| {
        let mut bytes = plain.clone();
        bytes[offset..offset + with.len()].copy_from_slice(&with);
        bytes
    };
    // Behind a key: its type (4 bytes), then the value. Behind a tensor's name: dimension count (4), dimensions
    // (8 each), type (4), offset (8).
    let key = |key: &str, skip: usize, with: Vec<u8>| patched(&plain, key, skip, &with);
    let q = "blk.0.attn_q.weight";
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("no magic", at(0, b"GGML".to_vec()), "it begins with"),
        ("a file from before GGUF", at(0, b"tjgg".to_vec()), "from before GGUF"),
        ("a web page", b"<!DOCTYPE html>".to_vec(), "found a web page"),
        ("version 1", at(4, u32s(1)), "version 1, expected 2 or 3"),
        ("big-endian", at(4, 3u32.to_be_bytes().to_vec()), "expected 2 or 3 (little-endian)"),
        // Past the last tensor, weights are read as tensors: what is wrong with the first is their say.
        ("2^64 tensors", at(8, u64s(u64::MAX)), "not a valid GGUF file"),
        ("2^64 pairs", at(16, u64s(u64::MAX)), "needs"),
        ("a key of 2^63 bytes", at(24, u64s(1 << 63)), "the key of metadata pair 0"),
        ("another architecture", key("general.architecture", 12, b"bert".to_vec()), "unknown GGUF architecture `bert`"),
        (
            "text of 2^40 bytes",
            key("general.architecture", 4, u64s(1 << 40)),
            "general.architecture needs 1099511627776",
        ),
        ("an unknown value type", key("deci.block_count", 0, u32s(77)), "unknown value type 77"),
        ("alignment 0", key("general.alignment", 4, u32s(0)), "found 0, expected a power of two"),
        ("alignment 24", key("general.alignment", 4, u32s(24)), "found 24, expected a power of two"),
        ("alignment 2^31", key("general.alignment", 4, u32s(1 << 31)), "expected a power of two"),
        ("an array of 2^60 tokens", key("tokenizer.ggml.tokens", 8, u64s(1 << 60)), "needs"),
        ("an array of 2^62 numbers", key("tokenizer.ggml.token_type", 8, u64s(1 << 62)), "4611686018427387904 values"),
        ("2^32 layers", key("deci.block_count", 4, u32s(u32::MAX)), "layers: found 4294967295"),
        ("no layers", key("deci.block_count", 4, u32s(0)), "layers: found 0"),
        ("a head size of 17", key("deci.attention.key_length", 4, u32s(17)), "expected the head size 17"),
        ("a hidden size of 2^32", key("deci.embedding_length", 4, u32s(u32::MAX)), "hidden: found 4294967295"),
        ("text for a number", key("deci.context_length", 0, u32s(6)), "deci.context_length: value 0: expected count"),
        (
            "more heads than rows",
            key("deci.attention.head_count", 16, [u32s(8), u32s(8)].concat()),
            "attn_q.weight: found shape [64, 64]",
        ),
        ("nine dimensions", key(q, 0, u32s(9)), "9 dimensions, expected at most 4"),
        (
            "dimensions that overflow",
            key(q, 4, [u64s(1 << 63), u64s(1 << 63)].concat()),
            "attn_q.weight: found dimensions",
        ),
        ("an unknown ggml type", key(q, 20, u32s(99)), "attn_q.weight: found ggml type 99, expected one of F32"),
        ("a type that is not read", key(q, 20, u32s(39)), "attn_q.weight: found MXFP4, expected one of F32"),
        ("rows that are no whole blocks", key(q, 4, [u64s(63), u64s(64), vec![2, 0, 0, 0]].concat()), "block of 32"),
        ("weights past the end", key(q, 24, u64s(1 << 40)), "attn_q.weight: found 8192 bytes at offset 1099511627776"),
        ("an offset near 2^64", key(q, 24, u64s(u64::MAX - 31)), "attn_q.weight: found 8192 bytes at offset"),
        ("an offset off alignment", key(q, 24, u64s(1)), "found offset 1, expected a multiple of 32"),
        ("overlapping tensors", key(q, 24, u64s(32)), "overlaps with"),
        ("another shape", key(q, 4, [u64s(32), u64s(128)].concat()), "attn_q.weight: found shape [128, 32]"),
        ("a tensor that is not there", key("blk.0.attn_", 0, b"x".to_vec()), "missing, expected shape"),
    ];
    for (what, bytes, reason) in cases {
        let error = refusal_of_gguf(&bytes);
        assert!(error.contains(reason), "{what}: `{reason}` is not in: {error}");
    }
}

#[test]
fn rejects_truncated_gguf() {
    let plain = gguf();
    for len in (0..plain.len() - 64).step_by(plain.len() / 100) {
        refusal_of_gguf(&plain[..len]);
    }
}

/// Opens a damaged file and reads all it offers; errors are welcome.
fn exercise(path: &Path) {
    let Ok(checkpoint) = Checkpoint::open(path) else { return };
    let _ = checkpoint.tensor(TensorName::Layer(0, LayerTensor::Q), tch::Kind::Float);
    let _ = checkpoint.tensor(TensorName::Embedding, tch::Kind::Half);
    let _ = checkpoint.digest();
    if let Ok(tokenizer) = checkpoint.tokenizer() {
        let _ = tokenizer.encode("The capital of France is 12345");
    }
}

#[test]
fn never_panics_on_flipped_header_bytes() {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    let plain = gguf();
    let header = plain.windows(17).rposition(|window| window == b"output_norm.weigh").unwrap() + 80;
    for _ in 0..400 {
        let mut bytes = plain.clone();
        for _ in 0..random.random_range(1..4) {
            bytes[random.random_range(0..header)] ^= 1 << random.random_range(0..8);
        }
        fs::write(&path, bytes).unwrap();
        exercise(&path);
    }
    let plain = fs::read(tiny().join("model.safetensors")).unwrap();
    let header = 8 + u64::from_le_bytes(plain[..8].try_into().unwrap()) as usize;
    for _ in 0..400 {
        let mut bytes = plain.clone();
        bytes[random.random_range(0..header)] ^= 1 << random.random_range(0..8);
        exercise(with_weights(&bytes).path());
    }
}
