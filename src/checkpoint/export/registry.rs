//! All exporters. Adding one is a file, and a row here.

use std::path::{Path, PathBuf};

use super::exporter::{Exporter, Network};
use super::gguf::Gguf;
use super::hf::Hf;
use super::hf_padded::HfPadded;
use crate::checkpoint::{Checkpoint, Dtype};
use crate::error::{Error, Result};
use crate::output::Output;
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
/// dtype, `Taken` when something is there that this function did not write, `Io`. Nothing half-written is left.
pub fn export(
    parent: &Checkpoint,
    genome: &Genome,
    format: &dyn Exporter,
    dtype: Option<Dtype>,
    out: &Path,
) -> Result<PathBuf> {
    export_to(Network { parent, genome, dtype, account: None }, format, out, &Output::of("export"))
}

/// Writes a network as [`export`] does, as this output: for who reads more than the parent, or may replace what others made.
///
/// # Errors
/// As [`export`].
pub fn export_to(network: Network, format: &dyn Exporter, out: &Path, output: &Output) -> Result<PathBuf> {
    format.check(network)?;
    let target = format.target(out);
    format.export(network, &target, &output.clone().reading(network.parent.path()))?;
    Ok(target)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::checkpoint::{LlamaConfig, hf, synthetic};
    use crate::space::{Extras, ModelShape};

    const SHAPE: ModelShape = ModelShape {
        layers: 2,
        hidden: 32,
        heads: 4,
        kv_heads: 2,
        head_dim: 8,
        mlp: 64,
        vocab: 260,
        tied: true,
        extras: Extras::NONE,
    };

    /// A model of seeded weights, all of them so many times larger.
    fn parent(dir: &Path, times: f64) -> Checkpoint {
        let config: LlamaConfig = synthetic::config(SHAPE, Dtype::F32);
        let sizes = config.clone();
        let tensor = |name| {
            let shape = sizes.tensor_shape(name).unwrap();
            Ok(synthetic::tensor(name, &shape, 1, tch::Device::Cpu, tch::Kind::Float)? * times)
        };
        hf::write(dir, &config, &tensor, &synthetic::byte_tokenizer(), Dtype::F32).unwrap();
        Checkpoint::open(dir).unwrap()
    }

    /// Files at any depth.
    fn files(dir: &Path) -> usize {
        let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        entries.map(|path| if path.is_dir() { files(&path) } else { 1 }).sum()
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
    fn every_row_writes_what_opens_and_never_over_its_parent() {
        let dir = tempfile::tempdir().unwrap();
        let parent = parent(&dir.path().join("parent"), 1.0);
        for exporter in EXPORTERS {
            let (name, _) = exporter.name();
            let out = dir.path().join(name);
            let written = export(&parent, &"4x64:2x32".parse().unwrap(), exporter, None, &out).unwrap();
            assert_eq!(written, exporter.target(&out));
            let child = Checkpoint::open(&written).unwrap();
            assert_eq!(child.config().shape.layers, 2, "{name}");
            let before = child.digest().unwrap();
            let error = export(&child, &child.config().genome, exporter, None, &out).unwrap_err().to_string();
            assert!(error.contains("another than what is read"), "{name}: {error}");
            assert_eq!(Checkpoint::open(&written).unwrap().digest().unwrap(), before, "{name}");
        }
    }

    #[test]
    fn every_row_leaves_no_file_and_no_change_where_it_fails() {
        let dir = tempfile::tempdir().unwrap();
        let fine = parent(&dir.path().join("fine"), 1.0);
        // Too large for half precision, which shows only while weights are written.
        let large = parent(&dir.path().join("large"), 1e7);
        let [genome, wide] = ["4x64*2", "4x65:2x32"].map(|text| text.parse::<Genome>().unwrap());
        for exporter in EXPORTERS {
            let (name, _) = exporter.name();
            let out = dir.path().join(name);
            fs::create_dir(&out).unwrap();
            let fails = || {
                let error = export(&large, &genome, exporter, Some(Dtype::F16), &out).unwrap_err().to_string();
                assert!(error.contains("not a finite number"), "{name}: {error}");
                assert!(export(&fine, &wide, exporter, None, &out).is_err(), "{name}");
            };
            fails();
            assert_eq!(files(&out), 0, "{name}");
            let written = export(&fine, &genome, exporter, None, &out).unwrap();
            let digest = || Checkpoint::open(&written).unwrap().digest().unwrap();
            let before = (digest(), files(&out));
            fails();
            assert_eq!((digest(), files(&out)), before, "{name}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2 + EXPORTERS.len(), "nothing is left beside them");
    }
}
