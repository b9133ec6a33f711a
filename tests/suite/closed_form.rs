//! The search algorithms on problems whose true front is known.

use criadero::pareto::{hypervolume, non_dominated};
use criadero::search::{Algorithm, Nsga2, Nsga2Settings, RandomSearch, Told, first_population};
use criadero::space::{Genome, SearchSpace};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

const LAYERS: usize = 24;
const WIDTHS: [u32; 4] = [0, 32, 64, 128];
const POPULATION: usize = 40;
const EVALUATIONS: usize = 1200;
const SEEDS: u64 = 5;

fn space() -> SearchSpace {
    SearchSpace::from_yaml(&format!(
        "{{ shape: {{ layers: {LAYERS}, hidden: 64, heads: 4, kv_heads: 4, head_dim: 16, mlp: 128, vocab: 512 }}, \
         depth: [{LAYERS}], heads: [4], mlp: {WIDTHS:?} }}"
    ))
    .unwrap()
}

/// What a layer's width is worth: returns diminish, and layers differ as a model's do.
fn worth(layer: usize, width: u32) -> f64 {
    let importance = 1.0 + (layer * 7 % LAYERS) as f64 / 3.0;
    importance * f64::from(width).sqrt()
}

/// Lost worth against total width, both to be small.
fn objectives(genome: &Genome) -> [f64; 2] {
    let genes = genome.genes().iter().enumerate();
    genes.fold([0.0, 0.0], |[lost, width], (layer, gene)| {
        [lost + worth(layer, 128) - worth(layer, gene.mlp), width + f64::from(gene.mlp)]
    })
}

/// All layers at once, by adding one layer's choices at a time and keeping what is not dominated.
fn true_front() -> Vec<[f64; 2]> {
    (0..LAYERS).fold(vec![[0.0, 0.0]], |front, layer| {
        let sums: Vec<[f64; 2]> = front
            .iter()
            .flat_map(|[lost, width]| {
                WIDTHS.map(|choice| [lost + worth(layer, 128) - worth(layer, choice), width + f64::from(choice)])
            })
            .collect();
        non_dominated(&sums).into_iter().map(|point| sums[point]).collect()
    })
}

/// Share of the true front's hypervolume that a search finds.
fn share(mut algorithm: impl Algorithm) -> f64 {
    let mut points = Vec::new();
    while points.len() < EVALUATIONS {
        let genomes = algorithm.ask();
        let scores: Vec<[f64; 2]> = genomes.iter().map(objectives).collect();
        let results: Vec<Told> = scores.iter().map(|score| Told::feasible(*score)).collect();
        algorithm.tell(&genomes, &results);
        points.extend(scores);
    }
    points.truncate(EVALUATIONS);
    let reference = [objectives(&space().smallest())[0] * 1.05, f64::from(128 * LAYERS as u32) * 1.05];
    hypervolume(&points, &reference) / hypervolume(&true_front(), &reference)
}

fn first(seed: u64) -> Vec<Genome> {
    let space = space();
    let width = |genome: &Genome| objectives(genome)[1] as u64;
    let seeds = [space.largest(), space.smallest()];
    first_population(&space, &seeds, POPULATION, &mut ChaCha8Rng::seed_from_u64(seed), width)
}

fn nsga2(seed: u64) -> Nsga2 {
    Nsga2::new(&space(), Nsga2Settings::new(POPULATION), first(seed), seed).unwrap()
}

#[test]
fn nsga2_comes_near_the_true_front_and_beats_random_search_on_every_seed() {
    for seed in 0..SEEDS {
        let random = share(RandomSearch::new(&space(), POPULATION, first(seed), seed).unwrap());
        let found = share(nsga2(seed));
        println!("seed {seed}: {found:.4} of the true hypervolume, random search {random:.4}");
        assert!(found > 0.94, "seed {seed}: {found}");
        assert!(found < 1.0 + 1e-12, "nothing is better than the true front");
        assert!(found > random + 0.04, "seed {seed}: {found} against {random}");
    }
}

#[test]
fn the_true_front_starts_and_ends_where_it_must() {
    let front = true_front();
    let worst = objectives(&space().smallest());
    assert!(front.iter().any(|[lost, width]| *width == 0.0 && (lost - worst[0]).abs() < 1e-9));
    assert!(front.iter().any(|[lost, width]| *lost < 1e-9 && *width == f64::from(128 * LAYERS as u32)));
}
