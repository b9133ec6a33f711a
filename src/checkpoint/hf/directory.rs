//! Hugging Face directories: `config.json` and one or more safetensors files.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;
use safetensors::SafeTensors;
use safetensors::tensor::Metadata;
use serde::Deserialize;

use super::config;
use crate::checkpoint::config::LlamaConfig;
use crate::checkpoint::ggml::GgmlType;
use crate::checkpoint::names::TensorName;
use crate::checkpoint::raw_tensor::{FoundTensors, RawTensor, match_tensors};
use crate::error::{Error, Result};

pub(crate) const CONFIG_FILE: &str = "config.json";
pub(crate) const SINGLE_FILE: &str = "model.safetensors";
pub(crate) const INDEX_FILE: &str = "model.safetensors.index.json";

/// A safetensors file's own header before its JSON: the JSON's length.
const LENGTH_BYTES: usize = 8;

/// What a directory holds, checked: every tensor the configuration asks for lies where its entry says.
pub(crate) fn open(dir: &Path) -> Result<(LlamaConfig, BTreeMap<TensorName, RawTensor>)> {
    let mut config = config::parse(&dir.join(CONFIG_FILE), &read_text(&dir.join(CONFIG_FILE))?)?;
    let mut found = FoundTensors::new();
    let mut problems = Vec::new();
    for file in weight_files(dir)? {
        for (name, tensor) in open_safetensors(&file)?.1 {
            if let Some(first) = found.insert(name.clone(), tensor) {
                problems.push(format!("{name}: found in {} and in {}", first.path.display(), file.display()));
            }
        }
    }
    if !problems.is_empty() {
        let what = "tensors are there twice".into();
        return Err(Error::Mismatch { path: dir.into(), what, problems });
    }
    let tied = config.shape.tied;
    // A tied checkpoint may keep its head, which transformers ignores too.
    let ignored = |name: &str| is_rotary_table(name) || (tied && name == TensorName::Head.hf());
    let tensors = match_tensors(dir, &config, found, TensorName::hf, ignored)?;
    if let Some(embedding) = tensors.get(&TensorName::Embedding) {
        config.dtype = embedding.ty.dtype();
    }
    Ok((config, tensors))
}

/// Old checkpoints keep the rotary frequencies, which follow from the configuration.
fn is_rotary_table(name: &str) -> bool {
    name.ends_with(".rotary_emb.inv_freq")
}

/// A file's text, or which file of a checkpoint is not there.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => Error::Missing {
            what: "checkpoint file".into(),
            path: path.into(),
            remedy: "give a Hugging Face checkpoint directory or a .gguf file".into(),
        },
        _ => Error::Io { path: path.into(), cause: error },
    })
}

#[derive(Deserialize)]
struct ShardIndex {
    /// Tensor name to file name.
    weight_map: BTreeMap<String, String>,
}

/// The safetensors files of a directory; as in transformers, a single file goes before an index.
fn weight_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let single = dir.join(SINGLE_FILE);
    if single.is_file() {
        return Ok(vec![single]);
    }
    let index_path = dir.join(INDEX_FILE);
    if !index_path.is_file() {
        return Err(Error::Missing {
            what: format!("{SINGLE_FILE} or {INDEX_FILE}"),
            path: dir.into(),
            remedy: "other weight formats are not read; save the model again with transformers' save_pretrained".into(),
        });
    }
    let index: ShardIndex = serde_json::from_str(&read_text(&index_path)?)
        .map_err(|error| Error::format(&index_path, "shard index", error.to_string()))?;
    let mut names: Vec<&String> = index.weight_map.values().collect();
    names.sort();
    names.dedup();
    let mut problems = Vec::new();
    for name in &names {
        // The index is a stranger's file: it names files beside itself and nothing else.
        if Path::new(name).file_name() != Some(name.as_ref()) {
            problems.push(format!("`{name}`: not a plain file name"));
        } else if !dir.join(name).is_file() {
            problems.push(format!("{name}: missing"));
        }
    }
    if !problems.is_empty() {
        let what = "the index names files that cannot be read".into();
        return Err(Error::Mismatch { path: index_path, what, problems });
    }
    Ok(names.into_iter().map(|name| dir.join(name)).collect())
}

/// A safetensors file, where its weights begin and its header, which the `safetensors` crate has checked.
fn open_header(path: &Path) -> Result<(File, u64, Metadata)> {
    let wrong = |reason: String| Error::format(path, "safetensors", reason);
    let file = File::open(path).map_err(Error::io(path))?;
    let file_len = file.metadata().map_err(Error::io(path))?.len();
    if file_len < LENGTH_BYTES as u64 {
        return Err(wrong(format!("{file_len} bytes, expected at least {LENGTH_BYTES}")));
    }
    // SAFETY: the map lives for this function only, in which the header is parsed; weights are read from the file.
    let map = unsafe { Mmap::map(&file) }.map_err(Error::io(path))?;
    let (header_len, metadata) = SafeTensors::read_metadata(&map).map_err(|error| {
        let declared = map.first_chunk::<LENGTH_BYTES>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        wrong(format!("{error} (file of {file_len} bytes, header of {declared})"))
    })?;
    drop(map);
    Ok((file, (LENGTH_BYTES + header_len) as u64, metadata))
}

/// The words that one safetensors file says about itself, and its tensors.
pub(crate) fn open_safetensors(path: &Path) -> Result<(BTreeMap<String, String>, FoundTensors)> {
    let (file, data_start, metadata) = open_header(path)?;
    let (file, shared_path): (_, Arc<Path>) = (Arc::new(file), path.into());
    let mut found = FoundTensors::new();
    let mut problems = Vec::new();
    for (name, info) in metadata.tensors() {
        let ty = match info.dtype {
            safetensors::Dtype::F32 => GgmlType::F32,
            safetensors::Dtype::F16 => GgmlType::F16,
            safetensors::Dtype::BF16 => GgmlType::BF16,
            // The rotary table of old checkpoints has no part in the function, whatever its type.
            _ if is_rotary_table(&name) => continue,
            other => {
                problems.push(format!("{name}: found dtype {other:?}, expected F32, F16 or BF16"));
                continue;
            }
        };
        let (start, end) = info.data_offsets;
        let tensor = RawTensor {
            ty,
            shape: info.shape.clone(),
            file: Arc::clone(&file),
            path: Arc::clone(&shared_path),
            start: data_start + start as u64,
            len: (end - start) as u64,
        };
        found.insert(name, tensor);
    }
    if problems.is_empty() {
        let words = metadata.metadata().clone().unwrap_or_default();
        return Ok((words.into_iter().collect(), found));
    }
    problems.sort();
    Err(Error::Mismatch { path: path.into(), what: "tensors of types that are not read".into(), problems })
}
