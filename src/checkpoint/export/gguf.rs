//! Export to GGUF version 3 (ggml `docs/gguf.md`), architecture deci: LLaMA's mathematics with sizes per layer.
//!
//! What llama.cpp needs and does not say: the first layer must have attention, attention must have an MLP beside
//! it, head counts are multiples of key/value head counts, and `key_length` is not optional. Where a network has
//! no such half, [`gguf_layers`] names a filler, which is written as zeros here.

use std::io::Write;
use std::path::{Path, PathBuf};

use tch::{Kind, Tensor};

use super::cut::{Cut, cut_and_fill};
use super::exporter::{Exporter, Network};
use crate::atomic_file;
use crate::checkpoint::config::{Dtype, LlamaConfig};
use crate::checkpoint::ggml::GgmlType;
use crate::checkpoint::gguf::file::{ALIGNMENT, MAGIC, QUANTIZED, ROPE_FREQS, VERSION, neighbours_from_halves};
use crate::checkpoint::gguf::metadata::{Entry, Metadata};
use crate::checkpoint::gguf::tokenizer_writer;
use crate::checkpoint::names::TensorName;
use crate::checkpoint::raw_tensor::write_weights;
use crate::checkpoint::{Checkpoint, quantize};
use crate::error::{Error, Result};
use crate::space::gguf_layers;
use crate::space::{Bits, Gene, Genome};

const ARCHITECTURE: &str = "deci";
/// How blocks are laid out (`ggml.h`, `GGML_QNT_VERSION`).
const QUANTIZATION_VERSION: u32 = 2;
/// What a GGUF parent says that holds for its children too: prefixes of keys, copied byte for byte.
const KEPT: [&str; 6] =
    ["tokenizer.", "general.name", "general.basename", "general.organization", "general.license", "general.languages"];

/// A GGUF file of architecture deci, for llama.cpp: blocks where the genome quantizes, else F16 unless the dtype says otherwise;
/// norms and biases always F32.
pub struct Gguf;

impl Exporter for Gguf {
    fn name(&self) -> (&'static str, &'static str) {
        ("gguf", "a GGUF file for llama.cpp")
    }

    /// A file that ends in `.gguf` is itself, any other place a directory for `model.gguf`.
    fn target(&self, out: &Path) -> PathBuf {
        if out.extension().is_some_and(|end| end == "gguf") { out.to_path_buf() } else { out.join("model.gguf") }
    }

    fn export(&self, network: Network, out: &Path) -> Result<()> {
        write(network, out)
    }
}

fn write(Network { parent, genome, dtype }: Network, out: &Path) -> Result<()> {
    parent.config().subnet(genome)?; // refuses a genome that does not fit
    let layers = gguf_layers(&parent.config().shape, genome);
    let in_file = Genome::new(layers.iter().map(|&(_, gene)| gene)).with_ends(genome.ends());
    let config = parent.config().with_genome(in_file);
    let dtype = dtype.unwrap_or(Dtype::F16).unquantized();
    let tensors = plan(&config, dtype);
    let metadata = metadata(parent, &config, genome, most_common(&tensors), out)?;

    let mut header = vec![];
    let unwritable = Error::io(out);
    (|| {
        header.write_all(&MAGIC)?;
        header.write_all(&VERSION.to_le_bytes())?;
        header.write_all(&(tensors.len() as u64).to_le_bytes())?;
        header.write_all(&metadata.pairs().to_le_bytes())?;
        metadata.write(&mut header)?;
        let mut offset = 0;
        for tensor in &tensors {
            tensor.write_info(&mut header, offset)?;
            offset = (offset + tensor.bytes()).next_multiple_of(ALIGNMENT);
        }
        Ok(())
    })()
    .map_err(unwritable)?;

    atomic_file::write_with(out, |writer| {
        writer.write_all(&header).map_err(Error::io(out))?;
        pad(writer, header.len() as u64, out)?;
        for planned in &tensors {
            let tensor = match planned.name {
                Some(name) => file_tensor(parent, genome, &config, &layers, name, &planned.shape)?,
                None => rope_divisors(&config)?,
            };
            match planned.stored {
                Stored::Plain(dtype) => write_weights(writer, out, &planned.in_file, &tensor, dtype)?,
                Stored::Blocks(bits) => {
                    let blocks = quantize::blocks(&planned.in_file, &tensor, bits)?;
                    writer.write_all(&blocks).map_err(Error::io(out))?;
                }
            }
            pad(writer, planned.bytes(), out)?;
        }
        Ok(())
    })
}

