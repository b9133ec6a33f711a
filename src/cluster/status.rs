//! Who works, and how it goes: what workers say every two seconds.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::string_slice, clippy::cast_possible_truncation, clippy::cast_sign_loss)
)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use super::announcement::{PROTOCOL, RunId};
use super::connection::Connection;
use super::numeric_class::{ClassId, NumericClass};
use crate::error::Result;
use crate::eval::ChunkId;

/// How often a worker speaks.
pub(super) const EVERY: Duration = Duration::from_secs(2);
/// Who has not spoken for so long is gone.
const SILENCE: Duration = Duration::from_secs(7);
/// Bytes of a status, and workers of a roster, at most.
const LARGEST: usize = 64 << 10;
const MOST: usize = 1 << 16;

/// What a worker is doing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The version of what is said.
    pub protocol: u32,
    /// Its name.
    pub name: String,
    /// The device that it computes on, or what its scores are made of.
    pub device: String,
    /// Tasks that it does at a time.
    pub slots: usize,
    /// What it does at the moment.
    pub busy: Vec<Busy>,
    /// Tasks done so far.
    pub tasks: u64,
    /// Scores of a network on a chunk so far.
    pub scores: u64,
    /// Tokens of the chunks of these scores.
    pub tokens: u64,
    /// Seconds in which it computed, of all slots.
    pub seconds: f64,
    /// Runs that it works for, and the class of its scores.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub classes: BTreeMap<String, NumericClass>,
    /// Runs that it does not work for, and why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub refused: BTreeMap<String, String>,
    /// Whether it goes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaving: bool,
}

/// A task under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Busy {
    /// The run.
    pub run: RunId,
    /// The chunk.
    pub chunk: ChunkId,
    /// The networks of the task.
    pub networks: usize,
    /// Seconds since it began.
    pub seconds: f64,
}

impl Status {
    /// Reads what a worker said; nothing where it is none of this version.
    pub fn read(bytes: &[u8]) -> Option<Status> {
        let short = Some(bytes).filter(|bytes| bytes.len() <= LARGEST)?;
        serde_json::from_slice(short).ok().filter(|status: &Status| status.protocol == PROTOCOL)
    }

    /// Seconds since the oldest task under way began; 0 without one.
    pub fn longest(&self) -> f64 {
        self.busy.iter().map(|busy| busy.seconds).fold(0.0, f64::max)
    }

    /// Tokens times networks a second while it computed.
    pub fn tokens_per_second(&self) -> Option<f64> {
        (self.seconds > 0.0).then(|| self.tokens as f64 / self.seconds)
    }
}

/// Workers of a run whose scores are of one class.
#[derive(Clone, Debug, PartialEq)]
pub struct Crew {
    /// The class.
    pub class: NumericClass,
    /// Tasks that they do at a time, and those that they do now.
    pub slots: usize,
    pub(super) busy: usize,
    /// Tokens times networks a second, of all slots; `None` where none of them has computed yet.
    pub tokens_per_second: Option<f64>,
}

/// Who spoke lately.
#[derive(Debug, Default)]
pub struct Roster {
    workers: BTreeMap<String, (Status, Instant)>,
}

impl Roster {
    /// A worker spoke.
    pub fn hear(&mut self, status: Status) {
        if status.leaving {
            self.workers.remove(&status.name);
        } else if self.workers.len() < MOST || self.workers.contains_key(&status.name) {
            self.workers.insert(status.name.clone(), (status, Instant::now()));
        }
    }

    /// Those that are there, by name.
    pub fn there(&mut self) -> impl Iterator<Item = &Status> {
        self.workers.retain(|_, (_, heard)| heard.elapsed() < SILENCE);
        self.workers.values().map(|(status, _)| status)
    }

    /// Tasks that the workers of a run do at a time, and those who refuse it with their reasons.
    pub fn of_run(&mut self, run: &RunId) -> (usize, Vec<(String, String)>) {
        let run = run.to_string();
        let (mut slots, mut refusals) = (0, Vec::new());
        for status in self.there() {
            match status.refused.get(&run) {
                Some(why) => refusals.push((status.name.clone(), why.clone())),
                None => slots += status.slots,
            }
        }
        (slots, refusals)
    }

