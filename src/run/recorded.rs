//! What a run has on record of its networks, item by item: no weights are loaded, nothing is scored.

use std::path::Path;

use super::journal::Known;
use super::prepare::Local;
use super::session::place_of;
use super::settings::{RunSettings, RunTask};
use crate::arithmetic::Arithmetic;
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::eval::{EvalSet, ItemScore};
use crate::space::Genome;
use crate::task::Split;

/// The scores of a run, and the items that they are of.
pub struct Recorded {
    sets: Vec<EvalSet>,
    known: Known,
    arithmetic: Arithmetic,
    tasks: Vec<RunTask>,
}

impl Recorded {
    /// Reads the journal of a run on `checkpoint`, whose tasks' data lies in `data`.
    ///
    /// # Errors
    /// Items that are not those of the run, and a journal that is damaged.
    pub fn open(dir: &Path, settings: &RunSettings, checkpoint: &Checkpoint, data: &Path) -> Result<Recorded> {
        let local = Local { data: data.to_path_buf(), ..Local::default() };
        let sets = local.sets_of(settings, checkpoint)?;
        let known = Known::read(&dir.join("chunks.log"), &sets)?;
        Ok(Recorded { sets, known, arithmetic: settings.frozen.arithmetic, tasks: settings.tasks.clone() })
    }

    /// The items of one side of a task, and every network's score of each, in float32 where the run has both.
    ///
    /// # Errors
    /// Tasks that the run does not have, and networks that it did not score on all of these items.
    pub fn scores(&self, task: &str, split: Split, genomes: &[Genome]) -> Result<(&EvalSet, Vec<Vec<ItemScore>>)> {
        let known = || self.tasks.iter().map(|task| task.name.as_str());
        let record = self.tasks.iter().find(|one| one.name == task);
        let record = record.ok_or_else(|| Error::unknown("task of the run", task, known()))?;
        let [search, held_out] = RunTask::set_names(task);
        let name = match (split, self.arithmetic) {
            (Split::HeldOut, _) => held_out,
            (Split::Search, Arithmetic::F32) => search,
            (Split::Search, _) => RunTask::float32_name(task),
        };
        let place = place_of(&self.sets, &name, record.digest(split))?;
        let set = &self.sets[place];
        let of = |genome: &Genome| {
            let scores = self.known.items(genome, place, set, set.chunks.len());
            scores.map_err(|reason| Error::invalid(format!("scores of {genome}"), reason, "one of each item"))
        };
        Ok((set, genomes.iter().map(of).collect::<Result<_>>()?))
    }
}
