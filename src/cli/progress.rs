//! Progress of long work: one bar on a terminal, plain lines otherwise, which say the same words: what is done of how many, the time
//! that is left, and the rate. Nothing is shown before it has a label and a number.

use std::cell::{Cell, RefCell};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use criadero::run::{Headway, Progress};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::pace::{Pace, rate_said};
use super::phase::Phase;
use super::seconds::said;
use super::verbosity::Verbosity;

/// Plain lines come at most this often.
const LINE_EVERY: Duration = Duration::from_secs(15);
/// Steps of the bar itself.
const TICKS: u64 = 1000;

/// One piece of long work.
pub struct Bar {
    bar: ProgressBar,
    plain: bool,
    /// What is counted, one of it.
    unit: &'static str,
    /// What work is counted in, where that is another and its rate is said.
    rated: Option<&'static str>,
    /// Who else works on it, where it is others.
    helpers: Cell<Option<usize>>,
    start: Instant,
    shown: RefCell<Shown>,
}

/// What a bar says at the moment.
struct Shown {
    /// By its label.
    phase: Option<Phase>,
    pace: Pace,
    last_line: Instant,
    /// Whether it is on the terminal.
    drawn: bool,
}

impl Bar {
    /// Work that counts so called things, one of which is a `unit`.
    pub fn new(label: &str, unit: &'static str) -> Bar {
        let plain = !std::io::stderr().is_terminal();
        let bar = ProgressBar::with_draw_target(Some(TICKS), ProgressDrawTarget::hidden());
        let style = ProgressStyle::with_template("{prefix} {wide_bar} {msg}").expect("the template is well formed");
        bar.set_style(style);
        let now = Instant::now();
        let phase = Some(Phase::begin(label));
        let shown = Shown { phase, pace: Pace::default(), last_line: now, drawn: false };
        Bar { bar, plain, unit, rated: None, helpers: Cell::new(None), start: now, shown: RefCell::new(shown) }
    }

    /// The same, where work is counted in something else, whose rate is worth knowing.
    pub fn rated(self, unit: &'static str) -> Bar {
        Bar { rated: Some(unit), ..self }
    }

    /// So many of so many are done.
    pub fn set(&self, done: usize, total: usize) {
        self.at(Headway::of_equals(done, total));
    }

    /// So far it has come.
    pub fn at(&self, now: Headway) {
        let mut shown = self.shown.borrow_mut();
        shown.pace.see(self.start.elapsed().as_secs_f64(), now.done);
        if Verbosity::is_quiet() {
            return;
        }
        let label = shown.phase.as_ref().map_or(String::new(), |phase| phase.name().to_string());
        if self.plain {
            if shown.last_line.elapsed() >= LINE_EVERY {
                shown.last_line = Instant::now();
                eprintln!("{label}: {}", self.words(&shown.pace, &now));
            }
            return;
        }
        self.bar.set_prefix(label);
        self.bar.set_message(self.words(&shown.pace, &now));
        self.bar.set_position((now.share() * TICKS as f64) as u64);
        if !std::mem::replace(&mut shown.drawn, true) {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
            self.bar.tick();
        }
    }

    /// What is done, the time that is left, and the rate, as far as they are known.
    fn words(&self, pace: &Pace, now: &Headway) -> String {
        let Headway { count, of, left, each, .. } = *now;
        let mut words = format!("{count} of {of} {}s", self.unit);
        words += &match self.helpers.get() {
            Some(1) => ", 1 worker".to_string(),
            Some(helpers) => format!(", {helpers} workers"),
            None => String::new(),
        };
        let Some(rate) = pace.rate() else { return words };
        if left > 0.0 {
            words += &format!(", about {} left", said(left / rate));
        }
        words
            + &match self.rated {
                Some(unit) => format!(", {rate:.0} {unit}s a second"),
                None => format!(", {}", rate_said(rate / each, self.unit)),
            }
    }

    /// From now on the work is called so.
    pub fn relabel(&self, label: &str) {
        let before = self.shown.borrow_mut().phase.replace(Phase::begin(label));
        self.above(|| drop(before));
    }

    /// Prints a line above the bar.
    pub fn line(&self, text: &str) {
        self.above(|| eprintln!("{text}"));
    }

