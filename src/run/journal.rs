//! `chunks.log`: one checksummed line a partial score, the point from which a run resumes.
//!
//! A line is the CRC-32 of its JSON in eight hexadecimal digits, a space, and the JSON.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::string_slice, clippy::cast_possible_truncation, clippy::cast_sign_loss)
)]

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::eval::{ChunkId, EvalSet, ItemScore, Outcome, Partial};
use crate::output::Log;
use crate::space::Genome;

/// A partial score as a line of the journal.
#[derive(Serialize, Deserialize)]
struct Line {
    set: String,
    chunk: usize,
    genome: Genome,
    #[serde(flatten)]
    outcome: Outcome,
}

/// Everything that a journal holds.
#[derive(Default)]
pub struct Known(HashMap<(ChunkId, Genome), Outcome>);

impl Known {
    /// What lies in a journal that another process may be writing to. A torn last line is left away.
    ///
    /// # Errors
    /// As [`Journal::open`], and `Io` where there is none.
    #[cfg(feature = "torch")]
    pub fn read(path: &Path, sets: &[EvalSet]) -> Result<Known> {
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        Known::parse(path, &bytes, sets).map(|(known, _)| known)
    }

    /// What the lines say, and how many bytes are whole lines.
    fn parse(path: &Path, bytes: &[u8], sets: &[EvalSet]) -> Result<(Known, usize)> {
        let mut scores = HashMap::new();
        let mut whole = 0;
        for (number, line) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
            let Some(Line { set, chunk, genome, outcome }) = parse(line) else {
                if whole + line.len() < bytes.len() {
                    let reason = format!("line {} is damaged; remove it and the lines below it to go on", number + 1);
                    return Err(Error::format(path, "chunks.log", reason));
                }
                break;
            };
            whole += line.len();
            let set = sets.iter().position(|known| known.name == set).ok_or_else(|| {
                Error::format(path, "chunks.log", format!("line {}: no eval set `{set}` in this run", number + 1))
            })?;
            let place = ChunkId { set, chunk };
            let before = scores.get(&(place, genome.clone()));
            let problem = match before {
                Some(before) if *before != outcome => {
                    Some("another score of the same network on the same chunk".into())
                }
                _ => sets.get(set).and_then(|set| outcome.misfit(set, chunk)),
            };
            if let Some(problem) = problem {
                return Err(Error::format(path, "chunks.log", format!("line {}: {problem}", number + 1)));
            }
            scores.insert((place, genome), outcome);
        }
        Ok((Known(scores), whole))
    }

    /// A network's outcome on a chunk, where it is known.
    pub fn outcome(&self, chunk: ChunkId, genome: &Genome) -> Option<&Outcome> {
        self.0.get(&(chunk, genome.clone()))
    }

    /// The items' scores of a network on the first `chunks` of the eval set at a place, or why it has none.
    pub fn items(&self, genome: &Genome, place: usize, set: &EvalSet, chunks: usize) -> Result<Vec<ItemScore>, String> {
        let mut scores = Vec::with_capacity(set.items.len());
        for chunk in 0..chunks {
            match self.outcome(ChunkId { set: place, chunk }, genome) {
                Some(Outcome::Scored(items)) => scores.extend_from_slice(items),
                Some(Outcome::Failed(reason)) => return Err(reason.clone()),
                None => return Err(format!("chunk {chunk} of {} was not scored", set.name)),
            }
        }
        Ok(scores)
    }
}

/// The open journal of a run and everything it holds.
pub struct Journal {
    log: Log,
    known: Known,
}

impl Journal {
    /// Opens or creates the journal. A torn last line, as a crash leaves it, is cut off.
    ///
    /// # Errors
    /// When a line before the last is damaged, names an eval set or chunk that the run does not have, has not one score for each of
    /// the chunk's items, or contradicts another.
    pub fn open(path: &Path, sets: &[EvalSet]) -> Result<Journal> {
        let (mut log, bytes) = Log::open(path)?;
        let (known, whole) = Known::parse(path, &bytes, sets)?;
        log.cut(whole as u64)?;
        Ok(Journal { log, known })
    }

