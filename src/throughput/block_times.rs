//! Times of half layers, fitted to times of whole networks.
//!
//! A block timed alone flatters itself, because its weights stay in cache. So only whole networks are timed, and the
//! block times are the non-negative least-squares solution of `time = constant + Σ attention(heads) + Σ mlp(width)`.

use std::collections::BTreeMap;

use ndarray::{Array1, Array2};
use serde::{Deserialize, Serialize};

use crate::space::{Gene, Genome, SearchSpace};

/// What is the same for all networks takes at least this share of the fastest one's time.
const LEAST_CONSTANT: f64 = 0.01;

/// Milliseconds of everything that a network's time is the sum of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BlockTimes {
    /// Embedding, output matrix and launch.
    pub constant_ms: f64,
    /// An attention half layer by its query heads.
    pub heads_ms: BTreeMap<u32, f64>,
    /// An MLP half layer by its channels.
    pub mlp_ms: BTreeMap<u32, f64>,
}

impl BlockTimes {
    /// The times that explain those of `networks` best; widths of the space that none of them has are interpolated.
    pub fn fit(space: &SearchSpace, networks: &[Genome], times_ms: &[f64]) -> BlockTimes {
        let choices = |of: fn(&Gene) -> u32| -> Vec<u32> {
            let mut all: Vec<u32> =
                networks.iter().flat_map(|genome| genome.genes().iter().map(of)).filter(|&n| n > 0).collect();
            all.sort_unstable();
            all.dedup();
            all
        };
        let (heads, mlp) = (choices(|gene| gene.heads), choices(|gene| gene.mlp));
        let mut counts = Array2::<f64>::zeros((networks.len(), 1 + heads.len() + mlp.len()));
        let mut times = Array1::from(times_ms.to_vec());
        for (row, genome) in networks.iter().enumerate() {
            counts[[row, 0]] = 1.0;
            for (_, gene) in genome.kept() {
                if let Ok(place) = heads.binary_search(&gene.heads) {
                    counts[[row, 1 + place]] += 1.0;
                }
                if let Ok(place) = mlp.binary_search(&gene.mlp) {
                    counts[[row, 1 + heads.len() + place]] += 1.0;
                }
            }
            // Relative errors are what counts, so that small networks weigh as much as large ones.
            let weight = 1.0 / times_ms[row];
            counts.row_mut(row).mapv_inplace(|count| count * weight);
            times[row] *= weight;
        }
        let (solution, _) = nnls::nnls(counts.view(), times.view());
        // Where noise is larger than the times, all of a network's parts can come out as 0, and nothing is infinitely fast.
        let least = times_ms.iter().copied().fold(f64::INFINITY, f64::min) * LEAST_CONSTANT;
        let mut fitted = BlockTimes {
            constant_ms: solution[0].max(if least.is_finite() { least } else { 0.0 }),
            heads_ms: heads.iter().copied().zip(solution.iter().skip(1).copied()).collect(),
            mlp_ms: mlp.iter().copied().zip(solution.iter().skip(1 + heads.len()).copied()).collect(),
        };
        for layer in space.layers() {
            fill(&mut fitted.heads_ms, &layer.heads);
            fill(&mut fitted.mlp_ms, &layer.mlp);
        }
        fitted
    }

    /// Predicted milliseconds of a network.
    pub fn of(&self, genome: &Genome) -> f64 {
        let halves = |gene: Gene| interpolate(&self.heads_ms, gene.heads) + interpolate(&self.mlp_ms, gene.mlp);
        self.constant_ms + genome.kept().map(|(_, gene)| halves(gene)).sum::<f64>()
    }
}

/// Time of a width between measured ones; 0 for a half that is not there.
fn interpolate(times: &BTreeMap<u32, f64>, width: u32) -> f64 {
    if width == 0 {
        return 0.0;
    }
    let below = times.range(..=width).next_back();
    let above = times.range(width..).next();
    match (below, above) {
        (Some((&low, &a)), Some((&high, &b))) if low < high => {
            a + (b - a) * f64::from(width - low) / f64::from(high - low)
        }
        (Some((_, &time)), _) => time,
        (None, Some((&high, &time))) => time * f64::from(width) / f64::from(high),
        (None, None) => 0.0,
    }
}

fn fill(times: &mut BTreeMap<u32, f64>, widths: &[u32]) {
    for &width in widths.iter().filter(|&&width| width > 0) {
        let time = interpolate(times, width);
        times.entry(width).or_insert(time);
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn interpolates_between_measured_widths() {
        let times = BTreeMap::from([(4, 2.0), (8, 6.0)]);
        assert_eq!([0, 2, 4, 6, 8, 9].map(|width| interpolate(&times, width)), [0.0, 1.0, 2.0, 4.0, 6.0, 6.0]);
    }

    #[test]
    fn nothing_takes_no_time() {
        let space = SearchSpace::open("tiny").unwrap();
        // The larger network was faster: all of the time goes to what the smaller one has alone.
        let networks: [Genome; 2] = ["4x128*4".parse().unwrap(), "2x64*4".parse().unwrap()];
        let fitted = BlockTimes::fit(&space, &networks, &[1e-3, 4.0]);
        assert!(networks.iter().all(|genome| fitted.of(genome) >= 1e-5), "{fitted:?}");
    }

    #[test]
    fn recovers_block_times_from_whole_networks() {
        let space = SearchSpace::open("tiny").unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let networks: Vec<Genome> = (0..60).map(|_| space.sample(&mut rng)).collect();
        let truth = |genome: &Genome| {
            3.0 + genome.kept().map(|(_, gene)| 0.5 * f64::from(gene.heads) + 0.01 * f64::from(gene.mlp)).sum::<f64>()
        };
        let times: Vec<f64> = networks.iter().map(truth).collect();
        let fitted = BlockTimes::fit(&space, &networks[..50], &times[..50]);
        for (genome, time) in networks.iter().zip(&times).skip(50) {
            assert!((fitted.of(genome) - time).abs() < 1e-6 * time, "{genome}");
        }
    }
}
