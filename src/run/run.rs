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
use crate::space::{Genome, check_genome};

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
        let RunSettings { tasks, frozen, evals, .. } = &self.settings;
        let mut session = Session::open(&self.dir, tasks, frozen.arithmetic, *evals, evaluator, on_progress)?;
        let (stored, note) = State::read(&self.dir, &self.settings)?;
        note.into_iter().for_each(|note| session.tell(Progress::Note(note)));
        let mut state = match stored {
            Some(state)
                if self.is_of(&state, &mut session)
                    && state.restore(algorithm, &self.goals, self.settings.evals)? =>
            {
                state
            }
            Some(_) => {
                let path = State::path(&self.dir);
                let note = format!("{}: not what chunks.log says; the run is replayed from that", path.display());
                session.tell(Progress::Note(note));
                State::new(algorithm)
            }
            None => State::new(algorithm),
        };
        if !state.evaluations.is_empty() || !session.is_fresh() {
            session.tell(Progress::Resumed { evaluations: state.evaluations.len() });
        }
        self.write_tables(&state, algorithm)?;
        self.forecast(&state, &mut session);
        while state.evaluations.len() < self.settings.evals {
            let start = Instant::now();
            let mut genomes = algorithm.ask();
            genomes.truncate(self.settings.evals - state.evaluations.len());
            if genomes.is_empty() {
                break;
            }
            self.check_asked(&genomes)?;
            session.forecast().population(genomes.len());
            let rows = self.evaluate(&mut session, &state.evaluations, state.populations, &genomes)?;
            let told: Vec<Told> = rows.iter().map(|row| self.goals.told(row)).collect();
            algorithm.tell(&genomes, &told);
            state.keep(algorithm);
            state.evaluations.extend(rows);
            state.populations += 1;
            session.sync()?;
            self.write_tables(&state, algorithm)?;
            state.write(&self.dir)?;
            timings::append(&self.dir, state.populations - 1, genomes.len(), start.elapsed())?;
            self.forecast(&state, &mut session);
            session.tell(Progress::Population { evaluations: state.evaluations.len(), of: self.settings.evals });
        }
        Finish { dir: &self.dir, settings: &self.settings, goals: &self.goals }.front(&state, &mut session)
    }

    /// What the rest of the run is expected to take, after the last population.
    fn forecast(&self, state: &State, session: &mut Session) {
        let rows = &state.evaluations;
        let last = rows.last().map_or(0, |last| last.population);
        let of_last: Vec<f64> =
            rows.iter().filter(|row| row.population == last).map(|row| self.goals.share(row)).collect();
        let share = of_last.iter().sum::<f64>() / of_last.len().max(1) as f64;
        session.forecast().over(rows.len(), share, self.goals.front(rows).len());
    }

    /// Whether the journal makes the rows of a state of their networks.
    fn is_of(&self, state: &State, session: &mut Session) -> bool {
        let rows = |session: &mut Session| {
            let mut before = 0;
            for (population, rows) in state.by_population().enumerate() {
                let genomes: Vec<Genome> = rows.iter().map(|row| row.genome.clone()).collect();
                if self.evaluate(session, &state.evaluations[..before], population, &genomes)? != rows {
                    return Ok(false);
                }
                before += rows.len();
            }
            Ok(true)
        };
        session.with_journal_alone(rows).unwrap_or(false)
    }

    /// Refuses networks that no model of the run's shape has.
    fn check_asked(&self, genomes: &[Genome]) -> Result<()> {
        let shape = self.settings.space.shape();
        genomes.iter().try_for_each(|genome| check_genome(shape, &shape.parent(), genome))
    }

    /// Scores a population, each network as far as it races, and makes its rows; `before` are those of earlier ones.
    fn evaluate(
        &self,
        session: &mut Session,
        before: &[Evaluation],
        population: usize,
        genomes: &[Genome],
    ) -> Result<Vec<Evaluation>> {
        let dropped = Race::new(&self.settings, &self.goals, before)?.run(session, genomes)?;
        let scores = Scores { settings: &self.settings, goals: &self.goals, session };
        let row = |(place, genome)| scores.row(before.len() + place, population, genome, &dropped);
        genomes.iter().enumerate().map(row).collect()
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
