//! GGUF files (ggml `docs/gguf.md`, versions 2 and 3): the header, and where tensors lie.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::string_slice, clippy::cast_possible_truncation, clippy::cast_sign_loss)
)]

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;
use tch::Tensor;

use super::architecture::ArchitectureRow;
use super::config::{self, ReadHeader};
use super::metadata::{Cursor, Entry, FORMAT, Metadata, Reason};
use super::{fused, rope, split};
use crate::checkpoint::config::LlamaConfig;
use crate::checkpoint::file_kind;
use crate::checkpoint::ggml::GgmlType;
use crate::checkpoint::names::TensorName;
use crate::checkpoint::raw_tensor::{FoundTensors, RawTensor, match_tensors};
use crate::checkpoint::tensor_problems::TensorProblems;
use crate::error::{Error, Result};

pub(crate) const MAGIC: [u8; 4] = *b"GGUF";
pub(crate) const VERSION: u32 = 3;
/// Where `general.alignment` says nothing else.
pub(crate) const ALIGNMENT: u64 = 32;
const MAX_ALIGNMENT: u64 = 1 << 20;
/// ggml's `GGML_MAX_DIMS`.
const MAX_DIMS: u32 = 4;
/// A header holds a vocabulary, ten megabytes; one beyond this is hostile.
const MAX_HEADER_BYTES: usize = 1 << 26;

/// What a file holds, checked: every tensor the configuration asks for lies where its entry says.
pub(crate) struct GgufContent {
    pub(crate) config: LlamaConfig,
    pub(crate) tensors: BTreeMap<TensorName, RawTensor>,
    pub(crate) metadata: Metadata,
    pub(crate) architecture: &'static ArchitectureRow,
    pub(crate) notes: Vec<String>,
}

/// Opens a file, or all files that it is split into, and checks them.
pub(crate) fn open(path: &Path) -> Result<GgufContent> {
    let (metadata, mut found) = open_one(path)?;
    for part in split::others(path, &metadata)? {
        let (_, more) = open_one(&part)?;
        for (name, tensor) in more {
            if let Some(first) = found.insert(name.clone(), tensor) {
                let reason = format!("{name} is here and in {}", first.path.display());
                return Err(Error::format(&part, FORMAT, reason));
            }
        }
    }
    let ReadHeader { config, architecture, notes } = config::read(path, &metadata, &found)?;
    let found = fused::split(found, &config)?;
    let divisors = rope::divisors_of(architecture, config.rope_scaling.as_ref());
    let tensors = match_tensors(path, &config, found, TensorName::gguf, |name| divisors.contains(&name))?;
    Ok(GgufContent { config, tensors, metadata, architecture, notes })
}

fn open_one(path: &Path) -> Result<(Metadata, FoundTensors)> {
    let file = File::open(path).map_err(Error::io(path))?;
    // SAFETY: the map lives for this function only, in which the header is parsed; weights are read from the file.
    let map = unsafe { Mmap::map(&file) }.map_err(Error::io(path))?;
    if let Some(reason) = file_kind::other_than(&map, FORMAT) {
        return Err(Error::format(path, FORMAT, reason));
    }
    read_header(path, &map, Arc::new(file))
}

