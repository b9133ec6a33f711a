//! How much a command says: `--quiet`, the usual, `--verbose`.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::command::{criadero, fail, fail_with, said, succeed};
use crate::goldens::TINY;
use crate::terminal::on_a_terminal;

fn search(out: &Path, flags: &[&str]) -> Command {
    let mut command = criadero(&["search", "tiny", "--objective", "choice_nll:arc_easy", "--objective", "params"]);
    command.args(["--evals", "12", "--population", "6", "--evaluator", "mock", "--out"]).arg(out).args(flags);
    command
}

#[test]
fn quiet_leaves_results_and_errors_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let [usual, quiet, step] = ["usual", "quiet", "step"].map(|name| dir.path().join(name));
    let of = |(results, beside): (String, String), out: &Path| (results.replace(out.to_str().unwrap(), "RUN"), beside);
    let (results, beside) = of(said(search(&usual, &[])), &usual);
    assert!(!beside.is_empty());
    assert_eq!(of(said(search(&quiet, &["-q"])), &quiet), (results.clone(), String::new()));
    // As `shrink` starts it.
    let mut of_another = search(&step, &[]);
    of_another.env("CRIADERO_STEP", "quiet");
    assert_eq!(of(said(of_another), &step), (results, String::new()));

    let written = on_a_terminal(search(&dir.path().join("again"), &["--quiet", "--evaluator", "mock:2"]));
    assert!(!written.text.contains("searching"), "{}", written.text);
    let error = fail(criadero(&["-q", "inspect", "no-such-space"]));
    assert_eq!(error.matches("error: ").count(), 1, "{error}");
}

#[test]
fn verbose_says_versions_files_devices_and_seconds() {
    let dir = tempfile::tempdir().unwrap();
    let task = dir.path().join("task.jsonl");
    let row = |n: usize| format!("{{\"context\": \"{n} and\", \"choices\": [\"one\", \"two\"], \"gold\": 0}}\n");
    fs::write(&task, (0..24).map(row).collect::<String>()).unwrap();
    let (_, details) = said(criadero(&["eval", TINY, "--task", task.to_str().unwrap(), "--threads", "1", "-v"]));
    let version = format!("detail: criadero {}, libtorch 2.11.0", env!("CARGO_PKG_VERSION"));
    let opened = format!("detail: opened {TINY}: ");
    let data = format!("detail: task task: {}", task.display());
    let phases = ["detail: loading the model: ", "detail: scoring: ", "detail: all: "];
    for expected in
        [version.as_str(), &opened, &data, "detail: device: cpu float", "1 workers of 1 threads"].iter().chain(&phases)
    {
        assert!(details.contains(expected), "{expected}: {details}");
    }
    let objective = format!("choice_nll:{}", task.display());
    let mut search =
        criadero(&["-v", "search", "tiny", "--model", TINY, "--objective", &objective, "--objective", "params"]);
    // What the helper adds for a command that begins with its name.
    search.args(["--arithmetic", "f32", "--algorithm", "nsga2", "--threads", "1", "--evals", "6", "--population", "6"]);
    search.args(["--held-out", "4", "--out"]).arg(dir.path().join("run"));
    let (_, details) = said(search);
    for expected in
        ["the search is in cpu float: as it was asked for", "1 workers of 1 threads, chunks of", "detail: searching: "]
    {
        assert!(details.contains(expected), "{expected}: {details}");
    }
}

#[test]
fn quiet_and_verbose_do_not_go_together_wherever_they_stand() {
    for flags in
        [["-q", "inspect", "tiny", "-v"], ["inspect", "tiny", "-q", "-v"], ["--verbose", "--quiet", "inspect", "tiny"]]
    {
        let error = fail_with(criadero(&flags), 2);
        assert!(error.contains("cannot be used with"), "{error}");
    }
    assert_eq!(succeed(criadero(&["inspect", "tiny", "-q"])), succeed(criadero(&["-v", "inspect", "tiny"])));
}
