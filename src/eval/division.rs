//! Which division of the CPU is fastest here: a short measurement before a run, whose result is frozen with it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::eval_set::EvalSet;
use super::evaluator::{ChunkId, Evaluator, Work};
use super::local::{LocalEvaluator, Workers};
use crate::error::Result;
use crate::model::Llama;
use crate::space::{Gene, Genome};

/// Tokens that every division is timed on, at least.
const SAMPLE_TOKENS: usize = 1024;
/// Layers that are timed: they are all alike.
const LAYERS: usize = 2;
/// No round begins after this time: what the measurement costs must be small beside the search that it helps.
const PATIENCE: Duration = Duration::from_secs(3);
/// Rounds of a measurement that tells divisions apart.
pub const ROUNDS: usize = 3;
/// A share of the best speed that repeated measurements do not tell from it.
const GOOD_ENOUGH: f64 = 0.95;

/// A way to divide the work, and how fast it was.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Division {
    /// Tokens that share a forward pass.
    pub chunk_tokens: usize,
    /// Worker threads and their libtorch threads.
    pub workers: Workers,
    /// Tokens a second through two layers and the head.
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

/// Times every division of every packing, in at most so many `rounds`, so that a busy moment does not fall on one of them alone; one after
/// the other because MKL's number of threads belongs to the process. `stop` ends it as it ends an evaluation.
///
/// # Errors
/// [`Error::Interrupted`](crate::Error::Interrupted) once the user asked to stop; a model that cannot be run.
pub fn measure(
    model: &Llama,
    packings: &[(usize, EvalSet)],
    candidates: &[Workers],
    rounds: usize,
    stop: &Arc<AtomicBool>,
    on_progress: &mut dyn FnMut(usize, usize),
) -> Result<Vec<Division>> {
    let genome = first_layers(model);
    let sets: Vec<EvalSet> = packings.iter().map(|(_, set)| EvalSet { writes: false, ..set.clone() }).collect();
    let mut divisions: Vec<Division> = candidates
        .iter()
        .flat_map(|&workers| {
            packings.iter().map(move |&(chunk_tokens, _)| Division { chunk_tokens, workers, tokens_per_second: 0.0 })
        })
        .collect();
    let total = rounds * divisions.len();
    // Every new thread that runs libtorch leaks memory, so the workers of the largest division serve all of them.
    let most = candidates.iter().map(|workers| workers.count).max().unwrap_or(1);
    let most = Workers { count: most, threads: 1 };
    let mut evaluator = LocalEvaluator::start(std::slice::from_ref(model), sets.clone(), most, 0, stop.clone());
    let start = Instant::now();
    for round in 0..rounds {
        if start.elapsed() > PATIENCE {
            break;
        }
        for (place, &workers) in candidates.iter().enumerate() {
            evaluator.divide_into(workers);
            wake(&mut evaluator, workers, &genome)?;
            for set in 0..sets.len() {
                let division = place * sets.len() + set;
                let speed = tokens_per_second(&mut evaluator, set, workers, &genome)?;
                divisions[division].tokens_per_second = divisions[division].tokens_per_second.max(speed);
                on_progress(round * divisions.len() + division + 1, total);
            }
        }
    }
    Ok(divisions)
}

/// The model's first layers alone.
fn first_layers(model: &Llama) -> Genome {
    let genes = model.config().genome.genes();
    Genome::new(genes.iter().enumerate().map(|(layer, &gene)| if layer < LAYERS { gene } else { Gene::DROPPED }))
}

/// One chunk for each worker, on nobody's clock: its threads are started by their first product.
fn wake(evaluator: &mut LocalEvaluator, workers: Workers, genome: &Genome) -> Result<()> {
    let work = chunks(evaluator, 0, workers.count, genome);
    evaluator.evaluate(work, &mut |_| Ok(()))
}

/// Every worker gets the same number of chunks, so that none waits for another.
fn tokens_per_second(evaluator: &mut LocalEvaluator, set: usize, workers: Workers, genome: &Genome) -> Result<f64> {
    let rounds = SAMPLE_TOKENS.div_ceil(longest_chunk(&evaluator.sets()[set]) * workers.count);
    let work = chunks(evaluator, set, rounds * workers.count, genome);
    let tokens: usize = work.iter().map(|work| evaluator.sets()[set].chunks[work.chunk.chunk].tree.len()).sum();
    let start = Instant::now();
    evaluator.evaluate(work, &mut |_| Ok(()))?;
    Ok(tokens as f64 / start.elapsed().as_secs_f64())
}

/// So many full chunks of a set; they repeat where there are too few. The last chunk of a set is what was left.
fn chunks(evaluator: &LocalEvaluator, set: usize, count: usize, genome: &Genome) -> Vec<Work> {
    let eval_set = &evaluator.sets()[set];
    let longest = longest_chunk(eval_set);
    let full = (0..eval_set.chunks.len()).filter(|&chunk| 5 * eval_set.chunks[chunk].tree.len() >= 4 * longest);
    let full: Vec<usize> = full.collect();
    let chosen = full.iter().cycle().take(count);
    chosen.map(|&chunk| Work { chunk: ChunkId { set, chunk }, genomes: vec![genome.clone()] }).collect()
}

fn longest_chunk(set: &EvalSet) -> usize {
    set.chunks.iter().map(|chunk| chunk.tree.len()).max().unwrap_or(1).max(1)
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
