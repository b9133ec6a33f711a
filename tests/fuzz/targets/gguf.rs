//! A GGUF file: its metadata, tensors, tokenizer and template.
#![no_main]

use criadero::checkpoint::Checkpoint;
use criadero_fuzz::{Model, keep};
use libfuzzer_sys::fuzz_target;

thread_local!(static MODEL: Model = Model::copy());

fuzz_target!(init: keep(), |data: &[u8]| MODEL.with(|model| {
    let Ok(checkpoint) = Checkpoint::open(model.put("model.gguf", data)) else { return };
    let _ = (checkpoint.tokenizer(), checkpoint.chat_template(), checkpoint.digest());
    for name in checkpoint.config().tensors() {
        let _ = checkpoint.tensor(name, tch::Kind::Float);
    }
}));
