//! A tensor as it lies in a file: read piece by piece, so that no file is ever in memory as a whole.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use crate::checkpoint::config::{Dtype, LlamaConfig};
use crate::checkpoint::ggml::GgmlType;
use crate::checkpoint::names::TensorName;
use crate::checkpoint::tensor_problems::TensorProblems;
use crate::error::{Error, Result};

/// Weights read at a time: a multiple of every block length, small beside any tensor, so that what is held in
/// passing leaves no holes in the heap between the tensors that stay.
const PIECE: usize = 1 << 16;
/// Bytes hashed at a time.
const HASH_PIECE: usize = 1 << 20;
/// Of a larger tensor a sample is so many pieces of so many bytes; a smaller one is its own.
const SAMPLE_PIECES: u64 = 16;
const SAMPLE_PIECE: u64 = 1 << 12;

/// Where a tensor lies. Whoever makes one has checked that it lies inside the file and that its length fits its
/// shape and type.
#[derive(Clone, Debug)]
pub(super) struct RawTensor {
    pub(super) ty: GgmlType,
    /// `(out, in)`, as PyTorch has it.
    pub(super) shape: Vec<usize>,
    pub(super) file: Arc<File>,
    pub(super) path: Arc<Path>,
    pub(super) start: u64,
    pub(super) len: u64,
}

impl RawTensor {
    /// The tensor on the CPU, converted to `kind` piece by piece.
    pub(super) fn read(&self, kind: Kind) -> Result<Tensor> {
        let shape: Vec<i64> = self.shape.iter().map(|&size| size as i64).collect();
        let tensor = Tensor::f_empty(&shape, (kind, Device::Cpu))?;
        let flat = tensor.f_view([-1])?;
        let weights: usize = self.shape.iter().product();
        for at in (0..weights).step_by(PIECE) {
            let len = PIECE.min(weights - at);
            flat.f_narrow(0, at as i64, len as i64)?.f_copy_(&self.read_piece(at, len)?)?;
        }
        Ok(tensor)
    }

    /// `len` weights from the `at`-th on; both are whole blocks.
    fn read_piece(&self, at: usize, len: usize) -> Result<Tensor> {
        let bytes_of = |weights: usize| weights / self.ty.block_len() * self.ty.block_bytes();
        let mut bytes = vec![0; bytes_of(len)];
        self.read_bytes(bytes_of(at) as u64, &mut bytes)?;
        let plain = |bytes: &[u8], kind| Ok(Tensor::f_from_data_size(bytes, &[len as i64], kind)?);
        match self.ty {
            GgmlType::F32 => plain(&bytes, Kind::Float),
            GgmlType::F16 => plain(&bytes, Kind::Half),
            GgmlType::BF16 => plain(&bytes, Kind::BFloat16),
            _ => {
                let weights = self
                    .ty
                    .dequantize(bytes)
                    .map_err(|error| Error::format(&*self.path, self.ty.name(), error.to_string()))?;
                Ok(Tensor::f_from_slice(&weights)?)
            }
        }
    }

    fn read_bytes(&self, at: u64, bytes: &mut [u8]) -> Result<()> {
        self.file.read_exact_at(bytes, self.start + at).map_err(Error::io(&*self.path))
    }

    /// BLAKE3 of type, shape and bytes: the same wherever the tensor lies.
    pub(super) fn digest(&self) -> Result<blake3::Hash> {
        let mut hasher = self.hasher();
        self.hash_range(&mut hasher, 0, self.len)?;
        Ok(hasher.finalize())
    }

    /// The same of a sample of the bytes, spread evenly from the first to the last.
    pub(super) fn sampled_digest(&self) -> Result<blake3::Hash> {
        if self.len <= SAMPLE_PIECES * SAMPLE_PIECE {
            return self.digest();
        }
        let mut hasher = self.hasher();
        let last = self.len - SAMPLE_PIECE;
        for piece in 0..SAMPLE_PIECES {
            let at = (u128::from(last) * u128::from(piece) / u128::from(SAMPLE_PIECES - 1)) as u64;
            self.hash_range(&mut hasher, at, SAMPLE_PIECE)?;
        }
        Ok(hasher.finalize())
    }

