//! `criadero tasks`: the shipped tasks, and whether their data are here.

use criadero::task::Task;
use serde_json::json;

use super::model::DataArgs;

/// List the shipped tasks: what each asks, and whether its data are here or where to get them
#[derive(clap::Args)]
pub struct Tasks {
    #[command(flatten)]
    data: DataArgs,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

impl Tasks {
    /// Prints the list.
    ///
    /// # Errors
    /// None but what a broken build would have.
    pub fn run(self) -> anyhow::Result<()> {
        let mut rows = Vec::new();
        for name in Task::shipped() {
            let task = self.data.task(name)?;
            let about = format!("{}; {}", task.file().description, task.scoring().about());
            rows.push((*name, about, task.data().err().map(|_| task.file().source.trim().to_string())));
        }
        if self.json {
            let rows: Vec<_> =
                rows.iter().map(|(name, about, source)| json!({ "task": name, "about": about, "ready": source.is_none(), "get": source })).collect();
            println!("{}", serde_json::to_string_pretty(&rows)?);
            return Ok(());
        }
        let width = rows.iter().map(|(name, ..)| name.len()).max().unwrap_or(0);
        for (name, about, source) in rows {
            let state = source.map_or("ready".to_string(), |source| format!("get it from {source}"));
            println!("{name:width$}  {about}\n{:width$}  {state}", "");
        }
        Ok(())
    }
}
