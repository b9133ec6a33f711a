//! A genome's text, from the command line, a list of genomes, a front or a journal.
#![no_main]

use criadero::space::{Cost, Genome, check_genome};
use criadero_fuzz::space;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(genome) = text.parse::<Genome>() else { return };
    let written = genome.to_string();
    assert_eq!(written.parse::<Genome>().ok(), Some(genome.clone()), "{written}");
    let space = space();
    if space.contains(&genome) {
        let shape = space.shape();
        check_genome(shape, &shape.parent(), &genome).expect("a network of the space is one of the model");
        Cost::of(shape, &genome);
    }
});
