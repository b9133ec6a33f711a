//! What a server has done, for Prometheus.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::prometheus::metric;

/// Counts since the start, and what is under way.
#[derive(Debug, Default)]
pub struct Meter {
    /// Requests taken in.
    pub taken: AtomicU64,
    /// Requests written to their end.
    pub finished: AtomicU64,
    /// Requests whose client left.
    pub cancelled: AtomicU64,
    /// Requests whose time was up.
    pub late: AtomicU64,
    /// Requests that failed here.
    pub failed: AtomicU64,
    /// Requests that there was no room for.
    pub refused: AtomicU64,
    /// Tokens of prompts that were read.
    pub prompt_tokens: AtomicU64,
    /// Tokens written.
    pub written_tokens: AtomicU64,
    /// Steps of a batch.
    pub steps: AtomicU64,
    /// Microseconds in which something was computed.
    pub busy_micros: AtomicU64,
    /// Requests that wait.
    pub waiting: AtomicU64,
    /// Requests that are written.
    pub active: AtomicU64,
    /// Bytes of keys and values.
    pub cache_bytes: AtomicU64,
}

impl Meter {
    /// One more.
    pub(super) fn count(of: &AtomicU64) {
        of.fetch_add(1, Ordering::Relaxed);
    }

    /// So many more.
    pub(super) fn add(of: &AtomicU64, more: usize) {
        of.fetch_add(more as u64, Ordering::Relaxed);
    }

    /// As many as that.
    pub(super) fn set(of: &AtomicU64, value: u64) {
        of.store(value, Ordering::Relaxed);
    }

    /// As Prometheus reads it.
    pub fn for_prometheus(&self) -> String {
        let seconds = self.busy_micros.load(Ordering::Relaxed) as f64 / 1e6;
        let rows = [
            ("requests_taken_total", "counter", "Requests taken in.", &self.taken),
            ("requests_finished_total", "counter", "Requests written to their end.", &self.finished),
            ("requests_cancelled_total", "counter", "Requests whose client left.", &self.cancelled),
            ("requests_late_total", "counter", "Requests whose time was up.", &self.late),
            ("requests_failed_total", "counter", "Requests that failed in the server.", &self.failed),
            ("requests_refused_total", "counter", "Requests that there was no room for.", &self.refused),
            ("prompt_tokens_total", "counter", "Tokens of prompts that were read.", &self.prompt_tokens),
            ("written_tokens_total", "counter", "Tokens written.", &self.written_tokens),
            ("steps_total", "counter", "Steps, each a token of every request of a network.", &self.steps),
            ("requests_waiting", "gauge", "Requests that wait for room.", &self.waiting),
            ("requests_active", "gauge", "Requests that are being written.", &self.active),
            ("cache_bytes", "gauge", "Bytes of keys and values.", &self.cache_bytes),
        ];
        let mut text = String::new();
        for (name, kind, help, value) in rows {
            metric(&mut text, name, [kind, help], [(String::new(), value.load(Ordering::Relaxed))]);
        }
        let busy = ["counter", "Seconds in which something was computed."];
        metric(&mut text, "busy_seconds_total", busy, [(String::new(), seconds)]);
        text
    }
}