    /// Begun with type and shape.
    fn hasher(&self) -> blake3::Hasher {
        hasher_of(self.ty.name(), &self.shape)
    }

    fn hash_range(&self, hasher: &mut blake3::Hasher, start: u64, len: u64) -> Result<()> {
        let mut piece = vec![0; HASH_PIECE.min(len as usize)];
        let mut at = 0;
        while at < len {
            let more = (len - at).min(HASH_PIECE as u64) as usize;
            self.read_bytes(start + at, &mut piece[..more])?;
            hasher.update(&piece[..more]);
            at += more as u64;
        }
        Ok(())
    }
}

fn hasher_of(ty: &str, shape: &[usize]) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new();
    hasher.update(format!("{ty} {shape:?} ").as_bytes());
    hasher
}

/// What [`RawTensor::digest`] will be of a tensor once [`write_weights`] has written it.
///
/// # Errors
/// As there.
pub(super) fn digest_of(path: &Path, name: &str, tensor: &Tensor, dtype: Dtype) -> Result<blake3::Hash> {
    let shape: Vec<usize> = tensor.size().iter().map(|&size| size as usize).collect();
    let mut hasher = hasher_of(dtype.safetensors(), &shape);
    write_weights(&mut hasher, path, name, tensor, dtype)?;
    Ok(hasher.finalize())
}

/// Writes a tensor's weights in row order, converted to `dtype` piece by piece.
///
/// # Errors
/// `Invalid` when a weight is not a number or too large for half precision: the file would compute another function.
pub(super) fn write_weights(
    writer: &mut impl Write,
    path: &Path,
    name: &str,
    tensor: &Tensor,
    dtype: Dtype,
) -> Result<()> {
    let flat = tensor.f_to_device(Device::Cpu)?.f_contiguous()?.f_view([-1])?;
    let weights = flat.size().iter().product::<i64>();
    let mut bytes = vec![0; PIECE.min(weights as usize) * dtype.bytes()];
    for at in (0..weights).step_by(PIECE) {
        let len = (PIECE as i64).min(weights - at);
        let piece = flat.f_narrow(0, at, len)?.f_to_kind(dtype.kind())?;
        if !bool::try_from(piece.f_isfinite()?.f_all()?)? {
            return Err(Error::invalid(
                format!("{name} as {dtype:?}"),
                "a weight that is not a finite number",
                "finite weights (bf16 and f32 hold larger numbers than f16)",
            ));
        }
        let bytes = &mut bytes[..len as usize * dtype.bytes()];
        piece.f_copy_data_u8(bytes, len as usize)?;
        writer.write_all(bytes).map_err(Error::io(path))?;
    }
    Ok(())
}

/// Tensors named as their file names them.
pub(super) type FoundTensors = BTreeMap<String, RawTensor>;

