//! `criadero route`: routers of a supernet, from a budget to a network and from a token to widths.

use std::path::{Path, PathBuf};

use criadero::count::{Items, Threads, Tokens};
use criadero::output::Output;
use criadero::route::{Progress, RouteSettings, Router, Widths, train};
use criadero::run::{Headway, cores};
use criadero::throughput::{ThroughputTable, key_here};
use criadero::tune::CorpusSettings;
use serde_json::json;

use super::arguments::file_of;
use super::calibration::text_or_default;
use super::interrupt::stop_on_ctrl_c;
use super::model::{self, DeviceArgs, load, open_space, set_threads};
use super::progress::Bar;
use super::training_text::training_text;

/// Steps between two lines of what was learned.
const TOLD: usize = 50;

/// Train routers of a supernet: from a budget to a network, and from a token to the widths of its MLPs
///
/// The supernet stays as it is. The static router learns scores of widths for budgets, the adaptive one adds scores of its own for each
/// token's hidden state; both learn from what the whole model predicts and from what widths cost. `--router` of eval, generate and serve runs
/// them.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  criadero route SUPERNET --space SPACE.yaml --table table.json --out router")]
pub struct Route {
    /// Supernet: a directory that `criadero rank` wrote
    supernet: PathBuf,
    /// The space whose widths are chosen from: a YAML file or a shipped name
    #[arg(long, value_name = "SPACE")]
    space: String,
    /// What widths cost: a table of `criadero measure`; MACs without one
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,
    /// Training text, as `tune` takes it; may be given more than once. By default the passages that `criadero fetch demo` unpacks
    #[arg(long = "data", value_name = "FILE")]
    data: Vec<PathBuf>,
    /// Where to write the routers
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Replace a directory that is there and holds no routers
    #[arg(long)]
    force: bool,
    /// Steps of each router
    #[arg(long, value_name = "N", default_value_t = 600, value_parser = Items::parse)]
    steps: usize,
    /// Tokens of a sequence
    #[arg(long, value_name = "TOKENS", default_value_t = 256, value_parser = Tokens::parse)]
    length: usize,
    /// Sequences of a step
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = Items::parse)]
    batch: usize,
    /// Learning rate
    #[arg(long, value_name = "RATE", default_value_t = 3e-3, allow_hyphen_values = true)]
    learning_rate: f64,
    /// Seed of weights, orders and draws
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// libtorch threads; all cores by default
    #[arg(long, value_name = "N", value_parser = Threads::parse)]
    threads: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

impl Route {
    /// Runs the subcommand.
    pub fn run(self) -> anyhow::Result<()> {
        if !(self.learning_rate > 0.0 && self.learning_rate < 1.0) {
            return Err(criadero::Error::invalid("--learning-rate", self.learning_rate, "above 0 and below 1").into());
        }
        let supernet = model::open(&self.supernet)?;
        let (space, _) = open_space(&self.space, &supernet)?;
        let table = self.table.as_deref().map(ThroughputTable::read).transpose()?;
        let device = self.device.fast();
        let threads = self.threads.unwrap_or_else(cores);
        set_threads(threads);
        let loaded = load(&supernet, &device)?;
        if let (Some(table), Some(path)) = (&table, &self.table) {
            table.check_networks(path, &key_here(&loaded, supernet.digest()?, &space, threads))?;
        }
        let widths = Widths::of(&space, table.as_ref())?;
        let data = if self.data.is_empty() { vec![text_or_default(None)] } else { self.data.clone() };
        let read = data.iter().map(PathBuf::as_path).chain(file_of(&self.space)).chain(self.table.as_deref());
        let output = Output::of("route").reading(supernet.path()).reading_all(read).forced(self.force);
        let directory = output.directory(&self.out, |path: &Path| path.ends_with(Router::FILE))?;
        let length = self.length.min(supernet.config().positions());
        let (corpus, _) = training_text(&supernet, &data, CorpusSettings { length, held_out: 0.05 })?;
        let settings =
            RouteSettings { steps: self.steps, batch: self.batch, learning_rate: self.learning_rate, seed: self.seed };
        let stop = stop_on_ctrl_c("stopping after this step; nothing is written");
        let bar = Bar::new("training", "step");
        let (mut tokens, mut seconds) = (0, 0.0);
        let mut since = Vec::new();
        let router =
            train(&loaded, supernet.digest()?, widths, &corpus, settings, &stop, &mut |progress: Progress| {
                tokens += progress.tokens;
                seconds += progress.time.as_secs_f64();
                since.push(progress);
                if progress.step.is_multiple_of(TOLD) || progress.step == progress.of {
                    bar.line(&told(&std::mem::take(&mut since), 2 * progress.step > progress.of));
                }
                bar.at(Headway::of_equals(progress.step, progress.of));
            })?;
        bar.finish();
        router.write(directory.path())?;
        directory.publish()?;
        if self.json {
            let networks: Vec<_> = router
                .shares()
                .iter()
                .map(|&share| json!({ "share": share, "network": router.network(share) }))
                .collect();
            println!("{:#}", json!({ "out": self.out, "tokens": tokens, "seconds": seconds, "static": networks }));
            return Ok(());
        }
        println!("budget  static network");
        for &share in router.shares() {
            println!("{share:>6.3}  {}", router.network(share));
        }
        println!("{}", self.out.display());
        Ok(())
    }
}

/// The mean of some steps.
fn told(steps: &[Progress], adaptive: bool) -> String {
    let mean = |of: &dyn Fn(&Progress) -> f64| steps.iter().map(of).sum::<f64>() / steps.len().max(1) as f64;
    let last = steps.last().map_or(0, |progress| progress.step);
    let which = if adaptive { "adaptive" } else { "static" };
    format!(
        "step {last}, {which}: {:.3} nats a token from the whole model, cost {:.3} for budgets of {:.3}",
        mean(&|progress| progress.divergence),
        mean(&|progress| progress.cost),
        mean(&|progress| progress.budget)
    )
}
