//! Counts, without a model, what hidden states shared within and across populations save: multiplications that a
//! search computes, as a share of those that it would compute network by network.
//!
//!     cargo run --release --example count_half_layers
//!
//! NSGA-II runs on a stand-in for a supernet: every half layer has a random importance, and the loss is the importance
//! that a network lost, with diminishing returns. What is counted is the very walk and cache of a real search.

use std::cell::Cell;
use std::sync::Mutex;

use criadero::eval::PrefixCache;
use criadero::eval::trie::{HalfLayers, Kept, walk};
use criadero::search::{Algorithm, Crossover, Mutation, MutationCount, Nsga2, Nsga2Settings, Told};
use criadero::space::{Cost, Genome, HalfGene, SearchSpace};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const POPULATION: usize = 50;
const GENERATIONS: usize = 20;
const SEEDS: u64 = 3;

/// Multiplications of a half layer, a token: its weights.
struct Count<'a> {
    space: &'a SearchSpace,
    done: Cell<u64>,
}

impl Count<'_> {
    fn half(&self, level: usize, width: u32) -> u64 {
        let shape = self.space.shape();
        let (hidden, head, width) = (shape.hidden as u64, shape.head_dim as u64, u64::from(width));
        match level.is_multiple_of(2) {
            true => 2 * hidden * head * (width + width / shape.group() as u64),
            false => 3 * hidden * width,
        }
    }
}

impl HalfLayers for Count<'_> {
    type State = ();

    fn first(&self) {}

    fn after(&self, level: usize, half: HalfGene, (): &()) {
        self.done.set(self.done.get() + self.half(level, half.width));
    }
}

/// What a half layer's width is worth, 0 at none and its importance at full width.
fn loss(space: &SearchSpace, importance: &[f64], genome: &Genome) -> f64 {
    let shape = space.shape();
    let kept = genome
        .genes()
        .iter()
        .flat_map(|gene| [f64::from(gene.heads) / shape.heads as f64, f64::from(gene.mlp) / shape.mlp as f64]);
    kept.zip(importance).map(|(kept, importance)| importance * (1.0 - kept.sqrt())).sum()
}

/// The share of the work that is left with a cache of so many states for each network of a population.
fn share(space: &SearchSpace, settings: &Nsga2Settings, states: usize) -> f64 {
    let (mut done, mut alone) = (0, 0);
    for seed in 0..SEEDS {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let importance: Vec<f64> = (0..2 * space.shape().layers).map(|_| rng.random::<f64>().powi(2)).collect();
        let mut search = Nsga2::new(space, settings.clone(), Vec::new(), seed).expect("the settings are probabilities");
        let count = Count { space, done: Cell::new(0) };
        let cache = Mutex::new(PrefixCache::new(2 * (states * POPULATION) as u64));
        let every = (2 * space.shape().layers).div_ceil(states + 1);
        for generation in 0..GENERATIONS {
            let genomes = search.ask();
            let kept = Kept { cache: &cache, place: (), bytes: 1, every };
            let before = count.done.get();
            walk(&count, &genomes, (states > 0).then_some(&kept), &mut |_, ()| true);
            // The first population is random: nothing is known that it could share.
            if generation > 0 {
                done += count.done.get() - before;
                let whole = |genome: &Genome| -> u64 {
                    let halves = criadero::eval::half_layers(genome);
                    halves.iter().enumerate().map(|(level, half)| count.half(level, half.width)).sum()
                };
                alone += genomes.iter().map(whole).sum::<u64>();
            }
            let told: Vec<Told> = genomes
                .iter()
                .map(|genome| {
                    let params = Cost::of(space.shape(), genome).params as f64;
                    Told::feasible([loss(space, &importance, genome), params])
                })
                .collect();
            search.tell(&genomes, &told);
        }
    }
    done as f64 / alone as f64
}

fn main() {
    println!("share of the multiplications left, {GENERATIONS} populations of {POPULATION}, {SEEDS} seeds");
    println!("{:20} {:10} {:12}  states kept for each network", "space", "crossover", "mutation");
    println!("{:20} {:10} {:12}  {:>6} {:>6} {:>6} {:>6} {:>6} {:>6}", "", "", "", 0, 1, 2, 4, 8, 16);
    let few = MutationCount::Few;
    let mutations = [
        ("1 gene", Mutation::default()),
        ("few", Mutation { count: few, later: 0.0 }),
        ("few, later 3", Mutation { count: few, later: 3.0 }),
        ("few, later 9", Mutation { count: few, later: 9.0 }),
    ];
    for name in ["smollm2-135m", "llama2-7b", "llama2-7b-llama-nas"] {
        let space = SearchSpace::shipped(name).expect("a shipped space");
        for (label, crossover) in [("uniform", Crossover::Uniform), ("one-point", Crossover::OnePoint)] {
            for (name_of_mutation, mutation) in mutations {
                let settings = Nsga2Settings { crossover, mutation, ..Nsga2Settings::new(POPULATION) };
                print!("{name:20} {label:10} {name_of_mutation:12} ");
                for states in [0, 1, 2, 4, 8, 16] {
                    print!(" {:>6.3}", share(&space, &settings, states));
                }
                println!();
            }
        }
    }
}
