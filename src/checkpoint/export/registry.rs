//! All exporters. Adding one is a file, and a row here.

use std::fs;
use std::path::{Path, PathBuf};

use super::exporter::{Exporter, Network};
use super::gguf::Gguf;
use super::hf::Hf;
use super::hf_padded::HfPadded;
use crate::checkpoint::{Checkpoint, Dtype};
use crate::error::{Error, Result};
use crate::space::Genome;

/// One row a format.
pub static EXPORTERS: [&dyn Exporter; 3] = [&Hf, &HfPadded, &Gguf];

/// The exporter of this name.
///
/// # Errors
/// `Unknown`, with all names.
pub fn exporter_named(name: &str) -> Result<&'static dyn Exporter> {
    let known = || EXPORTERS.iter().map(|exporter| exporter.name().0);
    let found = EXPORTERS.iter().find(|exporter| exporter.name().0 == name);
    found.copied().ok_or_else(|| Error::unknown("export format", name, known()))
}

/// Writes the network that `genome` cuts from `parent`; returns the directory or file that was written.
///
/// `out` is the directory to write; a GGUF goes to `model.gguf` inside it, or to `out` itself when that ends in
/// `.gguf`. Without a dtype, directories keep the parent's (F32 where it was quantized) and GGUF files are F16.
/// Matrices that the genome quantizes are blocks in a GGUF file, and in a directory the values of those blocks, in F32
/// unless the dtype says otherwise.
///
/// # Errors
/// `Mismatch` when the genome does not fit, `Invalid` when `out` is the parent itself or a weight overflows the
/// dtype, `Io`. Nothing half-written is left.
pub fn export(
    parent: &Checkpoint,
    genome: &Genome,
    format: &dyn Exporter,
    dtype: Option<Dtype>,
    out: &Path,
) -> Result<PathBuf> {
    let target = format.target(out);
    if let (Ok(target), Ok(source)) = (fs::canonicalize(&target), fs::canonicalize(parent.path()))
        && target == source
    {
        return Err(Error::invalid("place to export to", target.display(), "another than the parent's own"));
    }
    format.export(Network { parent, genome, dtype }, &target)?;
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{LlamaConfig, hf, synthetic};
    use crate::space::ModelShape;

    const SHAPE: ModelShape =
        ModelShape { layers: 2, hidden: 32, heads: 4, kv_heads: 2, head_dim: 8, mlp: 64, vocab: 260, tied: true };

    fn parent(dir: &Path) -> Checkpoint {
        let config: LlamaConfig = synthetic::config(SHAPE, Dtype::F32);
        let sizes = config.clone();
        let tensor = |name| {
            let shape = sizes.tensor_shape(name).unwrap();
            synthetic::tensor(name, &shape, 1, tch::Device::Cpu, tch::Kind::Float)
        };
        hf::write(dir, &config, &tensor, &synthetic::byte_tokenizer(), Dtype::F32).unwrap();
        Checkpoint::open(dir).unwrap()
    }

    #[test]
    fn every_row_is_known_by_its_name() {
        for exporter in EXPORTERS {
            let (name, about) = exporter.name();
            assert_eq!(exporter_named(name).unwrap().name(), (name, about));
            assert!(!about.is_empty());
        }
        let error = exporter_named("onnx").err().unwrap().to_string();
        assert_eq!(error, "unknown export format `onnx`; known: hf, hf-padded, gguf");
    }

    #[test]
    fn every_row_writes_what_opens_and_leaves_nothing_where_it_fails() {
        let dir = tempfile::tempdir().unwrap();
        let parent = parent(&dir.path().join("parent"));
        let [good, bad] = ["4x64:2x32", "4x65:2x32"].map(|text| text.parse::<Genome>().unwrap());
        for exporter in EXPORTERS {
            let (name, _) = exporter.name();
            let write = |genome, out: &Path| export(&parent, genome, exporter, None, out);
            let out = dir.path().join(name);
            assert!(write(&bad, &out).is_err(), "{name}");
            let left = fs::read_dir(&out).map_or(0, Iterator::count);
            assert_eq!(left, 0, "{name} left something");
            let written = write(&good, &out).unwrap();
            let config = Checkpoint::open(&written).unwrap().config().clone();
            assert_eq!(config.shape.layers, 2, "{name}");
            // Onto the parent itself.
            if exporter.target(parent.path()) == parent.path() {
                let error = write(&good, parent.path()).unwrap_err().to_string();
                assert!(error.contains("another than the parent's own"), "{error}");
            }
        }
    }
}
