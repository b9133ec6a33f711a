//! Networks that answer in turn: a question goes to the next one where its score says so, and goes on from where the two
//! networks part.
//!
//! Letters: as in `model/forward.rs`.

use tch::Tensor;

use super::eval_set::Chunk;
use super::evaluator::{ItemScore, Outcome};
use super::prefix_cache::half_layers;
use super::walk::scored;
use crate::error::{Error, Result};
use crate::model::{Forward, Llama, Stream, TreeBatch};
use crate::space::{Genome, HalfGene};

/// Networks of one model in the order in which they are asked, prepared.
pub struct Escalation {
    stages: Vec<Stage>,
}

struct Stage {
    genome: Genome,
    forward: Forward,
    halves: Vec<HalfGene>,
    /// Of each network the half layers that this one begins with, too.
    shared: Vec<usize>,
}

/// An item's score, and the last network that was asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    /// Its place among the networks.
    pub stage: usize,
    /// Its score.
    pub score: ItemScore,
}

/// How many half layers two networks begin with together: what one computed of them the other need not.
pub fn shared_halves(a: &Genome, b: &Genome) -> usize {
    if a.ends().embedding != b.ends().embedding {
        return 0;
    }
    half_layers(a).iter().zip(half_layers(b)).take_while(|(a, b)| **a == *b).count()
}

impl Escalation {
    /// Prepares networks of a model. Handles of its tensors, no copies.
    ///
    /// # Errors
    /// Genomes that are no networks of the model.
    pub fn of(model: &Llama, genomes: &[Genome]) -> Result<Escalation> {
        let stage = |genome: &Genome| {
            let forward = Forward::of(model, std::slice::from_ref(genome))?;
            let shared = genomes.iter().map(|other| shared_halves(genome, other)).collect();
            Ok(Stage { genome: genome.clone(), forward, halves: half_layers(genome), shared })
        };
        Ok(Escalation { stages: genomes.iter().map(stage).collect::<Result<_>>()? })
    }

    /// Asks the first network for all items of a chunk, and each further one for those of which `more` says so, of the network's place,
    /// the item's place in the chunk and its score. One answer an item. What the first network says is bit for bit what it says alone.
    ///
    /// # Errors
    /// A chunk longer than the model's positions, and scores that are no numbers: unlike an evaluator's they are not computed again in
    /// float32.
    pub fn answer(
        &self,
        chunk: &Chunk,
        more: &mut dyn FnMut(usize, usize, &ItemScore) -> bool,
    ) -> Result<Vec<Answered>> {
        tch::no_grad(|| self.ask(chunk, more))
    }

    fn ask(&self, chunk: &Chunk, more: &mut dyn FnMut(usize, usize, &ItemScore) -> bool) -> Result<Vec<Answered>> {
        let mut answers: Vec<Option<Answered>> = vec![None; chunk.requests.len()];
        let mut left: Vec<usize> = (0..answers.len()).collect();
        let mut part = None;
        // Of each network the latest states on its way that others computed.
        let mut known: Vec<Option<(usize, Stream)>> = self.stages.iter().map(|_| None).collect();
        for (place, stage) in self.stages.iter().enumerate() {
            let here = part.as_ref().unwrap_or(chunk);
            let batch = stage.forward.model().batch(&here.tree)?;
            let last = self.run(place, &batch, &mut known);
            let scores = match scored(stage.forward.head(), last.hidden(), here, None) {
                Outcome::Scored(scores) => scores,
                Outcome::Failed(reason) => {
                    return Err(Error::invalid(format!("score of {}", stage.genome), reason, "a finite score"));
                }
            };
            let is_last = place + 1 == self.stages.len();
            let mut escalated = Vec::new();
            for (at, score) in scores.into_iter().enumerate() {
                if !is_last && more(place, left[at], &score) {
                    escalated.push(at);
                }
                answers[left[at]] = Some(Answered { stage: place, score });
            }
            if escalated.is_empty() {
                break;
            }
            let (next, nodes) = here.part(&escalated);
            let nodes = Tensor::from_slice(&nodes).to_device(last.hidden().device());
            for (_, stream) in known.iter_mut().skip(place + 1).flatten() {
                *stream = Stream::new(stream.hidden().index_select(0, &nodes)); // (t, d)
            }
            left = escalated.iter().map(|&at| left[at]).collect();
            part = Some(next);
        }
        Ok(answers.into_iter().map(|answer| answer.expect("the first network is asked for all")).collect())
    }

    /// The last layer's output of a network, from the latest known states on; leaves those that later networks go on from.
    fn run(&self, place: usize, batch: &TreeBatch, known: &mut [Option<(usize, Stream)>]) -> Stream {
        let Stage { forward, halves, shared, .. } = &self.stages[place];
        let (first, mut stream) = known[place].take().unwrap_or_else(|| (0, Stream::new(forward.embed(batch))));
        let later = |known: &mut [Option<(usize, Stream)>], level: usize, stream: &Stream| {
            for (&shared, known) in shared.iter().zip(known).skip(place + 1) {
                if shared == level && known.as_ref().is_none_or(|(there, _)| *there < level) {
                    *known = Some((level, stream.clone()));
                }
            }
        };
        for (level, &half) in halves.iter().enumerate().skip(first) {
            later(known, level, &stream);
            stream = match level % 2 {
                0 => forward.attend(level / 2, half, &stream, batch),
                _ => forward.feed(level / 2, half, &stream),
            };
        }
        later(known, halves.len(), &stream);
        stream
    }
}
