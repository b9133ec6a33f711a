//! The kinds of machines that score a run, and which of them each chunk belongs to.
//!
//! Networks are compared item by item. What differs between two kinds of machines is the same for all networks of a chunk only if one kind
//! scores all of them, so a chunk belongs to the kind that gets it first, for good: that is written down before the first network is
//! offered. A kind that is new scores one network, the largest, and is compared with the first kind.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::string_slice, clippy::cast_possible_truncation, clippy::cast_sign_loss)
)]

use std::collections::{BTreeMap, HashMap};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::numeric_class::{ClassId, NumericClass};
use crate::error::{Error, Result};
use crate::eval::{ChunkId, EvalSet, Outcome};
use crate::output::{self, Seal};
use crate::run::RunSettings;
use crate::space::Genome;

/// The file's name.
const FILE: &str = RunSettings::HARDWARE;
/// By how much the log-likelihoods of a kind may differ from the first one's, as a share of them. Bfloat16 differs from float32 by 1 %.
pub const TOLERANCE: f64 = 0.05;

/// The kinds of machines of a run.
pub struct Hardware {
    sets: Arc<Vec<EvalSet>>,
    kinds: Kinds,
}

enum Kinds {
    /// The run is of one class.
    One(ClassId),
    /// It is of several, which stand in a file.
    Mixed(PathBuf, Mixed),
}

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Mixed {
    /// In the order in which they came.
    kinds: Vec<Kind>,
    /// What they are compared by.
    #[serde(skip_serializing_if = "Option::is_none")]
    probe: Option<Probe>,
    /// The class of each chunk, by eval set.
    chunks: BTreeMap<String, BTreeMap<usize, ClassId>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Kind {
    class: NumericClass,
    /// Mean difference of its log-likelihoods from the first kind's, as a share of them.
    difference: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Probe {
    set: String,
    chunk: usize,
    genome: Genome,
    /// The first kind's.
    outcome: Outcome,
}

impl Kind {
    fn is_admitted(&self) -> bool {
        self.difference <= TOLERANCE
    }
}

/// How fast the machines of a class are, all of them together; in any unit.
pub type Speeds = BTreeMap<ClassId, f64>;

impl Hardware {
    /// That of a run whose directory is `dir`.
    ///
    /// # Errors
    /// `Io` and `Format` of its file; a run that has scores, and not the file that says whose they are.
    pub fn of(dir: &Path, settings: &RunSettings, sets: Arc<Vec<EvalSet>>) -> Result<Hardware> {
        if !settings.mixed_hardware {
            return Ok(Hardware { sets, kinds: Kinds::One(NumericClass::of(settings).id()) });
        }
        let path = dir.join(FILE);
        let remedy = "put back a copy of it: without it nobody knows which machines scored what";
        let mixed = match std::fs::read(&path) {
            Ok(bytes) => {
                let json = Seal::open(&path, FILE, &bytes, remedy)?;
                serde_json::from_slice(&json).map_err(|error| Error::format(&path, FILE, error.to_string()))?
            }
            Err(error) if error.kind() == ErrorKind::NotFound && !has_scores(dir) => Mixed::default(),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(Error::format(&path, FILE, format!("it is not there, and the run has scores; {remedy}")));
            }
            Err(error) => return Err(Error::io(&path)(error)),
        };
        Ok(Hardware { sets, kinds: Kinds::Mixed(path, mixed) })
    }

    /// Whether machines of several classes may score.
    pub fn is_mixed(&self) -> bool {
        matches!(self.kinds, Kinds::Mixed(..))
    }

    /// The classes that may score.
    pub fn classes(&self) -> Vec<ClassId> {
        match &self.kinds {
            Kinds::One(class) => vec![class.clone()],
            Kinds::Mixed(_, mixed) => {
                mixed.kinds.iter().filter(|kind| kind.is_admitted()).map(|kind| kind.class.id()).collect()
            }
        }
    }

    /// What a class is, for people.
    pub fn said(&self, class: &ClassId) -> String {
        let kinds = if let Kinds::Mixed(_, mixed) = &self.kinds { mixed.kinds.as_slice() } else { &[] };
        let kind = kinds.iter().find(|kind| kind.class.id() == *class);
        kind.map_or_else(|| class.to_string(), |kind| kind.class.to_string())
    }

    /// The class that a chunk belongs to, if it does yet.
    pub fn class_of(&self, chunk: ChunkId) -> Option<&ClassId> {
        match &self.kinds {
            Kinds::One(class) => Some(class),
            Kinds::Mixed(_, mixed) => mixed.chunks.get(&self.sets.get(chunk.set)?.name)?.get(&chunk.chunk),
        }
    }

    /// Whether nothing is known of a class.
    pub fn is_new(&self, class: &ClassId) -> bool {
        match &self.kinds {
            Kinds::One(_) => false,
            Kinds::Mixed(_, mixed) => !mixed.kinds.iter().any(|kind| kind.class.id() == *class),
        }
    }

    /// What new classes are compared by: what the first one was, if there was one, else `chunk` and `genome`.
    pub fn probe(&self, chunk: ChunkId, genome: Genome) -> (ChunkId, Genome) {
        let known = if let Kinds::Mixed(_, mixed) = &self.kinds { mixed.probe.as_ref() } else { None };
        let known = known.and_then(|probe| {
            let set = self.sets.iter().position(|set| set.name == probe.set)?;
            Some((ChunkId { set, chunk: probe.chunk }, probe.genome.clone()))
        });
        known.unwrap_or((chunk, genome))
    }

    /// Compares a class by its scores of the [`probe`](Hardware::probe), and writes that down; what is to be said of it.
    ///
    /// # Errors
    /// `Io` of the file.
    pub fn judge(&mut self, class: NumericClass, chunk: ChunkId, genome: Genome, outcome: Outcome) -> Result<String> {
        let set = self.sets.get(chunk.set).map_or(String::new(), |set| set.name.clone());
        let Kinds::Mixed(_, mixed) = &mut self.kinds else { return Ok(String::new()) };
        let (difference, said) = match &mixed.probe {
            None => (0.0, format!("{class}: the first kind of machine, which others are compared with")),
            Some(probe) => {
                let difference = difference(&probe.outcome, &outcome);
                let percent = |share: f64| format!("{:.2} %", 100.0 * share);
                let beyond = if difference <= TOLERANCE { "" } else { ": it is left out" };
                let said = format!(
                    "{class}: log-likelihoods differ from the first kind's by {} on the largest network, of {} at most{beyond}",
                    percent(difference),
                    percent(TOLERANCE)
                );
                (difference, said)
            }
        };
        mixed.probe.get_or_insert(Probe { set, chunk: chunk.chunk, genome, outcome });
        mixed.kinds.push(Kind { class, difference });
        self.write()?;
        Ok(said)
    }

    /// Gives chunks that belong to nobody to the classes that are there, so that all end about together, and writes that down. Each chunk
    /// stands with its cost.
    ///
    /// # Errors
    /// `Io` of the file.
    pub fn bind(&mut self, chunks: &[(ChunkId, f64)], speeds: &Speeds) -> Result<()> {
        let mut load: HashMap<&ClassId, f64> = HashMap::new();
        let mut free = Vec::new();
        for (chunk, cost) in chunks {
            match self.class_of(*chunk).and_then(|class| speeds.get_key_value(class)) {
                Some((class, speed)) => *load.entry(class).or_default() += cost / speed,
                None if self.class_of(*chunk).is_some() => {}
                None => free.push((*chunk, *cost)),
            }
        }
        free.sort_by(|(a, cost), (b, other)| other.total_cmp(cost).then(a.cmp(b)));
        let mut bound = Vec::new();
        for (chunk, cost) in free {
            let end = |class: &ClassId, speed: f64| load.get(class).copied().unwrap_or(0.0) + cost / speed;
            let ends = speeds.iter().map(|(class, speed)| (class, end(class, *speed)));
            let Some((class, end)) = ends.min_by(|(_, a), (_, b)| a.total_cmp(b)) else { return Ok(()) };
            load.insert(class, end);
            bound.push((chunk, class.clone()));
        }
        let Kinds::Mixed(_, mixed) = &mut self.kinds else { return Ok(()) };
        for (chunk, class) in bound {
            if let Some(set) = self.sets.get(chunk.set) {
                mixed.chunks.entry(set.name.clone()).or_default().insert(chunk.chunk, class);
            }
        }
        self.write()
    }

    fn write(&self) -> Result<()> {
        let Kinds::Mixed(path, mixed) = &self.kinds else { return Ok(()) };
        let json = serde_json::to_string_pretty(mixed).expect("classes and chunks are plain data");
        output::write(path, Seal::put(&(json + "\n")))
    }
}

/// Whether a run of several kinds has scores already; of another run that is no question of this file.
fn has_scores(dir: &Path) -> bool {
    let is_mixed = !matches!(RunSettings::read(dir), Ok(Some(RunSettings { mixed_hardware: false, .. })));
    is_mixed && std::fs::metadata(dir.join("chunks.log")).is_ok_and(|journal| journal.len() > 0)
}

/// Mean difference of two outcomes' log-likelihoods, as a share of the first one's; of items without any, the share of them that differ.
fn difference(one: &Outcome, other: &Outcome) -> f64 {
    let (Outcome::Scored(one), Outcome::Scored(other)) = (one, other) else { return f64::INFINITY };
    let pairs = || {
        let both = one.iter().zip(other);
        both.flat_map(|(a, b)| a.log_likelihoods.iter().zip(&b.log_likelihoods))
    };
    let all: f64 = pairs().map(|(a, _)| a.abs()).sum();
    if all > 0.0 {
        return pairs().map(|(a, b)| (a - b).abs()).sum::<f64>() / all;
    }
    let unlike = one.iter().zip(other).filter(|(a, b)| a != b).count();
    unlike as f64 / one.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cluster::numeric_class::tests::class;
    use crate::eval::{Evaluator, ItemScore, MockEvaluator};
    use crate::run::{Experiment, mock_scorer};
    use crate::space::SearchSpace;

    fn settings() -> RunSettings {
        let space = SearchSpace::open("tiny").unwrap();
        let experiment =
            Experiment { mixed_hardware: true, ..Experiment::new("none", space, ["choice_nll:t", "params"]) };
        let scorer = mock_scorer(&experiment, [40, 8], Duration::ZERO, Arc::default()).unwrap();
        experiment.settings(&scorer)
    }

    fn hardware(dir: &Path) -> Result<Hardware> {
        let settings = settings();
        let sets = [("t/search".to_string(), 40), ("t/held_out".to_string(), 8)];
        let mock = MockEvaluator::new(*settings.space.shape(), &sets, Duration::ZERO, Arc::default());
        Hardware::of(dir, &settings, mock.sets().clone())
    }

    fn outcome(log_likelihood: f64) -> Outcome {
        Outcome::Scored(vec![ItemScore { log_likelihoods: vec![-1.0, log_likelihood], ..ItemScore::default() }])
    }

    const CHUNK: ChunkId = ChunkId { set: 0, chunk: 0 };

    #[test]
    fn chunks_belong_to_whom_they_were_given_also_when_the_searcher_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut hardware = self::hardware(dir.path()).unwrap();
        let [slow, fast] = [class("slow"), class("fast")];
        let genome = settings().space.largest();
        assert!(hardware.is_new(&slow.id()) && hardware.class_of(CHUNK).is_none());
        hardware.judge(slow.clone(), CHUNK, genome.clone(), outcome(-3.0)).unwrap();
        assert!(!hardware.is_new(&slow.id()));
        let said = hardware.judge(fast.clone(), CHUNK, genome.clone(), outcome(-3.02)).unwrap();
        assert!(said.contains("differ from the first kind's by 0.50 %"), "{said}");
        let chunks: Vec<(ChunkId, f64)> = (0..5).map(|chunk| (ChunkId { chunk, ..CHUNK }, 1.0)).collect();
        let speeds = Speeds::from([(slow.id(), 1.0), (fast.id(), 4.0)]);
        hardware.bind(&chunks[..1], &Speeds::from([(slow.id(), 1.0)])).unwrap();
        hardware.bind(&chunks, &speeds).unwrap();
        let classes: Vec<ClassId> =
            chunks.iter().map(|(chunk, _)| hardware.class_of(*chunk).unwrap().clone()).collect();
        let fast_ones = vec![fast.id(); 4];
        assert_eq!(classes, [vec![slow.id()], fast_ones].concat());
        let again = self::hardware(dir.path()).unwrap();
        assert!(chunks.iter().zip(&classes).all(|((chunk, _), class)| again.class_of(*chunk) == Some(class)));
        assert_eq!(again.probe(ChunkId { chunk: 3, ..CHUNK }, "4x128*4".parse().unwrap()), (CHUNK, genome));
        assert_eq!(again.classes(), [slow.id(), fast.id()]);
    }

    #[test]
    fn a_kind_that_computes_something_else_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let mut hardware = self::hardware(dir.path()).unwrap();
        let genome = settings().space.largest();
        hardware.judge(class("first"), CHUNK, genome.clone(), outcome(-3.0)).unwrap();
        let said = hardware.judge(class("wrong"), CHUNK, genome, outcome(-6.0)).unwrap();
        assert!(said.contains("by 75.00 %") && said.contains("left out"), "{said}");
        assert_eq!(hardware.classes(), [class("first").id()]);
        assert!(!hardware.is_new(&class("wrong").id()), "it is not asked again");
    }

    #[test]
    fn scores_without_the_file_that_says_whose_they_are_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("chunks.log"), "x").unwrap();
        let error = hardware(dir.path()).err().unwrap().to_string();
        assert!(error.contains("hardware.json") && error.contains("put back a copy"), "{error}");
        std::fs::write(dir.path().join("hardware.json"), "{}").unwrap();
        assert!(hardware(dir.path()).is_err(), "it has no seal");
    }
}
