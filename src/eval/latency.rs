//! Measured prefill throughput: a table of half-layer times, fitted to whole-network timings.
//!
//! A block timed alone flatters itself, because its weights stay in cache. So only whole networks are timed,
//! in alternated order, and the block times are the non-negative least-squares solution of
//! `time = constant + Σ attention(heads) + Σ mlp(width)`.

use std::collections::BTreeMap;
use std::time::Instant;

use ndarray::{Array1, Array2};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::kendall::kendall_tau;
use crate::model::{Llama, TokenTree};
use crate::space::{Cost, Gene, Genome, SearchSpace};

/// What is timed and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatencyOptions {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Random networks beside the systematic ones.
    pub random_networks: usize,
    /// Networks, evenly spread by size, that the table is checked against.
    pub check_networks: usize,
    /// Times each network runs; the median counts.
    pub rounds: usize,
    /// libtorch threads.
    pub threads: usize,
}

impl Default for LatencyOptions {
    fn default() -> Self {
        LatencyOptions { prompt_tokens: 256, random_networks: 8, check_networks: 8, rounds: 5, threads: 1 }
    }
}

/// A network that was predicted and measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatencyCheck {
    /// The network.
    pub genome: Genome,
    /// What the table says, milliseconds.
    pub predicted_ms: f64,
    /// Median of its timings, milliseconds.
    pub measured_ms: f64,
}

/// Prefill times of half layers on one device and model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatencyTable {
    /// How it was measured.
    pub options: LatencyOptions,
    /// Device and kind of the weights, such as `cpu float32`.
    pub device: String,
    /// Embedding, output matrix of the last token, and launch: milliseconds.
    pub constant_ms: f64,
    /// Milliseconds of an attention half layer by its query heads.
    pub heads_ms: BTreeMap<u32, f64>,
    /// Milliseconds of an MLP half layer by its channels.
    pub mlp_ms: BTreeMap<u32, f64>,
    /// Networks that the fit has not seen.
    pub checks: Vec<LatencyCheck>,
}

impl LatencyTable {
    /// Times whole networks of the space on the model's device and fits the table.
    ///
    /// # Errors
    /// When the prompt is longer than the model's positions.
    pub fn measure(
        model: &Llama,
        space: &SearchSpace,
        options: LatencyOptions,
        on_network: &mut dyn FnMut(usize, usize),
    ) -> Result<LatencyTable> {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let checks = even_sizes(space, options.check_networks, &mut rng);
        let fit: Vec<Genome> = systematic(space)
            .into_iter()
            .chain((0..options.random_networks).map(|_| space.sample(&mut rng)))
            .filter(|genome| !checks.contains(genome))
            .collect();
        let all: Vec<Genome> = fit.iter().chain(&checks).cloned().collect();
        let times = time_networks(model, &all, options, on_network)?;
        let mut table = LatencyTable {
            options,
            device: format!("{:?} {:?}", model.device(), model.kind()).to_lowercase(),
            constant_ms: 0.0,
            heads_ms: BTreeMap::new(),
            mlp_ms: BTreeMap::new(),
            checks: Vec::new(),
        };
        table.fit(space, &fit, &times[..fit.len()]);
        table.checks = checks
            .into_iter()
            .zip(&times[fit.len()..])
            .map(|(genome, &measured_ms)| {
                let predicted_ms = table.prefill_ms(&genome);
                LatencyCheck { genome, predicted_ms, measured_ms }
            })
            .collect();
        Ok(table)
    }