/// Gives every tensor of `config` its place. `file_name` is the format's column of the table of names; tensors
/// for which `ignored` says so have no part in the function.
///
/// # Errors
/// `Mismatch` that lists every missing tensor, every wrong shape and every tensor that the model does not have.
pub(super) fn match_tensors(
    path: &Path,
    config: &LlamaConfig,
    mut found: FoundTensors,
    file_name: impl Fn(&TensorName) -> String,
    ignored: impl Fn(&str) -> bool,
) -> Result<BTreeMap<TensorName, RawTensor>> {
    let mut problems = TensorProblems::default();
    let mut tensors = BTreeMap::new();
    for name in config.tensors() {
        let in_file = file_name(&name);
        let Some(expected) = config.tensor_shape(name) else { continue };
        match found.remove(&in_file) {
            None if name == TensorName::Head => {
                let tied = "where it is the embedding, config.json says tie_word_embeddings: true";
                problems.push(in_file, format!("missing, expected shape {expected:?}; {tied}"));
            }
            None => problems.push(in_file, format!("missing, expected shape {expected:?}")),
            Some(raw) if raw.shape != expected => {
                problems.push(in_file, format!("found shape {:?}, expected {expected:?}", raw.shape));
            }
            Some(raw) => {
                tensors.insert(name, raw);
            }
        }
    }
    for name in found.keys().filter(|name| !ignored(name)) {
        problems.push(name, "found, but the model has no such tensor");
    }
    let mut problems = problems.lines();
    if problems.is_empty() {
        return Ok(tensors);
    }
    if tensors.is_empty() && !found.is_empty() {
        let expected = config.tensors().first().map(&file_name).unwrap_or_default();
        let names: Vec<&str> = found.keys().map(String::as_str).take(3).collect();
        problems = vec![
            format!("found {} tensors named like {}", found.len(), names.join(", ")),
            format!("expected names like {expected}"),
        ];
    }
    Err(Error::Mismatch { path: path.into(), what: "configuration and tensors contradict each other".into(), problems })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_disk(bytes: &[u8], ty: GgmlType, shape: &[usize], start: u64) -> RawTensor {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let len = (shape.iter().product::<usize>() / ty.block_len() * ty.block_bytes()) as u64;
        RawTensor { ty, shape: shape.into(), file: Arc::new(file), path: Path::new("x").into(), start, len }
    }

    #[test]
    fn converts_across_piece_borders() {
        let weights: Vec<f32> = (0..PIECE + 7).map(|i| (i % 1000) as f32).collect();
        let bytes: Vec<u8> = weights.iter().flat_map(|w| half::bf16::from_f32(*w).to_le_bytes()).collect();
        // An odd start: nothing in a file promises alignment.
        let file = [vec![0xff; 3], bytes].concat();
        let tensor = on_disk(&file, GgmlType::BF16, &[PIECE + 7], 3).read(Kind::Float).unwrap();
        let read: Vec<f32> = Vec::try_from(&tensor).unwrap();
        let expected: Vec<f32> = weights.iter().map(|w| half::bf16::from_f32(*w).to_f32()).collect();
        assert!(read == expected);
    }

    #[test]
    fn digests_the_content_and_not_the_place() {
        let bytes = [1u8, 2, 3, 4, 1, 2, 3, 4];
        let digest = |ty, shape: &[usize], start| on_disk(&bytes, ty, shape, start).digest().unwrap();
        assert_eq!(digest(GgmlType::F32, &[1], 0), digest(GgmlType::F32, &[1], 4));
        assert_ne!(digest(GgmlType::F16, &[2], 0), digest(GgmlType::BF16, &[2], 0));
        assert_ne!(digest(GgmlType::F16, &[2, 1], 0), digest(GgmlType::F16, &[1, 2], 0));
        assert_ne!(digest(GgmlType::F32, &[1], 0), digest(GgmlType::F32, &[1], 1));
    }

    #[test]
    fn a_sample_has_both_ends_and_reads_little() {
        let len = (1 << 22) as usize;
        let bytes = vec![7_u8; len];
        let digest = |bytes: &[u8]| on_disk(bytes, GgmlType::F32, &[len / 4], 0).sampled_digest().unwrap();
        let changed = |at: usize| {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            digest(&bytes) != digest(&vec![7; len])
        };
        assert!(changed(0) && changed(len - 1) && !changed(1 << 13));
        let small = on_disk(&bytes[..64], GgmlType::F32, &[16], 0);
        assert_eq!(small.sampled_digest().unwrap(), small.digest().unwrap());
    }

    #[test]
    fn reports_a_file_that_shrank_after_it_was_checked() {
        let raw = on_disk(&[0; 6], GgmlType::F32, &[2], 0);
        assert!(raw.read(Kind::Float).unwrap_err().to_string().starts_with("x: "));
    }
}
