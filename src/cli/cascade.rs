//! `criadero cascade`: networks of a front that are asked in turn, from the scores that its run has.

use std::path::{Path, PathBuf};

use anyhow::bail;
use criadero::cascade::{Budget, Cascade as Fitted, Interval, Judged, OfRun, Stage};
use criadero::output::Output;
use criadero::run::RunSettings;
use criadero::space::Constraint;

use super::model::DataArgs;
use super::phase::Phase;
use super::picked::MovedArgs;

/// Find networks of a front that are asked in turn: a small one first, a larger one where it is not sure
///
/// Up to three networks, and of each the share of its choice below which the question goes on. Fitted to the search items of a run, of which
/// all scores are there, and judged on the held-out ones: nothing is computed but sums. `eval --cascade` and `serve --cascade` run it.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  criadero cascade results/mine --objective accuracy:arc_easy --budget 'macs<=100M' --out cascade.json"
)]
pub struct Cascade {
    /// Directory of a finished run
    run: PathBuf,
    /// `accuracy:TASK` or `acc_norm:TASK`, a task of the run
    #[arg(long, value_name = "METRIC:TASK")]
    objective: String,
    /// What a token may cost on the mean over questions: `macs<=N`, or `prefill_tps>=N` where the run has a throughput table
    #[arg(long, value_name = "LIMIT", allow_hyphen_values = true)]
    budget: Constraint,
    /// Where to write the cascade
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Replace a file that is there and is no cascade
    #[arg(long)]
    force: bool,
    /// Print the file's content instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    moved: MovedArgs,
    #[command(flatten)]
    data: DataArgs,
}

impl Cascade {
    /// Runs the subcommand.
    pub fn run(self) -> anyhow::Result<()> {
        let budget = Budget::new(self.budget)?;
        let Some(settings) = RunSettings::read(&self.run)? else { bail!("{} is no run", self.run.display()) };
        let Some(checkpoint) = self.moved.parent_of(&self.run)? else { bail!("{} is no run", self.run.display()) };
        let output =
            Output::of("cascade").reading_all([checkpoint.path(), &self.run.join("chunks.log")]).forced(self.force);
        let mut file = output.file(&self.out, &|path: &Path| Fitted::is_one(path))?;
        let run = {
            let _reading = Phase::begin("reading what the run has on record");
            OfRun::open(&self.run, settings, &checkpoint, &self.data.dir(), &self.objective)?
        };
        let fitted = run.cascade(&budget)?;
        let json = fitted.to_json();
        file.write(json.as_bytes())?;
        file.publish()?;
        if self.json {
            print!("{json}");
            return Ok(());
        }
        tell(&fitted, &budget);
        println!("{}", self.out.display());
        Ok(())
    }
}

/// Prints networks and judgement as a table.
fn tell(cascade: &Fitted, budget: &Budget) {
    let held_out = &cascade.held_out;
    for (Stage { id, genome, confidence, threshold }, answered) in cascade.stages.iter().zip(&held_out.answered) {
        let until = threshold.map_or("answers all that reach it".to_string(), |share| {
            format!("answers where its share is {share:.3} or more")
        });
        println!(
            "network {id}, temperature {:.2}, {until}: {:.1} % of the questions",
            confidence.temperature,
            100.0 * answered
        );
        println!("  {genome}");
    }
    println!("{:<34} {:>9} {:>14}", format!("{} held-out", cascade.task), cascade.choosing.name(), budget.name());
    let row = |name: &str, judged: &Judged| {
        println!("  {name:<32} {:>9.4} {:>14.4e}", judged.accuracy, budget.said(judged.cost));
    };
    row("cascade", &held_out.cascade);
    row("the best network within the budget", &held_out.single);
    row("two networks by chance, same cost", &held_out.mixture);
    row("going on by chance, as often", &held_out.random);
    row("going on where it is wrong", &held_out.oracle);
    let bootstrap = &cascade.bootstrap;
    let interval = |name: &str, Interval(low, high): Interval| println!("  {name:<32} {low:+.4} to {high:+.4}");
    println!("95 % over {} draws of the questions, fitted on each", bootstrap.draws);
    interval("over the best network", bootstrap.over_single);
    interval("over two by chance", bootstrap.over_mixture);
    interval("over going on by chance", bootstrap.over_random);
}
