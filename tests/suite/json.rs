//! `--json`: every subcommand that has it prints one JSON object and nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::command::{criadero, said, succeed};
use crate::goldens::TINY;

/// What a command prints with `--json`; what it says beside that has no next commands.
fn printed(arguments: &[&str]) -> Value {
    let (out, beside) = said(criadero(&[arguments, &["--json"]].concat()));
    assert!(!beside.contains("next: "), "{arguments:?}: {beside}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {out}"))
}

/// Writes questions and a text into a directory.
fn files(dir: &Path) -> [String; 2] {
    let [task, text] = ["task.jsonl", "text.txt"].map(|name| dir.join(name));
    let row =
        |n: usize| format!("{{\"context\": \"{n} and\", \"choices\": [\"one\", \"two\"], \"gold\": {}}}\n", n % 2);
    fs::write(&task, (0..48).map(row).collect::<String>()).unwrap();
    let sentence = |n: usize| format!("The llama of farm {n} is larger than the fox of farm {}.\n", n + 1);
    fs::write(&text, (0..200).map(sentence).collect::<String>()).unwrap();
    [task, text].map(|path| path.display().to_string())
}

#[test]
fn every_subcommand_that_has_it_prints_one_object() {
    let dir = tempfile::tempdir().unwrap();
    let [task, text] = files(dir.path());
    let at = |name: &str| dir.path().join(name).display().to_string();
    let names = [
        "random",
        "supernet",
        "table.json",
        "run",
        "exported",
        "recovered",
        "tuned",
        "merged",
        "small",
        "cascade.json",
        "router",
    ];
    let [random, supernet, table, run, exported, recovered, tuned, merged, small, cascade, router] = names.map(at);
    let mut tried = BTreeSet::new();
    let mut json = |line: &str, more: &[&str]| -> Value {
        let words: Vec<&str> = line.split(' ').chain(more.iter().copied()).collect();
        let value = printed(&words);
        let keys = value.as_object().into_iter().flat_map(|object| object.keys());
        for key in keys {
            let snake = key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
            assert!(snake, "{line}: {key}");
        }
        tried.insert(words[0].to_string());
        value
    };
    assert_eq!(json("synthesize --shape tiny --out", &[&random])["checkpoint"], random);
    assert!(json("inspect tiny", &[])["genomes"].is_string());
    assert!(json("tasks", &[]).is_array());
    let plan = json("plan", &[TINY]);
    assert!(plan["work"].as_array().unwrap().iter().any(|row| row["disk_peak_bytes"].is_u64()), "{plan}");
    let sizes = ["--tokens", "512", "--window", "64", "--loss-tokens", "64"];
    let ranked = json("rank", &[&[TINY, "--space", "tiny", "--text", &text, "--out", &supernet][..], &sizes].concat());
    assert_eq!(ranked["layers_least_important_first"].as_array().unwrap().len(), 4);
    assert!(json("eval", &[TINY, "--task", &task])["acc"].is_number());
    let phases = ["--phase", "prefill:16", "--rounds", "2", "--checks", "3", "--random", "2", "--threads", "1"];
    let measured = json("measure", &[&[TINY, "--space", "tiny", "--out", &table][..], &phases].concat());
    assert!(measured["phases"][0]["times"]["constant_ms"].is_number(), "{measured}");
    let objective = format!("choice_nll:{task}");
    let sizes = ["--evals", "12", "--population", "6", "--limit", "16", "--held-out", "16", "--threads", "1", "--out"];
    let goals = ["tiny", "--model", &supernet, "--objective", &objective, "--objective", "params"];
    let found = json("search", &[&goals[..], &sizes, &[&run]].concat());
    assert_eq!((&found["run"], &found["mock"]), (&Value::from(run.as_str()), &Value::Bool(false)));
    let accuracy = format!("accuracy:{task}");
    let of_cascade = json("cascade", &[&run, "--objective", &accuracy, "--budget", "macs<=1G", "--out", &cascade]);
    assert!(of_cascade["stages"].is_array(), "{of_cascade}");
    let steps = ["--data", &text, "--steps", "2", "--length", "48", "--threads", "1", "--out", &router];
    let of_route = json("route", &[&[&supernet, "--space", "tiny"][..], &steps].concat());
    assert_eq!(of_route["out"], router);
    let shown = json("show", &[&run]);
    assert_eq!((&shown["front"], &shown["finished"]), (&found["front"], &Value::Bool(true)));
    let drawn = json("plot", &[&run]);
    assert_eq!(drawn["front"], found["front"]);
    assert!(drawn["written"].as_array().unwrap().iter().any(|file| file.as_str().unwrap().ends_with("report.html")));
    let pick = found["front"]["points"][0]["id"].to_string();
    let of_export = json("export", &[&run, "--pick", &pick, "--format", "hf", "--out", &exported]);
    assert_eq!(of_export["genome"], found["front"]["points"][0]["genome"]);
    assert!(json("quantize", &[&run, "--bits", "8"])["front"]["points"][0]["bytes"].is_u64());
    let steps =
        ["--data", &text, "--steps", "2", "--length", "64", "--held-out-sequences", "1", "--threads", "1", "--out"];
    let of_distill = json("distill", &[&[&run, "--pick", &pick][..], &steps, &[&recovered]].concat());
    assert_eq!((&of_distill["checkpoint"], &of_distill["steps"]), (&Value::from(recovered.as_str()), &Value::from(2)));
    let of_tune = || json("tune", &[&[&supernet, "--space", "tiny", "--lora", "2"][..], &steps, &[&tuned]].concat());
    let mut of_tune = of_tune;
    let first = of_tune();
    assert!(first["held_out_nats_per_token"]["largest"].is_number() && first["finished_before"] == false, "{first}");
    assert_eq!(of_tune()["finished_before"], true);
    assert_eq!(
        json("merge", &[&supernet, first["adapters"].as_str().unwrap(), "--out", &merged])["checkpoint"],
        merged
    );
    assert!(json("generate --max-tokens 4 --prompt a", &[TINY])["tokens_per_second"].is_number());
    let limit = ["--to", "params<=150k", "--task", &task, "--text", &text, "--quick", "--dry-run", "--out", &small];
    let steps = json("shrink", &[&[TINY][..], &limit].concat());
    assert_eq!(steps["steps"][0]["step"], "rank", "{steps}");

    let help = succeed(criadero(&["--help"]));
    let listed = help.split("Commands:").nth(1).unwrap().split("Options:").next().unwrap();
    let commands = listed.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let has = |command: &&str| succeed(criadero(&[command, "--help"])).contains("--json");
    // Those that need packed chunks, or a server, are tried where these are.
    let elsewhere = ["help", "", "gpu-check", "workers"];
    let all: BTreeSet<String> =
        commands.filter(|command| !elsewhere.contains(command)).filter(has).map(String::from).collect();
    assert_eq!(tried, all);
}
