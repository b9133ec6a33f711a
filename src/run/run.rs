//! A search run: asks an algorithm, measures with an evaluator, keeps everything in its directory.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::evaluations::{Evaluation, Evaluations};
use super::front::{Column, Front};
use super::journal::Journal;
use super::predictions;
use super::settings::{RunSettings, RunTask};
use crate::atomic_file;
use crate::error::{Error, Result};
use crate::eval::{EvalSet, Evaluator, Objective};
use crate::search::{Algorithm, AlgorithmState, Told};
use crate::space::Constraint;

/// What `state.json` holds between populations.
#[derive(Serialize, Deserialize)]
pub(super) struct State {
    algorithm: AlgorithmState,
    pub(super) evaluations: Vec<Evaluation>,
    pub(super) populations: usize,
}

/// Something worth telling the user.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Progress {
    /// The run goes on with this many networks already measured.
    Resumed {
        /// Networks.
        evaluations: usize,
    },
    /// A partial score is on disk.
    Scored {
        /// Partial scores of this stage of the race that are known.
        done: usize,
        /// Partial scores that this stage needs.
        total: usize,
    },
    /// A population is measured.
    Population {
        /// Networks measured so far.
        evaluations: usize,
        /// Networks to measure in all.
        of: usize,
    },
    /// The search is over; the front is being measured on held-out items.
    HeldOut {
        /// Networks of the front, the parent included.
        networks: usize,
    },
}

/// A run in its directory.
pub struct Run {
    pub(super) dir: PathBuf,
    pub(super) settings: RunSettings,
    pub(super) objectives: Vec<Objective>,
    pub(super) limits: Vec<(Objective, Constraint)>,
}

impl Run {
    /// Creates the directory with `run.json`, or opens it when it holds the same run. Every file that the run
    /// will write is created here, so that a directory that cannot be written fails now.
    ///
    /// # Errors
    /// [`Error::OtherRun`] with every difference when the directory holds another run.
    pub fn open(dir: &Path, settings: RunSettings) -> Result<Run> {
        let objectives: Vec<Objective> =
            settings.objectives.iter().map(|text| Objective::parse(text)).collect::<Result<_>>()?;
        if objectives.len() < 2 {
            return Err(Error::invalid("objectives", objectives.len(), "two or more"));
        }
        let limits = settings
            .constraints
            .iter()
            .map(|limit| Ok((Objective::parse(&limit.objective)?, limit.clone())))
            .collect::<Result<_>>()?;
        std::fs::create_dir_all(dir).map_err(Error::io(dir))?;
        match RunSettings::read(dir)? {
            Some(there) => {
                let differences = there.differences(&settings);
                if !differences.is_empty() {
                    return Err(Error::OtherRun { dir: dir.to_path_buf(), differences });
                }
            }
            None => {
                let foreign: Vec<String> = ["chunks.log", "evaluations.csv", "state.json"]
                    .into_iter()
                    .filter(|name| dir.join(name).exists())
                    .map(|name| format!("{name} is there without run.json"))
                    .collect();
                if !foreign.is_empty() {
                    return Err(Error::OtherRun { dir: dir.to_path_buf(), differences: foreign });
                }
                let json = serde_json::to_string_pretty(&settings).expect("settings are plain data");
                atomic_file::write(&dir.join("run.json"), json + "\n")?;
            }
        }
        Ok(Run { dir: dir.to_path_buf(), settings, objectives, limits })
    }

