//! What the binary says when it cannot: what was found, what would do, in at most ten lines, and nothing twice.

use std::fs;

use crate::command::{criadero, fail, fail_with, succeed};
use crate::goldens::TINY;

#[test]
fn messages_say_what_was_found_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let gguf = path("whole.gguf");
    succeed(criadero(&["export", TINY, "--format", "gguf", "--out", &gguf]));
    let bytes = fs::read(&gguf).unwrap();
    let [cut, cut_early, bin, single, pickle, text] =
        ["cut.gguf", "early.gguf", "m.bin", "x.safetensors", "pytorch_model.bin", "a.txt"].map(path);
    fs::write(&cut, &bytes[..bytes.len() - 1000]).unwrap();
    fs::write(&cut_early, &bytes[..2000]).unwrap();
    fs::write(&bin, [7; 100]).unwrap();
    fs::copy(format!("{TINY}/model.safetensors"), &single).unwrap();
    fs::write(&pickle, b"PK\x03\x04archive/data.pkl").unwrap();
    fs::write(&text, "A llama and a fox went up a hill.").unwrap();
    let (missing, out) = (path("missing"), path("out"));
    let perplexity = format!("choice_nll:{text}");
    let eval = |model| vec!["eval", model, "--task", text.as_str()];
    let cases: Vec<(Vec<&str>, &str)> = vec![
        (eval(&cut), "is it a download that was cut off?"),
        (eval(&cut_early), "is it a download that was cut off?"),
        (
            eval(&bin),
            "it begins with [07, 07, 07, 07], expected [47, 47, 55, 46] (`GGUF`); or give a Hugging Face directory",
        ),
        (eval(&single), "a file of a Hugging Face directory, expected the directory itself"),
        (
            eval(&pickle),
            "found a pickle of PyTorch, expected GGUF; load it with transformers and save_pretrained it as safetensors",
        ),
        (eval(&missing), "give a Hugging Face checkpoint directory or a .gguf file"),
        (
            vec!["search", "tiny", "--model", TINY, "--objective", &perplexity, "--objective", "params", "--out", &out],
            "a task of running text",
        ),
        (
            vec!["export", TINY, "--bits", "q4_k_m", "--format", "gguf", "--out", &out],
            "`q4_k` for q4_k in all layers, or `--bits mixed`",
        ),
        (
            vec!["export", TINY, "--pick", "knee", "--format", "gguf", "--out", &out],
            "without both all of the model is exported",
        ),
        (
            vec!["measure", TINY, "--space", "tiny", "--phase", "decode:256x1", "--out", &out],
            "positions at most; give a shorter one with --phase",
        ),
        (vec!["rank", TINY, "--text", &missing, "--out", &out], "give one with --text"),
        (vec!["plot", &missing], "repeat the search's command to finish it"),
        (vec!["tune", TINY, "--space", "tiny", "--length", "64", "--data", &missing, "--out", &out], "No such file"),
        (vec!["eval", TINY, "--task", &text, "--genomes", &missing], "No such file"),
    ];
    for (arguments, expected) in cases {
        let code = if arguments.contains(&"q4_k_m") { 2 } else { 1 };
        let said = fail_with(criadero(&arguments), code);
        assert!(said.contains(expected), "{arguments:?}: {said}");
        assert!(said.lines().count() <= 10, "{arguments:?}: {said}");
        assert!(said.matches("(os error").count() <= 1, "{arguments:?}: {said}");
    }
    let printed = succeed(criadero(&["eval", TINY, "--task", &text]));
    assert!(printed.contains("(one item: no error)") && !printed.contains('±'), "{printed}");
}

#[test]
fn a_search_of_which_nothing_fits_names_the_nearest() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run").display().to_string();
    // No network of the space has so many parameters and no more, and that cannot be known from the ends.
    let mut search = criadero(&[
        "search",
        "tiny",
        "--evaluator",
        "mock",
        "--objective",
        "choice_nll:arc_easy",
        "--objective",
        "params",
    ]);
    search.args(["--algorithm", "random", "--evals", "8", "--population", "8", "--seed", "1", "--out", &out]);
    search.args(["--constraint", "params>=150001", "--constraint", "params<=150002"]);
    let said = fail_with(search, 1);
    assert!(said.contains("front: found none among 8 evaluated networks; the nearest, "), "{said}");
    assert!(
        said.contains(
            "expected one that meets params >= 150001 and params <= 150002; widen them, or give more --evals"
        ),
        "{said}"
    );
}

#[test]
fn shells_and_the_manual_know_every_command() {
    for shell in ["bash", "fish", "zsh"] {
        let script = succeed(criadero(&["completions", shell]));
        assert!(["shrink", "per-item", "objective"].iter().all(|word| script.contains(word)), "{shell}");
    }
    let dir = tempfile::tempdir().unwrap();
    let man = dir.path().join("man1");
    let write = || criadero(&["completions", "--man", man.to_str().unwrap()]);
    succeed(write());
    let page = fs::read_to_string(man.join("criadero-eval.1")).unwrap();
    assert!(page.contains(".TH criadero-eval 1") && page.contains("lm\\-evaluation\\-harness"), "{page}");
    let help = succeed(criadero(&["--help"]));
    let listed = help.split("Commands:").nth(1).unwrap().split("Options:").next().unwrap();
    let commands = listed.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    for command in commands.filter(|command| !["help", ""].contains(command)) {
        assert!(man.join(format!("criadero-{command}.1")).is_file(), "{command}");
    }
    succeed(write());
    fs::write(man.join("criadero.1"), "mine").unwrap();
    assert!(fail(write()).contains("was not written by this command"));
}
