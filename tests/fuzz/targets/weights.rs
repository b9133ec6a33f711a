//! `model.safetensors` of a checkpoint whose config.json is right.
#![no_main]

use criadero::checkpoint::Checkpoint;
use criadero_fuzz::Model;
use libfuzzer_sys::fuzz_target;

thread_local!(static MODEL: Model = Model::copy());

fuzz_target!(|data: &[u8]| MODEL.with(|model| {
    model.put("model.safetensors", data);
    let Ok(checkpoint) = Checkpoint::open(model.path()) else { return };
    let _ = (checkpoint.fingerprint(), checkpoint.digest());
    for name in checkpoint.config().tensors() {
        let _ = checkpoint.tensor(name, tch::Kind::Float);
    }
}));
