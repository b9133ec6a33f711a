//! `criadero.json` beside a model: raw, and sealed behind a `!`.
#![no_main]

use criadero::checkpoint::Checkpoint;
use criadero::model::supernet::SupernetCard;
use criadero::space::Gene;
use criadero_fuzz::{Model, sealed, space};
use libfuzzer_sys::fuzz_target;

thread_local!(static MODEL: Model = Model::copy());

fuzz_target!(|data: &[u8]| MODEL.with(|model| {
    model.put("criadero.json", &sealed(data));
    let checkpoint = Checkpoint::open(model.path()).expect("the model is whole");
    let Ok(Some(card)) = SupernetCard::of(&checkpoint) else { return };
    let space = space();
    let _ = space.clone().with_drop_order(&card.order.drop);
    for (layer, choices) in space.layers().iter().enumerate() {
        for gene in [choices.largest(), choices.smallest(), Gene::new(3, 77), Gene::DROPPED] {
            card.kept_importance(space.shape(), layer, gene);
        }
    }
    card.order.after(&card.order);
}));
