//! `criadero synthesize`: a checkpoint of random weights.

use std::path::PathBuf;

use super::arguments::file_of;
use super::model;
use anyhow::bail;
use criadero::checkpoint::hf::TokenizerFiles;
use criadero::checkpoint::synthetic::{self, BYTE_TOKENS};
use criadero::checkpoint::{Checkpoint, Dtype, hf};
use criadero::output::Output;
use criadero::space::{Cost, SearchSpace};
use serde_json::json;
use tch::{Device, Kind};

/// Write a checkpoint of seeded random weights: a model's size and speed, without its knowledge
#[derive(clap::Args)]
pub struct Synthesize {
    /// Whose shape: a space, as a shipped name such as `llama2-7b` or a YAML file
    #[arg(long, value_name = "SPACE")]
    shape: String,
    /// Directory to write
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Replace what is there and was not written by this command
    #[arg(long)]
    force: bool,
    /// Checkpoint whose tokenizer it gets; by default one of single bytes
    #[arg(long, value_name = "MODEL")]
    tokenizer: Option<PathBuf>,
    /// Type of the weights: f32, f16 or bf16
    #[arg(long, default_value = "bf16")]
    dtype: Dtype,
    /// Seed of the weights
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Synthesize {
    /// Runs the subcommand.
    pub fn run(self) -> anyhow::Result<()> {
        let shape = *SearchSpace::open(&self.shape)?.shape();
        let mut config = synthetic::config(shape, self.dtype);
        let tokenizer = match &self.tokenizer {
            Some(model) => {
                let theirs = model::open(model)?;
                config.bos_token_id = theirs.config().bos_token_id;
                config.eos_token_ids = theirs.config().eos_token_ids.clone();
                tokenizer_of(&theirs, shape.vocab)?
            }
            None if shape.vocab < BYTE_TOKENS => bail!(
                "a tokenizer of bytes has {BYTE_TOKENS} tokens, the shape's vocabulary {}; give one with --tokenizer",
                shape.vocab
            ),
            None => synthetic::byte_tokenizer(),
        };
        let output =
            Output::of("synthesize").reading_all(file_of(&self.shape)).reading_all(&self.tokenizer).forced(self.force);
        let staged = hf::stage(&output, &self.out)?;
        let params = Cost::of(&shape, &shape.parent()).params;
        let tensor = |name| {
            let sizes = config.tensor_shape(name).expect("the writer asks for the model's own tensors");
            synthetic::tensor(name, &sizes, self.seed, Device::Cpu, Kind::BFloat16)
        };
        hf::write_into(&staged, &config, &tensor, &tokenizer, self.dtype)?;
        staged.publish()?;
        if self.json {
            println!("{:#}", json!({ "checkpoint": self.out, "params": params, "seed": self.seed }));
        } else {
            println!("{}: {params} random parameters of seed {}", self.out.display(), self.seed);
        }
        Ok(())
    }
}

/// A checkpoint's tokenizer, where all of its tokens are in the vocabulary.
fn tokenizer_of(checkpoint: &Checkpoint, vocab: usize) -> anyhow::Result<TokenizerFiles> {
    let theirs = checkpoint.config().shape.vocab;
    if theirs > vocab {
        let path = checkpoint.path().display();
        bail!("the tokenizer of {path} has {theirs} tokens, the shape's vocabulary {vocab}");
    }
    Ok(checkpoint.tokenizer_files()?)
}