    /// Searches to the end and measures the front on held-out items. `algorithm` is used when there is no
    /// state to go on with.
    ///
    /// # Errors
    /// [`Error::Interrupted`] when the user stopped the evaluator; the same call again goes on.
    pub fn search(
        &self,
        mut algorithm: Box<dyn Algorithm>,
        evaluator: &mut dyn Evaluator,
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<Front> {
        self.check_sets(evaluator.sets())?;
        let mut journal = Journal::open(&self.dir.join("chunks.log"), evaluator.sets())?;
        let mut state = match self.read_state()? {
            Some(state) => {
                algorithm = state.algorithm.clone().resume(&self.settings.space, &self.settings.closed_form()?)?;
                state
            }
            None => State { algorithm: algorithm.state(), evaluations: Vec::new(), populations: 0 },
        };
        if !state.evaluations.is_empty() || !journal.is_empty() {
            on_progress(Progress::Resumed { evaluations: state.evaluations.len() });
        }
        self.write_evaluations(&state)?;
        self.write_predictions(&*algorithm)?;
        while state.evaluations.len() < self.settings.evals {
            let start = Instant::now();
            let mut genomes = algorithm.ask();
            genomes.truncate(self.settings.evals - state.evaluations.len());
            if genomes.is_empty() {
                break;
            }
            let rows = self.evaluate(evaluator, &mut journal, &state, &genomes, on_progress)?;
            let told: Vec<Told> = rows.iter().map(|row| self.told(row)).collect();
            algorithm.tell(&genomes, &told);
            state.algorithm = algorithm.state();
            state.evaluations.extend(rows);
            state.populations += 1;
            journal.sync()?;
            self.write_evaluations(&state)?;
            self.write_predictions(&*algorithm)?;
            let json = serde_json::to_string(&state).expect("state is plain data");
            atomic_file::write(&self.dir.join("state.json"), json)?;
            self.log_time(state.populations - 1, genomes.len(), start)?;
            on_progress(Progress::Population { evaluations: state.evaluations.len(), of: self.settings.evals });
        }
        self.front(&state, evaluator, &mut journal, on_progress)
    }

    pub(super) fn check_sets(&self, sets: &[EvalSet]) -> Result<()> {
        for task in &self.settings.tasks {
            for (split, digest) in [("search", &task.search_digest), ("held_out", &task.held_out_digest)] {
                let name = format!("{}/{split}", task.name);
                let found = sets.iter().find(|set| set.name == name).map(|set| &set.digest);
                if found != Some(digest) {
                    let found = found.map_or("no such eval set".to_string(), Clone::clone);
                    return Err(Error::invalid(format!("eval set `{name}`"), found, format!("digest {digest}")));
                }
            }
        }
        Ok(())
    }

    fn read_state(&self) -> Result<Option<State>> {
        let path = self.dir.join("state.json");
        match std::fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).map(Some).map_err(|error| {
                Error::format(&path, "state.json", format!("{error}; remove it to replay chunks.log"))
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(&path)(error)),
        }
    }

    /// Places of all tasks' eval sets of one split, in task order.
    pub(super) fn sets_of(&self, sets: &[EvalSet], split: &str) -> Vec<usize> {
        let place = |task: &RunTask| {
            let name = format!("{}/{split}", task.name);
            sets.iter().position(|set| set.name == name).expect("checked before the search began")
        };
        self.settings.tasks.iter().map(place).collect()
    }

    fn told(&self, row: &Evaluation) -> Told {
        Told { objectives: row.failed.is_none().then(|| self.losses(row)), violation: row.violation }
    }

    /// A network's objectives as smaller-is-better.
    pub(super) fn losses(&self, row: &Evaluation) -> Vec<f64> {
        row.objectives.iter().zip(self.columns()).map(|(&value, column)| column.loss(value)).collect()
    }

    /// A task's place in the run's list.
    pub(super) fn task_place(&self, name: &str) -> usize {
        let place = self.settings.tasks.iter().position(|known| known.name == name);
        place.expect("every objective's task is a task of the run")
    }

    pub(super) fn columns(&self) -> Vec<Column> {
        let column = |objective: &Objective| Column {
            name: objective.to_string(),
            unit: objective.unit().to_string(),
            maximize: objective.maximize(),
        };
        self.objectives.iter().map(column).collect()
    }

    fn write_evaluations(&self, state: &State) -> Result<()> {
        let evaluations = Evaluations {
            objectives: self.settings.objectives.clone(),
            tasks: self.settings.tasks.iter().map(|task| task.name.clone()).collect(),
            rows: state.evaluations.clone(),
        };
        evaluations.write_csv(&self.dir.join("evaluations.csv"))
    }

    /// Writes `predictors.csv`, for algorithms that predict.
    fn write_predictions(&self, algorithm: &dyn Algorithm) -> Result<()> {
        match algorithm.predictions() {
            [] => Ok(()),
            rows => predictions::write(rows, &self.settings.objectives, &self.dir.join("predictors.csv")),
        }
    }

    /// Times never go where bytes must repeat.
    pub(super) fn log_time(&self, population: usize, networks: usize, start: Instant) -> Result<()> {
        let path = self.dir.join("timings.csv");
        let fresh = !path.exists();
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(&path).map_err(Error::io(&path))?;
        let header = if fresh { "population,networks,seconds\n" } else { "" };
        let row = format!("{header}{population},{networks},{:.3}\n", start.elapsed().as_secs_f64());
        file.write_all(row.as_bytes()).map_err(Error::io(&path))
    }
}
