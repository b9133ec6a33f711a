//! `criadero measure` and searches on its tables, on the tiny model.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::command::{criadero, fail, succeed};

use crate::goldens::TINY;

/// Measures a table of the tiny space.
fn measure(dir: &Path) -> String {
    let table = dir.join("table.json").display().to_string();
    let arguments = ["measure", TINY, "--space", "tiny", "--phase", "prefill:16", "--phase", "decode:16x1"];
    let mut command = criadero(&arguments);
    command.args(["--rounds", "2", "--checks", "3", "--random", "2", "--threads", "1", "--out", &table]);
    assert!(succeed(command).contains("written: "));
    table
}

#[test]
fn a_table_of_another_device_is_refused_until_it_is_measured_again() {
    let dir = tempfile::tempdir().unwrap();
    let table = measure(dir.path());
    let task = dir.path().join("task.jsonl");
    let line = |n: usize| format!("{{\"context\": \"{n} and\", \"choices\": [\" one\", \" two\"], \"gold\": 0}}\n");
    fs::write(&task, (0..24).map(line).collect::<String>()).unwrap();
    let search = |out: &str, flags: &[&str]| {
        let objective = format!("choice_nll:{}", task.display());
        let mut command = criadero(&["search", "tiny", "--model", TINY, "--objective", &objective]);
        command.args(["--objective", "decode_tps", "--table", &table, "--threads", "1"]).args(flags);
        command.args(["--evals", "6", "--population", "6", "--held-out", "4", "--out"]).arg(dir.path().join(out));
        command
    };
    succeed(search("same", &[]));

    let mut other: Value = serde_json::from_slice(&fs::read(&table).unwrap()).unwrap();
    other["key"]["hardware"] = "another card".into();
    fs::write(&table, other.to_string()).unwrap();
    let error = fail(search("other", &[]));
    assert!(error.contains("damaged or changed") && error.contains("measure again"), "{error}");
    // As older versions wrote it.
    other.as_object_mut().unwrap().remove("seal").expect("a table is sealed");
    fs::write(&table, other.to_string()).unwrap();
    let error = fail(search("other", &[]));
    assert!(error.contains("hardware") && error.contains("another card") && error.contains("--remeasure"), "{error}");
    succeed(search("again", &["--remeasure"]));
    let front = fs::read_to_string(dir.path().join("again/front.csv")).unwrap();
    assert!(front.lines().next().unwrap().contains("decode_tps"), "{front}");
}
