//! GGUF files (ggml `docs/gguf.md`, versions 2 and 3) of architecture llama, and deci as we export it.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;
use tch::{Kind, Tensor};

use crate::checkpoint::config::{Dtype, Llama3Scaling, LlamaConfig};
use crate::checkpoint::ggml::GgmlType;
use crate::checkpoint::gguf::metadata::{Cursor, Entry, FORMAT, Metadata, Reason};
use crate::checkpoint::hf::layer_genes;
use crate::checkpoint::names::{LayerTensor, TensorName};
use crate::checkpoint::raw_tensor::{FoundTensors, RawTensor, match_tensors};
use crate::error::{Error, Result};
use crate::space::{Genome, MAX_LAYERS, ModelShape};

pub(crate) const MAGIC: [u8; 4] = *b"GGUF";
pub(crate) const VERSION: u32 = 3;
/// Where `general.alignment` says nothing else.
pub(crate) const ALIGNMENT: u64 = 32;
const MAX_ALIGNMENT: u64 = 1 << 20;
/// ggml's `GGML_MAX_DIMS`.
const MAX_DIMS: u32 = 4;
/// A header holds a vocabulary, ten megabytes; one beyond this is hostile.
const MAX_HEADER_BYTES: usize = 1 << 26;
/// Says of unquantized weights that they began as blocks.
pub(crate) const QUANTIZED: &str = "criadero.quantized";
/// Divisors of the rotary frequencies, the one sign of LLaMA 3's stretching.
pub(crate) const ROPE_FREQS: &str = "rope_freqs.weight";

/// What a file holds, checked: every tensor the configuration asks for lies where its entry says.
pub(crate) struct GgufContent {
    pub(crate) config: LlamaConfig,
    pub(crate) tensors: BTreeMap<TensorName, RawTensor>,
    pub(crate) metadata: Metadata,
}

/// Opens a file and checks it.
pub(crate) fn open(path: &Path) -> Result<GgufContent> {
    let file = File::open(path).map_err(Error::io(path))?;
    // SAFETY: the map lives for this function only, in which the header is parsed; weights are read from the file.
    let map = unsafe { Mmap::map(&file) }.map_err(Error::io(path))?;
    let (metadata, found) = read_header(path, &map, Arc::new(file))?;
    drop(map);
    let config = read_config(path, &metadata, &found)?;
    let tensors = match_tensors(path, &config, found, TensorName::gguf, |name| name == ROPE_FREQS)?;
    Ok(GgufContent { config, tensors, metadata })
}

