//! What commands say is worth trying next, run as it is said.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::command::{criadero, said};
use crate::goldens::TINY;

/// The lines that a command said are next.
fn next(beside: &str) -> Vec<String> {
    beside.lines().filter_map(|line| line.strip_prefix("next: ")).map(String::from).collect()
}

/// Runs a line in a shell that finds the binary.
fn run(line: &str) -> String {
    let binary = Path::new(env!("CARGO_BIN_EXE_criadero")).parent().unwrap();
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap());
    let output: Output = Command::new("sh").args(["-c", line]).env("PATH", path).output().unwrap();
    let beside = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{line}: {beside}");
    beside
}

#[test]
fn next_commands_run_as_they_are_said() {
    let dir = tempfile::tempdir().unwrap();
    let [task, text, out] =
        ["my task.jsonl", "text.txt", "it's a run"].map(|name| dir.path().join(name).display().to_string());
    let row =
        |n: usize| format!("{{\"context\": \"{n} and\", \"choices\": [\"one\", \"two\"], \"gold\": {}}}\n", n % 2);
    fs::write(&task, (0..48).map(row).collect::<String>()).unwrap();
    fs::write(&text, "The llama of the farm is larger than the fox. ".repeat(100)).unwrap();

    let supernet = dir.path().join("supernet").display().to_string();
    let mut rank = criadero(&["rank", TINY, "--space", "tiny", "--text", &text, "--out", &supernet]);
    rank.args(["--tokens", "512", "--window", "64", "--loss-tokens", "64"]);
    let lines = next(&said(rank).1);
    assert!(lines.len() == 2 && lines[0].starts_with("criadero search tiny --model "), "{lines:?}");
    assert!(lines[1].contains("--pick 'params<="), "{lines:?}");
    run(&lines[1]);
    assert!(dir.path().join("supernet-small.gguf").is_file());

    let objective = format!("choice_nll:{task}");
    let goals = ["search", "tiny", "--model", &supernet, "--objective", &objective, "--objective", "params"];
    let mut search = criadero(&goals);
    search.args([
        "--evals",
        "12",
        "--population",
        "6",
        "--limit",
        "16",
        "--held-out",
        "16",
        "--threads",
        "1",
        "--out",
        &out,
    ]);
    let lines = next(&said(search).1);
    assert_eq!(lines.len(), 2, "{lines:?}");
    run(&lines[0]);
    assert!(Path::new(&out).join("report.html").is_file());
    let lines = next(&run(&lines[1]));
    assert!(Path::new(&format!("{out}.gguf")).is_file());
    assert!(lines.len() == 2 && lines[1].contains("my task.jsonl"), "{lines:?}");
    lines.iter().for_each(|line| drop(run(line)));
}
