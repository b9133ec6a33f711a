//! What the targets share: a place for the file that is read, and the sandbox's keeper.
//!
//! A target's property is that whatever the bytes are, reading them ends with a value or an error. What is done in a sandbox may end its
//! process there, as it may in a command.

use std::fs;
use std::panic;
use std::path::{Path, PathBuf};

use criadero::output::Seal;
use criadero::sandbox;
use criadero::space::SearchSpace;
use tempfile::TempDir;

/// A model of two layers and 11,440 random weights: `criadero synthesize --shape tests/fuzz/model/space.yaml`.
const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/model");

/// Starts the keeper of sandboxes, whose processes catch panics: libFuzzer's hook, which aborts, is for this process alone.
pub fn keep() {
    let aborting = panic::take_hook();
    sandbox::keep();
    panic::set_hook(aborting);
}

/// A directory with a small model's files, and whatever is read in its place.
pub struct Model(TempDir);

impl Model {
    /// A copy of the model.
    pub fn copy() -> Model {
        let dir = tempfile::tempdir().expect("a directory of one's own");
        for file in fs::read_dir(MODEL).expect("the model is there") {
            let path = file.expect("it has a name").path();
            fs::copy(&path, dir.path().join(path.file_name().expect("as said"))).expect("there is room");
        }
        Model(dir)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Replaces one of its files, or adds one.
    pub fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path().join(name);
        fs::write(&path, bytes).expect("there is room");
        path
    }
}

/// The bytes as they are, or sealed where the first says so and they can be: a seal keeps chance from what is behind it.
pub fn sealed(data: &[u8]) -> Vec<u8> {
    match data.split_first() {
        Some((b'!', rest)) => match std::str::from_utf8(rest) {
            Ok(text) if text.trim_end().ends_with('}') => Seal::put(text).into_bytes(),
            _ => rest.to_vec(),
        },
        _ => data.to_vec(),
    }
}

/// The model's space.
pub fn space() -> SearchSpace {
    SearchSpace::from_yaml(include_str!("../model/space.yaml")).expect("a space")
}