/// Parses everything before the weights. `map` is the whole file.
fn read_header(path: &Path, map: &[u8], file: Arc<File>) -> Result<(Metadata, FoundTensors)> {
    let wrong = |reason: String| Error::format(path, FORMAT, reason);
    let file_len = map.len() as u64;
    let mut cursor = Cursor::new(map.get(..MAX_HEADER_BYTES).unwrap_or(map));
    let mut metadata = Metadata::new(path);
    let infos = (|| {
        let magic = cursor.take(4, "the magic")?;
        if magic != MAGIC {
            return Err(format!(
                "it begins with {magic:02x?}, expected {MAGIC:02x?} (`GGUF`); or give a Hugging Face directory"
            ));
        }
        let version = cursor.u32("the version")?;
        if !(2..=VERSION).contains(&version) {
            return Err(format!("version {version}, expected 2 or {VERSION} (little-endian)"));
        }
        let (tensors, pairs) = (cursor.u64("the tensor count")?, cursor.u64("the metadata count")?);
        for index in 0..pairs {
            let key = cursor.text(&format!("the key of metadata pair {index} of {pairs}"))?;
            let entry = Entry::read(&mut cursor, &key)?;
            if !metadata.insert(&key, entry) {
                return Err(format!("metadata key `{key}` is there twice"));
            }
        }
        let mut infos = vec![];
        for index in 0..tensors {
            infos.push(TensorInfo::read(&mut cursor, &format!("tensor {index} of {tensors}"))?);
        }
        Ok(infos)
    })()
    .map_err(wrong)?;

    let alignment = metadata.count("general.alignment")?.map_or(ALIGNMENT, u64::from);
    if !alignment.is_power_of_two() || alignment > MAX_ALIGNMENT {
        return Err(metadata.wrong("general.alignment", format!("found {alignment}, expected a power of two")));
    }
    let data_start = (cursor.position() as u64).next_multiple_of(alignment);
    let place = Place { file, path: path.into(), data_start, file_len, alignment };
    place
        .tensors(infos)
        .map_err(|problems| Error::Mismatch {
            path: path.into(),
            what: "tensors do not lie in the file as its header says".into(),
            problems,
        })
        .map(|found| (metadata, found))
}

/// A tensor as the header tells of it.
struct TensorInfo {
    name: String,
    /// Fastest dimension first, as ggml has it.
    dims: Vec<u64>,
    type_code: u32,
    offset: u64,
}

impl TensorInfo {
    fn read(cursor: &mut Cursor, what: &str) -> Reason<TensorInfo> {
        let name = cursor.text(what)?;
        let count = cursor.u32(&name)?;
        if count > MAX_DIMS {
            return Err(format!("{name}: {count} dimensions, expected at most {MAX_DIMS}"));
        }
        let dims = (0..count).map(|_| cursor.u64(&name)).collect::<Reason<_>>()?;
        Ok(TensorInfo { type_code: cursor.u32(&name)?, offset: cursor.u64(&name)?, name, dims })
    }

    /// The type, and the length of the weights in bytes.
    fn layout(&self) -> Reason<(GgmlType, u64)> {
        let Some(ty) = GgmlType::from_code(self.type_code) else {
            return Err(format!("found {}, expected one of {}", GgmlType::name_of(self.type_code), GgmlType::names()));
        };
        let block = ty.block_len() as u64;
        let row = self.dims.first().copied().unwrap_or(1);
        if !row.is_multiple_of(block) {
            return Err(format!(
                "found rows of {row} weights, expected a multiple of {}'s block of {block}",
                ty.name()
            ));
        }
        let weights = self.dims.iter().try_fold(1u64, |product, &dim| product.checked_mul(dim));
        weights
            .and_then(|weights| (weights / block).checked_mul(ty.block_bytes() as u64))
            .map(|len| (ty, len))
            .ok_or_else(|| format!("found dimensions {:?}, expected a product below 2^64", self.dims))
    }
}

/// Why a tensor does not lie in the file.
enum Misplaced {
    /// Its bytes would end behind the file's.
    Behind(String),
    Impossible(String),
}

/// The file that tensors must lie in.
struct Place {
    file: Arc<File>,
    path: Arc<Path>,
    data_start: u64,
    file_len: u64,
    alignment: u64,
}

