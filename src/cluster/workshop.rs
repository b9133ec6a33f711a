//! What a worker makes ready for a run: an evaluator whose scores are those of the run, to the bit.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::announcement::{Announcement, RunId};
use super::connection::Connection;
use super::numeric_class::NumericClass;
use super::stock::Stock;
use crate::error::{Error, Result};
use crate::eval::Evaluator;
use crate::run::{Experiment, Local, Prepared, RunSettings, cores, mock_evaluator};
use crate::versions::versions;

/// One evaluator, which does a task at a time.
pub type Bench = Box<dyn Evaluator + Send>;

/// Where benches are made.
pub trait Workshop: Send {
    /// What it computes on, for people.
    fn device(&self) -> String;

    /// How many benches a run gets at most.
    fn slots(&self, run: &Announcement) -> usize;

    /// One more bench for a run, and the class of its scores.
    ///
    /// # Errors
    /// Why its scores would not be the run's: other items, another model, another class of numbers.
    fn bench(&mut self, run: &Announcement) -> Result<(Bench, NumericClass)>;
}

/// Benches with a model on this machine.
pub struct LocalWorkshop {
    /// Directory of the tasks' data, devices, and memory for hidden states, of all benches.
    pub local: Local,
    /// The model, where it does not lie where the searcher has it.
    pub model: Option<PathBuf>,
    /// Where a model is fetched from that is not here, if it is.
    pub fetch: Option<Arc<Connection>>,
    /// Benches at a time; by default one a card, and on a CPU as many as its cores have of a run's threads.
    pub slots: Option<usize>,
    /// Looked at while networks are scored.
    pub stop: Arc<AtomicBool>,
    /// What a run was prepared for, and how many benches it has.
    pub ready: HashMap<RunId, (Prepared, usize)>,
}

/// Benches without a model, whose scores are made up.
pub struct MockWorkshop {
    /// Benches at a time.
    pub slots: usize,
    /// What each network on each chunk takes.
    pub delay: Duration,
    /// Looked at while networks are scored.
    pub stop: Arc<AtomicBool>,
    /// The machine that it says it is; by default the searcher's.
    pub machine: Option<String>,
}

impl LocalWorkshop {
    /// Where a run's model is: where this worker was told, where the searcher has it, or at the server.
    fn model(&self, run: &Announcement) -> Result<PathBuf> {
        if let Some(model) = &self.model {
            return Ok(model.clone());
        }
        match (&self.fetch, &run.model) {
            (Some(connection), Some(shared)) => Stock::open(connection)?.fetch(shared, &self.stop, &mut |_| ()),
            _ => Ok(PathBuf::from(&run.settings.model)),
        }
    }
}

impl Workshop for LocalWorkshop {
    fn device(&self) -> String {
        self.local.devices.clone()
    }

    fn slots(&self, run: &Announcement) -> usize {
        let cards = || self.local.devices.split(',').count();
        let of_cpu = || (cores() / run.settings.frozen.threads).max(1);
        self.slots.unwrap_or_else(|| if self.local.devices == "cpu" { of_cpu() } else { cards() })
    }

    fn bench(&mut self, run: &Announcement) -> Result<(Bench, NumericClass)> {
        if run.settings.is_mock() {
            let expected = "a run with a model; `criadero worker --evaluator mock` works for that one";
            return Err(Error::invalid("evaluator", "mock", expected));
        }
        if !self.ready.contains_key(&run.run) {
            // What a worker holds is one run's: models are large.
            self.ready.clear();
            let model = self.model(run)?;
            // Others of this machine may work beside: what loads takes no more threads than what computes.
            tch::set_num_threads((self.slots(run) * run.settings.frozen.threads).min(cores()) as i32);
            let prepared = self.local.prepare_for(&run.settings, &model, &self.stop)?;
            let machines = prepared.machines();
            if machines.len() > 1 {
                let found = machines.into_iter().collect::<Vec<_>>().join(" and ");
                return Err(Error::invalid("devices", found, "cards of one kind: start a worker for each kind"));
            }
            check(run, &prepared.settings(&run.settings))?;
            self.ready.insert(run.run.clone(), (prepared, 0));
        }
        let slots = self.slots(run);
        let (prepared, benches) = self.ready.get_mut(&run.run).expect("it was prepared");
        *benches += 1;
        let class = NumericClass::of(&prepared.settings(&run.settings));
        Ok((Box::new(prepared.bench(*benches - 1, slots)), class))
    }
}

impl Workshop for MockWorkshop {
    fn device(&self) -> String {
        "made-up scores".to_string()
    }

    fn slots(&self, _: &Announcement) -> usize {
        self.slots
    }

    fn bench(&mut self, run: &Announcement) -> Result<(Bench, NumericClass)> {
        if !run.settings.is_mock() {
            let expected = "a mock run; without --evaluator mock this works for runs with a model";
            return Err(Error::invalid("evaluator", &run.settings.evaluator, expected));
        }
        let (experiment, items) = (Experiment::of(&run.settings), run.settings.selected());
        let (evaluator, tasks) = mock_evaluator(&experiment, items, self.delay, self.stop.clone())?;
        let mut here = RunSettings { versions: versions(), tasks, ..run.settings.clone() };
        here.frozen.machine = self.machine.clone().unwrap_or(here.frozen.machine);
        check(run, &here)?;
        Ok((Box::new(evaluator), NumericClass::of(&here)))
    }
}

fn check(run: &Announcement, here: &RunSettings) -> Result<()> {
    let problems = run.refusal(here);
    match problems.is_empty() {
        true => Ok(()),
        false => Err(Error::Invalid {
            what: format!("run {}", run.run),
            found: problems.join("; "),
            expected: "the same on both sides".to_string(),
        }),
    }
}
