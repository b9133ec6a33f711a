//! Safetensors files of tensors that have our own names: adapters, corrections and the state of a training run. Their header has a
//! checksum of each tensor and of the words about them, which loaders skip and another program that saves the file takes away.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::string_slice, clippy::cast_possible_truncation, clippy::cast_sign_loss)
)]

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use serde_json::json;
use tch::{Kind, Tensor};

use super::hf::{open_safetensors, safetensors_header};
use crate::checkpoint::config::Dtype;
use crate::checkpoint::raw_tensor::{RawTensor, digest_of, write_weights};
use crate::error::{Error, Result};
use crate::output;

/// The word that has the checksums of the tensors by name, as JSON.
const CHECKSUMS: &str = "checksums";
/// The word that has the checksum of all others.
const SEAL: &str = "seal";

/// Writes tensors, each in its own kind, and a few words about them, atomically and piece by piece, with checksums.
///
/// # Errors
/// `Io`; `Invalid` for a tensor with a value that is not finite.
pub fn write(path: &Path, tensors: &BTreeMap<String, Tensor>, metadata: &BTreeMap<String, String>) -> Result<()> {
    let checksum = |(name, tensor): (&String, &Tensor)| {
        Ok((name.clone(), digest_of(path, name, tensor, Dtype::of(tensor.kind()))?.to_hex().to_string()))
    };
    let checksums: BTreeMap<String, String> = tensors.iter().map(checksum).collect::<Result<_>>()?;
    let mut words = metadata.clone();
    words.insert(CHECKSUMS.to_string(), json!(checksums).to_string());
    words.insert(SEAL.to_string(), seal_of(&words));
    let mut header = BTreeMap::from([("__metadata__".to_string(), json!(words))]);
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

/// The checksum of words.
fn seal_of(words: &BTreeMap<String, String>) -> String {
    blake3::hash(json!(words).to_string().as_bytes()).to_hex().to_string()
}

/// A tensor as it lies in a file, and its checksum where the file has one.
#[derive(Clone)]
pub(super) struct StoredTensor {
    raw: RawTensor,
    name: String,
    checksum: Option<String>,
}

impl StoredTensor {
    /// Its shape.
    pub(super) fn shape(&self) -> &[usize] {
        &self.raw.shape
    }

    /// As [`RawTensor::digest`] has it.
    pub(super) fn digest(&self) -> Result<blake3::Hash> {
        self.raw.digest()
    }

    /// The tensor on the CPU, converted to `kind`.
    ///
    /// # Errors
    /// `Io`; `Format` where it is not what was written.
    pub(super) fn read(&self, kind: Kind) -> Result<Tensor> {
        if let Some(expected) = &self.checksum {
            let found = self.raw.digest()?.to_hex();
            if found.as_str() != expected {
                let reason = format!("{}: damaged: its checksum is {found}, the file says {expected}", self.name);
                return Err(Error::format(&*self.raw.path, "safetensors", reason));
            }
        }
        self.raw.read(kind)
    }
}

/// The words that a file says about itself, and its tensors; words and the list of tensors are checked, the tensors as they are read.
///
/// # Errors
/// `Io` and `Format`, the latter also for words that were changed and for tensors that are not those that were written; `Mismatch`
/// for types that are not read.
pub(super) fn open(path: &Path) -> Result<(BTreeMap<String, String>, BTreeMap<String, StoredTensor>)> {
    let wrong = |reason: String| Error::format(path, "safetensors", reason);
    let (mut words, found) = open_safetensors(path)?;
    let checksums: Option<BTreeMap<String, String>> = match words.remove(SEAL) {
        None => None,
        Some(seal) => {
            let expected = seal_of(&words);
            if seal != expected {
                return Err(wrong(format!("its header is damaged: its seal is {seal}, its words' {expected}")));
            }
            let listed = words.remove(CHECKSUMS).ok_or_else(|| wrong(format!("no word `{CHECKSUMS}`")))?;
            Some(serde_json::from_str(&listed).map_err(|error| wrong(format!("`{CHECKSUMS}`: {error}")))?)
        }
    };
    if let Some(checksums) = &checksums
        && !checksums.keys().eq(found.keys())
    {
        let (theirs, ours) = (found.keys().next_back(), checksums.keys().next_back());
        return Err(wrong(format!(
            "its header is damaged: {} tensors, the last {theirs:?}; {} were written, the last {ours:?}",
            found.len(),
            checksums.len()
        )));
    }
    let stored = |(name, raw): (String, RawTensor)| {
        let checksum = checksums.as_ref().and_then(|checksums| checksums.get(&name).cloned());
        (name.clone(), StoredTensor { raw, name, checksum })
    };
    Ok((words, found.into_iter().map(stored).collect()))
}

/// A file that [`write()`] made, or any other safetensors file, opened and checked. Tensors are read one at a time.
pub struct TensorFile {
    /// What the file says about itself.
    pub words: BTreeMap<String, String>,
    tensors: BTreeMap<String, StoredTensor>,
}

impl TensorFile {
    /// Opens a file.
    ///
    /// # Errors
    /// `Io`, `Format`, and `Mismatch` for types that are not read.
    pub fn open(path: &Path) -> Result<TensorFile> {
        let (words, tensors) = open(path)?;
        Ok(TensorFile { words, tensors })
    }

    /// The names of its tensors.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// A tensor, float32 on the CPU; `None` where there is none of this name.
    ///
    /// # Errors
    /// `Io`; `Format` where it is not what was written.
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
    fn no_flipped_bit_gives_other_tensors_or_words() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.safetensors");
        let tensors = BTreeMap::from([("w".to_string(), Tensor::from_slice(&[1.5_f32, -2.0]))]);
        let words = BTreeMap::from([("step".to_string(), "7".to_string())]);
        write(&path, &tensors, &words).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let mut seen = 0;
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, bytes).unwrap();
            let Ok(file) = TensorFile::open(&path) else {
                seen += 1;
                continue;
            };
            match file.read("w") {
                Ok(Some(tensor)) => {
                    assert_eq!(Some(&tensor), tensors.get("w"), "bit {bit}");
                    assert_eq!(file.words.get("step"), words.get("step"), "bit {bit}");
                }
                Ok(None) => panic!("bit {bit}: another name"),
                Err(_) => seen += 1,
            }
        }
        assert!(seen > whole.len() * 6, "{seen} of {} bits", whole.len() * 8);
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
