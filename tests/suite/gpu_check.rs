//! `criadero gpu-check` where no card is: packing, the dry run, and the script that starts it elsewhere.

use std::fs;
use std::path::Path;

use crate::command::{criadero, fail, succeed};

#[test]
fn a_dry_run_goes_through_every_check() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let chunks = at("chunks.json");
    let said = succeed(criadero(&["gpu-check", "--write-chunks", &chunks, "--limit", "12", "--chunk-tokens", "200"]));
    assert!(said.contains("12 items"), "{said}");
    let out = at("out");
    succeed(criadero(&["gpu-check", "--chunks", &chunks, "--out", &out]));
    let report: serde_json::Value =
        serde_json::from_slice(&fs::read(Path::new(&out).join("gpu-check.json")).unwrap()).unwrap();
    let rows = report["rows"].as_array().unwrap();
    let value = |name: &str| {
        let row = rows.iter().find(|row| row["name"].as_str().unwrap().starts_with(name));
        row.unwrap_or_else(|| panic!("no `{name}` in {report:#}"))["value"].as_f64().unwrap()
    };
    for kernel in ["rms_norm", "rotary", "tree_attention", "swiglu", "log_probs", "int8"] {
        assert!(value(&format!("{kernel}, tiny: difference")) <= 1.0, "{kernel}");
        assert!(value(&format!("{kernel}, tiny: gain")) > 0.0, "{kernel}");
    }
    assert_eq!(value("log-probability against the CPU, tiny: most"), 0.0, "this is the CPU");
    assert!(value("throughput table, tiny, prefill:32: mean error") >= 0.0);
    assert!(value("evaluator, tiny: of the product's rate") > 0.0);
    assert!(value("log-likelihood with kernels and without") < 1e-5, "the CPU has loops of its own");
    assert!(fs::read_to_string(Path::new(&out).join("gpu-check.txt")).unwrap().contains("kernels "));
}

#[test]
fn what_is_missing_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("none.json").display().to_string();
    assert!(fail(criadero(&["gpu-check", "--chunks", &missing])).contains("none.json"));
    let wrong = dir.path().join("wrong.json");
    fs::write(&wrong, "{}").unwrap();
    let wrong = wrong.display().to_string();
    assert!(fail(criadero(&["gpu-check", "--chunks", &wrong])).contains("no packed chunks"));
    assert!(
        fail(criadero(&["gpu-check", "--chunks", &wrong, "--device", "cuda:7"])).contains("unknown device `cuda:7`")
    );
}
