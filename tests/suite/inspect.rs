//! `criadero inspect` through the real binary.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Output, Stdio};

use serde_json::Value;

use crate::command::criadero;

fn inspect(arguments: &[&str]) -> Output {
    criadero(&["inspect"]).args(arguments).output().expect("it runs")
}

fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

#[test]
fn prints_genes_counts_and_sizes() {
    let text = printed(&inspect(&["llama2-7b-llama-nas"]));
    for line in [
        "depth        24 28 32; the ranking's least important layers go first (below: as if the last did)",
        "layers 0-31  heads 32; mlp 5504 11008; bits 16",
        "genomes            12,884,901,888 (1.28e10)",
        "distinct networks  4,580,179,968 (4.58e9)",
        "smallest, 24 layers: 32x5504*24:-*8",
        "largest, 32 layers: 32x11008*32",
        "6,738,415,616",
    ] {
        assert!(text.contains(line), "no `{line}` in\n{text}");
    }
}

#[test]
fn prints_json_for_programs() {
    let object: Value = serde_json::from_str(&printed(&inspect(&["smollm2-135m", "--json"]))).expect("JSON");
    assert_eq!(object["largest"]["params"], 134_515_008);
    assert_eq!(object["largest"]["genome"], "9x1536*30");
    assert_eq!(object["space"]["shape"]["kv_heads"], 3);
    assert!(object["smallest"]["params"].as_u64() < object["largest"]["params"].as_u64());
    assert!(object["genomes"].as_str().expect("text").bytes().all(|digit| digit.is_ascii_digit()));
}

#[test]
fn points_at_the_mistake_in_a_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("mine.yaml");
    let shape = "{ layers: 4, hidden: 64, heads: 4, kv_heads: 2, head_dim: 16, mlp: 128, vocab: 512 }";
    fs::write(&path, format!("shape: {shape}\nheads: [2, 3]\nmlp: [128]\n")).expect("written");
    let output = inspect(&[path.to_str().expect("UTF-8")]);
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("mine.yaml, line 2 column 12: heads: 3 heads are no multiple of 2"), "{error}");
}

#[test]
fn tells_a_wrong_name_from_wrong_usage() {
    let output = inspect(&["llama3"]);
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        error.contains("unknown search space `llama3`; known: smollm2-135m, smollm2-135m-mixed, llama2-7b"),
        "{error}"
    );
    assert_eq!(inspect(&[]).status.code(), Some(2));
}

/// As behind `| head`.
#[test]
fn a_reader_that_stops_is_no_error() {
    let mut command = criadero(&[]);
    let mut child = command.args(["inspect", "tiny"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.signal(), Some(libc::SIGPIPE), "the signal that ends any other program");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "and nothing said");
}

#[test]
fn limits_stand_beside_what_the_networks_have() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("mine.yaml");
    let inspected = |shape: &str, limits: &str| {
        let text =
            format!("shape: {{ layers: 4, hidden: 64, heads: 4, kv_heads: 2, {shape}, mlp: 128, vocab: 512 }}\n");
        fs::write(&path, format!("{text}heads: [2, 4]\nmlp: [128]\nconstraints: {{ {limits} }}\n")).expect("written");
        inspect(&[path.to_str().expect("UTF-8")])
    };
    let text = printed(&inspected(
        "head_dim: 16",
        "params: '<= 200k', weight_bytes: '<= 10', macs: '>= 1', decode_tps: '>= 9'",
    ));
    for line in [
        "constraint   params <= 200000  (networks have 188,992 to 213,568: some meet it)",
        "weight_bytes <= 10  (networks have 379,136 to 428,288: NONE can meet it)",
        "macs >= 1  (networks have ",
        ": all can meet it)",
        "constraint   decode_tps >= 9  (measured in a search)",
    ] {
        assert!(text.contains(line), "no `{line}` in\n{text}");
    }
    let refused = |shape, limits| {
        let output = inspected(shape, limits);
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).expect("UTF-8")
    };
    let error = refused("head_dim: 16", "parms: '<= 1M'");
    assert!(error.contains("unknown objective `parms`; known: "), "{error}");
    let error = refused("head_dim: 65", "params: '<= 1M'");
    assert!(error.contains("head_dim: found 65, expected an even number"), "{error}");
}

#[test]
fn a_starting_space_fits_its_model_and_can_be_searched() {
    let dir = tempfile::tempdir().expect("a directory");
    let yaml = printed(&criadero(&["space", crate::goldens::TINY]).output().expect("it runs"));
    assert!(yaml.starts_with("# tiny-llama: ") && yaml.contains("heads: [2, 4]"), "{yaml}");
    let path = dir.path().join("mine.yaml");
    fs::write(&path, &yaml).expect("written");
    let path = path.to_str().expect("UTF-8");
    printed(&inspect(&[path, "--model", crate::goldens::TINY]));
    let narrow = dir.path().join("narrow");
    let export = [
        "export",
        crate::goldens::TINY,
        "--genome",
        "4x128:2x64*3",
        "--format",
        "hf",
        "--out",
        narrow.to_str().expect("UTF-8"),
    ];
    printed(&criadero(&export).output().expect("it runs"));
    let refused = criadero(&["space", narrow.to_str().expect("UTF-8")]).output().expect("it runs");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("its layers differ"));
}

#[test]
fn tasks_say_whether_their_data_are_here() {
    let empty = tempfile::tempdir().expect("a directory");
    let tasks = |more: &[&str]| {
        let arguments = [&["tasks", "--data", empty.path().to_str().expect("UTF-8")], more].concat();
        printed(&criadero(&arguments).output().expect("it runs"))
    };
    let text = tasks(&[]);
    assert!(
        text.contains("arc_easy ") && text.contains("grade-school science questions, ARC-Easy; multiple choice"),
        "{text}"
    );
    assert!(text.contains("get it from `criadero fetch demo`") && !text.contains("ready"), "{text}");
    let rows: Vec<Value> = serde_json::from_str(&tasks(&["--json"])).expect("JSON");
    assert!(rows.len() > 20 && rows.iter().all(|row| row["ready"] == false && row["get"].is_string()));
}
