//! Models of random weights, from the command to a search on them.

use std::fs;
use std::path::Path;

use criadero::checkpoint::Checkpoint;
use criadero::model::{Llama, TokenTree};
use criadero::run::Front;
use tch::{Device, Kind};

use crate::command::{criadero, fail, succeed};

#[test]
fn a_synthetic_model_is_searched_like_any_other() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let model = at("model");
    let said = succeed(criadero(&["synthesize", "--shape", "tiny", "--out", &model, "--seed", "5"]));
    assert!(said.contains("random parameters of seed 5"), "{said}");
    // The same weights made in memory.
    let checkpoint = Checkpoint::open(&model).unwrap();
    let (read, made) = (
        Llama::load(&checkpoint, Device::Cpu, Kind::Float).unwrap(),
        Llama::synthesize(checkpoint.config().clone(), 5, Device::Cpu, Kind::Float).unwrap(),
    );
    for ((name, one), (_, other)) in read.weights().into_iter().zip(made.weights()) {
        assert_eq!(one, other, "{name}");
    }
    let tokens = TokenTree::chain(&[3, 100, 44, 258]);
    let logits = read.whole().unwrap().forward(&read.batch(&tokens).unwrap());
    assert!(logits.isfinite().all().int64_value(&[]) == 1);

    let task = at("task.jsonl");
    let row = |place: usize| {
        format!("{{\"context\": \"{place}\", \"choices\": [\" a\", \" b\"], \"gold\": {}}}\n", place % 2)
    };
    fs::write(&task, (0..30).map(row).collect::<String>()).unwrap();
    let (run, nll) = (at("run"), format!("choice_nll:{task}"));
    let flags = ["--evals", "6", "--population", "6", "--threads", "1"];
    let search = ["search", "tiny", "--model", &model, "--objective", &nll, "--objective", "params", "--out", &run];
    succeed(criadero(&[&search[..], &flags].concat()));
    assert!(!Front::read_json(&Path::new(&run).join("front.json")).unwrap().points.is_empty());
}

#[test]
fn bad_input_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out").display().to_string();
    let space = dir.path().join("space.yaml").display().to_string();
    let shape = "shape: { layers: 2, hidden: 64, heads: 4, kv_heads: 2, head_dim: 16, mlp: 128, vocab: 100 }\n";
    fs::write(&space, format!("{shape}heads: [4]\nmlp: [128]\n")).unwrap();
    for (arguments, expected) in [
        (vec!["--shape", "llama9"], "unknown search space `llama9`"),
        (vec!["--shape", space.as_str()], "give one with --tokenizer"),
        (
            vec!["--shape", &space, "--tokenizer", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens/tiny-llama")],
            "512",
        ),
        (vec!["--shape", "tiny", "--tokenizer", "/no/such"], "/no/such"),
    ] {
        let error = fail(criadero(&[&["synthesize", "--out", &out][..], &arguments].concat()));
        assert!(error.contains(expected), "{arguments:?}: {error}");
    }
    assert!(!Path::new(&out).exists());
}
