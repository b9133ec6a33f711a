//! `criadero space`: a search space to begin with.

use std::path::PathBuf;

use criadero::space::starting_yaml;

use super::model;

/// Print a commented search space for a model: half to all of each layer. Redirect it into a file and cut it down
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  criadero space MODEL > SPACE.yaml")]
pub struct Space {
    /// Checkpoint: an HF directory, a GGUF file, a name on the hub, or `smollm2-135m`
    model: PathBuf,
}

impl Space {
    /// Prints the YAML.
    ///
    /// # Errors
    /// Models that cannot be opened, and those whose layers differ, which have no widest layer to choose from.
    pub fn run(self) -> anyhow::Result<()> {
        let checkpoint = model::open(&self.model)?;
        let config = model::whose_layers_are_alike(&checkpoint, &self.model)?;
        print!("{}", starting_yaml(&checkpoint.name(), &config.shape));
        Ok(())
    }
}