/// A tensor as the file holds it; `None` names the rotary divisors.
struct Planned {
    name: Option<TensorName>,
    in_file: String,
    shape: Vec<usize>,
    stored: Stored,
}

/// As singles, or in blocks.
#[derive(Clone, Copy)]
enum Stored {
    Plain(Dtype),
    Blocks(Bits),
}

impl Planned {
    fn weights(&self) -> u64 {
        self.shape.iter().product::<usize>() as u64
    }

    fn bytes(&self) -> u64 {
        let ty = self.ggml_type();
        self.weights() / ty.block_len() as u64 * ty.block_bytes() as u64
    }

    fn ggml_type(&self) -> GgmlType {
        match self.stored {
            Stored::Plain(Dtype::F16) => GgmlType::F16,
            Stored::Plain(Dtype::BF16) => GgmlType::BF16,
            Stored::Plain(Dtype::F32 | Dtype::Quantized) => GgmlType::F32,
            Stored::Blocks(bits) => GgmlType::of(bits),
        }
    }

    /// Name, dimensions (fastest first), type and place.
    fn write_info(&self, writer: &mut impl Write, offset: u64) -> std::io::Result<()> {
        writer.write_all(&(self.in_file.len() as u64).to_le_bytes())?;
        writer.write_all(self.in_file.as_bytes())?;
        writer.write_all(&(self.shape.len() as u32).to_le_bytes())?;
        for &dim in self.shape.iter().rev() {
            writer.write_all(&(dim as u64).to_le_bytes())?;
        }
        writer.write_all(&self.ggml_type().code().to_le_bytes())?;
        writer.write_all(&offset.to_le_bytes())
    }
}

/// Everything the file holds, in file order.
fn plan(config: &LlamaConfig, dtype: Dtype) -> Vec<Planned> {
    let rope = config.rope_scaling.map(|_| Planned {
        name: None,
        in_file: ROPE_FREQS.into(),
        shape: vec![config.shape.head_dim / 2],
        stored: Stored::Plain(Dtype::F32),
    });
    let tensors = config.tensors().into_iter().filter_map(|name| {
        let stored = match config.stored(name) {
            Bits::F16 if name.is_vector() => Stored::Plain(Dtype::F32),
            Bits::F16 => Stored::Plain(dtype),
            bits => Stored::Blocks(bits),
        };
        Some(Planned { name: Some(name), in_file: name.gguf(), shape: config.tensor_shape(name)?, stored })
    });
    rope.into_iter().chain(tensors).collect()
}

/// The type of most weights.
fn most_common(tensors: &[Planned]) -> GgmlType {
    let mut weights: Vec<(u64, GgmlType)> = Vec::new();
    for tensor in tensors {
        match weights.iter_mut().find(|(_, ty)| *ty == tensor.ggml_type()) {
            Some((sum, _)) => *sum += tensor.weights(),
            None => weights.push((tensor.weights(), tensor.ggml_type())),
        }
    }
    weights.into_iter().max_by_key(|&(sum, _)| sum).map_or(GgmlType::F32, |(_, ty)| ty)
}

fn pad(writer: &mut impl Write, written: u64, out: &Path) -> Result<()> {
    let zeros = [0; ALIGNMENT as usize];
    let missing = written.next_multiple_of(ALIGNMENT) - written;
    writer.write_all(&zeros[..missing as usize]).map_err(Error::io(out))
}

/// One tensor of the file: the parent's prefix, zeros where the layer's half is only a filler, query and key rows in
/// llama.cpp's order.
fn file_tensor(
    parent: &Checkpoint,
    genome: &Genome,
    config: &LlamaConfig,
    layers: &[(usize, Gene)],
    name: TensorName,
    shape: &[usize],
) -> Result<Tensor> {
    // One conversion from the parent's type to the file's, through singles, which hold every other type.
    let cut = |name| Cut { name, shape, bits: Bits::F16, kind: Kind::Float };
    let TensorName::Layer(place, tensor) = name else {
        return cut_and_fill(parent, cut(name), true, shape);
    };
    let (layer, _) = layers[place];
    let own = genome.genes()[layer];
    let there = tensor.row().half.is_in(own);
    let weights = cut_and_fill(parent, cut(TensorName::Layer(layer, tensor)), there, shape)?;
    if tensor.row().rotary { neighbours_from_halves(&weights, config.shape.head_dim) } else { Ok(weights) }
}

