//! `criadero gpu-check` where no card is: packing, the dry run, and the script that starts it elsewhere.

use std::fs;
use std::path::Path;
use std::process::Command;

fn criadero(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(env!("CARGO_BIN_EXE_criadero")).args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

#[test]
fn a_dry_run_goes_through_every_check() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let chunks = at("chunks.json");
    let said = criadero(&["gpu-check", "--write-chunks", &chunks, "--limit", "12", "--chunk-tokens", "200"]).unwrap();
    assert!(said.contains("12 items"), "{said}");
    let out = at("out");
    criadero(&["gpu-check", "--chunks", &chunks, "--out", &out]).unwrap();
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
    assert_eq!(value("log-likelihood with kernels and without"), 0.0, "there are none");
    assert!(fs::read_to_string(Path::new(&out).join("gpu-check.txt")).unwrap().contains("kernels "));
}

#[test]
fn what_is_missing_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("none.json").display().to_string();
    assert!(criadero(&["gpu-check", "--chunks", &missing]).unwrap_err().contains("none.json"));
    let wrong = dir.path().join("wrong.json");
    fs::write(&wrong, "{}").unwrap();
    let wrong = wrong.display().to_string();
    assert!(criadero(&["gpu-check", "--chunks", &wrong]).unwrap_err().contains("no packed chunks"));
    assert!(
        criadero(&["gpu-check", "--chunks", &wrong, "--device", "cuda:7"]).unwrap_err().contains("no device `cuda:7`")
    );
    assert!(criadero(&["gpu-check"]).unwrap_err().contains("--chunks"));
}
