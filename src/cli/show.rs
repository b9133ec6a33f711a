//! `criadero show`: what a run is, how far it came, what it found.

use std::path::PathBuf;

use anyhow::Context;
use criadero::report::table::{Table, worth};
use criadero::run::{Evaluations, Front, RunSettings};
use serde_json::json;

/// What is said behind scores that are made up.
pub const MADE_UP: &str = " (mock scores: no model was asked)";

/// Prints a front as a table, and what it is worth.
pub fn print_front(front: &Front) {
    print!("{}", Table::new(front).text());
    worth(front).iter().for_each(|line| println!("{line}"));
}

/// Show a run: the command that made it, how far it is, its front
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  criadero show results/mine")]
pub struct Show {
    /// Directory of a search
    run: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Show {
    /// Prints it.
    ///
    /// # Errors
    /// Where the directory holds no run, or files of one that cannot be read.
    pub fn run(self) -> anyhow::Result<()> {
        let run = self.run.display();
        let settings = RunSettings::read(&self.run)?.with_context(|| format!("{run} is no run: it has no run.json"))?;
        let evaluations = self.run.join("evaluations.csv");
        let done = if evaluations.is_file() { Evaluations::read_csv(&evaluations)?.rows.len() } else { 0 };
        let path = self.run.join("front.json");
        let front = path.is_file().then(|| Front::read_json(&path)).transpose()?;
        let finished = front.is_some() && done >= settings.evals;
        if self.json {
            let tasks = settings.tasks.iter().map(|task| {
                json!({ "task": task.name, "search_items": task.search_items, "held_out_items": task.held_out_items })
            });
            let shown = json!({
                "run": self.run,
                "command": settings.command_line(),
                "model": settings.model,
                "mock": settings.is_mock(),
                "objectives": settings.objectives,
                "constraints": settings.constraints.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "tasks": tasks.collect::<Vec<_>>(),
                "evaluations": done,
                "evals": settings.evals,
                "seed": settings.seed,
                "device": settings.device,
                "versions": settings.versions,
                "finished": finished,
                "front": front,
            });
            println!("{shown:#}");
            return Ok(());
        }
        let scored = if settings.is_mock() { MADE_UP } else { "" };
        let versions: Vec<String> =
            settings.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        println!("command      {}", settings.command_line().as_deref().unwrap_or("not begun from a command line"));
        println!("model        {}{scored}", settings.model);
        println!("objectives   {}", settings.objectives.join(", "));
        settings.constraints.iter().for_each(|limit| println!("constraint   {limit}"));
        for task in &settings.tasks {
            println!(
                "task         {}: {} items searched, {} held out",
                task.name, task.search_items, task.held_out_items
            );
        }
        println!(
            "evaluations  {done} of {}, seed {}, {}, {}",
            settings.evals,
            settings.seed,
            settings.device,
            versions.join(", ")
        );
        if !finished {
            println!("\nnot finished; the same command goes on");
        }
        if let Some(front) = front {
            println!();
            print_front(&front);
        }
        Ok(())
    }
}
