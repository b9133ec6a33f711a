//! `criadero eval` on several tasks, and the file of their scores.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use criadero::checkpoint::Checkpoint;
use serde_json::{Value, json};

use crate::command::{criadero, fail, succeed};
use crate::goldens::TINY;

#[test]
fn several_tasks_score_as_each_alone_and_fill_one_results_file() {
    let dir = tempfile::tempdir().unwrap();
    let rows = |words: [&str; 2], count: usize| -> String {
        let row = |gold| json!({ "context": format!("Which is larger, {gold}?"), "choices": words, "gold": gold % 2 });
        (0..count).map(|place| format!("{}\n", row(place))).collect()
    };
    let [animals, sizes, items, out] =
        ["animals.jsonl", "sizes.jsonl", "items.jsonl", "results.json"].map(|name| dir.path().join(name));
    fs::write(&animals, rows(["the goose", "a trout"], 9)).unwrap();
    fs::write(&sizes, rows(["large", "small"], 5)).unwrap();
    let eval = |tasks: &[&Path], more: &[&OsStr]| {
        let mut command = criadero(&["eval", TINY, "--json", "--threads", "1"]);
        tasks.iter().for_each(|task| _ = command.arg("--task").arg(task));
        command.args(more);
        command
    };
    let printed = |command| -> Vec<Value> {
        let mut lines: Vec<Value> = succeed(command).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        lines.iter_mut().for_each(|line| _ = line.as_object_mut().unwrap().shift_remove("seconds"));
        lines
    };
    let to = [OsStr::new("--out"), out.as_os_str(), OsStr::new("--per-item"), items.as_os_str()];
    let both = printed(eval(&[&animals, &sizes], &to));
    assert_eq!(both, [printed(eval(&[&animals], &[])), printed(eval(&[&sizes], &[]))].concat());

    let results: Value = serde_json::from_slice(&fs::read(&out).unwrap()).unwrap();
    for (task, line) in ["animals", "sizes"].into_iter().zip(&both) {
        assert_eq!(results["results"][task]["acc,none"], line["acc"]);
        assert_eq!(results["results"][task]["acc_stderr,none"], line["acc_stderr"]);
        assert_eq!(results["n-samples"][task]["effective"], line["items"]);
        assert_eq!(results["n-shot"][task], 0);
        assert_eq!(results["task_hashes"][task].as_str().unwrap().len(), 64);
    }
    assert_eq!(results["config"]["model_digest"], Checkpoint::open(TINY).unwrap().digest().unwrap());
    assert_eq!(results["criadero_versions"]["libtorch"], "2.11.0");
    let items = fs::read_to_string(&items).unwrap();
    let tasks: Vec<Value> =
        items.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["task"].take()).collect();
    assert_eq!((tasks.len(), &tasks[8], &tasks[9]), (14, &json!("animals"), &json!("sizes")));

    succeed(eval(&[&sizes], &to[..2]));
    fs::write(&out, "{\"results\": {}}").unwrap();
    let error = fail(eval(&[&sizes], &to[..2]));
    assert!(error.contains("was not written by this command"), "{error}");
    let error = fail(eval(&[&sizes, &sizes], &[]));
    assert!(error.contains("two tasks are named `sizes`"), "{error}");
    let error = fail(eval(&[&sizes], &["--shots", "2"].map(OsStr::new)));
    assert!(error.contains("few-shot examples of task `sizes`: found 2, expected 0"), "{error}");
}
