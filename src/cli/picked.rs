//! A network of a finished run, and the model that it was cut from.

use std::path::Path;

use anyhow::{Context, bail};
use criadero::checkpoint::Checkpoint;
use criadero::run::{Front, Pick, RunSettings};
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
    let (id, genome) = chosen(run, pick)?;
    println!("network {id}: {genome}");
    Ok(genome)
}

/// `MODEL`, or `RUN#PICK` for a network of a finished run: the checkpoint and the network.
pub fn model_or_pick(text: &str) -> anyhow::Result<(Checkpoint, Genome)> {
    if let Some((run, pick)) = text.rsplit_once('#')
        && !Path::new(text).exists()
    {
        let run = Path::new(run);
        let Some(parent) = searched(run)? else { bail!("{} is no run", run.display()) };
        let (_, genome) = chosen(run, &pick.parse()?)?;
        return Ok((parent, genome));
    }
    let checkpoint = open_checkpoint(Path::new(text))?;
    let genome = checkpoint.config().genome.clone();
    Ok((checkpoint, genome))
}

fn chosen(run: &Path, pick: &Pick) -> anyhow::Result<(usize, Genome)> {
    let front = Front::read_json(&run.join("front.json"))?;
    let point = pick.choose(&front)?;
    Ok((point.id, point.genome.clone()))
}
