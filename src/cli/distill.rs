//! `criadero distill`: one network of a front learns from its parent.

use std::path::PathBuf;

use anyhow::bail;
use criadero::checkpoint::Checkpoint;
use criadero::checkpoint::export::{Hf, Network, export_to};
use criadero::output::Output;
use criadero::run::Pick;
use criadero::tune::curriculum::Curriculum;

use super::model::load;
use super::next::Done;
use super::picked::{MovedArgs, first_task, picked};
use super::train::{Course, Lessons, TrainArgs};

/// The network as the search left it, inside the output directory.
const START: &str = "untrained";

/// Recover one network of a finished run: it learns to predict what its parent predicts
#[derive(clap::Args)]
#[command(args_override_self = true)]
#[command(
    after_help = "Examples:\n  criadero distill results/mine --pick knee --data alpaca.json --steps 200 --out recovered"
)]
pub struct Distill {
    /// A finished run
    run: PathBuf,
    /// Which network of its front: an id, `knee`, or the best within a limit such as "params<=100M"
    #[arg(long)]
    pick: Pick,
    #[command(flatten)]
    moved: MovedArgs,
    #[command(flatten)]
    train: TrainArgs,
}

impl Distill {
    /// Runs the subcommand.
    pub fn run(self) -> anyhow::Result<()> {
        let Some(parent) = self.moved.parent_of(&self.run)? else { bail!("{} is no run", self.run.display()) };
        let genome = picked(&self.run, &self.pick, self.train.json)?;
        let bits_of = genome.is_quantized().then(|| format!("{}#{}", self.run.display(), self.pick));
        if bits_of.is_some() {
            eprintln!(
                "note: its weights are trained unquantized; `criadero export --bits-of` gives the result its bits again"
            );
        }
        let genome = genome.unquantized();
        let start = self.train.out.join(START);
        let held = self.train.hold("distill", &[parent.path(), self.run.as_path()], &[START])?;
        // The directory is this command's, whatever version of it wrote what is there.
        let within = Output::of("distill").forced(true);
        let network = Network { parent: &parent, genome: &genome, dtype: None, account: None };
        export_to(network, &Hf, &start, &within)?;
        let base = Checkpoint::open(&start)?;
        let network = base.config().genome.clone();
        let curriculum = Curriculum::Distill { network };
        self.train.check(&Course { base: &base, curriculum: &curriculum, teacher: Some(&parent) })?;
        let teacher = load(&parent, &self.train.device)?;
        let model = load(&base, &self.train.device)?;
        let lessons = Lessons {
            base: &base,
            name: format!("{}#{}", self.run.display(), genome),
            model,
            teacher: Some((&teacher, parent.digest()?)),
            curriculum,
        };
        self.train.run(lessons, &held)?;
        if !self.train.json {
            let task = first_task(&self.run)?;
            Done::Distilled { checkpoint: &self.train.out, task: task.as_deref(), bits_of }.say_next();
        }
        Ok(())
    }
}