    /// The workers of a run by class, and how many have not said yet of which they are.
    pub fn crews(&mut self, run: &RunId) -> (BTreeMap<ClassId, Crew>, usize) {
        let run = run.to_string();
        let mut by_class: BTreeMap<ClassId, Vec<&Status>> = BTreeMap::new();
        let mut silent = 0;
        for status in self.there().filter(|status| !status.refused.contains_key(&run)) {
            match status.classes.get(&run) {
                Some(class) => by_class.entry(class.id()).or_default().push(status),
                None => silent += 1,
            }
        }
        let crew = |(id, members): (ClassId, Vec<&Status>)| {
            let class = members.first()?.classes.get(&run)?.clone();
            let slots = members.iter().map(|status| status.slots).sum();
            let of_slot = Status {
                tokens: members.iter().map(|status| status.tokens).sum(),
                seconds: members.iter().map(|status| status.seconds).sum(),
                ..Status::default()
            };
            let tokens_per_second = of_slot.tokens_per_second().map(|rate| rate * slots as f64);
            let busy = members.iter().map(|status| status.busy.len()).sum();
            Some((id, Crew { class, slots, busy, tokens_per_second }))
        };
        (by_class.into_iter().filter_map(crew).collect(), silent)
    }
}

/// A roster that hears.
pub(super) struct Listening {
    roster: Arc<Mutex<Roster>>,
    task: JoinHandle<()>,
}

impl Listening {
    /// Hears what workers of a server say.
    pub(super) fn begin(connection: &Connection) -> Result<Listening> {
        let subscribed = connection.wait(connection.client.subscribe(connection.names.worker("*")));
        let mut statuses = subscribed.map_err(|error| connection.failed("statuses of workers", error))?;
        let roster: Arc<Mutex<Roster>> = Arc::default();
        let hears = roster.clone();
        let task = connection.beside(async move {
            while let Some(message) = statuses.next().await {
                if let Some(status) = Status::read(&message.payload) {
                    hears.lock().unwrap_or_else(PoisonError::into_inner).hear(status);
                }
            }
        });
        Ok(Listening { roster, task })
    }

    /// Looks at it.
    pub(super) fn look<T>(&self, look: impl FnOnce(&mut Roster) -> T) -> T {
        look(&mut self.roster.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_of_a_class_are_a_crew() {
        let class = crate::cluster::numeric_class::tests::class;
        let run = RunId::new();
        let status = |name: &str, slots, machine: &str, tokens| {
            let classes = BTreeMap::from([(run.to_string(), class(machine))]);
            let name = name.to_string();
            Status { protocol: PROTOCOL, name, slots, classes, tokens, seconds: 2.0, ..Status::default() }
        };
        let mut roster = Roster::default();
        for status in [status("a", 2, "x", 60), status("b", 1, "x", 20), status("c", 4, "y", 0)] {
            roster.hear(status);
        }
        roster.hear(Status { name: "d".into(), classes: BTreeMap::new(), ..status("d", 1, "x", 0) });
        let (crews, silent) = roster.crews(&run);
        let x = Crew { class: class("x"), slots: 3, busy: 0, tokens_per_second: Some(60.0) };
        assert_eq!((&crews[&class("x").id()], crews.len(), silent), (&x, 2, 1));
        assert_eq!(roster.crews(&RunId::new()).1, 4);
    }

    #[test]
    fn who_refuses_a_run_does_not_count_for_it_and_who_leaves_is_gone() {
        let (run, other) = (RunId::new(), RunId::new());
        let status = |name: &str, slots| Status { protocol: PROTOCOL, name: name.into(), slots, ..Status::default() };
        let refused = BTreeMap::from([(run.to_string(), "digest".to_string())]);
        let mut roster = Roster::default();
        roster.hear(status("a", 2));
        roster.hear(Status { refused, ..status("b", 3) });
        assert_eq!(roster.of_run(&run), (2, vec![("b".to_string(), "digest".to_string())]));
        assert_eq!(roster.of_run(&other).0, 5);
        roster.hear(Status { leaving: true, ..status("a", 2) });
        assert_eq!(roster.of_run(&other).0, 3);
        let bytes = serde_json::to_vec(&status("c", 1)).unwrap();
        assert_eq!(Status::read(&bytes), Some(status("c", 1)));
        assert_eq!(Status::read(b"{}"), None);
        assert_eq!(Status::read(&vec![b' '; LARGEST + 1]), None);
    }
}
