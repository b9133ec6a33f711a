//! Measuring a throughput table.
//!
//! Whole networks are timed ([`super::timing`]), block times are fitted to them ([`super::block_times`]), and other whole
//! networks, spread evenly from the smallest to the largest, say how good the fit is.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tch::Device;

use super::block_times::BlockTimes;
use super::table::{FORMAT, LatencyCheck, LatencyOptions, PhaseTable, TableKey, ThroughputTable};
use super::timing::{check_length, time_networks};
use crate::error::{Error, Result};
use crate::kernels::card_name;
use crate::model::Llama;
use crate::model::device::device_name;
use crate::space::{Cost, Gene, Genome, LayerChoices, SearchSpace};
use crate::versions::versions;

/// What a table that is measured here and now is good for.
pub fn key_here(model: &Llama, model_digest: String, space: &SearchSpace, threads: usize) -> TableKey {
    TableKey {
        device: device_name(model),
        hardware: hardware(model.device()),
        threads,
        model_digest,
        space_digest: space_digest(space),
        graphs: false,
        kernels: model.kernels().on_card(),
        versions: versions(),
    }
}

/// What does a device's work: the card by its name, or the processor.
pub fn hardware(device: Device) -> String {
    match device {
        Device::Cuda(card) => card_name(card).unwrap_or_else(|| format!("card {card}")),
        _ => processor(),
    }
}

/// Times whole networks of the space on the model's device and fits the table. `on_network` gets how many timings of
/// how many are done.
///
/// # Errors
/// When a phase is longer than the model's positions.
pub fn measure_table(
    model: &Llama,
    space: &SearchSpace,
    options: LatencyOptions,
    key: TableKey,
    on_network: &mut dyn FnMut(usize, usize),
) -> Result<ThroughputTable> {
    options.phases.iter().try_for_each(|&phase| check_length(model, phase))?;
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    // Products are the same whatever the bits, so networks that differ in them alone are one.
    let checks: Vec<Genome> =
        even_sizes(space, options.check_networks, &mut rng).iter().map(Genome::unquantized).collect();
    let fit: Vec<Genome> = systematic(space)
        .into_iter()
        .chain((0..options.random_networks).map(|_| space.sample(&mut rng)))
        .map(|genome| genome.unquantized())
        .filter(|genome| !checks.contains(genome))
        .collect();
    if fit.is_empty() {
        let found = format!("{} networks, all of them to check with", checks.len());
        return Err(Error::invalid("throughput table", found, "networks to fit; ask for fewer --checks"));
    }
    let all: Vec<Genome> = fit.iter().chain(&checks).cloned().collect();
    tch::set_num_threads(key.threads as i32);
    let total = options.phases.len() * options.rounds * all.len();
    let mut done = 0;
    let mut step = || {
        done += 1;
        on_network(done, total);
    };
    let mut phases = Vec::new();
    for &phase in &options.phases {
        let measured = time_networks(model, &all, phase, options.rounds, &mut step)?;
        let times = BlockTimes::fit(space, &fit, &measured[..fit.len()]);
        let check = |(genome, &measured_ms): (&Genome, &f64)| LatencyCheck {
            genome: genome.clone(),
            predicted_ms: times.of(genome),
            measured_ms,
        };
        let checks = checks.iter().zip(&measured[fit.len()..]).map(check).collect();
        phases.push(PhaseTable { phase, times, checks });
    }
    Ok(ThroughputTable { format: FORMAT, key, options, phases })
}

/// What decides which half layers a table of this space must know.
fn space_digest(space: &SearchSpace) -> String {
    let widths: Vec<_> = space.layers().iter().map(|layer| (&layer.heads, &layer.mlp)).collect();
    let text = serde_json::to_vec(&(space.shape(), space.depths(), widths)).expect("numbers are JSON");
    blake3::hash(&text).to_hex().to_string()
}

/// What this machine's processor calls itself, where it says so.
fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or_else(|| std::env::consts::ARCH.to_string(), |(_, name)| name.trim().to_string())
}

/// The extremes, and each width of a half layer taken by all layers at once while the rest is largest.
fn systematic(space: &SearchSpace) -> Vec<Genome> {
    let (largest, smallest) = (space.largest(), space.smallest());
    let narrowed = |at: &dyn Fn(usize, Gene) -> Gene| {
        Genome::new(largest.genes().iter().enumerate().map(|(layer, gene)| at(layer, *gene)))
    };
    let widths = |of: fn(&LayerChoices) -> &Vec<u32>| {
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
        networks.push(space.express(depth, largest.ends(), |layer| space.layer(layer).largest()));
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
            pool.push(space.express(depth, end.ends(), |layer| {
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
