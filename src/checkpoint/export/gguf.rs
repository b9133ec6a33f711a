//! Export to GGUF version 3 (ggml `docs/gguf.md`): under the family's own architecture where all layers are alike, else under one
//! that has sizes per layer.
//!
//! What llama.cpp needs and does not say: of arch deci the first layer must have attention, attention must have an MLP beside
//! it, head counts are multiples of key/value head counts, and `key_length` is not optional. Where a network has
//! no such half, [`gguf_layers`] names a filler, which is written as zeros here.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use tch::{Kind, Tensor};

use super::cut::{Cut, cut_and_fill};
use super::exporter::{Exporter, Network};
use crate::checkpoint::config::{Dtype, LlamaConfig};
use crate::checkpoint::ggml::GgmlType;
use crate::checkpoint::gguf::architecture::{Architecture, ArchitectureRow};
use crate::checkpoint::gguf::config::QUANTIZED;
use crate::checkpoint::gguf::file::{ALIGNMENT, MAGIC, VERSION, neighbours_from_halves};
use crate::checkpoint::gguf::general::{self, GENOME};
use crate::checkpoint::gguf::metadata::{Entry, Metadata};
use crate::checkpoint::gguf::{fused, rope, tokenizer_writer};
use crate::checkpoint::names::{LayerTensor, TensorName};
use crate::checkpoint::raw_tensor::write_weights;
use crate::checkpoint::{Checkpoint, quantize};
use crate::error::{Error, Result};
use crate::output::Output;
use crate::space::gguf_layers;
use crate::space::{Bits, Cost, Gene, Genome};

/// How blocks are laid out (`ggml.h`, `GGML_QNT_VERSION`).
const QUANTIZATION_VERSION: u32 = 2;
/// Bytes of a file that its first key lies in, that of the genome: keys are sorted, and no architecture's comes before it.
const START: u64 = 256;
/// What a GGUF parent says that holds for its children too: prefixes of keys, copied byte for byte.
const KEPT: [&str; 4] = ["tokenizer.", "general.name", "general.basename", "general.organization"];

/// A GGUF file for llama.cpp: blocks where the genome quantizes, else F16 unless the dtype says otherwise;
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

    fn check(&self, network: Network) -> Result<()> {
        File::of(network)?.tokenizer().map(drop)
    }

    fn notes(&self, network: Network) -> Vec<String> {
        let Ok(config) = network.parent.subnet(network.genome) else { return Vec::new() };
        let positions = config.positions();
        let window = config.sliding_window.as_ref().map(|window| {
            let within = format!("contexts of up to {} tokens compute the same, longer ones do not", window.width);
            format!("llama.cpp knows no windows under this architecture: {within}")
        });
        let long = "for longer ones llama.cpp takes LongRoPE's other factors";
        let short = (positions < config.max_position_embeddings)
            .then(|| format!("what was scored are contexts of up to {positions} tokens; {long}"));
        window.into_iter().chain(short).collect()
    }

    fn export(&self, network: Network, target: &Path, output: &Output) -> Result<()> {
        let mut file = output.file(target, &is_own)?;
        write(network, target, file.writer())?;
        file.publish()
    }
}

/// A network and the file that it becomes.
struct File<'a> {
    parent: &'a Checkpoint,
    genome: &'a Genome,
    /// As the file holds it, fillers included.
    config: LlamaConfig,
    /// Each layer of the file: its number in the parent, and its sizes.
    layers: Vec<(usize, Gene)>,
    architecture: &'static ArchitectureRow,
}

