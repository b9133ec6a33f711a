//! A part of a command's work, whose seconds are a detail.

use std::time::Instant;

/// A part that is under way; how long it took is said at its end.
pub struct Phase {
    name: String,
    start: Instant,
}

impl Phase {
    /// It begins.
    pub fn begin(name: impl Into<String>) -> Phase {
        Phase { name: name.into(), start: Instant::now() }
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Phase {
    fn drop(&mut self) {
        detail!("{}: {:.2} s", self.name, self.start.elapsed().as_secs_f64());
    }
}
