//! `tokenizer.json`: tried in a sandbox, then used.
#![no_main]

use criadero::checkpoint::Checkpoint;
use criadero_fuzz::{Model, keep};
use libfuzzer_sys::fuzz_target;

thread_local!(static MODEL: Model = Model::copy());

fuzz_target!(init: keep(), |data: &[u8]| MODEL.with(|model| {
    model.put("tokenizer.json", data);
    let checkpoint = Checkpoint::open(model.path()).expect("the weights are whole");
    let Ok(tokenizer) = checkpoint.tokenizer() else { return };
    for text in ["The goose is larger than the trout.", " <s>\u{1f9a2} 12,345\n\n", ""] {
        if let Ok(ids) = tokenizer.encode(text) {
            let _ = tokenizer.decode(&ids);
        }
    }
}));
