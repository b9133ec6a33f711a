//! Peak memory of loading a model, in a process of its own so that no other test adds to the mark.

use std::fs;
use std::process::Command;

use criadero::Result;
use criadero::checkpoint::{Checkpoint, TensorName};
use tch::{Kind, Tensor};

use crate::goldens::smollm2;

/// Set in the process of its own.
const ALONE: &str = "CRIADERO_TEST_ALONE";

#[test]
#[cfg_attr(not(assets), ignore = "no assets")]
fn loading_peaks_at_a_tenth_above_the_loaded_tensors() -> Result<()> {
    if std::env::var_os(ALONE).is_none() {
        let mut alone = Command::new(std::env::current_exe().unwrap());
        alone.args(["--exact", "checkpoint_memory::loading_peaks_at_a_tenth_above_the_loaded_tensors", "--nocapture"]);
        let output = alone.env(ALONE, "1").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        return Ok(());
    }
    let parent = Checkpoint::open(smollm2())?;
    drop(parent.tensor(TensorName::FinalNorm, Kind::Float)?); // libtorch's own start-up
    let before = resident_bytes("VmRSS:");
    let names = parent.config().tensors();
    let tensors: Vec<Tensor> = names.iter().map(|&name| parent.tensor(name, Kind::Float)).collect::<Result<_>>()?;
    let loaded: usize = tensors.iter().map(|tensor| tensor.numel() * size_of::<f32>()).sum();
    // Opening the file is over; the mark of this process is that of loading.
    let peak = resident_bytes("VmHWM:").saturating_sub(before);
    assert!(loaded > 500_000_000 && peak > loaded / 2, "{peak} bytes measured for {loaded} loaded");
    assert!(peak as f64 <= 1.1 * loaded as f64, "{peak} bytes at most for {loaded} loaded");
    Ok(())
}

/// A field of `/proc/self/status`: resident now (`VmRSS:`) or at most so far (`VmHWM:`).
fn resident_bytes(field: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}