/// Parses everything before the weights. `map` is the whole file.
fn read_header(path: &Path, map: &[u8], file: Arc<File>) -> Result<(Metadata, FoundTensors)> {
    let wrong = |reason: String| Error::format(path, FORMAT, reason);
    let file_len = map.len() as u64;
    let mut cursor = Cursor::new(&map[..map.len().min(MAX_HEADER_BYTES)]);
    let mut metadata = Metadata::new(path);
    let infos = (|| {
        let magic = cursor.take(4, "the magic")?;
        if magic != MAGIC {
            return Err(format!("magic {magic:02x?}, expected {MAGIC:02x?} (`GGUF`)"));
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
    if let Some(count) = metadata.count("split.count")?.filter(|&count| count > 1) {
        let reason = format!("one of {count} files, expected a single one (join them with llama-gguf-split --merge)");
        return Err(wrong(reason));
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
            return Err(format!("found ggml type {}, expected one of {}", self.type_code, GgmlType::names()));
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
        let mut problems = vec![];
        let mut found = FoundTensors::new();
        let mut extents = vec![];
        for info in infos {
            let name = info.name.clone();
            match self.tensor(&info) {
                Err(reason) => problems.push(format!("{name}: {reason}")),
                Ok(tensor) => {
                    extents.push((tensor.start, tensor.start + tensor.len, name.clone()));
                    if found.insert(name.clone(), tensor).is_some() {
                        problems.push(format!("{name}: there twice"));
                    }
                }
            }
        }
        extents.sort();
        for pair in extents.windows(2) {
            if let [(_, end, first), (start, _, second)] = pair
                && end > start
            {
                problems.push(format!("{first} and {second} overlap at byte {start}"));
            }
        }
        if problems.is_empty() { Ok(found) } else { Err(problems) }
    }

    fn tensor(&self, info: &TensorInfo) -> Reason<RawTensor> {
        let (ty, len) = info.layout()?;
        if !info.offset.is_multiple_of(self.alignment) {
            return Err(format!("found offset {}, expected a multiple of {}", info.offset, self.alignment));
        }
        let start = self.data_start.checked_add(info.offset);
        let end = start.and_then(|start| start.checked_add(len));
        let (Some(start), Some(_)) = (start, end.filter(|&end| end <= self.file_len)) else {
            return Err(format!(
                "found {len} bytes at offset {}, expected them inside the file's {} bytes of weights",
                info.offset,
                self.file_len.saturating_sub(self.data_start)
            ));
        };
        // Bounded by the file's length, so every dimension that is not beside a zero fits.
        let shape = info.dims.iter().rev().map(|&dim| dim as usize).collect();
        Ok(RawTensor { ty, shape, file: Arc::clone(&self.file), path: Arc::clone(&self.path), start, len })
    }
}

/// The keys of one architecture.
struct Keys<'a> {
    metadata: &'a Metadata,
    arch: &'a str,
}

impl Keys<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.arch)
    }

    fn missing(&self, name: &str) -> Error {
        self.metadata.wrong(&self.key(name), "missing")
    }

    fn required(&self, name: &str) -> Result<u32> {
        self.metadata.count(&self.key(name))?.ok_or_else(|| self.missing(name))
    }

    fn per_layer(&self, name: &str, layers: usize) -> Result<Vec<u32>> {
        let counts = self.metadata.counts(&self.key(name))?.ok_or_else(|| self.missing(name))?;
        Ok(match (counts.as_slice(), layers) {
            // A scalar holds for every layer; the cap on layers is checked before this list matters.
            ([one], 2..) => vec![*one; layers.min(MAX_LAYERS)],
            _ => counts,
        })
    }

    fn head_dim(&self, implied: usize) -> Result<usize> {
        let said = |name: &str| self.metadata.count(&self.key(name)).map(|count| count.map(|dim| dim as usize));
        let head_dim = said("attention.key_length")?.unwrap_or(implied);
        for name in ["attention.value_length", "rope.dimension_count"] {
            if let Some(other) = said(name)?.filter(|&other| other != head_dim) {
                let problem = format!("found {other}, expected the head size {head_dim}");
                return Err(self.metadata.wrong(&self.key(name), problem));
            }
        }
        Ok(head_dim)
    }
}

