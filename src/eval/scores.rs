//! All scores of some networks on one eval set.

use std::collections::HashMap;

use super::evaluator::{ChunkId, Evaluator, ItemScore, Outcome, Work};
use crate::error::Result;
use crate::space::Genome;

/// All items' scores in the set's order, or why there are none.
pub type NetworkScores = Result<Vec<ItemScore>, String>;

/// Scores the genomes (each once) on an eval set as one population: each chunk is walked once for all of them. One entry a
/// genome; `on_partial` is called after each partial score.
///
/// # Errors
/// What the evaluator refuses.
pub fn score(
    evaluator: &mut dyn Evaluator,
    set: usize,
    genomes: &[Genome],
    on_partial: &mut dyn FnMut(),
) -> Result<Vec<NetworkScores>> {
    let mut chunks: Vec<HashMap<Genome, Outcome>> = vec![HashMap::new(); evaluator.sets()[set].chunks.len()];
    let work = (0..chunks.len()).map(|chunk| Work { chunk: ChunkId { set, chunk }, genomes: genomes.to_vec() });
    let work = work.collect();
    evaluator.evaluate(work, &mut |partial| {
        chunks[partial.chunk.chunk].insert(partial.genome, partial.outcome);
        on_partial();
        Ok(())
    })?;
    let of = |genome: &Genome| {
        let mut scores = Vec::new();
        for chunk in &mut chunks {
            match chunk.remove(genome).expect("every chunk was scored") {
                Outcome::Scored(items) => scores.extend(items),
                Outcome::Failed(reason) => return Err(reason),
            }
        }
        Ok(scores)
    };
    Ok(genomes.iter().map(of).collect())
}
