//! One safetensors file: its header, which the `safetensors` crate checks, and where its tensors lie.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::string_slice, clippy::cast_possible_truncation, clippy::cast_sign_loss)
)]

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;
use safetensors::tensor::Metadata;
use safetensors::{SafeTensorError, SafeTensors};

use crate::checkpoint::file_kind;
use crate::checkpoint::ggml::GgmlType;
use crate::checkpoint::raw_tensor::{FoundTensors, RawTensor};
use crate::checkpoint::tensor_problems::TensorProblems;
use crate::error::{Error, Result};

/// The header's own length, before its JSON.
const LENGTH_BYTES: usize = 8;

/// Old checkpoints keep the rotary frequencies, which follow from the configuration.
pub(super) fn is_rotary_table(name: &str) -> bool {
    name.ends_with(".rotary_emb.inv_freq")
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
    if let Some(reason) = file_kind::other_than(&map, "safetensors") {
        return Err(wrong(reason));
    }
    let (header_len, metadata) = SafeTensors::read_metadata(&map).map_err(|error| {
        let declared = map.first_chunk::<LENGTH_BYTES>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let cut = match error {
            SafeTensorError::MetadataIncompleteBuffer | SafeTensorError::InvalidHeaderLength => {
                "; is it a download that was cut off?"
            }
            _ => "",
        };
        wrong(format!("{error} (file of {file_len} bytes, header of {declared}){cut}"))
    })?;
    drop(map);
    Ok((file, (LENGTH_BYTES + header_len) as u64, metadata))
}

/// The words that one safetensors file says about itself, and its tensors.
pub(crate) fn open_safetensors(path: &Path) -> Result<(BTreeMap<String, String>, FoundTensors)> {
    let (file, data_start, metadata) = open_header(path)?;
    let (file, shared_path): (_, Arc<Path>) = (Arc::new(file), path.into());
    let mut found = FoundTensors::new();
    let mut problems = TensorProblems::default();
    // In the order of their names, as problems are told.
    for (name, info) in metadata.tensors().into_iter().collect::<BTreeMap<_, _>>() {
        let ty = match info.dtype {
            safetensors::Dtype::F32 => GgmlType::F32,
            safetensors::Dtype::F16 => GgmlType::F16,
            safetensors::Dtype::BF16 => GgmlType::BF16,
            // The rotary table of old checkpoints has no part in the function, whatever its type.
            _ if is_rotary_table(&name) => continue,
            other => {
                problems.push(name, format!("found dtype {other:?}, expected F32, F16 or BF16"));
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
    let problems = problems.lines();
    if problems.is_empty() {
        let words = metadata.metadata().clone().unwrap_or_default();
        return Ok((words.into_iter().collect(), found));
    }
    Err(Error::Mismatch { path: path.into(), what: "tensors of types that are not read".into(), problems })
}
