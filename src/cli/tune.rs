//! `criadero tune`: one-shot fine-tuning of a supernet.

use std::path::{Path, PathBuf};

use criadero::tune::curriculum::Curriculum;

use super::arguments::file_of;
use super::model::{self, load, open_space};
use super::next::Done;
use super::train::{Course, Lessons, TrainArgs};

/// Fine-tune a supernet once, so that its narrow networks are trained networks that share weights
#[derive(clap::Args)]
#[command(args_override_self = true)]
#[command(
    after_help = "Examples:\n  criadero tune SUPERNET --space SPACE.yaml --data alpaca.json --steps 140 --out TUNED\n  \
                  criadero tune SUPERNET --space SPACE.yaml --data alpaca.json --lora 16 --learning-rate 1e-3 --out TUNED-LORA"
)]
pub struct Tune {
    /// Supernet: a directory that `criadero rank` wrote
    supernet: PathBuf,
    /// The space whose networks are trained: a YAML file or a shipped name
    #[arg(long, value_name = "SPACE")]
    space: String,
    /// `sandwich`: largest, smallest and two random networks in every step, distilled from the largest; `instatune`: the
    /// largest and a random one in turn, on the text alone
    #[arg(long, value_enum, default_value_t = Scheme::Sandwich)]
    scheme: Scheme,
    /// Sandwich without bringing the networks' losses to one magnitude
    #[arg(long)]
    no_balancing: bool,
    #[command(flatten)]
    train: TrainArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
enum Scheme {
    Sandwich,
    Instatune,
}

impl Tune {
    /// Runs the subcommand.
    pub fn run(self) -> anyhow::Result<()> {
        let base = model::open(&self.supernet)?;
        let (space, _) = open_space(&self.space, &base)?;
        let curriculum = match self.scheme {
            Scheme::Sandwich => Curriculum::Sandwich { space, balance: !self.no_balancing },
            Scheme::Instatune if self.no_balancing => anyhow::bail!("--no-balancing is for `--scheme sandwich`"),
            Scheme::Instatune => Curriculum::Instatune { space },
        };
        self.train.check(&Course { base: &base, curriculum: &curriculum, teacher: None })?;
        let sources: Vec<&Path> = file_of(&self.space).into_iter().chain([base.path()]).collect();
        let held = self.train.hold("tune", &sources, &[])?;
        let model = load(&base, &self.train.device)?;
        let name = self.supernet.display().to_string();
        self.train.run(Lessons { base: &base, name, model, teacher: None, curriculum }, &held)?;
        if !self.train.json {
            Done::Tuned { checkpoint: &self.train.out, space: &self.space }.say_next();
        }
        Ok(())
    }
}
