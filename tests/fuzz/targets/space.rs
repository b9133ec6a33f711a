//! A search space in YAML.
#![no_main]

use criadero::space::{Cost, Genome, SearchSpace};
use libfuzzer_sys::fuzz_target;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// Genes of a network that is looked at here: more take their time.
const LAYERS: usize = 1 << 10;

fuzz_target!(|text: &str| {
    let Ok(space) = SearchSpace::from_yaml(text) else { return };
    if space.shape().layers > LAYERS {
        return;
    }
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    for genome in [space.largest(), space.smallest(), space.sample(&mut rng), space.sample(&mut rng)] {
        assert!(space.contains(&genome), "{genome}");
        let written = genome.to_string();
        assert_eq!(written.parse::<Genome>().ok(), Some(genome.clone()), "{written}");
        Cost::of(space.shape(), &genome);
    }
});