impl Place {
    /// Every tensor's place, or all that is wrong with them.
    fn tensors(&self, infos: Vec<TensorInfo>) -> Result<FoundTensors, Vec<String>> {
        let mut problems = TensorProblems::default();
        let mut found = FoundTensors::new();
        let mut extents = vec![];
        let mut behind: Vec<(String, String)> = vec![];
        for info in infos {
            let name = info.name.clone();
            match self.tensor(&info) {
                // Of a file that was cut off all tensors from some place on: one line says it.
                Err(Misplaced::Behind(reason)) => behind.push((name, reason)),
                Err(Misplaced::Impossible(reason)) => problems.push(name, reason),
                Ok(tensor) => {
                    extents.push((tensor.start, tensor.start + tensor.len, name.clone()));
                    if found.insert(name.clone(), tensor).is_some() {
                        problems.push(name, "there twice");
                    }
                }
            }
        }
        if let Some((name, reason)) = behind.first() {
            let more = match behind.len() - 1 {
                0 => String::new(),
                more => format!("; {more} more lie behind the end too"),
            };
            problems.push(name, format!("{reason}{more}: is it a download that was cut off?"));
        }
        extents.sort();
        for pair in extents.windows(2) {
            if let [(_, end, first), (start, _, second)] = pair
                && end > start
            {
                problems.push(first, format!("overlaps with {second} at byte {start}"));
            }
        }
        let problems = problems.lines();
        if problems.is_empty() { Ok(found) } else { Err(problems) }
    }

    fn tensor(&self, info: &TensorInfo) -> Result<RawTensor, Misplaced> {
        let (ty, len) = info.layout().map_err(Misplaced::Impossible)?;
        if !info.offset.is_multiple_of(self.alignment) {
            let reason = format!("found offset {}, expected a multiple of {}", info.offset, self.alignment);
            return Err(Misplaced::Impossible(reason));
        }
        let start = self.data_start.checked_add(info.offset);
        let end = start.and_then(|start| start.checked_add(len));
        let (Some(start), Some(_)) = (start, end.filter(|&end| end <= self.file_len)) else {
            return Err(Misplaced::Behind(format!(
                "found {len} bytes at offset {}, expected them inside the file's {} bytes of weights",
                info.offset,
                self.file_len.saturating_sub(self.data_start)
            )));
        };
        let size = |&dim| usize::try_from(dim).map_err(|_| Misplaced::Behind(format!("found a dimension of {dim}")));
        let shape = info.dims.iter().rev().map(size).collect::<Result<_, _>>()?;
        Ok(RawTensor { ty, shape, file: Arc::clone(&self.file), path: Arc::clone(&self.path), start, len })
    }
}

/// Undoes llama.cpp's order of query and key rows. GGUF rotates neighbours (2i, 2i + 1), Hugging Face halves
/// (i, i + head_dim / 2): `W_gguf[h * hd + 2i + s] = W_hf[h * hd + s * hd/2 + i]`.
///
/// # Shapes
/// `(n * head_dim, hidden)` or, for a bias, `(n * head_dim)`, for any number of heads n, and the same out.
pub(crate) fn halves_from_neighbours(tensor: &Tensor, head_dim: usize) -> Result<Tensor> {
    swap_rows(tensor, [head_dim as i64 / 2, 2])
}

/// The inverse of [`halves_from_neighbours`], for writing.
pub(crate) fn neighbours_from_halves(tensor: &Tensor, head_dim: usize) -> Result<Tensor> {
    swap_rows(tensor, [2, head_dim as i64 / 2])
}

fn swap_rows(tensor: &Tensor, [outer, inner]: [i64; 2]) -> Result<Tensor> {
    let shape = tensor.size();
    let columns: i64 = shape.iter().skip(1).product();
    let swapped = tensor.f_reshape([-1, outer, inner, columns])?.f_transpose(1, 2)?; // (n, inner, outer, columns)
    Ok(swapped.f_reshape(shape.as_slice())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn rows_of_matrices_and_of_biases_move_alike() {
        let bias = Tensor::arange(8, (Kind::Int64, Device::Cpu)); // two heads of width 4
        let moved = neighbours_from_halves(&bias, 4).unwrap();
        assert_eq!(Vec::<i64>::try_from(&moved).unwrap(), [0, 2, 1, 3, 4, 6, 5, 7]);
        assert_eq!(halves_from_neighbours(&moved, 4).unwrap(), bias);
        let columns = Tensor::from_slice(&[1_i64, 10, 100]);
        let matrix = bias.unsqueeze(1) * &columns; // (8, 3)
        assert_eq!(neighbours_from_halves(&matrix, 4).unwrap(), moved.unsqueeze(1) * columns);
    }
}
