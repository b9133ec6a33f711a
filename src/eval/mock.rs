//! An evaluator without a model: exact, instant scores that behave like a task's, for trying a search and
//! for tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::eval_set::{Chunk, EvalSet, PackedItem};
use super::evaluator::{Evaluator, ItemScore, Outcome, Partial, Work};
use crate::error::{Error, Result};
use crate::space::{Genome, ModelShape};
use crate::task::Scoring;

/// Items of a mock chunk.
const CHUNK_ITEMS: usize = 8;
/// Choices of a mock item.
const CHOICES: usize = 4;

/// Scores networks in closed form: an item's gold choice gains log-likelihood with the network's size, middle
/// layers counting double, and every item has its own difficulty.
pub struct MockEvaluator {
    shape: ModelShape,
    sets: Arc<Vec<EvalSet>>,
    delay: Duration,
    stop: Arc<AtomicBool>,
}

impl MockEvaluator {
    /// One eval set a name, each with this many four-choice items. Each network on each chunk takes `delay`.
    pub fn new(shape: ModelShape, sets: &[(String, usize)], delay: Duration, stop: Arc<AtomicBool>) -> MockEvaluator {
        let sets = Arc::new(sets.iter().map(|(name, items)| mock_set(name, *items)).collect());
        MockEvaluator { shape, sets, delay, stop }
    }

    /// The same on the items of a model's eval sets.
    pub fn on(shape: ModelShape, sets: Arc<Vec<EvalSet>>, delay: Duration, stop: Arc<AtomicBool>) -> MockEvaluator {
        MockEvaluator { shape, sets, delay, stop }
    }

    /// How much of the parent is left, 0 to 1.
    fn strength(&self, genome: &Genome) -> f64 {
        let layers = genome.genes().len();
        let weight = |layer: usize| if layer > 0 && layer + 1 < layers { 2.0 } else { 1.0 };
        let share = |layer: usize| {
            let gene = genome.genes()[layer];
            let heads = f64::from(gene.heads) / self.shape.heads as f64;
            let mlp = f64::from(gene.mlp) / self.shape.mlp as f64;
            weight(layer) * (heads.sqrt() + mlp.sqrt()) / 2.0
        };
        (0..layers).map(share).sum::<f64>() / (0..layers).map(weight).sum::<f64>()
    }

    fn score(&self, name: &str, item: &PackedItem, genome: &Genome) -> ItemScore {
        let digest = blake3::hash(format!("{name}/{}", item.index).as_bytes());
        let choices = item.choice_chars.len();
        let noise = |place: usize| f64::from(digest.as_bytes()[place % digest.as_bytes().len()]) / 255.0;
        let gain = 4.0 * self.strength(genome) - 3.0 * noise(choices);
        let log_likelihoods = (0..choices)
            .map(|choice| -6.0 + noise(choice) + if item.gold.contains(&choice) { gain } else { 0.0 })
            .collect();
        ItemScore { log_likelihoods, ..ItemScore::default() }
    }
}

fn mock_set(name: &str, count: usize) -> EvalSet {
    let items: Vec<PackedItem> = (0..count)
        .map(|index| PackedItem {
            index,
            gold: vec![index % CHOICES],
            choice_chars: vec![8; CHOICES],
            choice_bytes: vec![8; CHOICES],
            scored_tokens: 2 * CHOICES,
            words: CHOICES,
            bytes: 8 * CHOICES,
            answers: Vec::new(),
        })
        .collect();
    let chunks = (0..count)
        .step_by(CHUNK_ITEMS)
        .map(|start| Chunk { items: start..(start + CHUNK_ITEMS).min(count), ..Chunk::default() })
        .collect();
    let digest = blake3::hash(format!("mock {name} {count}").as_bytes()).to_hex().to_string();
    EvalSet { items, chunks, digest, ..EvalSet::empty(name, Scoring::Choices) }
}

impl Evaluator for MockEvaluator {
    fn sets(&self) -> &Arc<Vec<EvalSet>> {
        &self.sets
    }

    fn evaluate(&mut self, work: Vec<Work>, sink: &mut dyn FnMut(Partial) -> Result<()>) -> Result<()> {
        for Work { chunk, genomes } in work {
            let set = &self.sets[chunk.set];
            let items = &set.items[set.chunks[chunk.chunk].items.clone()];
            for genome in genomes {
                if self.stop.load(Ordering::Relaxed) {
                    return Err(Error::Interrupted);
                }
                std::thread::sleep(self.delay);
                let outcome = match genome.depth() {
                    0 => Outcome::Failed("no layer is left".to_string()),
                    _ => Outcome::Scored(items.iter().map(|item| self.score(&set.name, item, &genome)).collect()),
                };
                sink(Partial { chunk, genome, outcome })?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::{Extras, Gene};

    #[test]
    fn larger_networks_answer_better() {
        let shape = ModelShape {
            layers: 4,
            hidden: 64,
            heads: 4,
            kv_heads: 2,
            head_dim: 16,
            mlp: 128,
            vocab: 512,
            tied: false,
            extras: Extras::NONE,
        };
        let sets = [("mock/search".to_string(), 20)];
        let mut mock = MockEvaluator::new(shape, &sets, Duration::ZERO, Arc::default());
        assert_eq!(mock.sets()[0].chunks.len(), 3);
        let genomes: Vec<Genome> = [32, 64, 128].map(|mlp| Genome::uniform(4, Gene::new(4, mlp))).to_vec();
        let mut gold = vec![0.0; 3];
        let work = (0..3)
            .map(|chunk| Work { chunk: super::super::evaluator::ChunkId { set: 0, chunk }, genomes: genomes.clone() });
        mock.evaluate(work.collect(), &mut |partial| {
            let place = genomes.iter().position(|genome| *genome == partial.genome).unwrap();
            let Outcome::Scored(items) = partial.outcome else { panic!("scored") };
            let first = partial.chunk.chunk * CHUNK_ITEMS;
            gold[place] +=
                items.iter().enumerate().map(|(i, item)| item.log_likelihoods[(first + i) % CHOICES]).sum::<f64>();
            Ok(())
        })
        .unwrap();
        assert!(gold[0] < gold[1] && gold[1] < gold[2], "{gold:?}");
    }
}
