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

/// Times every division of every packing, one division after the other because MKL's number of threads belongs to the
/// process. `stop` ends it as it ends an evaluation.
///
/// # Errors
/// [`Error::Interrupted`](crate::Error::Interrupted) once the user asked to stop; a model that cannot be run.
pub fn measure(
    model: &Llama,
    packings: &[(usize, EvalSet)],
    candidates: &[Workers],
    stop: &Arc<AtomicBool>,
    on_progress: &mut dyn FnMut(usize, usize),
) -> Result<Vec<Division>> {
    let genome = some_layers(model);
    let start = Instant::now();
    let sets: Vec<EvalSet> = packings.iter().map(|(_, set)| set.clone()).collect();
    let mut divisions = Vec::new();
    let total = candidates.len() * packings.len() * ROUNDS;
    for &workers in candidates {
        let mut evaluator = LocalEvaluator::start(model, sets.clone(), workers, 0, stop.clone());
        let mut fastest = vec![0.0_f64; packings.len()];
        for round in 0..ROUNDS {
            if round > 0 && start.elapsed() > PATIENCE {
                break;
            }
            for (set, fastest) in fastest.iter_mut().enumerate() {
                *fastest = fastest.max(tokens_per_second(&mut evaluator, set, workers, &genome)?);
                on_progress(ROUNDS * divisions.len() + round * packings.len() + set + 1, total);
            }
        }
        divisions.extend(packings.iter().zip(fastest).map(|(&(chunk_tokens, _), tokens_per_second)| Division {
            chunk_tokens,
            workers,
            tokens_per_second,
        }));
    }
    Ok(divisions)
}

/// The model's first quarter: its layers are alike, so the division that suits one suits all.
fn some_layers(model: &Llama) -> Genome {
    let genes = model.config().genome.genes();
    let kept = genes.len().div_ceil(LAYERS);
    Genome::new(genes.iter().enumerate().map(|(layer, &gene)| if layer < kept { gene } else { Gene::DROPPED }))
}

/// Every worker gets the same number of chunks, so that none waits for another; chunks repeat where there are too few.
fn tokens_per_second(evaluator: &mut LocalEvaluator, set: usize, workers: Workers, genome: &Genome) -> Result<f64> {
    let lengths: Vec<usize> = evaluator.sets()[set].chunks.iter().map(|chunk| chunk.tree.len()).collect();
    let longest = lengths.iter().copied().max().unwrap_or(1).max(1);
    let rounds = SAMPLE_TOKENS.div_ceil(longest * workers.count);
    // Full chunks only: the last one of a set is what was left.
    let full: Vec<usize> = (0..lengths.len()).filter(|&chunk| 5 * lengths[chunk] >= 4 * longest).collect();
    let work = |count: usize| -> Vec<Work> {
        let chunks = full.iter().cycle().take(count);
        chunks.map(|&chunk| Work { chunk: ChunkId { set, chunk }, genomes: vec![genome.clone()] }).collect()
    };
    // The first chunks wake the threads.
    evaluator.evaluate(work(workers.count), &mut |_| Ok(()))?;
    let work = work(rounds * workers.count);
    let tokens: usize = work.iter().map(|work| lengths[work.chunk.chunk]).sum();
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
