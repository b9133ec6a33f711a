//! `criadero show`: what a run is, how far it came, what it found.

use std::path::PathBuf;

use anyhow::Context;
use criadero::report::table::{Table, worth};
use criadero::run::{Evaluations, Front, RunSettings};

/// What is said behind scores that are made up.
pub const MADE_UP: &str = " (mock scores: no model was asked)";

/// Prints a front as a table, and what it is worth.
pub fn print_front(front: &Front) {
    print!("{}", Table::new(front).text());
    worth(front).iter().for_each(|line| println!("{line}"));
}

/// Show a run: the command that made it, how far it is, its front
#[derive(clap::Args)]
pub struct Show {
    /// Directory of a search
    run: PathBuf,
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
        let front = self.run.join("front.json");
        if !front.is_file() || done < settings.evals {
            println!("\nnot finished; the same command goes on");
        }
        if front.is_file() {
            println!();
            print_front(&Front::read_json(&front)?);
        }
        Ok(())
    }
}