/// Sizes and constants from keys `llama.*` or `deci.*`, and from the tensors that say the rest.
fn read_config(path: &Path, metadata: &Metadata, found: &FoundTensors) -> Result<LlamaConfig> {
    let arch = metadata.text("general.architecture")?.unwrap_or_default();
    if !["llama", "deci"].contains(&arch.as_str()) {
        return Err(Error::unknown("GGUF architecture", arch, ["llama", "deci"]));
    }
    refuse_other_models(metadata, &arch)?;
    let keys = Keys { metadata, arch: &arch };
    let (layers, hidden) = (keys.required("block_count")? as usize, keys.required("embedding_length")? as usize);
    let heads = keys.per_layer("attention.head_count", layers)?;
    let kv_heads = if metadata.numbers(&keys.key("attention.head_count_kv"))?.is_some() {
        keys.per_layer("attention.head_count_kv", layers)?
    } else {
        heads.clone()
    };
    let mlp = keys.per_layer("feed_forward_length", layers)?;
    let widest = |counts: &[u32]| counts.iter().copied().max().unwrap_or(0) as usize;
    let implied = heads.first().and_then(|&first| hidden.checked_div(first as usize)).unwrap_or(0);
    let head_dim = keys.head_dim(implied)?;
    let embedding = found.get(&TensorName::Embedding.gguf());
    let queries = found.get(&TensorName::Layer(0, LayerTensor::Q).gguf());
    let vocab = embedding.and_then(|tensor| tensor.shape.first().copied());
    let in_blocks = found.values().any(|tensor| tensor.ty.dtype() == Dtype::Quantized);
    let rope_theta = metadata.number(&keys.key("rope.freq_base"))?.unwrap_or(10000.0);
    let max_position_embeddings = keys.required("context_length")? as usize;
    let mut config = LlamaConfig {
        shape: ModelShape {
            layers,
            hidden,
            heads: widest(&heads),
            kv_heads: widest(&kv_heads),
            head_dim,
            mlp: widest(&mlp),
            vocab: vocab.ok_or_else(|| metadata.wrong(&TensorName::Embedding.gguf(), "missing"))?,
            tied: !found.contains_key(&TensorName::Head.gguf()),
        },
        genome: Genome::new([]),
        rms_norm_eps: metadata
            .number(&keys.key("attention.layer_norm_rms_epsilon"))?
            .ok_or_else(|| keys.missing("attention.layer_norm_rms_epsilon"))?,
        rope_theta,
        rope_scaling: None,
        max_position_embeddings,
        bos_token_id: metadata.count("tokenizer.ggml.bos_token_id")?,
        eos_token_ids: metadata.count("tokenizer.ggml.eos_token_id")?.into_iter().collect(),
        // Anything in blocks, or what most weights are stored as; the embedding is often of another type.
        dtype: if in_blocks {
            Dtype::Quantized
        } else {
            queries.or(embedding).map_or(Dtype::F32, |tensor| tensor.ty.dtype())
        },
        quantized: in_blocks || metadata.flag(QUANTIZED)?.unwrap_or(false),
    };
    config.check(path)?;
    config.rope_scaling = rope_scaling(metadata, found, &config)?;
    config.genome = layer_genes(path, &config.shape, heads, kv_heads, mlp)?;
    Ok(config)
}

fn refuse_other_models(metadata: &Metadata, arch: &str) -> Result<()> {
    if let Some(experts) = metadata.count(&format!("{arch}.expert_count"))?.filter(|&experts| experts > 0) {
        return Err(metadata.wrong("expert_count", format!("found {experts}, expected none")));
    }
    let scaling = metadata.text(&format!("{arch}.rope.scaling.type"))?.filter(|kind| kind != "none");
    if let Some(kind) = scaling {
        return Err(metadata.wrong("rope.scaling.type", format!("found `{kind}`, expected `none`")));
    }
    Ok(())
}

/// LLaMA 3's stretching is stored as the divisors alone; its four numbers are those of every published model.
fn rope_scaling(metadata: &Metadata, found: &FoundTensors, config: &LlamaConfig) -> Result<Option<Llama3Scaling>> {
    let Some(raw) = found.get(ROPE_FREQS) else { return Ok(None) };
    let wrong = |reason: String| metadata.wrong(ROPE_FREQS, reason);
    let head_dim = config.shape.head_dim;
    if raw.shape != [head_dim / 2] {
        return Err(wrong(format!("found shape {:?}, expected [{}]", raw.shape, head_dim / 2)));
    }
    let divisors: Vec<f32> = Vec::try_from(&raw.read(Kind::Float)?)?;
    let factor = divisors.iter().copied().fold(1.0, f32::max);
    let original = metadata.count("criadero.rope.original_context_length")?.unwrap_or(8192) as usize;
    let scaling = Llama3Scaling {
        factor: f64::from(factor),
        low_freq_factor: metadata.number("criadero.rope.low_freq_factor")?.unwrap_or(1.0),
        high_freq_factor: metadata.number("criadero.rope.high_freq_factor")?.unwrap_or(4.0),
        original_max_position_embeddings: original,
    };
    let expected = scaling.divisors(head_dim, config.rope_theta);
    let close = |(found, expected): (&f32, &f64)| (f64::from(*found) - expected).abs() <= 1e-4 * expected;
    if !divisors.iter().zip(&expected).all(close) {
        return Err(wrong("found divisors of another kind than LLaMA 3's (factors 1 and 4 on 8,192 tokens)".into()));
    }
    Ok(Some(scaling))
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
    use tch::Device;

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