    /// Prints above the bar.
    pub fn above<T>(&self, print: impl FnOnce() -> T) -> T {
        if self.shown.borrow().drawn { self.bar.suspend(print) } else { print() }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
        self.shown.borrow_mut().phase = None;
    }
}

/// Says what a run tells.
pub struct Listener {
    name: &'static str,
    /// The bar at hand: of what is timed before the networks are scored, or of scoring them.
    timing: RefCell<Option<Bar>>,
    scoring: RefCell<Option<Bar>>,
    /// Tasks that workers elsewhere do at a time, where it is they who score.
    helpers: Cell<Option<usize>>,
}

impl Listener {
    /// `name` is what scoring networks is called.
    pub fn new(name: &'static str) -> Listener {
        Listener { name, timing: RefCell::default(), scoring: RefCell::default(), helpers: Cell::new(None) }
    }

    /// Shows it.
    pub fn hear(&self, progress: Progress) {
        match progress {
            Progress::Note(note) => self.line(&format!("note: {note}")),
            Progress::Chosen(line) => self.line(&line),
            Progress::Detail(detail) => self.above(|| detail!("{detail}")),
            Progress::Timed { done, total } => {
                let mut timing = self.timing.borrow_mut();
                timing.get_or_insert_with(|| Bar::new("measuring", "timing")).set(done, total);
                if done == total {
                    timing.take().iter().for_each(Bar::finish);
                }
            }
            Progress::Scored(headway) => self.with_scoring(|bar| bar.at(headway)),
            Progress::Resumed { evaluations } => self.line(&format!("resuming: {evaluations} networks are measured")),
            Progress::Population { .. } => {}
            Progress::HeldOut { networks } => {
                self.line(&format!("measuring {networks} networks on held-out items"));
                self.with_scoring(|bar| bar.relabel("measuring the front"));
            }
        }
    }

    /// Workers elsewhere do so many tasks at a time.
    pub fn helped_by(&self, slots: usize) {
        self.helpers.set(Some(slots));
        self.with_scoring(|bar| bar.helpers.set(Some(slots)));
    }

    fn with_scoring(&self, tell: impl FnOnce(&Bar)) {
        self.timing.take().iter().for_each(Bar::finish);
        tell(self.scoring.borrow_mut().get_or_insert_with(|| {
            let bar = Bar::new(self.name, "network");
            bar.helpers.set(self.helpers.get());
            bar
        }));
    }

    fn line(&self, text: &str) {
        self.above(|| eprintln!("{text}"));
    }

    fn above(&self, print: impl FnOnce()) {
        match self.scoring.borrow().as_ref().or(self.timing.borrow().as_ref()) {
            Some(bar) => bar.above(print),
            None => print(),
        }
    }

    /// Takes the bars away.
    pub fn finish(&self) {
        self.timing.take().into_iter().chain(self.scoring.take()).for_each(|bar| bar.finish());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_counts_then_time_left_and_rate() {
        let bar = Bar::new("searching", "network");
        let now = Headway { count: 23, of: 96, known: 0.0, done: 92.0, left: 400.0, each: 4.0 };
        let mut pace = Pace::default();
        assert_eq!(bar.words(&pace, &now), "23 of 96 networks", "nothing is known of time yet");
        (1..=10).for_each(|step| pace.see(step as f64, 4.0 * step as f64));
        assert_eq!(bar.words(&pace, &now), "23 of 96 networks, about 2 min left, 1.0 a second");
        let bar = Bar::new("training", "step").rated("token");
        assert_eq!(bar.words(&pace, &now), "23 of 96 steps, about 2 min left, 4 tokens a second");
        assert_eq!(bar.words(&pace, &Headway { left: 0.0, ..now }), "23 of 96 steps, 4 tokens a second");
    }

    #[test]
    fn nothing_is_drawn_before_there_is_a_number() {
        let bar = Bar::new("searching", "network");
        assert!(bar.bar.is_hidden() && !bar.shown.borrow().drawn);
        assert_eq!(bar.above(|| 1), 1);
        bar.set(0, 96);
        assert!(bar.plain || bar.shown.borrow().drawn);
    }
}