impl<'a> File<'a> {
    fn of(Network { parent, genome, .. }: Network<'a>) -> Result<File<'a>> {
        parent.subnet(genome)?; // refuses a genome that does not fit
        let layers = gguf_layers(&parent.config().shape, genome);
        let in_file = Genome::new(layers.iter().map(|&(_, gene)| gene)).with_ends(genome.ends());
        let kept: Vec<usize> = layers.iter().map(|&(layer, _)| layer).collect();
        let sliding_window = parent.config().window_in(&kept);
        let config = LlamaConfig { sliding_window, ..parent.config().with_genome(in_file) };
        let unheld = |reason| Error::invalid("network to export as GGUF", genome, reason);
        let architecture = Architecture::holding(&config).map_err(unheld)?.row();
        Ok(File { parent, genome, config, layers, architecture })
    }
}

/// Whether a file is one that was written here.
fn is_own(path: &Path) -> bool {
    let mut start = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(START).read_to_end(&mut start));
    read.is_ok() && start.starts_with(&MAGIC) && start.windows(GENOME.len()).any(|word| word == GENOME.as_bytes())
}

fn write(network: Network, out: &Path, writer: &mut impl Write) -> Result<()> {
    let file = File::of(network)?;
    let dtype = network.dtype.unwrap_or(Dtype::F16).unquantized();
    let tensors = file.plan(dtype)?;
    let metadata = file.metadata(most_common(&tensors), out)?;

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

    writer.write_all(&header).map_err(Error::io(out))?;
    pad(writer, header.len() as u64, out)?;
    for planned in &tensors {
        let tensor = file.tensor(planned)?;
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
}

/// A tensor of the file.
struct Planned {
    values: Values,
    in_file: String,
    shape: Vec<usize>,
    stored: Stored,
}

/// Where a tensor's values come from.
enum Values {
    /// The parent's tensors, one below the other.
    Parts(Vec<TensorName>),
    /// Divisors of rotary frequencies.
    Divisors(Tensor),
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

impl File<'_> {
    /// Everything the file holds, in file order.
    fn plan(&self, dtype: Dtype) -> Result<Vec<Planned>> {
        let config = &self.config;
        let divisors = rope::tensors(config)?.into_iter().map(|(name, tensor)| Planned {
            shape: vec![config.shape.head_dim / 2],
            values: Values::Divisors(tensor),
            in_file: name.into(),
            stored: Stored::Plain(Dtype::F32),
        });
        let mut planned: Vec<Planned> = divisors.collect();
        for name in config.tensors() {
            let Some(shape) = config.tensor_shape(name) else { continue };
            let stored = match config.stored(name) {
                Bits::F16 if name.is_vector() => Stored::Plain(Dtype::F32),
                Bits::F16 => Stored::Plain(dtype),
                bits => Stored::Blocks(bits),
            };
            match (name, planned.last_mut()) {
                (TensorName::Layer(layer, part), Some(last)) if self.is_fused(part) && part != fused::PARTS[0] => {
                    debug_assert_eq!(last.in_file, fused::name(layer));
                    last.shape[0] += shape[0];
                    if let Values::Parts(parts) = &mut last.values {
                        parts.push(name);
                    }
                }
                _ => {
                    let in_file = match name {
                        TensorName::Layer(layer, part) if self.is_fused(part) => fused::name(layer),
                        _ => name.gguf(),
                    };
                    planned.push(Planned { values: Values::Parts(vec![name]), in_file, shape, stored });
                }
            }
        }
        Ok(planned)
    }

    /// Whether a tensor is a part of a fused one.
    fn is_fused(&self, part: LayerTensor) -> bool {
        self.architecture.architecture == Architecture::OpenElm && fused::PARTS.contains(&part)
    }

    /// The values of a tensor, (out, in).
    fn tensor(&self, planned: &Planned) -> Result<Tensor> {
        match &planned.values {
            Values::Divisors(divisors) => Ok(divisors.shallow_clone()),
            Values::Parts(parts) => {
                let parts = parts.iter().map(|&name| self.part(name)).collect::<Result<Vec<_>>>()?;
                Ok(if let [only] = &parts[..] { only.shallow_clone() } else { Tensor::f_cat(&parts, 0)? })
            }
        }
    }

    /// One tensor of the network: the parent's prefix, zeros where the layer's half is only a filler, query and key rows in the
    /// architecture's order.
    fn part(&self, name: TensorName) -> Result<Tensor> {
        let missing = || Error::invalid("tensor to export", format!("{name:?}"), "one of the network's");
        let shape = self.config.tensor_shape(name).ok_or_else(missing)?;
        // One conversion from the parent's type to the file's, through singles, which hold every other type.
        let cut = |name| Cut { name, shape: &shape, bits: Bits::F16, kind: Kind::Float };
        let TensorName::Layer(place, tensor) = name else {
            return cut_and_fill(self.parent, cut(name), true, &shape);
        };
        let (layer, _) = self.layers[place];
        let own = self.genome.genes()[layer];
        let there = tensor.row().half.is_in(own);
        let weights = cut_and_fill(self.parent, cut(TensorName::Layer(layer, tensor)), there, &shape)?;
        let moves = tensor.row().rotary && self.architecture.neighbours;
        if moves { neighbours_from_halves(&weights, self.config.shape.head_dim) } else { Ok(weights) }
    }

    /// The keys of the architecture: scalars where it has no others.
    fn sizes(&self) -> [(&'static str, Entry); 12] {
        let (config, shape) = (&self.config, &self.config.shape);
        let (genes, group) = (config.genome.genes(), shape.group() as u32);
        let per_layer = |size: &dyn Fn(&Gene) -> u32| match genes {
            [first, ..] if !self.architecture.per_layer => Entry::u32(size(first)),
            _ => Entry::i32s(&genes.iter().map(|gene| size(gene) as i32).collect::<Vec<_>>()),
        };
        // As far as llama.cpp computes what was scored: its architectures here have no windows, and it takes LongRoPE's other
        // divisors for longer contexts.
        let window = config.sliding_window.as_ref().map_or(usize::MAX, |window| window.width);
        let context = config.positions().min(window);
        [
            ("block_count", Entry::u32(shape.layers as u32)),
            ("context_length", Entry::u32(context as u32)),
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

    /// The pairs that say how text becomes tokens: a GGUF parent's own, or those of its files.
    fn tokenizer(&self) -> Result<Vec<(String, Entry)>> {
        let File { parent, config, .. } = self;
        match &parent.metadata {
            Some(source) => {
                let kept = KEPT.iter().flat_map(|prefix| source.with_prefix(prefix));
                Ok(kept.map(|(key, entry)| (key.clone(), entry.clone())).collect())
            }
            None => tokenizer_writer::from_files(parent.path(), &parent.tokenizer_files()?, config),
        }
    }

    fn metadata(&self, ty: GgmlType, out: &Path) -> Result<Metadata> {
        let File { parent, genome, config, architecture, .. } = self;
        let mut metadata = Metadata::new(out);
        metadata.insert("general.name", Entry::string(&parent.name()));
        for (key, entry) in self.tokenizer()? {
            metadata.insert(key, entry);
        }
        metadata.insert("general.architecture", Entry::string(architecture.name));
        metadata.insert("general.type", Entry::string("model"));
        metadata.insert("general.alignment", Entry::u32(ALIGNMENT as u32));
        metadata.insert("general.file_type", Entry::u32(ty.file_type()));
        if genome.is_quantized() {
            metadata.insert("general.quantization_version", Entry::u32(QUANTIZATION_VERSION));
        }
        metadata.insert(GENOME, Entry::string(&genome.to_string()));
        let params = Cost::of(&parent.config().shape, genome).params;
        for (key, entry) in general::entries(&parent.lineage()?.of_network(parent.config(), genome), params) {
            metadata.insert(key, entry);
        }
        for (key, entry) in self.sizes().into_iter().chain(rope::keys(config)) {
            metadata.insert(format!("{}.{key}", architecture.name), entry);
        }
        for (key, entry) in rope::own_keys(config) {
            metadata.insert(key, entry);
        }
        if config.quantized {
            metadata.insert(QUANTIZED, Entry::bool(true));
        }
        Ok(metadata)
    }
}