fn rope_divisors(config: &LlamaConfig) -> Result<Tensor> {
    let divisors = config.rope_scaling.map(|scaling| scaling.divisors(config.shape.head_dim, config.rope_theta));
    let divisors: Vec<f32> = divisors.unwrap_or_default().into_iter().map(|divisor| divisor as f32).collect();
    Ok(Tensor::f_from_slice(&divisors)?)
}

/// The keys of the architecture.
fn sizes(config: &LlamaConfig) -> [(&'static str, Entry); 12] {
    let (shape, genes) = (&config.shape, config.genome.genes());
    let group = shape.group() as u32;
    let per_layer =
        |size: &dyn Fn(&Gene) -> u32| Entry::i32s(&genes.iter().map(|g| size(g) as i32).collect::<Vec<_>>());
    [
        ("block_count", Entry::u32(shape.layers as u32)),
        ("context_length", Entry::u32(config.max_position_embeddings as u32)),
        ("embedding_length", Entry::u32(shape.hidden as u32)),
        ("vocab_size", Entry::u32(shape.vocab as u32)),
        ("feed_forward_length", per_layer(&|gene| gene.mlp)),
        ("attention.head_count", per_layer(&|gene| gene.heads)),
        ("attention.head_count_kv", per_layer(&|gene| gene.heads / group)),
        ("attention.key_length", Entry::u32(shape.head_dim as u32)),
        ("attention.value_length", Entry::u32(shape.head_dim as u32)),
        ("attention.layer_norm_rms_epsilon", Entry::f32(config.rms_norm_eps as f32)),
        ("rope.dimension_count", Entry::u32(shape.head_dim as u32)),
        ("rope.freq_base", Entry::f32(config.rope_theta as f32)),
    ]
}

fn metadata(parent: &Checkpoint, config: &LlamaConfig, genome: &Genome, ty: GgmlType, out: &Path) -> Result<Metadata> {
    let mut metadata = Metadata::new(out);
    let name = parent.path().file_stem().map_or("criadero".into(), |stem| stem.to_string_lossy());
    metadata.insert("general.name", Entry::string(&name));
    match &parent.metadata {
        Some(source) => {
            for (key, entry) in KEPT.iter().flat_map(|prefix| source.with_prefix(prefix)) {
                metadata.insert(key, entry.clone());
            }
        }
        None => {
            for (key, entry) in tokenizer_writer::from_files(parent.path(), &parent.tokenizer_files()?, config)? {
                metadata.insert(key, entry);
            }
        }
    }
    metadata.insert("general.architecture", Entry::string(ARCHITECTURE));
    metadata.insert("general.type", Entry::string("model"));
    metadata.insert("general.alignment", Entry::u32(ALIGNMENT as u32));
    metadata.insert("general.file_type", Entry::u32(ty.file_type()));
    if genome.is_quantized() {
        metadata.insert("general.quantization_version", Entry::u32(QUANTIZATION_VERSION));
    }
    metadata.insert("criadero.genome", Entry::string(&genome.to_string()));

    for (key, entry) in sizes(config) {
        metadata.insert(format!("{ARCHITECTURE}.{key}"), entry);
    }
    if config.quantized {
        metadata.insert(QUANTIZED, Entry::bool(true));
    }
    if let Some(scaling) = &config.rope_scaling {
        // llama.cpp reads the divisors; these let the four numbers be read back.
        let original = scaling.original_max_position_embeddings as u32;
        metadata.insert("criadero.rope.original_context_length", Entry::u32(original));
        metadata.insert("criadero.rope.low_freq_factor", Entry::f32(scaling.low_freq_factor as f32));
        metadata.insert("criadero.rope.high_freq_factor", Entry::f32(scaling.high_freq_factor as f32));
    }
    Ok(metadata)
}
