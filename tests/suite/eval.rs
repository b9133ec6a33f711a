//! `criadero rank`, `eval`, `search` and `export` through the real binary: on the tiny model, and on SmolLM2-135M where
//! `make assets` has put it.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::command::{self, criadero};

use crate::goldens::{GOLDENS, TINY, copy_of_tiny};

fn succeed(arguments: &[&str]) -> String {
    command::succeed(criadero(arguments))
}

fn fail(arguments: &[&str]) -> String {
    command::fail(criadero(arguments))
}

fn tiny() -> String {
    format!("{GOLDENS}/tiny-llama")
}

/// Questions in the tiny model's alphabet.
pub fn questions(dir: &Path, count: usize) -> String {
    let row = |place: usize| {
        let choices = ["one", "two two", "three", "four"].map(|word| format!("{word} {place}"));
        json!({ "context": format!("Question {place}: which?"), "choices": choices, "gold": place % 4 }).to_string()
            + "\n"
    };
    let path = dir.join("questions.jsonl");
    fs::write(&path, (0..count).map(row).collect::<String>()).unwrap();
    path.display().to_string()
}

pub fn per_item(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn log_likelihoods(rows: &[Value]) -> Vec<f64> {
    rows.iter().flat_map(|row| row["log_likelihoods"].as_array().unwrap()).map(|ll| ll.as_f64().unwrap()).collect()
}

/// A copy of the tiny model with another tokenizer.json.
fn with_tokenizer(dir: &Path, change: impl Fn(&mut Value)) -> String {
    for name in ["config.json", "model.safetensors", "tokenizer_config.json"] {
        fs::copy(format!("{TINY}/{name}"), dir.join(name)).unwrap();
    }
    let mut tokenizer = serde_json::from_slice(&fs::read(format!("{TINY}/tokenizer.json")).unwrap()).unwrap();
    change(&mut tokenizer);
    fs::write(dir.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    dir.display().to_string()
}

#[test]
fn an_eos_that_the_template_appends_is_no_part_of_what_is_scored() {
    let dir = tempfile::tempdir().unwrap();
    let model = with_tokenizer(dir.path(), |tokenizer| {
        let eos = json!({ "SpecialToken": { "id": "</s>", "type_id": 0 } });
        tokenizer["post_processor"]["single"].as_array_mut().unwrap().push(eos);
        tokenizer["post_processor"]["special_tokens"] =
            json!({ "</s>": { "id": "</s>", "ids": [1], "tokens": ["</s>"] } });
    });
    let task = dir.path().join("r.jsonl");
    fs::write(&task, json!({ "context": "the", "choices": ["a", "b"], "gold": 0 }).to_string()).unwrap();
    let score = |model: &str| {
        let rows = dir.path().join("rows.jsonl");
        let arguments = ["eval", model, "--task", task.to_str().unwrap(), "--per-item", rows.to_str().unwrap()];
        let (_, said) = command::said(criadero(&arguments));
        (log_likelihoods(&per_item(&rows)), said)
    };
    let (plain, silent) = score(&tiny());
    let (scored, said) = score(&model);
    assert_eq!(scored, plain);
    assert_ne!(scored[0], scored[1]);
    assert!(!silent.contains("note: "), "{silent}");
    let note = "note: the tokenizer puts `</s>` behind every text; it is left out of contexts and of what is scored. \
                lm-evaluation-harness keeps it";
    assert_eq!(said.matches(note).count(), 1, "{said}");
}

#[test]
fn scores_are_the_same_in_any_chunk_size_and_reported_as_json() {
    let dir = tempfile::tempdir().unwrap();
    let task = questions(dir.path(), 12);
    let mut scores: Vec<Vec<f64>> = Vec::new();
    for chunk_tokens in ["16", "100", "10000"] {
        let rows = dir.path().join("rows.jsonl");
        let out = succeed(&[
            "eval",
            &tiny(),
            "--task",
            &task,
            "--json",
            "--chunk-tokens",
            chunk_tokens,
            "--per-item",
            rows.to_str().unwrap(),
        ]);
        let summary: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(summary["items"], 12);
        for field in
            ["task", "acc", "acc_stderr", "acc_norm", "acc_norm_stderr", "packed_tokens", "naive_tokens", "seconds"]
        {
            assert!(!summary[field].is_null(), "{field} in {summary}");
        }
        let rows = per_item(&rows);
        let correct: f64 = rows.iter().map(|row| row["correct"].as_f64().unwrap()).sum();
        assert!((correct / 12.0 - summary["acc"].as_f64().unwrap()).abs() < 1e-12);
        scores.push(log_likelihoods(&rows));
    }
    for other in &scores[1..] {
        let largest = scores[0].iter().zip(other).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(largest < 1e-4, "{largest}");
    }
}

#[test]
fn a_ranked_model_computes_what_its_parent_does_and_narrows_differently() {
    let dir = tempfile::tempdir().unwrap();
    let task = questions(dir.path(), 8);
    let text = dir.path().join("text.txt");
    fs::write(&text, "What is which? Question one is two. ".repeat(60)).unwrap();
    let supernet = dir.path().join("supernet").display().to_string();
    let out = succeed(&[
        "rank",
        &tiny(),
        "--text",
        text.to_str().unwrap(),
        "--out",
        &supernet,
        "--tokens",
        "512",
        "--window",
        "64",
        "--loss-tokens",
        "0",
    ]);
    assert!(out.contains("largest logit difference"), "{out}");
    let rows = |model: &str, genome: &str| {
        let rows = dir.path().join("rows.jsonl");
        succeed(&["eval", model, "--task", &task, "--genome", genome, "--per-item", rows.to_str().unwrap()]);
        log_likelihoods(&per_item(&rows))
    };
    let largest = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    // The tiny model is stored in bfloat16 or float32; a permutation is exact in both, only sums are ordered anew.
    assert!(largest(&rows(&tiny(), "4x128*4"), &rows(&supernet, "4x128*4")) < 1e-3);
    assert!(
        largest(&rows(&tiny(), "2x64*4"), &rows(&supernet, "2x64*4")) > 1e-3,
        "other heads and channels come first"
    );

    let inspected = succeed(&["inspect", "tiny", "--model", &supernet]);
    assert!(inspected.contains("least important layers go first: "), "{inspected}");
    let error = fail(&["inspect", "smollm2-135m", "--model", &supernet]);
    assert!(error.contains("line 8") || error.contains("shape"), "{error}");

    let card = dir.path().join("supernet/criadero.json").display().to_string();
    let again = dir.path().join("again").display().to_string();
    succeed(&["rank", &tiny(), "--text", text.to_str().unwrap(), "--out", &again, "--order", &card]);
    assert_eq!(rows(&again, "2x64*4"), rows(&supernet, "2x64*4"), "a stored order is applied as it is");
}

#[test]
fn a_search_on_a_model_resumes_and_exports_what_it_scored() {
    let dir = tempfile::tempdir().unwrap();
    let task = questions(dir.path(), 40);
    let run = dir.path().join("run").display().to_string();
    let nll = format!("choice_nll:{task}");
    let search = [
        "search",
        "tiny",
        "--model",
        &tiny(),
        "--objective",
        &nll,
        "--objective",
        "params",
        "--objective",
        "prefill_tps",
        "--evals",
        "12",
        "--population",
        "6",
        "--seed",
        "5",
        "--chunk-tokens",
        "128",
        "--threads",
        "1",
        "--out",
        &run,
    ];
    let out = succeed(&search);
    assert!(out.contains("parent"), "{out}");
    let read = |name: &str| fs::read(dir.path().join("run").join(name)).unwrap();
    let (evaluations, front) = (read("evaluations.csv"), read("front.csv"));
    let log = String::from_utf8(read("chunks.log")).unwrap();
    let half: String = log.split_inclusive('\n').take(log.lines().count() / 2).collect();
    fs::write(dir.path().join("run/chunks.log"), half + "torn").unwrap();
    fs::remove_file(dir.path().join("run/state.json")).unwrap();
    succeed(&search);
    assert_eq!(
        (read("evaluations.csv"), read("front.csv")),
        (evaluations, front),
        "scores and the throughput table are kept"
    );

    let gguf = dir.path().join("whole.gguf").display().to_string();
    succeed(&["export", &tiny(), "--genome", "4x128*4", "--format", "gguf", "--dtype", "f32", "--out", &gguf]);
    let narrow = dir.path().join("narrow").display().to_string();
    succeed(&["export", &gguf, "--genome", "4x128:2x64:-:4x128", "--format", "hf", "--out", &narrow]);

    let exported = dir.path().join("hf").display().to_string();
    let out = succeed(&["export", &run, "--pick", "params<=1G", "--format", "hf", "--out", &exported]);
    let genome = out.lines().next().unwrap().split(": ").nth(1).unwrap().to_string();
    let rows = |model: &str, genome: Option<&str>| {
        let rows = dir.path().join("rows.jsonl");
        let mut arguments = vec!["eval", model, "--task", &task, "--per-item", rows.to_str().unwrap()];
        arguments.extend(genome.map(|genome| ["--genome", genome]).into_iter().flatten());
        succeed(&arguments);
        log_likelihoods(&per_item(&rows))
    };
    let (inside, outside) = (rows(&tiny(), Some(&genome)), rows(&exported, None));
    let largest = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(largest(&inside, &outside) < 1e-4, "{}", largest(&inside, &outside));
    let (inside, outside) = (rows(&tiny(), Some("4x128:2x64:-:4x128")), rows(&narrow, None));
    assert!(largest(&inside, &outside) < 1e-4, "through a GGUF file: {}", largest(&inside, &outside));
}

#[test]
fn a_search_by_the_perplexity_of_a_text_is_reported_and_drawn() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("text.txt");
    let lines: String = (0..900).map(|line| format!("Line {line} says {}.\n", line * 7919 % 1000)).collect();
    fs::write(&text, lines).unwrap();
    let run = dir.path().join("run").display().to_string();
    let perplexity = format!("perplexity:{}", text.display());
    let divergence = format!("kl:{}", text.display());
    let search = [
        "search",
        "tiny",
        "--model",
        &tiny(),
        "--objective",
        &perplexity,
        "--objective",
        &divergence,
        "--objective",
        "weight_bytes",
        "--evals",
        "10",
        "--population",
        "5",
        "--limit",
        "3",
        "--held-out",
        "3",
        "--out",
        &run,
    ];
    // Nothing says how to divide the CPU, so it is measured once and kept to.
    let stderr = || String::from_utf8(criadero(&search).output().unwrap().stderr).unwrap();
    let frozen = || {
        let settings = fs::read_to_string(dir.path().join("run/run.json")).unwrap();
        serde_json::from_str::<Value>(&settings).unwrap()["frozen"].clone()
    };
    let first = stderr();
    assert!(first.contains("workers x threads: "), "{first}");
    let measured = frozen();
    assert!(measured["workers"].as_u64() > Some(0) && measured["packing"]["chunk_tokens"].as_u64() >= Some(512));
    let second = stderr();
    assert!(!second.contains("workers x threads: ") && frozen() == measured, "{second}");
    let front = fs::read_to_string(dir.path().join("run/front.csv")).unwrap();
    assert!(front.lines().next().unwrap().contains("held_out:perplexity:"), "{front}");
    let mut reader = csv::Reader::from_path(dir.path().join("run/evaluations.csv")).unwrap();
    let place = reader.headers().unwrap().iter().position(|name| name == divergence).unwrap();
    let divergences: Vec<f64> = reader.records().map(|row| row.unwrap()[place].parse().unwrap()).collect();
    // The first network is the whole model, which is no distance from itself; all others are some.
    assert!(divergences[0].abs() < 1e-6, "{divergences:?}");
    assert!(divergences[1..].iter().all(|kl| *kl > 1e-5), "{divergences:?}");
    let out = succeed(&["plot", &run]);
    assert!(out.contains("front.png") && dir.path().join("run/report.html").is_file(), "{out}");
}

#[test]
fn a_split_and_a_file_of_genomes_are_scored_as_a_search_scores_them() {
    let dir = tempfile::tempdir().unwrap();
    let task = questions(dir.path(), 40);
    let (nll, run) = (format!("choice_nll:{task}"), dir.path().join("run").display().to_string());
    let limits = ["--limit", "9", "--held-out", "8", "--evals", "8", "--population", "4", "--threads", "1"];
    let mut search = vec!["search", "tiny", "--model", TINY, "--objective", &nll, "--objective", "params"];
    search.extend(limits);
    search.extend(["--out", &run]);
    succeed(&search);
    let evaluations = dir.path().join("run/evaluations.csv");
    let mut reader = csv::Reader::from_path(evaluations).unwrap();
    let rows: Vec<(String, f64)> =
        reader.records().map(|row| row.unwrap()).map(|row| (row[2].to_string(), row[4].parse().unwrap())).collect();
    assert_eq!(rows.len(), 8);

    let file = dir.path().join("genomes.txt");
    let lines: String = rows.iter().map(|(genome, _)| format!("{genome}\n")).collect();
    fs::write(&file, format!("# twice the same network\n{lines}\n{lines}")).unwrap();
    let items = dir.path().join("items.jsonl");
    let (file, items_file) = (file.display().to_string(), items.display().to_string());
    let score = |split: &str, limit: &str, which: &[&str]| -> Vec<Value> {
        let mut arguments = vec!["eval", TINY, "--task", &task, "--split", split, "--limit", limit, "--threads", "1"];
        arguments.extend(["--json", "--per-item", &items_file]);
        arguments.extend(which);
        succeed(&arguments).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let together = score("search", "9", &["--genomes", &file]);
    assert_eq!(together.len(), rows.len(), "each network once");
    for ((genome, choice_nll), found) in rows.iter().zip(&together) {
        assert_eq!((found["genome"].as_str(), found["items"].as_u64()), (Some(genome.as_str()), Some(9)));
        // Items have the same bits; a search adds them up in the order that its seed draws.
        let difference = found["choice_nll"].as_f64().unwrap() - choice_nll;
        assert!(difference.abs() <= 4.0 * f64::EPSILON * choice_nll, "{difference}");
    }
    let scored = per_item(&items);
    assert_eq!(scored.len(), 8 * 9);
    let last: Vec<Value> = scored.iter().filter(|row| row["genome"] == rows[7].0.as_str()).cloned().collect();
    let single = score("search", "9", &["--genome", &rows[7].0]);
    assert_eq!(single[0]["choice_nll"], together[7]["choice_nll"]);
    assert_eq!(log_likelihoods(&per_item(&items)), log_likelihoods(&last), "in company as alone");

    let one_by_one = score("search", "9", &["--genomes", &file, "--alone"]);
    let seconds = |found: &[Value]| found.iter().map(|row| row["seconds"].to_string()).collect::<HashSet<_>>().len();
    assert_eq!((seconds(&together), seconds(&one_by_one)), (1, 8), "the time of all, and of each");
    for (a, b) in together.iter().zip(&one_by_one) {
        assert_eq!(a["choice_nll"], b["choice_nll"]);
    }

    let places = |rows: &[Value]| rows.iter().map(|row| row["index"].as_u64().unwrap()).collect::<Vec<_>>();
    score("search", "40", &[]);
    let mut both = places(&per_item(&items));
    assert!(!both.is_sorted() && both[..9] == places(&last), "in hash order");
    score("held-out", "40", &[]);
    both.extend(places(&per_item(&items)));
    both.sort();
    assert_eq!(both, (0..40).collect::<Vec<u64>>(), "the two halves are all");

    let text = dir.path().join("text.txt");
    fs::write(&text, (0..900).map(|line| format!("Line {line} says {}.\n", line * 7919 % 1000)).collect::<String>())
        .unwrap();
    let out = succeed(&["eval", TINY, "--task", text.to_str().unwrap(), "--split", "held-out", "--json"]);
    let summary: Value = serde_json::from_str(&out).unwrap();
    assert!(summary["items"].as_u64().unwrap() > 1, "a text is cut into passages: {summary}");
    assert!(summary["word_perplexity"].as_f64().unwrap().is_finite(), "{summary}");

    let refused = criadero(&["eval", TINY, "--task", &task, "--genomes", &file, "--genome", "4x128*4"]).output();
    assert_eq!(refused.unwrap().status.code(), Some(2), "one of the two");
    fs::write(dir.path().join("none.txt"), "# nobody\n").unwrap();
    let none = dir.path().join("none.txt").display().to_string();
    assert!(fail(&["eval", TINY, "--task", &task, "--genomes", &none]).contains("none.txt"));
    fs::write(dir.path().join("wrong.txt"), "4x128*4\n4x128*\n").unwrap();
    let wrong = dir.path().join("wrong.txt").display().to_string();
    assert!(fail(&["eval", TINY, "--task", &task, "--genomes", &wrong]).contains("line 2"));
}

/// What `eval` says of a model on a task of these rows: its summary, its items, and what it notes.
fn eval_rows(model: &str, yaml: &str, rows: &str) -> (Value, Vec<Value>, String) {
    let dir = tempfile::tempdir().unwrap();
    let (task, items) = (dir.path().join("mine.yaml"), dir.path().join("items.jsonl"));
    fs::write(&task, format!("name: mine\ndata: r.jsonl\nscoring: choices\n{yaml}")).unwrap();
    fs::write(dir.path().join("r.jsonl"), rows).unwrap();
    let [task, out] = [&task, &items].map(|path| path.to_str().unwrap().to_string());
    let (out, notes) = command::said(criadero(&["eval", model, "--task", &task, "--per-item", &out, "--json"]));
    (serde_json::from_str(&out).unwrap(), per_item(&items), notes)
}

#[test]
fn a_continuation_that_merges_with_its_context_is_scored_by_itself() {
    // `the` is one token, of which `th`, another, is no beginning; `thx` is `th` and `x`.
    let yaml = "context: '{{q}}'\nchoices: opts\ngold: g\ntarget_delimiter: ''\n";
    let row = r#"{"q": "th", "opts": ["e", "x"], "g": 0}"#;
    let (summary, items, notes) = eval_rows(&tiny(), yaml, row);
    // transformers 5.23.0 with torch 2.11.0 in float32: of `e` and of `x` after `th`.
    for (found, expected) in log_likelihoods(&items).iter().zip([-9.08684584141574, -7.557136681087828]) {
        assert!((found - expected).abs() < 1e-4, "{found} {expected}");
    }
    assert_eq!((summary["items"].as_u64(), summary.get("left_out")), (Some(1), None));
    assert!(notes.contains("note: mine: requests whose continuation merges with"), "{notes}");
    // Behind a BOS that the tokenizer adds, which is before the context and not before the continuation once more.
    let dir = tempfile::tempdir().unwrap();
    copy_of_tiny(dir.path());
    let path = dir.path().join("tokenizer.json");
    let mut tokenizer: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let sequence = |id: &str| json!({ "Sequence": { "id": id, "type_id": 0 } });
    tokenizer["post_processor"] = json!({
        "type": "TemplateProcessing",
        "single": [{ "SpecialToken": { "id": "<s>", "type_id": 0 } }, sequence("A")],
        "pair": [sequence("A"), sequence("B")],
        "special_tokens": { "<s>": { "id": "<s>", "ids": [0], "tokens": ["<s>"] } },
    });
    fs::write(&path, tokenizer.to_string()).unwrap();
    let (_, items, _) = eval_rows(dir.path().to_str().unwrap(), yaml, row);
    for (found, expected) in log_likelihoods(&items).iter().zip([-9.845455449103904, -9.243845026969504]) {
        assert!((found - expected).abs() < 1e-4, "{found} {expected}");
    }
}

#[test]
fn blank_and_long_contexts_are_scored_and_too_long_choices_left_out() {
    let row = |context: &str, choices: [&str; 2]| json!({ "q": context, "opts": choices, "g": 1 }).to_string() + "\n";
    // The model has 256 positions; the long context is 440 tokens.
    let (long, too_long) = ("the cat sat on the mat. ".repeat(40), "a b".repeat(200));
    let rows =
        [row("", ["a", "b"]), row("  ", ["a", "b"]), row(&long, ["a", "b"]), row("q", ["a", &too_long])].concat();
    let (summary, mut items, notes) = eval_rows(&tiny(), "context: '{{q}}'\nchoices: opts\ngold: g\n", &rows);
    let left_out = items.pop().unwrap();
    // transformers 5.23.0 with torch 2.11.0 in float32, behind BOS where the context has no token, and in the last 256
    // tokens where it has too many.
    let expected = [
        [-6.121093117429501, -6.661420904828793],
        [-26.856874942870967, -25.48600280294024],
        [-14.614712520442527, -15.166896267734092],
    ];
    assert_eq!(items.len(), 3);
    for (found, expected) in log_likelihoods(&items).iter().zip(expected.as_flattened()) {
        assert!((found - expected).abs() < 1e-4, "{found} {expected}");
    }
    let reason = "continuation: found 400 tokens to score, expected at most the model's 256";
    let reasons = json!([{ "file": "r.jsonl", "reason": reason, "count": 1, "rows": ["line 4"] }]);
    assert_eq!(left_out, json!({ "left_out": { "count": 1, "of": 4, "reasons": reasons } }));
    assert_eq!(summary["left_out"], left_out["left_out"]);
    assert!(notes.contains(&format!("note: mine: 1 of 4 rows was left out\n  line 4: {reason}\n")), "{notes}");
    assert!(
        notes.contains("note: mine: requests longer than 256 tokens, which lost the first tokens of their context: 2"),
        "{notes}"
    );
}

#[test]
fn a_search_freezes_what_it_left_out_and_resumes_on_the_same_items() {
    let dir = tempfile::tempdir().unwrap();
    let task = questions(dir.path(), 24);
    let long = json!({ "context": "q", "choices": ["a", "a b".repeat(200)], "gold": 0 });
    let rows = fs::read_to_string(&task).unwrap();
    fs::write(&task, format!("{{\"gold\": 1}}\n{rows}{long}\n")).unwrap();
    let out = dir.path().join("run").display().to_string();
    let search = || {
        let nll = format!("choice_nll:{task}");
        let what = ["search", "tiny", "--model", &tiny(), "--objective", &nll, "--objective", "params"];
        criadero(&[&what[..], &["--evals", "6", "--population", "4", "--seed", "5", "--out", &out]].concat())
    };
    let (_, notes) = command::said(search());
    assert_eq!(notes.matches("2 of 26 rows were left out").count(), 1, "{notes}");
    let run: Value = serde_json::from_str(&fs::read_to_string(dir.path().join("run/run.json")).unwrap()).unwrap();
    let kept = &run["tasks"][0];
    assert_eq!(kept["left_out"]["reasons"][0]["rows"], json!(["line 1"]), "{kept}");
    let sides = ["search", "held_out"].map(|side| {
        let left_out = kept.get(format!("{side}_left_out")).map_or(0, |left_out| left_out["count"].as_u64().unwrap());
        (kept[format!("{side}_items")].as_u64().unwrap(), left_out)
    });
    assert_eq!((sides[0].0 + sides[1].0, sides[0].1, sides[1].1), (24, 0, 1), "{kept}");
    let front = fs::read(dir.path().join("run/front.csv")).unwrap();
    command::succeed(search());
    assert_eq!(fs::read(dir.path().join("run/front.csv")).unwrap(), front);
    // It scores the run's own held-out items, which it knows by their digest, and refuses others.
    succeed(&["quantize", &out, "--bits", "8", "--threads", "1"]);
}

#[test]
fn bad_input_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let tiny = tiny();
    let gold = write("gold.jsonl", "{\"context\": \"a\", \"choices\": [\"b\", \"c\"], \"gold\": 2}\n");
    let empty = write("empty.jsonl", "{\"context\": \"a\", \"choices\": [\"b\", \"\"], \"gold\": 0}\n");
    let nothing = write("nothing.jsonl", "");
    let good = questions(dir.path(), 1);
    for (arguments, expected) in [
        (vec!["eval", &tiny, "--task", "arc_hard"], "arc_easy"),
        (vec!["eval", &tiny, "--task", &gold], "gold"),
        (vec!["eval", &tiny, "--task", &empty], "empty"),
        (vec!["eval", &tiny, "--task", &nothing], "no rows"),
        (vec!["eval", "/no/such/model", "--task", &good], "/no/such/model"),
        (vec!["eval", &tiny, "--task", "arc_easy", "--data", "/no/data"], "criadero fetch demo"),
        (vec!["eval", &tiny, "--task", &good, "--device", "cuda:7"], "cpu"),
        (
            vec![
                "search",
                "smollm2-135m",
                "--model",
                &tiny,
                "--objective",
                "params",
                "--objective",
                "choice_nll:arc_easy",
                "--out",
                "/tmp/x",
            ],
            "line",
        ),
        (vec!["export", &tiny, "--pick", "knee", "--format", "hf", "--out", "/tmp/x"], "is no run"),
    ] {
        let error = fail(&arguments);
        assert!(error.starts_with("error: ") && error.contains(expected), "{arguments:?}: {error}");
    }
}

#[test]
#[cfg_attr(not(assets), ignore = "no assets")]
fn smollm2_scores_arc_easy_as_lm_evaluation_harness_does() {
    let dir = tempfile::tempdir().unwrap();
    let rows = dir.path().join("rows.jsonl");
    let out = succeed(&[
        "eval",
        "smollm2-135m",
        "--task",
        "arc_easy",
        "--limit",
        "200",
        "--json",
        "--per-item",
        rows.to_str().unwrap(),
    ]);
    let summary: Value = serde_json::from_str(&out).unwrap();
    // lm-evaluation-harness 0.4.13, transformers 5.23.0, torch 2.11.0, float32 on the CPU.
    assert_eq!((summary["acc"].as_f64(), summary["acc_norm"].as_f64()), (Some(0.51), Some(0.465)));
    let golden = fs::read_to_string(format!("{GOLDENS}/lm_eval/smollm2_arc_easy_20.json")).unwrap();
    let golden: Value = serde_json::from_str(&golden).unwrap();
    let expected = golden["items"].as_array().unwrap();
    assert_eq!(expected.len(), 20);
    for (row, item) in per_item(&rows).iter().zip(expected) {
        let (found, expected) =
            (&log_likelihoods(std::slice::from_ref(row)), log_likelihoods(std::slice::from_ref(item)));
        let largest = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(largest < 1e-3 && found.len() == expected.len(), "item {}: {largest}", item["index"]);
        assert_eq!(row["correct"].as_f64(), item["acc"].as_f64());
        assert_eq!(row["correct_norm"].as_f64(), item["acc_norm"].as_f64());
    }
}

#[test]
#[cfg_attr(not(assets), ignore = "no assets")]
fn smollm2_writes_the_answers_that_lm_evaluation_harness_gets() {
    let dir = tempfile::tempdir().unwrap();
    let rows = dir.path().join("rows.jsonl");
    let asked = ["eval", "smollm2-135m", "--task", "nq_open", "--limit", "20", "--json", "--per-item"];
    let mut command = criadero(&asked);
    command.arg(&rows);
    let summary: Value = serde_json::from_str(&crate::command::succeed(command)).unwrap();
    // lm-evaluation-harness 0.4.13, transformers 5.24.0, torch 2.11.0, float32 on the CPU.
    let golden = fs::read_to_string(format!("{GOLDENS}/lm_eval/smollm2_nq_open_20.json")).unwrap();
    let golden: Value = serde_json::from_str(&golden).unwrap();
    assert_eq!(summary["exact_match"].as_f64(), golden["metrics"]["exact_match"].as_f64());
    let expected = golden["items"].as_array().unwrap();
    assert_eq!(expected.len(), 20);
    for (row, item) in per_item(&rows).iter().zip(expected) {
        assert_eq!((&row["answer"], row["correct"].as_f64()), (&item["answer"], item["exact_match"].as_f64()));
    }
}
