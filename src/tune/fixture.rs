//! Tokenizers for tests: the tiny golden model's, as it is or saved with other settings.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::checkpoint::{Checkpoint, Tokenizer};

const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens/tiny-llama");

/// A byte-level tokenizer of 512 tokens, `<s>` 0 and `</s>` 1, that adds neither.
pub fn tiny() -> Tokenizer {
    Checkpoint::open(TINY).unwrap().tokenizer().unwrap()
}

/// The same after a change to `tokenizer.json` and `tokenizer_config.json`.
pub fn tiny_with(change: impl Fn(&mut Value, &mut Value)) -> Tokenizer {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (|name| Path::new(TINY).join(name), |name| dir.path().join(name));
    for name in ["config.json", "model.safetensors"] {
        fs::copy(from(name), to(name)).unwrap();
    }
    let names = ["tokenizer.json", "tokenizer_config.json"];
    let mut values = names.map(|name| serde_json::from_slice(&fs::read(from(name)).unwrap()).unwrap());
    let [tokenizer, settings] = &mut values;
    change(tokenizer, settings);
    for (name, value) in names.into_iter().zip(values) {
        fs::write(to(name), value.to_string()).unwrap();
    }
    Checkpoint::open(dir.path()).unwrap().tokenizer().unwrap()
}

/// The same with a template that puts `<s>` before a text.
pub fn tiny_with_bos() -> Tokenizer {
    tiny_with(|tokenizer, _| {
        let start = json!({ "SpecialToken": { "id": "<s>", "type_id": 0 } });
        let template = &mut tokenizer["post_processor"];
        template["single"].as_array_mut().unwrap().insert(0, start);
        template["special_tokens"] = json!({ "<s>": { "id": "<s>", "ids": [0], "tokens": ["<s>"] } });
    })
}
