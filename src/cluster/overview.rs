//! What goes on at a server: runs, their queues, and who works.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::announcement::{Announcement, RunId};
use super::connection::Connection;
use super::status::{EVERY, Listening, Status};
use crate::error::Result;
use crate::prometheus::metric;

/// A run that wants workers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Standing {
    /// The run.
    pub run: RunId,
    /// The model as the searcher names it.
    pub model: String,
    /// What is optimised.
    pub objectives: Vec<String>,
    /// Tasks that nobody has taken; `None` where the server does not say.
    pub waiting: Option<u64>,
    /// Tasks that somebody has taken.
    pub taken: Option<usize>,
}

/// Everything that goes on.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Overview {
    /// The runs.
    pub runs: Vec<Standing>,
    /// The workers, by name.
    pub workers: Vec<Status>,
}

/// A look at a server that hears what workers say.
pub struct Watch {
    connection: Arc<Connection>,
    listening: Listening,
}

impl Watch {
    /// After so long every worker has spoken.
    pub const SOON: Duration = Duration::from_millis(EVERY.as_millis() as u64 + 500);

    /// Begins to hear.
    ///
    /// # Errors
    /// [`Error::Server`](crate::Error::Server).
    pub fn begin(connection: Arc<Connection>) -> Result<Watch> {
        Ok(Watch { listening: Listening::begin(&connection)?, connection })
    }

    /// What goes on now.
    ///
    /// # Errors
    /// [`Error::Server`](crate::Error::Server) where the server does not answer.
    pub fn look(&self) -> Result<Overview> {
        let announced = self.connection.announced()?;
        let standing = |Announcement { run, settings, .. }: Announcement| {
            let queue = self.connection.queue(&run, None).ok();
            let (waiting, taken) = (queue.map(|queue| queue.0), queue.map(|queue| queue.1));
            Standing { run, model: settings.model, objectives: settings.objectives, waiting, taken }
        };
        let mut runs: Vec<Standing> = announced.into_iter().map(standing).collect();
        runs.sort_by(|a, b| a.run.cmp(&b.run));
        Ok(Overview { runs, workers: self.listening.look(|roster| roster.there().cloned().collect()) })
    }
}

impl Overview {
    /// The same as Prometheus reads it.
    pub fn for_prometheus(&self) -> String {
        let mut text = String::new();
        let mut gauge = |name: &str, kind: &str, help: &str, rows: Vec<_>| metric(&mut text, name, [kind, help], rows);
        let of_runs = |value: &dyn Fn(&Standing) -> Option<f64>| {
            let row = |one: &Standing| Some((format!("{{run=\"{}\"}}", one.run), value(one)?));
            self.runs.iter().filter_map(row).collect()
        };
        gauge(
            "tasks_waiting",
            "gauge",
            "Tasks that no worker has taken.",
            of_runs(&|run| run.waiting.map(|n| n as f64)),
        );
        gauge("tasks_taken", "gauge", "Tasks that a worker has taken.", of_runs(&|run| run.taken.map(|n| n as f64)));
        let of_workers = |value: &dyn Fn(&Status) -> f64| {
            let row = |one: &Status| (format!("{{worker=\"{}\"}}", escaped(&one.name)), value(one));
            self.workers.iter().map(row).collect()
        };
        gauge("worker_slots", "gauge", "Tasks that a worker does at a time.", of_workers(&|one| one.slots as f64));
        gauge("worker_busy", "gauge", "Tasks under way.", of_workers(&|one| one.busy.len() as f64));
        gauge(
            "worker_longest_task_seconds",
            "gauge",
            "Age of the oldest task under way.",
            of_workers(&Status::longest),
        );
        gauge(
            "worker_refused_runs",
            "gauge",
            "Runs that a worker leaves to others.",
            of_workers(&|one| one.refused.len() as f64),
        );
        gauge("worker_tasks_total", "counter", "Tasks done.", of_workers(&|one| one.tasks as f64));
        gauge(
            "worker_scores_total",
            "counter",
            "Scores of a network on a chunk.",
            of_workers(&|one| one.scores as f64),
        );
        gauge(
            "worker_tokens_total",
            "counter",
            "Tokens of the chunks of these scores.",
            of_workers(&|one| one.tokens as f64),
        );
        gauge("worker_seconds_total", "counter", "Seconds in which a worker computed.", of_workers(&|one| one.seconds));
        text
    }
}

/// A label's value: backslash, quote and line end are Prometheus' own.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prometheus_reads_a_line_a_worker_whatever_it_is_called() {
        let worker = Status { name: "a\"\nb\\".into(), slots: 2, tasks: 7, seconds: 1.5, ..Status::default() };
        let text = Overview { runs: Vec::new(), workers: vec![worker] }.for_prometheus();
        assert!(text.contains("criadero_worker_slots{worker=\"a\\\"\\nb\\\\\"} 2\n"), "{text}");
        assert!(text.contains("criadero_worker_seconds_total{worker=\"a\\\"\\nb\\\\\"} 1.5\n"), "{text}");
        let plain =
            |line: &str| line.starts_with("# HELP ") || line.starts_with("# TYPE ") || line.starts_with("criadero_");
        assert!(text.lines().all(plain), "{text}");
    }
}
