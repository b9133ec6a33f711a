//! A search run: asks an algorithm, measures with an evaluator, keeps everything in its directory.

use std::path::PathBuf;
use std::time::Instant;

use super::evaluations::{Evaluation, Evaluations};
use super::finish::Finish;
use super::front::Front;
use super::goals::Goals;
use super::predictions;
use super::progress::Progress;
use super::race::Race;
use super::scoring::Scores;
use super::session::Session;
use super::settings::RunSettings;
use super::state::State;
use super::timings;
use crate::error::{Error, Result};
use crate::eval::Evaluator;
use crate::output::HeldDirectory;
use crate::search::{Algorithm, Told};
use crate::space::Genome;

/// A run in its directory.
pub struct Run {
    dir: PathBuf,
    settings: RunSettings,
    goals: Goals,
}

impl Run {
    /// Begins a run in a directory with `run.json`, or opens it when it holds the same run, or one of fewer evaluations, which is extended.
    ///
    /// # Errors
    /// [`Error::OtherRun`] with every difference when the directory holds another run.
    pub fn open(held: &HeldDirectory, settings: RunSettings) -> Result<Run> {
        let (dir, goals) = (held.path(), Goals::of(&settings)?);
        match RunSettings::read(dir)? {
            Some(there) => {
                let extended = settings.evals > there.evals;
                let asked = RunSettings { evals: if extended { settings.evals } else { there.evals }, ..there };
                let differences = asked.differences(&settings);
                if !differences.is_empty() {
                    return Err(Error::OtherRun { dir: dir.to_path_buf(), differences });
                }
                if extended {
                    // The last population may have been cut short: replayed from the journal it is whole, as if all had been asked at once.
                    State::remove(dir)?;
                    settings.write(dir)?;
                }
            }
            None => settings.write(dir)?,
        }
        Ok(Run { dir: dir.to_path_buf(), settings, goals })
    }

    /// Searches to the end and measures the front on held-out items. `algorithm` is at
    /// its beginning; where the directory has a state of it, it is brought to that first.
    ///
    /// # Errors
    /// [`Error::Interrupted`] when the user stopped the evaluator; the same call again goes on.
    pub fn search(
        &self,
        algorithm: &mut dyn Algorithm,
        evaluator: &mut dyn Evaluator,
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<Front> {
        let mut session =
            Session::open(&self.dir, &self.settings.tasks, self.settings.frozen.arithmetic, evaluator, on_progress)?;
        let (stored, note) = State::read(&self.dir, &self.settings)?;
        note.into_iter().for_each(|note| session.tell(Progress::Note(note)));
        let mut state = match stored {
            Some(state) => {
                state.restore(algorithm)?;
                state
            }
            None => State::new(algorithm),
        };
        if !state.evaluations.is_empty() || !session.is_fresh() {
            session.tell(Progress::Resumed { evaluations: state.evaluations.len() });
        }
        self.write_tables(&state, algorithm)?;
        while state.evaluations.len() < self.settings.evals {
            let start = Instant::now();
            let mut genomes = algorithm.ask();
            genomes.truncate(self.settings.evals - state.evaluations.len());
            if genomes.is_empty() {
                break;
            }
            let rows = self.evaluate(&mut session, &state, &genomes)?;
            let told: Vec<Told> = rows.iter().map(|row| self.told(row)).collect();
            algorithm.tell(&genomes, &told);
            state.keep(algorithm);
            state.evaluations.extend(rows);
            state.populations += 1;
            session.sync()?;
            self.write_tables(&state, algorithm)?;
            state.write(&self.dir)?;
            timings::append(&self.dir, state.populations - 1, genomes.len(), start.elapsed())?;
            session.tell(Progress::Population { evaluations: state.evaluations.len(), of: self.settings.evals });
        }
        Finish { dir: &self.dir, settings: &self.settings, goals: &self.goals }.front(&state, &mut session)
    }

    /// Scores a population, each network as far as it races, and makes its rows.
    fn evaluate(&self, session: &mut Session, state: &State, genomes: &[Genome]) -> Result<Vec<Evaluation>> {
        let dropped = Race::new(&self.settings, &self.goals, &state.evaluations)?.run(session, genomes)?;
        let scores = Scores { settings: &self.settings, goals: &self.goals, session };
        let row = |(place, genome)| scores.row(state.evaluations.len() + place, state.populations, genome, &dropped);
        genomes.iter().enumerate().map(row).collect()
    }

    fn told(&self, row: &Evaluation) -> Told {
        let objectives = row.failed.is_none().then(|| self.goals.losses(&row.objectives));
        Told { objectives, violation: row.violation }
    }

    /// Writes `evaluations.csv`, and `predictors.csv` for algorithms that predict.
    fn write_tables(&self, state: &State, algorithm: &dyn Algorithm) -> Result<()> {
        let evaluations = Evaluations {
            objectives: self.settings.objectives.clone(),
            tasks: self.settings.tasks.iter().map(|task| task.name.clone()).collect(),
            rows: state.evaluations.clone(),
        };
        evaluations.write_csv(&self.dir.join("evaluations.csv"))?;
        match algorithm.predictions() {
            [] => Ok(()),
            rows => predictions::write(rows, &self.settings.objectives, &self.dir.join("predictors.csv")),
        }
    }
}
