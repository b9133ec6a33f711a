//! A network of a finished run, and the model that it was cut from.

use std::path::Path;

use super::model;
use anyhow::bail;
use criadero::checkpoint::Checkpoint;
use criadero::run::{Front, Pick, searched_model};
use criadero::space::Genome;

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
        let Some(parent) = searched_model(run)? else { bail!("{} is no run", run.display()) };
        let (_, genome) = chosen(run, &pick.parse()?)?;
        return Ok((parent, genome));
    }
    let checkpoint = model::open(Path::new(text))?;
    let genome = checkpoint.config().genome.clone();
    Ok((checkpoint, genome))
}

fn chosen(run: &Path, pick: &Pick) -> anyhow::Result<(usize, Genome)> {
    let front = Front::read_json(&run.join("front.json"))?;
    let point = pick.choose(&front)?;
    Ok((point.id, point.genome.clone()))
}
