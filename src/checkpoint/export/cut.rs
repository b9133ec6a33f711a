//! From a parent and a genome to files that other runtimes load.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use tch::{Device, Kind, Tensor};

use super::{gguf, hf, hf_padded};
use crate::checkpoint::Checkpoint;
use crate::checkpoint::config::Dtype;
use crate::checkpoint::names::TensorName;
use crate::checkpoint::quantize::rounded;
use crate::error::{Error, Result};
use crate::space::{Bits, Genome};

/// What to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportFormat {
    /// A Hugging Face directory: plain LLaMA where all layers are alike, our remote code where they differ.
    Hf,
    /// A Hugging Face directory of plain LLaMA, zero-padded to the parent's widths: runs wherever the parent does.
    HfPadded,
    /// A GGUF file of architecture deci, for llama.cpp.
    Gguf,
}

impl ExportFormat {
    /// Every format with its name on the command line.
    pub const ALL: [(&str, ExportFormat); 3] =
        [("hf", ExportFormat::Hf), ("hf-padded", ExportFormat::HfPadded), ("gguf", ExportFormat::Gguf)];
}

impl FromStr for ExportFormat {
    type Err = Error;

    fn from_str(name: &str) -> Result<ExportFormat> {
        let known = ExportFormat::ALL.iter().find(|(known, _)| *known == name);
        let unknown = || Error::unknown("export format", name, ExportFormat::ALL.map(|(name, _)| name));
        known.map(|&(_, format)| format).ok_or_else(unknown)
    }
}

/// Writes the network that `genome` cuts from `parent`; returns the directory or file that was written.
///
/// `out` is the directory to write; a GGUF goes to `model.gguf` inside it, or to `out` itself when that ends in
/// `.gguf`. Without a `dtype`, directories keep the parent's (F32 where it was quantized) and GGUF files are F16.
/// Matrices that the genome quantizes are blocks in a GGUF file, and in a directory the values of those blocks, in F32
/// unless `dtype` says otherwise.
///
/// # Errors
/// `Mismatch` when the genome does not fit, `Invalid` when `out` is the parent itself or a weight overflows the
/// dtype, `Io`. Nothing half-written is left.
pub fn export(
    parent: &Checkpoint,
    genome: &Genome,
    format: ExportFormat,
    dtype: Option<Dtype>,
    out: &Path,
) -> Result<PathBuf> {
    let target = match format {
        ExportFormat::Gguf if out.extension().is_none_or(|extension| extension != "gguf") => out.join("model.gguf"),
        _ => out.to_path_buf(),
    };
    if let (Ok(target), Ok(source)) = (fs::canonicalize(&target), fs::canonicalize(parent.path()))
        && target == source
    {
        return Err(Error::invalid("place to export to", target.display(), "another than the parent's own"));
    }
    match format {
        ExportFormat::Hf => hf::export(parent, genome, dtype, &target)?,
        ExportFormat::HfPadded => hf_padded::export(parent, genome, dtype, &target)?,
        ExportFormat::Gguf => gguf::export(parent, genome, dtype, &target)?,
    }
    Ok(target)
}

/// A part of a parent's tensor: its first rows and columns, with the values that these bits can store.
#[derive(Clone, Copy)]
pub(super) struct Cut<'a> {
    pub(super) name: TensorName,
    /// Nowhere larger than the parent's tensor.
    pub(super) shape: &'a [usize],
    pub(super) bits: Bits,
    pub(super) kind: Kind,
}

impl Cut<'_> {
    /// The part: a view of the parent's tensor where nothing is rounded.
    pub(super) fn of(self, parent: &Checkpoint) -> Result<Tensor> {
        let Cut { name, shape, bits, kind } = self;
        // Rounded from the most exact values, as a file of blocks is.
        let whole = parent.tensor(name, if bits.is_full() { kind } else { Kind::Float })?;
        let narrow = |tensor: Tensor, (dim, &len): (usize, &usize)| -> Result<Tensor> {
            Ok(tensor.f_narrow(dim as i64, 0, len as i64)?)
        };
        let part = shape.iter().enumerate().try_fold(whole, narrow)?;
        Ok(rounded(&name.hf(), &part, bits)?.f_to_kind(kind)?)
    }
}

/// The type of a Hugging Face directory, which has no blocks: one that holds the values of quantized matrices exactly, or
/// the parent's.
pub(super) fn plain_dtype(parent: &Checkpoint, genome: &Genome, wanted: Option<Dtype>) -> Dtype {
    let exact = if genome.is_quantized() { Dtype::F32 } else { parent.config().dtype };
    wanted.unwrap_or(exact).unquantized()
}

/// A part of a parent's tensor filled with zeros to `shape`; without `there` it is all zeros. A norm that neither the cut
/// nor the parent has is all ones: what it scales is multiplied by zeros.
pub(super) fn cut_and_fill(parent: &Checkpoint, cut: Cut, there: bool, shape: &[usize]) -> Result<Tensor> {
    let Cut { name, shape: kept, kind, .. } = cut;
    if name.is_norm() {
        return parent.tensor(name, kind).or_else(|_| filled(shape, 1.0, kind));
    }
    if !there {
        return filled(shape, 0.0, kind);
    }
    let part = cut.of(parent)?;
    if kept == shape {
        return Ok(part);
    }
    let whole = filled(shape, 0.0, kind)?;
    let place = kept
        .iter()
        .enumerate()
        .try_fold(whole.shallow_clone(), |tensor, (dim, &len)| tensor.f_narrow(dim as i64, 0, len as i64));
    place?.f_copy_(&part)?;
    Ok(whole)
}

fn filled(shape: &[usize], value: f64, kind: Kind) -> Result<Tensor> {
    let shape: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
    Ok(Tensor::f_full(shape, value, (kind, Device::Cpu))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_known_formats() {
        for (name, format) in ExportFormat::ALL {
            assert_eq!(name.parse::<ExportFormat>().unwrap(), format);
        }
        let error = "onnx".parse::<ExportFormat>().unwrap_err().to_string();
        assert_eq!(error, "unknown export format `onnx`; known: hf, hf-padded, gguf");
    }
}
