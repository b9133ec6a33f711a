//! From a parent and a genome to files that other runtimes load.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use tch::{Device, Kind, Tensor};

use crate::checkpoint::config::Dtype;
use crate::checkpoint::names::TensorName;
use crate::checkpoint::{Checkpoint, export_gguf, export_hf, export_hf_padded};
use crate::error::{Error, Result};
use crate::space::Genome;

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
        ExportFormat::Hf => export_hf::export(parent, genome, dtype, &target)?,
        ExportFormat::HfPadded => export_hf_padded::export(parent, genome, dtype, &target)?,
        ExportFormat::Gguf => export_gguf::export(parent, genome, dtype, &target)?,
    }
    Ok(target)
}

/// The first rows and columns of one of the parent's tensors.
///
/// # Shapes
/// Of `shape`, which is nowhere larger than the parent's tensor. A view of it.
pub(super) fn cut(parent: &Checkpoint, name: TensorName, shape: &[usize], kind: Kind) -> Result<Tensor> {
    let whole = parent.tensor(name, kind)?;
    let narrow = |tensor: Tensor, (dim, &len): (usize, &usize)| Ok(tensor.f_narrow(dim as i64, 0, len as i64)?);
    shape.iter().enumerate().try_fold(whole, narrow)
}

/// One of the parent's tensors cut to `kept` and filled with zeros to `shape`; `None` kept is all zeros. A norm
/// that neither the cut nor the parent has is all ones: what it scales is multiplied by zeros.
pub(super) fn cut_and_fill(
    parent: &Checkpoint,
    name: TensorName,
    kept: Option<&[usize]>,
    shape: &[usize],
    kind: Kind,
) -> Result<Tensor> {
    if name.is_norm() {
        return parent.tensor(name, kind).or_else(|_| filled(shape, 1.0, kind));
    }
    let Some(kept) = kept else { return filled(shape, 0.0, kind) };
    let part = cut(parent, name, kept, kind)?;
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
