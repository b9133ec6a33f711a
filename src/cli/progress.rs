//! Progress of long work: a bar with rate and time left on a terminal, plain lines otherwise.

use std::cell::{Cell, OnceCell};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use criadero::run::Progress;
use indicatif::{ProgressBar, ProgressStyle};

/// Plain lines come at most this often.
const LINE_EVERY: Duration = Duration::from_secs(15);

/// One piece of long work, counted in steps.
pub struct Bar {
    bar: ProgressBar,
    plain: bool,
    last_line: Cell<Instant>,
    name: String,
}

impl Bar {
    /// Work of `total` steps.
    pub fn new(name: &str, total: usize) -> Bar {
        let plain = !std::io::stderr().is_terminal();
        let bar = if plain { ProgressBar::hidden() } else { ProgressBar::new(total as u64) };
        bar.set_length(total as u64);
        let style =
            ProgressStyle::with_template("{msg:<12} {wide_bar} {human_pos}/{human_len}  {per_sec:>10}  {eta:>5} left")
                .expect("the template is well formed");
        bar.set_style(style);
        bar.set_message(name.to_string());
        Bar { bar, plain, last_line: Cell::new(Instant::now()), name: name.to_string() }
    }

    /// One step is done.
    pub fn step(&self) {
        self.set(self.bar.position() as usize + 1, self.bar.length().unwrap_or(0) as usize);
    }

    /// So many steps of so many are done.
    pub fn set(&self, done: usize, total: usize) {
        self.bar.set_length(total as u64);
        self.bar.set_position(done as u64);
        if self.plain && self.last_line.get().elapsed() >= LINE_EVERY {
            self.last_line.set(Instant::now());
            eprintln!("{}: {done} of {total}", self.name);
        }
    }

    /// So many steps were done before this process began.
    pub fn resume(&self, done: usize) {
        self.bar.set_position(done as u64);
        self.bar.reset_eta();
    }

    /// So many steps of so many are done, at a rate that is not of steps.
    pub fn set_with_rate(&self, done: usize, total: usize, rate: f64, unit: &str) {
        self.bar.set_message(format!("{}, {rate:.0} {unit}", self.name));
        self.set(done, total);
    }

    /// Prints a line above the bar.
    pub fn line(&self, text: &str) {
        if self.plain { eprintln!("{text}") } else { self.bar.println(text) }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// Says what a run tells.
pub struct Listener {
    name: &'static str,
    /// For what is timed before the networks are scored.
    timing: OnceCell<Bar>,
    scoring: OnceCell<Bar>,
}

impl Listener {
    /// `name` is what scoring networks is called.
    pub fn new(name: &'static str) -> Listener {
        Listener { name, timing: OnceCell::new(), scoring: OnceCell::new() }
    }

    /// Shows it.
    pub fn hear(&self, progress: Progress) {
        match progress {
            Progress::Note(note) => self.line(&format!("note: {note}")),
            Progress::Chosen(line) => self.line(&line),
            Progress::Timed { done, total } => {
                let bar = self.timing.get_or_init(|| Bar::new("measuring", total));
                bar.set(done, total);
                if done == total {
                    bar.finish();
                }
            }
            Progress::Scored { done, total } => self.scoring().set(done, total),
            Progress::Resumed { evaluations } => self.line(&format!("resuming: {evaluations} networks are measured")),
            Progress::Population { evaluations, of } => self.line(&format!("{evaluations} of {of} networks measured")),
            Progress::HeldOut { networks } => self.line(&format!("measuring {networks} networks on held-out items")),
        }
    }

    fn scoring(&self) -> &Bar {
        if let Some(timing) = self.timing.get() {
            timing.finish();
        }
        self.scoring.get_or_init(|| Bar::new(self.name, 0))
    }

    fn line(&self, text: &str) {
        match self.scoring.get().or(self.timing.get()) {
            Some(bar) => bar.line(text),
            None => eprintln!("{text}"),
        }
    }

    /// Takes the bars away.
    pub fn finish(&self) {
        self.timing.get().into_iter().chain(self.scoring.get()).for_each(Bar::finish);
    }
}
