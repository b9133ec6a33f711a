//! What `rank` measures on: the text it is given, and text that the model writes itself.

use std::collections::BTreeSet;
use std::fs;

use criadero::checkpoint::Checkpoint;
use criadero::model::ranking::own_text;
use criadero::model::supernet::SupernetCard;
use criadero::model::{Llama, TokenTree};
use criadero::space::{Cost, Genome, SearchSpace};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use tch::Kind;

use crate::command::{criadero, fail, succeed};
use crate::goldens::{TINY, tiny_model};

/// Of each token but the first: how much less likely it is than the model's draws are on average, nats.
fn surprise(model: &Llama, windows: &[Vec<u32>]) -> (Vec<f64>, f64) {
    let (mut surprises, mut entropies) = (Vec::new(), Vec::new());
    for window in windows {
        let logits = tch::no_grad(|| model.whole().unwrap().forward(&model.batch(&TokenTree::chain(window)).unwrap()));
        let log_probs = logits.log_softmax(-1, Kind::Double); // (t, v)
        let entropy = -(log_probs.exp() * &log_probs).sum_dim_intlist(-1, false, Kind::Double); // (t)
        for (place, &token) in window.iter().enumerate().skip(1) {
            let at = place as i64 - 1;
            let nll = -log_probs.double_value(&[at, i64::from(token)]);
            surprises.push(nll - entropy.double_value(&[at]));
            entropies.push(entropy.double_value(&[at]));
        }
    }
    (surprises, entropies.iter().sum::<f64>() / entropies.len() as f64)
}

/// The mean, and how many of its standard errors it is from 0.
fn z(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0);
    mean / (variance / n).sqrt()
}

#[test]
fn a_model_writes_what_it_holds_likely_and_the_same_again() {
    let model = tiny_model();
    let mut told = Vec::new();
    let windows = own_text(&model, 70, 20, &mut |tokens| told.push(tokens)).unwrap();
    assert!(windows.len() == 70 && windows.iter().all(|window| window.len() == 20));
    assert!(told.is_sorted() && told.last() == Some(&1400), "{told:?}");
    let first: BTreeSet<u32> = windows.iter().map(|window| window[0]).collect();
    assert!(first.len() > 50, "70 draws of 512 tokens are rarely the same: {first:?}");
    assert_eq!(windows, own_text(&model, 70, 20, &mut |_| ()).unwrap());

    let (own, entropy) = surprise(&model, &windows);
    assert!(z(&own).abs() < 4.0, "{}", z(&own));
    // Tokens out of different windows are no draws from this model.
    let mixed = |window: usize| (0..20).map(|place| windows[(window + place) % 70][place]).collect::<Vec<_>>();
    let (mixed, _) = surprise(&model, &(0..70).map(mixed).collect::<Vec<_>>());
    assert!(z(&mixed) > 8.0, "{} at {entropy} nats a token", z(&mixed));
}

#[test]
fn a_share_of_what_is_measured_on_is_the_models_own() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("text.txt");
    fs::write(&text, "What is which? Question one is two. ".repeat(60)).unwrap();
    let (text, out) = (text.display().to_string(), dir.path().join("supernet").display().to_string());
    let rank = |more: &[&str]| {
        let small = ["rank", TINY, "--tokens", "512", "--window", "64", "--loss-tokens", "0", "--out", &out];
        succeed(criadero(&[&small, more].concat()));
        let card: Value = serde_json::from_slice(&fs::read(format!("{out}/criadero.json")).unwrap()).unwrap();
        card
    };
    let given = ["--text", text.as_str()];
    let tokens = |card: &Value, of: &str| card["calibration"][of].as_u64().unwrap();
    let half = [&given[..], &["--own-text", "0.5"]].concat();
    let card = rank(&half);
    assert_eq!((tokens(&card, "tokens"), tokens(&card, "own_tokens")), (512, 256));
    let digest = blake3::hash(&fs::read(&text).unwrap()).to_hex().to_string();
    assert_eq!(card["calibration"]["text_digest"], digest.as_str());
    assert_eq!(rank(&half), card, "the same order twice");

    let none = rank(&given);
    assert_eq!((tokens(&none, "tokens"), tokens(&none, "own_tokens")), (512, 0));
    assert_ne!(none["order"], card["order"]);
    // A model's own text alone needs no other.
    let alone = rank(&["--own-text", "1", "--text", "no/such/file"]);
    assert_eq!((tokens(&alone, "tokens"), tokens(&alone, "own_tokens")), (512, 512));
    assert_ne!(alone["order"], card["order"]);

    for share in ["-0.1", "1.5", "NaN"] {
        let error = fail(criadero(&["rank", TINY, "--out", &out, &format!("--own-text={share}")]));
        assert!(error.contains("--own-text") && error.contains("a share from 0 to 1"), "{error}");
    }
}

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
