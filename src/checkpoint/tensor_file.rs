//! Safetensors files of tensors that have our own names: adapters and the state of a training run.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use serde_json::json;
use tch::{Kind, Tensor};

use super::hf::{open_safetensors, safetensors_header};
use crate::checkpoint::config::Dtype;
use crate::checkpoint::raw_tensor::{FoundTensors, write_weights};
use crate::error::{Error, Result};
use crate::output;

/// Writes tensors, each in its own kind, and a few words about them, atomically and piece by piece.
///
/// # Errors
/// `Io`; `Invalid` for a tensor with a value that is not finite.
pub fn write(path: &Path, tensors: &BTreeMap<String, Tensor>, metadata: &BTreeMap<String, String>) -> Result<()> {
    let mut header = BTreeMap::from([("__metadata__".to_string(), json!(metadata))]);
    let mut start = 0;
    for (name, tensor) in tensors {
        let dtype = Dtype::of(tensor.kind());
        let end = start + tensor.numel() * dtype.bytes();
        let (dtype, shape) = (dtype.safetensors(), tensor.size());
        header.insert(name.clone(), json!({ "dtype": dtype, "shape": shape, "data_offsets": [start, end] }));
        start = end;
    }
    let header = safetensors_header(&header);
    output::write_with(path, |writer| {
        writer.write_all(&header).map_err(Error::io(path))?;
        tensors
            .iter()
            .try_for_each(|(name, tensor)| write_weights(writer, path, name, tensor, Dtype::of(tensor.kind())))
    })
}

/// A file that [`write()`] made, or any other safetensors file, opened and checked. Tensors are read one at a time.
pub struct TensorFile {
    /// What the file says about itself.
    pub words: BTreeMap<String, String>,
    tensors: FoundTensors,
}

impl TensorFile {
    /// Opens a file.
    ///
    /// # Errors
    /// `Io`, `Format`, and `Mismatch` for types that are not read.
    pub fn open(path: &Path) -> Result<TensorFile> {
        let (words, tensors) = open_safetensors(path)?;
        Ok(TensorFile { words, tensors })
    }

    /// The names of its tensors.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// A tensor, float32 on the CPU; `None` where there is none of this name.
    pub fn read(&self, name: &str) -> Result<Option<Tensor>> {
        self.tensors.get(name).map(|raw| raw.read(Kind::Float)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_wrote() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.safetensors");
        let tensors = BTreeMap::from([
            ("b".to_string(), Tensor::from_slice(&[1.5_f32, -2.0]).view([2, 1])),
            ("a".to_string(), Tensor::from_slice(&[3.0_f32])),
        ]);
        let metadata = BTreeMap::from([("step".to_string(), "7".to_string())]);
        write(&path, &tensors, &metadata).unwrap();
        let file = TensorFile::open(&path).unwrap();
        assert_eq!(file.words, metadata);
        assert_eq!(file.names().collect::<Vec<_>>(), ["a", "b"]);
        for (name, tensor) in tensors {
            assert_eq!(file.read(&name).unwrap(), Some(tensor));
        }
        assert_eq!(file.read("c").unwrap(), None);
    }

    #[test]
    fn refuses_values_that_are_no_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.safetensors");
        let tensors = BTreeMap::from([("weight".to_string(), Tensor::from_slice(&[f32::NAN]))]);
        let error = write(&path, &tensors, &BTreeMap::new()).unwrap_err().to_string();
        assert!(error.contains("weight") && !path.exists(), "{error}");
    }
}
