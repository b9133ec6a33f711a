//! `criadero synthesize`: a checkpoint of random weights.

use std::path::{Path, PathBuf};

use anyhow::bail;
use criadero::checkpoint::synthetic::{self, BYTE_TOKENS};
use criadero::checkpoint::{Dtype, TokenizerFiles, hf};
use criadero::space::{Cost, SearchSpace};
use tch::{Device, Kind};

use super::model::open_checkpoint;

/// Write a checkpoint of seeded random weights: a model's size and speed, without its knowledge
#[derive(clap::Args)]
pub struct Synthesize {
    /// Whose shape: a space, as a shipped name such as `llama2-7b` or a YAML file
    #[arg(long, value_name = "SPACE")]
    shape: String,
    /// Directory to write
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Checkpoint whose tokenizer it gets; by default one of single bytes
    #[arg(long, value_name = "MODEL")]
    tokenizer: Option<PathBuf>,
    /// Type of the weights: f32, f16 or bf16
    #[arg(long, default_value = "bf16")]
    dtype: Dtype,
    /// Seed of the weights
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

impl Synthesize {
    /// Runs the subcommand.
    pub fn run(self) -> anyhow::Result<()> {
        let shape = *SearchSpace::open(&self.shape)?.shape();
        let config = synthetic::config(shape, self.dtype);
        let tokenizer = self.tokenizer_files(shape.vocab)?;
        let params = Cost::of(&shape, &shape.parent()).params;
        let tensor = |name| {
            let sizes = config.tensor_shape(name).expect("the writer asks for the model's own tensors");
            synthetic::tensor(name, &sizes, self.seed, Device::Cpu, Kind::BFloat16)
        };
        hf::write(&self.out, &config, &tensor, &tokenizer, self.dtype)?;
        println!("{}: {params} random parameters of seed {}", self.out.display(), self.seed);
        Ok(())
    }

    fn tokenizer_files(&self, vocab: usize) -> anyhow::Result<TokenizerFiles> {
        let Some(model) = &self.tokenizer else {
            if vocab < BYTE_TOKENS {
                bail!(
                    "a tokenizer of bytes has {BYTE_TOKENS} tokens, the shape's vocabulary {vocab}; give one with --tokenizer"
                );
            }
            return Ok(synthetic::byte_tokenizer());
        };
        let checkpoint = open_checkpoint(Path::new(model))?;
        let theirs = checkpoint.config().shape.vocab;
        if theirs > vocab {
            bail!("the tokenizer of {} has {theirs} tokens, the shape's vocabulary {vocab}", model.display());
        }
        Ok(checkpoint.tokenizer_files()?)
    }
}
