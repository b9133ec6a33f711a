//! A run under way: who scores, what is scored already, and who is told.

use std::path::Path;
use std::sync::Arc;

use super::forecast::{FLOAT32_WORK, Forecast};
use super::journal::Journal;
use super::progress::Progress;
use super::settings::RunTask;
use crate::arithmetic::Arithmetic;
use crate::error::{Error, Result};
use crate::eval::{ChunkId, EvalSet, Evaluator, ItemScore, Work};
use crate::space::Genome;
use crate::task::Split;

/// An eval set and how many of its chunks, from the first on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Part {
    pub set: usize,
    pub chunks: usize,
}

/// An evaluator, the journal of its partial scores, and the listener.
pub(super) struct Session<'a> {
    evaluator: &'a mut dyn Evaluator,
    sets: Arc<Vec<EvalSet>>,
    /// Of each task the places of its two eval sets.
    places: Vec<[usize; 2]>,
    /// Of each task the place of its search split in float32, where the search itself is in another arithmetic.
    float32: Option<Vec<usize>>,
    journal: Journal,
    forecast: Forecast,
    /// Whether what the journal does not hold may be scored now.
    may_score: bool,
    on_progress: &'a mut dyn FnMut(Progress),
}

impl<'a> Session<'a> {
    /// Opens the journal of a directory for an evaluator whose eval sets are those of the run, which searches so many networks in this
    /// arithmetic.
    ///
    /// # Errors
    /// `Invalid` where an eval set is another, and what [`Journal::open`] refuses.
    pub(super) fn open(
        dir: &Path,
        tasks: &[RunTask],
        arithmetic: Arithmetic,
        evals: usize,
        evaluator: &'a mut dyn Evaluator,
        on_progress: &'a mut dyn FnMut(Progress),
    ) -> Result<Session<'a>> {
        let sets = evaluator.sets().clone();
        let place = |name: String, digest: &str| place_of(&sets, &name, digest);
        let places = |task: &RunTask| {
            let [search, held_out] = RunTask::set_names(&task.name);
            Ok([place(search, task.digest(Split::Search))?, place(held_out, task.digest(Split::HeldOut))?])
        };
        let places = tasks.iter().map(places).collect::<Result<_>>()?;
        let exact = |task: &RunTask| place(RunTask::float32_name(&task.name), task.digest(Split::Search));
        let float32 = match arithmetic {
            Arithmetic::F32 => None,
            _ => Some(tasks.iter().map(exact).collect::<Result<_>>()?),
        };
        let journal = Journal::open(&dir.join("chunks.log"), &sets)?;
        let forecast = Forecast::new(evals, 0.0, 0.0);
        let session = Session { evaluator, sets, places, float32, journal, forecast, may_score: true, on_progress };
        let searched = session.work(&session.parts(Split::Search));
        let measured =
            session.work(&session.parts(Split::HeldOut)) + session.work(&session.float32_parts().unwrap_or_default());
        Ok(Session { forecast: Forecast::new(evals, searched, measured), ..session })
    }

    /// An eval set by its place.
    pub(super) fn set(&self, place: usize) -> &EvalSet {
        &self.sets[place]
    }

    fn whole(&self, set: usize) -> Part {
        Part { set, chunks: self.sets[set].chunks.len() }
    }

    /// All of a split, one part a task.
    pub(super) fn parts(&self, split: Split) -> Vec<Part> {
        self.places.iter().map(|places| self.whole(places[split as usize])).collect()
    }

    /// All of the search split in float32, one part a task, where the search itself is in another arithmetic.
    pub(super) fn float32_parts(&self) -> Option<Vec<Part>> {
        self.float32.as_ref().map(|places| places.iter().map(|&set| self.whole(set)).collect())
    }

    /// What a network takes on these parts.
    fn work(&self, parts: &[Part]) -> f64 {
        parts.iter().map(|part| part.chunks as f64 * self.work_of(part.set)).sum()
    }

    /// What a network takes on a chunk of this set.
    fn work_of(&self, set: usize) -> f64 {
        if self.sets[set].float32 { FLOAT32_WORK } else { 1.0 }
    }

    /// How far the run is.
    pub(super) fn forecast(&mut self) -> &mut Forecast {
        &mut self.forecast
    }

    /// Whether nothing was scored yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.journal.is_empty()
    }

    /// Tells the listener.
    pub(super) fn tell(&mut self, progress: Progress) {
        (self.on_progress)(progress);
    }

    /// Hands everything scored so far to the disk.
    pub(super) fn sync(&self) -> Result<()> {
        self.journal.sync()
    }

    /// What `look` finds where nothing may be scored: whatever the journal does not hold is an error.
    pub(super) fn with_journal_alone<T>(&mut self, look: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.may_score = false;
        let found = look(self);
        self.may_score = true;
        found
    }

    /// Scores what the journal does not hold yet.
    pub(super) fn score(&mut self, parts: &[Part], genomes: &[Genome]) -> Result<()> {
        let (mut missing, mut missing_work) = (0, 0.0);
        let mut work = Vec::new();
        for part in parts {
            for chunk in 0..part.chunks {
                let chunk = ChunkId { set: part.set, chunk };
                let unknown: Vec<Genome> = genomes
                    .iter()
                    .filter(|genome| self.journal.known().outcome(chunk, genome).is_none())
                    .cloned()
                    .collect();
                missing += unknown.len();
                missing_work += unknown.len() as f64 * self.work_of(part.set);
                if !unknown.is_empty() {
                    work.push(Work { chunk, genomes: unknown });
                }
            }
        }
        if !self.may_score {
            let found = format!("{missing} scores that are missing");
            return if missing > 0 { Err(Error::invalid("chunks.log", found, "all of them")) } else { Ok(()) };
        }
        self.forecast.stage(genomes.len(), self.work(parts), missing_work);
        if work.is_empty() {
            return Ok(());
        }
        self.tell(Progress::Scored(self.forecast.headway()));
        let of_sets: Vec<f64> = (0..self.sets.len()).map(|set| self.work_of(set)).collect();
        let Session { evaluator, sets, journal, forecast, on_progress, .. } = self;
        evaluator.evaluate(work, &mut |partial| {
            forecast.scored(of_sets[partial.chunk.set]);
            journal.append(sets, partial)?;
            on_progress(Progress::Scored(forecast.headway()));
            Ok(())
        })
    }

    /// The items' scores of a network, or why it has none.
    pub(super) fn items(&self, genome: &Genome, part: Part) -> Result<Vec<ItemScore>, String> {
        self.journal.known().items(genome, part.set, self.set(part.set), part.chunks)
    }
}

/// The place of the eval set of this name, which must have this digest.
pub(super) fn place_of(sets: &[EvalSet], name: &str, digest: &str) -> Result<usize> {
    match sets.iter().position(|set| set.name == name) {
        Some(place) if sets[place].digest == digest => Ok(place),
        other => {
            let found = other.map_or("no such eval set".to_string(), |place| sets[place].digest.clone());
            Err(Error::invalid(format!("eval set `{name}`"), found, format!("digest {digest}")))
        }
    }
}
