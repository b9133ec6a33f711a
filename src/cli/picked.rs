//! A network of a finished run, and the model that it was cut from.

use std::path::Path;

use anyhow::{Context, bail};
use criadero::checkpoint::Checkpoint;
use criadero::search::Pick;
use criadero::search::record::Front;
use criadero::search::settings::RunSettings;
use criadero::space::Genome;

use super::model::open_checkpoint;

/// The model that a run searched, unchanged since; `None` where `from` is no run.
pub fn searched(from: &Path) -> anyhow::Result<Option<Checkpoint>> {
    let Some(settings) = RunSettings::read(from)? else { return Ok(None) };
    let parent = open_checkpoint(Path::new(&settings.model))
        .with_context(|| format!("the model that {} searched", from.display()))?;
    match parent.digest()? == settings.model_digest {
        true => Ok(Some(parent)),
        false => bail!("{} has changed since {} was searched on it", settings.model, from.display()),
    }
}

/// The network of a run's front that `pick` means, said aloud.
pub fn picked(run: &Path, pick: &Pick) -> anyhow::Result<Genome> {
    let front = Front::read_json(&run.join("front.json"))?;
    let point = pick.choose(&front)?;
    println!("network {}: {}", point.id, point.genome);
    Ok(point.genome.clone())
}
