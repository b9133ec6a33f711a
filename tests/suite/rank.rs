//! What `rank` says without a search.

use std::fs;

use criadero::checkpoint::Checkpoint;
use criadero::model::supernet::SupernetCard;
use criadero::space::{Cost, Genome, SearchSpace};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::command::{criadero, fail, succeed};
use crate::goldens::TINY;

#[test]
fn a_ranking_alone_says_which_network_fits_a_limit() {
    let dir = tempfile::tempdir().unwrap();
    let [text, supernet, out] = ["text.txt", "supernet", "out"].map(|name| dir.path().join(name).display().to_string());
    fs::write(&text, "What is which? Question one is two. ".repeat(60)).unwrap();
    let small =
        ["rank", TINY, "--text", &text, "--tokens", "256", "--window", "64", "--space", "tiny", "--out", &supernet];
    succeed(criadero(&small));
    let export = |model: &str, more: &[&str]| {
        let to = ["--format", "hf", "--force", "--out", &out];
        criadero(&[&["export", model], more, &to].concat())
    };
    succeed(export(&supernet, &["--space", "tiny", "--pick", "params<=170000"]));
    let network = Checkpoint::open(&out).unwrap().config().clone();

    // Of all networks of the space that fit, none is worth more.
    let card = SupernetCard::of(&Checkpoint::open(&supernet).unwrap()).unwrap().unwrap();
    let space = SearchSpace::open("tiny").unwrap().with_drop_order(&card.order.drop).unwrap();
    let params = |genome: &Genome| Cost::of(space.shape(), genome).params;
    let kept = |genome: &Genome| -> f64 {
        genome.kept().map(|(layer, gene)| card.kept_importance(space.shape(), layer, gene)).sum()
    };
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let others = (0..4000).map(|_| space.sample(&mut rng)).filter(|genome| params(genome) <= 170_000);
    let best = others.map(|genome| kept(&genome)).fold(f64::NEG_INFINITY, f64::max);
    assert!(params(&network.genome) <= 170_000 && kept(&network.genome) >= best - 1e-9, "{} {best}", network.genome);
    succeed(export(&supernet, &["--space", "tiny", "--pick", "params<=1e9"]));
    assert_eq!(Checkpoint::open(&out).unwrap().config().genome, space.largest());

    for (model, more, expected) in [
        (
            &*supernet,
            &["--space", "tiny", "--pick", "params<=9"][..],
            "expected a limit that a network of the space can meet",
        ),
        (&supernet, &["--space", "tiny", "--pick", "decode_tps>=9"], "expected a limit of what sizes decide"),
        (&supernet, &["--space", "tiny", "--pick", "knee"], "give a supernet a limit and --space"),
        (&supernet, &["--pick", "params<=170000"], "give a supernet a limit and --space"),
        (TINY, &["--space", "tiny", "--pick", "params<=170000"], "expected one that `criadero rank` measured"),
    ] {
        let error = fail(export(model, more));
        assert!(error.contains(expected), "{more:?}: {error}");
    }
}