    fn fit(&mut self, space: &SearchSpace, networks: &[Genome], times: &[f64]) {
        let choices = |of: fn(&Gene) -> u32| -> Vec<u32> {
            let mut all: Vec<u32> =
                networks.iter().flat_map(|genome| genome.genes().iter().map(of)).filter(|&n| n > 0).collect();
            all.sort_unstable();
            all.dedup();
            all
        };
        let (heads, mlp) = (choices(|gene| gene.heads), choices(|gene| gene.mlp));
        let mut counts = Array2::<f64>::zeros((networks.len(), 1 + heads.len() + mlp.len()));
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
        }
        let (solution, _) = nnls::nnls(counts.view(), Array1::from(times.to_vec()).view());
        self.constant_ms = solution[0];
        self.heads_ms = heads.iter().copied().zip(solution.iter().skip(1).copied()).collect();
        self.mlp_ms = mlp.iter().copied().zip(solution.iter().skip(1 + heads.len()).copied()).collect();
        // Widths that no timed network had are interpolated between their neighbours.
        for layer in space.layers() {
            fill(&mut self.heads_ms, &layer.heads);
            fill(&mut self.mlp_ms, &layer.mlp);
        }
    }

    /// Predicted milliseconds of one prompt.
    pub fn prefill_ms(&self, genome: &Genome) -> f64 {
        let halves = |gene: Gene| interpolate(&self.heads_ms, gene.heads) + interpolate(&self.mlp_ms, gene.mlp);
        self.constant_ms + genome.kept().map(|(_, gene)| halves(gene)).sum::<f64>()
    }

    /// Predicted prefill throughput, tokens per second.
    pub fn prefill_tps(&self, genome: &Genome) -> f64 {
        self.options.prompt_tokens as f64 * 1e3 / self.prefill_ms(genome)
    }

    /// Mean of |predicted − measured| / measured over the checked networks.
    pub fn mean_error(&self) -> f64 {
        let error = |check: &LatencyCheck| (check.predicted_ms - check.measured_ms).abs() / check.measured_ms;
        self.checks.iter().map(error).sum::<f64>() / self.checks.len().max(1) as f64
    }

    /// Kendall's τ between predicted and measured times of the checked networks.
    pub fn kendall_tau(&self) -> f64 {
        let (predicted, measured): (Vec<f64>, Vec<f64>) =
            self.checks.iter().map(|check| (check.predicted_ms, check.measured_ms)).unzip();
        kendall_tau(&predicted, &measured)
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

/// The extremes, and each width of a half layer taken by all layers at once while the rest is largest.
fn systematic(space: &SearchSpace) -> Vec<Genome> {
    let (largest, smallest) = (space.largest(), space.smallest());
    let narrowed = |at: &dyn Fn(usize, Gene) -> Gene| {
        Genome::new(largest.genes().iter().enumerate().map(|(layer, gene)| at(layer, *gene)))
    };
    let widths = |of: fn(&crate::space::LayerChoices) -> &Vec<u32>| {
        let mut all: Vec<u32> = space.layers().iter().flat_map(|layer| of(layer).iter().copied()).collect();
        all.sort_unstable();
        all.dedup();
        all
    };
    let mut networks = vec![largest.clone(), smallest];
    for heads in widths(|layer| &layer.heads) {
        networks.push(narrowed(&|layer, gene| {
            if space.layer(layer).heads.contains(&heads) { Gene { heads, ..gene } } else { gene }
        }));
    }
    for mlp in widths(|layer| &layer.mlp) {
        networks.push(narrowed(&|layer, gene| {
            if space.layer(layer).mlp.contains(&mlp) { Gene { mlp, ..gene } } else { gene }
        }));
    }
    for &depth in space.depths() {
        networks.push(space.express(depth, |layer| space.layer(layer).largest()));
    }
    networks.retain(|genome| genome.depth() > 0);
    networks.sort();
    networks.dedup();
    networks
}

/// Networks whose sizes are spread evenly from the smallest to the largest.
fn even_sizes(space: &SearchSpace, count: usize, rng: &mut ChaCha8Rng) -> Vec<Genome> {
    let size = |genome: &Genome| Cost::of(space.shape(), genome).params;
    let mut pool: Vec<Genome> =
        (0..64 * count).map(|_| space.sample(rng)).filter(|genome| genome.depth() > 0).collect();
    // Mixtures with the extremes reach the sizes that a uniform draw hardly ever has.
    for (place, end) in [space.largest(), space.smallest()].iter().enumerate() {
        for step in 0..32 * count {
            let other = &pool[(step * 2 + place) % pool.len()];
            let cut = step * end.genes().len() / (32 * count);
            let depth = space.depth_of(end);
            pool.push(space.express(depth, |layer| {
                let gene = if layer < cut { other.genes()[layer] } else { end.genes()[layer] };
                if gene.is_dropped() { end.genes()[layer] } else { gene }
            }));
        }
    }
    let (low, high) = (size(&space.smallest()) as f64, size(&space.largest()) as f64);
    let mut chosen: Vec<Genome> = (0..count)
        .filter_map(|step| {
            let target = low + (high - low) * step as f64 / (count - 1).max(1) as f64;
            pool.iter()
                .min_by(|a, b| (size(a) as f64 - target).abs().total_cmp(&(size(b) as f64 - target).abs()))
                .cloned()
        })
        .collect();
    chosen.dedup();
    chosen
}

/// Median milliseconds of each network, timed in alternating order after a warm-up.
fn time_networks(
    model: &Llama,
    networks: &[Genome],
    options: LatencyOptions,
    on_network: &mut dyn FnMut(usize, usize),
) -> Result<Vec<f64>> {
    networks.iter().try_for_each(|genome| model.check(genome))?;
    tch::set_num_threads(options.threads as i32);
    let vocab = model.config().shape.vocab as u32;
    let tokens: Vec<u32> = (0..options.prompt_tokens as u32).map(|token| token * 7919 % vocab).collect();
    let batch = model.batch(&TokenTree::chain(&tokens))?;
    let run = |genome: &Genome| {
        let start = Instant::now();
        tch::no_grad(|| {
            let last = model.hidden(genome, &batch).narrow(0, batch.len() - 1, 1);
            // Reading a number back waits for the device.
            let _ = model.logits(&last).sum(tch::Kind::Float).double_value(&[]);
        });
        start.elapsed().as_secs_f64() * 1e3
    };
    networks.first().map(run);
    let mut times = vec![Vec::with_capacity(options.rounds); networks.len()];
    let total = networks.len() * options.rounds;
    for round in 0..options.rounds {
        for step in 0..networks.len() {
            let place = if round % 2 == 0 { step } else { networks.len() - 1 - step };
            times[place].push(run(&networks[place]));
            on_network(round * networks.len() + step + 1, total);
        }
    }
    let median = |mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    match options.rounds {
        0 => Err(Error::invalid("latency rounds", 0, "at least 1")),
        _ => Ok(times.into_iter().map(median).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interpolates_between_measured_widths() {
        let times = BTreeMap::from([(4, 2.0), (8, 6.0)]);
        assert_eq!([0, 2, 4, 6, 8, 9].map(|width| interpolate(&times, width)), [0.0, 1.0, 2.0, 4.0, 6.0, 6.0]);
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
        let mut table = LatencyTable {
            options: LatencyOptions::default(),
            device: "test".into(),
            constant_ms: 0.0,
            heads_ms: BTreeMap::new(),
            mlp_ms: BTreeMap::new(),
            checks: vec![],
        };
        table.fit(&space, &networks[..50], &times[..50]);
        for (genome, time) in networks.iter().zip(&times).skip(50) {
            assert!((table.prefill_ms(genome) - time).abs() < 1e-6 * time, "{genome}");
        }
    }
}