    /// Appends a partial score; once this returns, a killed process keeps it.
    pub fn append(&mut self, sets: &[EvalSet], partial: Partial) -> Result<()> {
        let Partial { chunk, genome, outcome } = partial;
        let set = sets.get(chunk.set).expect("a set of the run").name.clone();
        let line = Line { set, chunk: chunk.chunk, genome, outcome };
        let json = serde_json::to_string(&line).expect("a journal line is plain data");
        let text = format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes()));
        self.log.append(text.as_bytes())?;
        self.known.0.insert((chunk, line.genome), line.outcome);
        Ok(())
    }

    /// Hands everything appended so far to the disk.
    pub fn sync(&self) -> Result<()> {
        self.log.sync()
    }

    /// Everything it holds.
    pub fn known(&self) -> &Known {
        &self.known
    }

    /// Whether nothing was scored yet.
    pub fn is_empty(&self) -> bool {
        self.known.0.is_empty()
    }
}

fn parse(line: &[u8]) -> Option<Line> {
    let line = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
    let (checksum, json) = line.split_at_checked(8)?;
    let json = json.strip_prefix(' ')?;
    let expected = u32::from_str_radix(checksum, 16).ok()?;
    (expected == crc32fast::hash(json.as_bytes())).then(|| serde_json::from_str(json).ok())?
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::eval::{Evaluator, ItemScore, MockEvaluator, PackedItem};
    use crate::space::ModelShape;
    use crate::space::shape::tests::TINY;

    const SHAPE: ModelShape = ModelShape { layers: 2, ..TINY };

    fn sets() -> Vec<EvalSet> {
        MockEvaluator::new(SHAPE, &[("mock/search".into(), 16)], Duration::ZERO, Arc::default()).sets().to_vec()
    }

    fn partial(chunk: usize, log_likelihood: f64) -> Partial {
        let chunk = ChunkId { set: 0, chunk };
        let score = |item: &PackedItem| {
            let log_likelihoods = vec![log_likelihood; item.choice_chars.len()];
            ItemScore { log_likelihoods, ..ItemScore::default() }
        };
        let set = &sets()[0];
        let scores = set.items[set.chunks[chunk.chunk].items.clone()].iter().map(score).collect();
        Partial { chunk, genome: "2x8*2".parse().unwrap(), outcome: Outcome::Scored(scores) }
    }

    #[test]
    fn keeps_every_bit_of_a_score() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("chunks.log");
        let awkward = -0.1 - 1e-17 - std::f64::consts::PI * 1e-9;
        Journal::open(&path, &sets()).unwrap().append(&sets(), partial(0, awkward)).unwrap();
        let journal = Journal::open(&path, &sets()).unwrap();
        let Partial { chunk, genome, outcome } = partial(0, awkward);
        assert_eq!(journal.known().outcome(chunk, &genome), Some(&outcome));
    }

    #[test]
    fn cuts_a_torn_last_line_wherever_it_was_torn() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("chunks.log");
        let mut journal = Journal::open(&path, &sets()).unwrap();
        journal.append(&sets(), partial(0, -1.0)).unwrap();
        let first = std::fs::metadata(&path).unwrap().len() as usize;
        journal.append(&sets(), partial(1, -2.0)).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for torn in first..whole.len() {
            std::fs::write(&path, &whole[..torn]).unwrap();
            let mut journal = Journal::open(&path, &sets()).unwrap();
            assert_eq!(journal.known().0.len(), 1, "torn at byte {torn}");
            journal.append(&sets(), partial(1, -2.0)).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), whole, "torn at byte {torn}");
        }
    }

    #[test]
    fn rejects_damage_before_the_last_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("chunks.log");
        let mut journal = Journal::open(&path, &sets()).unwrap();
        journal.append(&sets(), partial(0, -1.0)).unwrap();
        journal.append(&sets(), partial(1, -2.0)).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[20] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let Err(error) = Journal::open(&path, &sets()) else { panic!("damage was accepted") };
        assert!(error.to_string().contains("line 1 is damaged"), "{error}");
    }
}
