//! A network of a finished run, and the model that it was cut from.

use std::path::{Path, PathBuf};

use super::{model, said};
use anyhow::bail;
use criadero::checkpoint::Checkpoint;
use criadero::run::{Front, Pick, RunSettings, searched_model};
use criadero::space::Genome;

/// Where the model of a run is by now.
#[derive(Clone, clap::Args)]
pub struct MovedArgs {
    /// The model that the run searched, where it no longer lies where it was; its digest is checked
    #[arg(long, value_name = "MODEL")]
    model: Option<PathBuf>,
}

impl MovedArgs {
    /// The model that a run searched; `None` where `run` is none.
    pub fn parent_of(&self, run: &Path) -> anyhow::Result<Option<Checkpoint>> {
        let parent = searched_model(run, self.path())?;
        if parent.is_none() && self.model.is_some() {
            bail!("{} is no run; --model says where the model of a run lies", run.display());
        }
        Ok(parent)
    }

    /// As it was given.
    pub fn path(&self) -> Option<&Path> {
        self.model.as_deref()
    }
}

/// The network of a run's front that `pick` means, said aloud: beside the result, where that is one JSON object.
pub fn picked(run: &Path, pick: &Pick, json: bool) -> anyhow::Result<Genome> {
    let (id, genome) = chosen(run, pick)?;
    said::along(json, format_args!("network {id}: {genome}"));
    Ok(genome)
}

/// The first task of a run; nothing for what is none.
pub fn first_task(run: &Path) -> anyhow::Result<Option<String>> {
    Ok(RunSettings::read(run)?.and_then(|settings| Some(settings.tasks.into_iter().next()?.name)))
}

/// `MODEL`, or `RUN#PICK` for a network of a finished run: the checkpoint and the network.
pub fn model_or_pick(text: &str, moved: &MovedArgs) -> anyhow::Result<(Checkpoint, Genome)> {
    if let Some((run, pick)) = text.rsplit_once('#')
        && !Path::new(text).exists()
    {
        let run = Path::new(run);
        let Some(parent) = moved.parent_of(run)? else { bail!("{} is no run", run.display()) };
        let (_, genome) = chosen(run, &pick.parse()?)?;
        return Ok((parent, genome));
    }
    if moved.path().is_some() {
        bail!("--model says where the model of a RUN#ID lies; {text} is none");
    }
    let checkpoint = model::open(Path::new(text))?;
    let genome = checkpoint.config().genome.clone();
    Ok((checkpoint, genome))
}

/// The network that `RUN#PICK` means; the model that it was cut from is not looked at.
pub fn network_of(text: &str) -> anyhow::Result<Genome> {
    let Some((run, pick)) = text.rsplit_once('#') else {
        bail!("found `{text}`, expected RUN#PICK, such as results/mine#knee")
    };
    Ok(chosen(Path::new(run), &pick.parse()?)?.1)
}

fn chosen(run: &Path, pick: &Pick) -> anyhow::Result<(usize, Genome)> {
    let front = Front::read_json(&run.join("front.json"))?;
    let point = pick.choose(&front)?;
    Ok((point.id, point.genome.clone()))
}
