//! Which division of the CPU is fastest here: a short measurement before a run, whose result is frozen with it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::evaluator::{ChunkId, Evaluator, Work};
use super::local::{LocalEvaluator, Workers};
use super::packing::EvalSet;
use crate::error::Result;
use crate::model::Llama;
use crate::space::{Gene, Genome};

/// Tokens that every division is timed on.
const SAMPLE_TOKENS: usize = 2048;
/// One layer in so many is timed: they are all alike.
const LAYERS: usize = 4;
/// Rounds after the first stop once this much time has passed.
const PATIENCE: Duration = Duration::from_secs(12);
const ROUNDS: usize = 3;
/// A share of the best speed that repeated measurements do not tell from it.
const GOOD_ENOUGH: f64 = 0.95;

/// A way to divide the work, and how fast it was.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Division {
    /// Tokens that share a forward pass.
    pub chunk_tokens: usize,
    /// Worker threads and their libtorch threads.
    pub workers: Workers,
    /// Tokens a second through a quarter of the layers.
    pub tokens_per_second: f64,
}

/// The divisions worth trying on this many cores: all of them for one chunk, one for each, and half way.
pub fn candidates(cores: usize) -> Vec<Workers> {
    let mut counts = vec![1, (cores as f64).sqrt().round() as usize, cores];
    counts.retain(|&count| count > 0 && cores.is_multiple_of(count));
    counts.dedup();
    counts.into_iter().map(|count| Workers { count, threads: cores / count }).collect()
}

/// The fastest of the divisions, or the one with the smallest chunks of those that are all but as fast: more chunks are
/// more stages of a race, and less to lose.
pub fn choose(divisions: &[Division]) -> Option<Division> {
    let most = divisions.iter().map(|one| one.tokens_per_second).fold(0.0, f64::max);
    let good = divisions.iter().filter(|one| one.tokens_per_second >= GOOD_ENOUGH * most);
    good.copied()
        .min_by(|a, b| a.chunk_tokens.cmp(&b.chunk_tokens).then(b.tokens_per_second.total_cmp(&a.tokens_per_second)))
}

/// Times every division of every packing, alternated.
///
/// # Errors
/// When the model cannot be run.
pub fn measure(
    model: &Llama,
    packings: &[(usize, EvalSet)],
    candidates: &[Workers],
    on_progress: &mut dyn FnMut(usize, usize),
) -> Result<Vec<Division>> {
    let genome = some_layers(model);
    let start = Instant::now();
    let mut divisions: Vec<Division> = packings
        .iter()
        .flat_map(|&(chunk_tokens, _)| {
            candidates.iter().map(move |&workers| Division { chunk_tokens, workers, tokens_per_second: 0.0 })
        })
        .collect();
    let total = ROUNDS * divisions.len();
    for round in 0..ROUNDS {
        if round > 0 && start.elapsed() > PATIENCE {
            break;
        }
        for (place, division) in divisions.iter_mut().enumerate() {
            let set = &packings[place / candidates.len()].1;
            let speed = tokens_per_second(model, set, division.workers, &genome)?;
            division.tokens_per_second = division.tokens_per_second.max(speed);
            on_progress(round * candidates.len() * packings.len() + place + 1, total);
        }
    }
    Ok(divisions)
}

/// The model's first quarter: its layers are alike, so the division that suits one suits all.
fn some_layers(model: &Llama) -> Genome {
    let genes = model.config().genome.genes();
    let kept = genes.len().div_ceil(LAYERS);
    Genome::new(genes.iter().enumerate().map(|(layer, &gene)| if layer < kept { gene } else { Gene::DROPPED }))
}

fn tokens_per_second(model: &Llama, set: &EvalSet, workers: Workers, genome: &Genome) -> Result<f64> {
    let mut evaluator = LocalEvaluator::start(model, vec![set.clone()], workers, 0, Arc::new(AtomicBool::new(false)));
    let mut sample = 0;
    let chunks = set.chunks.iter().take_while(|chunk| {
        let wanted = sample < SAMPLE_TOKENS;
        sample += chunk.tree.len();
        wanted
    });
    let work: Vec<Work> = (0..chunks.count())
        .map(|chunk| Work { chunk: ChunkId { set: 0, chunk }, genomes: vec![genome.clone()] })
        .collect();
    let tokens: usize = work.iter().map(|work| set.chunks[work.chunk.chunk].tree.len()).sum();
    // The first chunk wakes the threads.
    evaluator.evaluate(work[..1].to_vec(), &mut |_| Ok(()))?;
    let start = Instant::now();
    evaluator.evaluate(work, &mut |_| Ok(()))?;
    Ok(tokens as f64 / start.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_good_chunks_are_chosen() {
        let division = |chunk_tokens, count, tokens_per_second| Division {
            chunk_tokens,
            workers: Workers { count, threads: 1 },
            tokens_per_second,
        };
        let all = [division(512, 1, 60.0), division(512, 2, 96.0), division(1024, 2, 100.0), division(2048, 2, 99.0)];
        assert_eq!(choose(&all), Some(all[1]));
        assert_eq!(choose(&all[2..]), Some(all[2]));
        assert_eq!(choose(&[]), None);
    }

    #[test]
    fn candidates_use_every_core_once() {
        let counts = |cores| candidates(cores).iter().map(|one| (one.count, one.threads)).collect::<Vec<_>>();
        assert_eq!(counts(1), [(1, 1)]);
        assert_eq!(counts(2), [(1, 2), (2, 1)]);
        assert_eq!(counts(16), [(1, 16), (4, 4), (16, 1)]);
        assert_eq!(counts(6), [(1, 6), (2, 3), (6, 1)]);
        assert_eq!(counts(7), [(1, 7), (7, 1)]);
    }
}
