//! What several subcommands read of their arguments alike.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use criadero::Error;
use criadero::eval::Metric;
use criadero::run::Front;
use criadero::space::Genome;

use super::model::DataArgs;

/// The file of a space or task; of a shipped one there is none, whatever else has its name here.
pub fn file_of(name: &str) -> Option<&Path> {
    Some(Path::new(name)).filter(|path| path.is_file())
}

/// Genomes of a text file, one a line, or of a finished run's front.
pub fn read_genomes(path: &Path) -> anyhow::Result<Vec<Genome>> {
    if path.is_dir() {
        let front = Front::read_json(&path.join("front.json"))?;
        return Ok(front.points.into_iter().map(|point| point.genome).collect());
    }
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    lines
        .map(|(number, line)| line.parse().with_context(|| format!("{}, line {}", path.display(), number + 1)))
        .collect()
}

/// Objectives that score these tasks by what is smooth for each, as one mean for each metric.
pub fn smooth_objectives(data: &DataArgs, tasks: &[String]) -> criadero::Result<Vec<String>> {
    let mut objectives: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for task in tasks {
        let metric = Metric::smooth(data.task(task)?.scoring());
        objectives.entry(metric.name()).or_default().push(task);
    }
    Ok(objectives.into_iter().map(|(name, tasks)| format!("{name}:{}", tasks.join("+"))).collect())
}
