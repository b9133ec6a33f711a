//! `criadero export`: a network as files that transformers or llama.cpp load.

use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use criadero::checkpoint::{Checkpoint, Dtype, ExportFormat, export};
use criadero::space::{Cost, Genome};

/// Write a network as a checkpoint that other runtimes load.
#[derive(clap::Args)]
pub struct Export {
    /// Hugging Face directory or GGUF file that the network is cut from.
    model: PathBuf,
    /// The network, such as `9x1536*29:6x768`; see `criadero inspect`.
    #[arg(long, allow_hyphen_values = true)]
    genome: Genome,
    /// Own sizes (hf), zero-padded to the parent's (hf-padded), or for llama.cpp (gguf).
    #[arg(long, value_parser = PossibleValuesParser::new(ExportFormat::ALL.map(|(name, _)| name))
        .try_map(|name| name.parse::<ExportFormat>()))]
    format: ExportFormat,
    /// Directory to write; with gguf also a file that ends in .gguf.
    #[arg(long)]
    out: PathBuf,
    /// Type of the weights: f32, f16 or bf16. By default the model's own; f32 if that is quantized; f16 with gguf.
    #[arg(long)]
    dtype: Option<Dtype>,
}

impl Export {
    /// Writes the network and says what was written.
    pub fn run(self) -> anyhow::Result<()> {
        let parent = Checkpoint::open(&self.model)?;
        let written = export(&parent, &self.genome, self.format, self.dtype, &self.out)?;
        let params = Cost::of(&parent.config().shape, &self.genome).params;
        let megabytes = bytes_of(&written)? as f64 / 1e6;
        println!("{}: {params} parameters, {megabytes:.1} MB, from {}", written.display(), self.model.display());
        Ok(())
    }
}

/// The size of a file, or of a directory's files.
fn bytes_of(path: &Path) -> std::io::Result<u64> {
    if path.is_file() {
        return Ok(path.metadata()?.len());
    }
    std::fs::read_dir(path)?.map(|entry| Ok(entry?.metadata()?.len())).sum()
}
