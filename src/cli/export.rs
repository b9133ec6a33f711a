//! `criadero export`: a network as files that transformers or llama.cpp load.

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::builder::{PossibleValue, PossibleValuesParser};
use criadero::checkpoint::export::Network;
use criadero::checkpoint::{Checkpoint, Dtype, EXPORTERS, export, exporter_named};
use criadero::run::Pick;
use criadero::space::{Bits, Cost, Genome};

use super::model::{self, ends_in, note_fallback, note_quantized_twice};
use super::picked::{MovedArgs, picked};

/// Write a network as a checkpoint that other runtimes load.
#[derive(clap::Args)]
pub struct Export {
    /// A finished run, or the checkpoint that the network is cut from.
    #[arg(value_name = "RUN|MODEL")]
    from: PathBuf,
    #[command(flatten)]
    moved: MovedArgs,
    /// Which network of a run's front: an id, `knee`, or the best within a limit such as "params<=100M".
    #[arg(long, conflicts_with = "genome")]
    pick: Option<Pick>,
    /// The network itself, by default all of a model, such as `9x1536*29:6x768`; see `criadero inspect`.
    #[arg(long, allow_hyphen_values = true)]
    genome: Option<Genome>,
    /// Quantize all of its matrices: `8` (Q8_0), `4` (Q4_0), `q4_1`, ...; by default as the network says.
    #[arg(long)]
    bits: Option<Bits>,
    /// Own sizes (hf), zero-padded to the parent's (hf-padded), or for llama.cpp (gguf).
    #[arg(long, value_name = "FORMAT", value_parser = PossibleValuesParser::new(EXPORTERS.map(|exporter| {
        let (name, about) = exporter.name();
        PossibleValue::new(name).help(about)
    })))]
    format: String,
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
        let searched = self.moved.parent_of(&self.from)?;
        let run = self.from.display();
        let whole = searched.is_none();
        let parent = match searched {
            Some(parent) => parent,
            None => model::open(&self.from)?,
        };
        let genome = match (&self.pick, self.genome) {
            (Some(_), _) if whole => bail!(
                "{run} is no run, so there is nothing to --pick from; without it all of the model is exported, with --genome a network of it"
            ),
            (Some(pick), _) => picked(&self.from, pick)?,
            (None, Some(genome)) => genome,
            (None, None) if whole => parent.config().genome.clone(),
            (None, None) => {
                bail!("say which network of {run} with --pick ID, `knee` or a limit; `criadero show {run}` lists them")
            }
        };
        let shape = &parent.config().shape;
        let genome = match self.bits {
            None => genome,
            Some(bits) => {
                let genome = genome.in_bits(bits).with_ends(ends_in(shape, bits));
                note_fallback(shape, std::slice::from_ref(&genome), bits, bits);
                genome
            }
        };
        if genome.is_quantized() {
            note_quantized_twice(&parent);
        }
        let exporter = exporter_named(&self.format)?;
        let network = Network { parent: &parent, genome: &genome, dtype: self.dtype };
        exporter.notes(network).iter().for_each(|note| eprintln!("note: {note}"));
        let written = export(&parent, &genome, exporter, self.dtype, &self.out)?;
        let params = Cost::of(shape, &genome).params;
        let megabytes = bytes_of(&written)? as f64 / 1e6;
        let tensors = Checkpoint::open(&written)?.weight_bytes();
        println!(
            "{}: {params} parameters, {tensors} bytes of tensors, {megabytes:.1} MB, from {}",
            written.display(),
            parent.path().display()
        );
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
