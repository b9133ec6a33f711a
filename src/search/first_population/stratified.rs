//! A sample that covers the range of sizes, around networks that are given.

use std::collections::HashSet;

use rand::Rng;

use crate::space::{Ends, Gene, Genome, SearchSpace};

/// Genomes drawn for each one wanted.
const POOL: usize = 16;

/// The distinct `seeds` in their order, topped up to `count` genomes of the space as [`stratified`] draws them,
/// the seeds' sizes being covered already. All seeds are kept, even where there are more than `count`.
pub fn first_population(
    space: &SearchSpace,
    seeds: &[Genome],
    count: usize,
    rng: &mut (impl Rng + ?Sized),
    size: impl Fn(&Genome) -> u64,
) -> Vec<Genome> {
    let mut known = HashSet::new();
    let mut population: Vec<Genome> = seeds.iter().filter(|seed| known.insert(*seed)).cloned().collect();
    let mut known: HashSet<Genome> = population.iter().cloned().collect();
    let missing = count.saturating_sub(population.len());
    let mut pool: Vec<(u64, Genome)> = (0..missing.saturating_mul(POOL))
        .map(|_| spread(space, rng))
        .filter(|genome| known.insert(genome.clone()))
        .map(|genome| (size(&genome), genome))
        .collect();

    // Each next genome is the one whose size is farthest from all sizes so far; the first drawn of several.
    let mut sizes: Vec<u64> = population.iter().map(&size).collect();
    if sizes.is_empty() {
        sizes.extend(pool.iter().map(|(size, _)| *size).min());
    }
    let nearest = |size: u64| sizes.iter().map(|known| known.abs_diff(size)).min().unwrap_or(u64::MAX);
    let mut gaps: Vec<u64> = pool.iter().map(|(size, _)| nearest(*size)).collect();
    while population.len() < count && !pool.is_empty() {
        let next = (0..pool.len()).rev().max_by_key(|&i| gaps[i]).expect("the pool is not empty");
        let (size, genome) = pool.remove(next);
        gaps.remove(next);
        for (gap, (other, _)) in gaps.iter_mut().zip(&pool) {
            *gap = (*gap).min(other.abs_diff(size));
        }
        population.push(genome);
    }
    population
}

/// Up to `count` distinct genomes of the space that cover its range of sizes evenly. Genomes drawn gene by gene do
/// not: their sizes pile up in the middle, the more so the more layers there are. Fewer come back when the
/// space is small.
pub fn stratified(
    space: &SearchSpace,
    count: usize,
    rng: &mut (impl Rng + ?Sized),
    size: impl Fn(&Genome) -> u64,
) -> Vec<Genome> {
    first_population(space, &[], count, rng, size)
}

/// A genome whose genes lean to one level, itself drawn evenly between the smallest and the largest network.
fn spread(space: &SearchSpace, rng: &mut (impl Rng + ?Sized)) -> Genome {
    let level: f64 = rng.random();
    let depth = lean(space.depths(), level, rng);
    let choices = space.ends();
    let ends = Ends { embedding: lean(&choices.embedding, level, rng), head: lean(&choices.head, level, rng) };
    space.express(depth, ends, |layer| {
        let choices = space.layer(layer);
        Gene {
            heads: lean(&choices.heads, level, rng),
            mlp: lean(&choices.mlp, level, rng),
            bits: lean(&choices.bits, level, rng),
        }
    })
}

/// A choice of an ascending list: each step up is taken with probability `level`, so the mean is at that level.
fn lean<T: Copy>(choices: &[T], level: f64, rng: &mut (impl Rng + ?Sized)) -> T {
    choices[(1..choices.len()).filter(|_| rng.random_bool(level)).count()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    fn width(genome: &Genome) -> u64 {
        genome.genes().iter().map(|gene| u64::from(gene.mlp)).sum()
    }

    /// Forty layers, four widths: sizes drawn gene by gene lie within a tenth of the middle.
    fn forty_layers() -> SearchSpace {
        SearchSpace::from_yaml(
            "{ shape: { layers: 40, hidden: 64, heads: 4, kv_heads: 4, head_dim: 16, mlp: 128, vocab: 512 }, \
             depth: [40], heads: [4], mlp: [32, 64, 96, 128] }",
        )
        .unwrap()
    }

    /// How many of ten equal parts of the space's range of sizes hold a genome.
    fn tenths(space: &SearchSpace, genomes: &[Genome]) -> usize {
        let (low, high) = (width(&space.smallest()), width(&space.largest()));
        let tenth = |genome: &Genome| ((width(genome) - low) * 10 / (high - low)).min(9);
        genomes.iter().map(tenth).collect::<HashSet<_>>().len()
    }

    #[test]
    fn covers_the_range_of_sizes() {
        let space = forty_layers();
        for seed in 0..10 {
            let rng = &mut ChaCha8Rng::seed_from_u64(seed);
            let genomes = stratified(&space, 20, rng, width);
            assert_eq!(genomes.len(), 20);
            assert!(genomes.iter().all(|genome| space.contains(genome)));
            assert_eq!(genomes.iter().collect::<HashSet<_>>().len(), 20);
            assert!(tenths(&space, &genomes) >= 9, "seed {seed}: {}", tenths(&space, &genomes));
            let gene_by_gene: Vec<Genome> = (0..20).map(|_| space.sample(rng)).collect();
            assert!(tenths(&space, &gene_by_gene) <= 5, "seed {seed}: {}", tenths(&space, &gene_by_gene));
        }
    }

    #[test]
    fn keeps_distinct_seeds_first_and_fills_the_gaps_between_them() {
        let space = forty_layers();
        let seeds = [space.largest(), space.smallest(), space.largest()];
        let first = first_population(&space, &seeds, 3, &mut ChaCha8Rng::seed_from_u64(1), width);
        assert_eq!(first[..2], [space.largest(), space.smallest()]);
        let middle = (width(&space.largest()) + width(&space.smallest())) / 2;
        assert!(width(&first[2]).abs_diff(middle) < 256, "{}", width(&first[2]));
        let all = first_population(&space, &seeds, 1, &mut ChaCha8Rng::seed_from_u64(1), width);
        assert_eq!(all.len(), 2, "seeds are never thrown away");
    }

    #[test]
    fn returns_a_whole_small_space_and_no_more() {
        let space = SearchSpace::from_yaml(
            "{ shape: { layers: 2, hidden: 64, heads: 4, kv_heads: 4, head_dim: 16, mlp: 128, vocab: 512 }, \
             depth: [2], heads: [4], mlp: [64, 128] }",
        )
        .unwrap();
        assert_eq!(stratified(&space, 50, &mut ChaCha8Rng::seed_from_u64(1), width).len(), 4);
        assert!(stratified(&space, 0, &mut ChaCha8Rng::seed_from_u64(1), width).is_empty());
    }
}
