//! The front matter of a model card.
#![no_main]

use criadero::checkpoint::Checkpoint;
use criadero_fuzz::Model;
use libfuzzer_sys::fuzz_target;

thread_local!(static MODEL: Model = Model::copy());

fuzz_target!(|data: &[u8]| MODEL.with(|model| {
    model.put("README.md", data);
    let checkpoint = Checkpoint::open(model.path()).expect("the model is whole");
    let lineage = checkpoint.lineage().expect("a card that cannot be read is a note");
    let config = checkpoint.config();
    assert_eq!(lineage.clone().of_network(config, &config.genome).license, lineage.license);
}));
