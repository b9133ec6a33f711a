//! The elastic forward pass against transformers, and population walks against single networks, bit for bit.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use criadero::checkpoint::{Checkpoint, TensorName};
use criadero::eval::{
    Chunk, ChunkId, EvalSet, Evaluator, KeptStates, LocalEvaluator, Outcome, PackingOptions, PrefixCache, Work,
    Workers, pack_items, walk,
};
use criadero::model::{Llama, Stream, Targets, TokenTree, TreeBuilder};
use criadero::search::{crossover, mutate};
use criadero::space::{Bits, Genome, SearchSpace};
use criadero::task::{Item, Task, default_data_dir};
use proptest::prelude::*;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

use crate::goldens::{TINY, copy_of_tiny, smollm2, tiny_model};

fn largest_difference(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[])
}

#[test]
fn logits_equal_transformers() {
    let golden: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(Path::new(TINY).join("golden.json")).unwrap()).unwrap();
    let tokens: Vec<u32> = serde_json::from_value(golden["tokens"].clone()).unwrap();
    let logits: Vec<Vec<f32>> = serde_json::from_value(golden["logits"].clone()).unwrap();
    let expected = Tensor::from_slice2(&logits);
    let model = tiny_model();
    let batch = model.batch(&TokenTree::chain(&tokens)).unwrap();
    let found = model.whole().unwrap().forward(&batch);
    assert_eq!(found.size(), expected.size());
    let difference = largest_difference(&found, &expected);
    assert!(difference < 1e-4, "largest logit difference {difference:e}");
    assert!(expected.abs().max().double_value(&[]) > 0.1, "the golden logits are not all near zero");
}

/// Sequences that share beginnings of different lengths, the longest stem over one attention block.
fn sequences() -> Vec<Vec<u32>> {
    let stem: Vec<u32> = (0..140).map(|token| token * 31 % 509).collect();
    let with = |from: &[u32], rest: &[u32]| [from, rest].concat();
    vec![
        with(&stem, &[1, 2, 3]),
        with(&stem, &[1, 5]),
        with(&stem[..60], &[9, 9, 9, 9]),
        vec![500, 2, 3],
        vec![500, 2, 4, 8],
        vec![7],
    ]
}

#[test]
fn a_forest_computes_what_each_sequence_alone_does() {
    let model = tiny_model();
    let mut builder = TreeBuilder::default();
    let paths: Vec<Vec<u32>> = sequences().iter().map(|sequence| builder.insert(sequence)).collect();
    let (tree, place) = builder.finish();
    assert!(tree.len() < sequences().iter().map(Vec::len).sum::<usize>(), "something is shared");
    let genome: Genome = "4x128:2x64:0x96:4x0".parse().unwrap();
    let network = model.network(&genome).unwrap();
    let forest = network.forward(&model.batch(&tree).unwrap());
    for (sequence, path) in sequences().iter().zip(paths) {
        let alone = network.forward(&model.batch(&TokenTree::chain(sequence)).unwrap());
        let nodes: Vec<i64> = path.iter().map(|&node| i64::from(place[node as usize])).collect();
        let shared = forest.index_select(0, &Tensor::from_slice(&nodes));
        let (difference, largest) = (largest_difference(&shared, &alone), alone.abs().max().double_value(&[]));
        // The products have other shapes, so the sums another order: a dozen float32 roundings of the largest logit.
        let allowed = 16.0 * f64::from(f32::EPSILON) * largest;
        assert!(difference < allowed, "{} tokens: {difference:e}, allowed {allowed:e}", sequence.len());
    }
}

fn chunk() -> Chunk {
    let mut builder = TreeBuilder::default();
    for sequence in sequences() {
        builder.insert(&sequence);
    }
    let (tree, _) = builder.finish();
    let rows: Vec<i64> = (0..tree.len() as i64).step_by(3).collect();
    let pairs: Vec<(u32, u32)> =
        (0..rows.len() as u32).flat_map(|row| [(row, row * 7 % 512), (row, row * 11 % 512)]).collect();
    let requests = vec![(0..pairs.len() as u32).map(|pair| vec![pair]).collect()];
    Chunk { tree, targets: Targets { rows, pairs, greedy: true }, items: 0..1, requests, prompts: Vec::new() }
}

fn outcomes(model: &Llama, genomes: &[Genome]) -> Vec<Outcome> {
    let mut outcomes = vec![None; genomes.len()];
    let mut keep = |place: usize, outcome: Outcome| {
        assert!(outcomes[place].replace(outcome).is_none(), "each network is scored once");
        true
    };
    walk(model, &chunk(), None, genomes, None, &mut keep).unwrap();
    outcomes.into_iter().map(Option::unwrap).collect()
}

#[test]
fn a_population_scores_bit_for_bit_what_each_network_alone_does() {
    let model = tiny_model();
    let texts = [
        "4x128*4",
        "4x128*3:2x128",
        "4x128*3:2x64",
        "4x128:-:4x128*2",
        "2x128:-:4x128*2",
        "0x32:4x0:2x96:-",
        "4x128*2:2x32:4x128",
        "2x32*4",
    ];
    let genomes: Vec<Genome> = texts.iter().map(|text| text.parse().unwrap()).collect();
    let together = outcomes(&model, &genomes);
    for (genome, expected) in genomes.iter().zip(&together) {
        assert!(matches!(expected, Outcome::Scored(_)));
        assert_eq!(outcomes(&model, std::slice::from_ref(genome))[0], *expected, "{genome}");
    }
    let backwards: Vec<Genome> = genomes.iter().rev().cloned().collect();
    let mut reversed = outcomes(&model, &backwards);
    reversed.reverse();
    assert_eq!(reversed, together);
    let distinct = together.iter().enumerate().all(|(place, one)| !together[..place].contains(one));
    assert!(distinct, "different networks score differently");
}

/// Populations bred from one another, so that children begin as their parents do.
fn populations(space: &SearchSpace, count: usize, size: usize, rng: &mut ChaCha8Rng) -> Vec<Vec<Genome>> {
    let mut parents: Vec<Genome> = (0..size).map(|_| space.sample(rng)).collect();
    (0..count)
        .map(|_| {
            let mut children: Vec<Genome> = (0..size)
                .map(|_| {
                    let (a, b) = (&parents[rng.random_range(0..size)], &parents[rng.random_range(0..size)]);
                    mutate(space, &crossover(space, a, b, rng), 0.1, rng)
                })
                .collect();
            children.shuffle(rng);
            parents = children.clone();
            let mut seen = std::collections::HashSet::new();
            children.retain(|genome| seen.insert(genome.clone()));
            children
        })
        .collect()
}

/// Networks of the tiny model that differ in bits too.
const QUANTIZED: &str = "
shape: { layers: 4, hidden: 64, heads: 4, kv_heads: 2, head_dim: 16, mlp: 128, vocab: 512 }
depth: [2, 3, 4]
heads: [0, 2, 4]
mlp: [0, 64, 128]
bits: [4, 8, 16]
embedding_bits: 8
layers:
  0: { heads: [4], mlp: [128], bits: [q4_1, 16] }
";

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// Whatever is kept of earlier populations, how much and how densely: the scores are those without.
    #[test]
    fn kept_hidden_states_change_no_bit(seed: u64, budget in 0u64..400_000, every in 1usize..6, forget: bool) {
        let model = tiny_model();
        let space = SearchSpace::from_yaml(QUANTIZED).unwrap();
        let rng = &mut ChaCha8Rng::seed_from_u64(seed);
        let cache: Mutex<PrefixCache<(ChunkId, Bits), Stream>> = Mutex::new(PrefixCache::new(budget));
        let chunk = chunk();
        let bytes = (chunk.tree.len() * 64 * 4) as u64;
        let kept = KeptStates { cache: &cache, place: (ChunkId { set: 0, chunk: 0 }, Bits::F16), bytes, every };
        for population in populations(&space, 4, 6, rng) {
            let mut found = vec![None; population.len()];
            walk(&model, &chunk, None, &population, Some(&kept), &mut |place, outcome| {
                found[place] = Some(outcome);
                true
            })
            .unwrap();
            for (genome, found) in population.iter().zip(found) {
                prop_assert_eq!(&outcomes(&model, std::slice::from_ref(genome))[0], &found.unwrap(), "{}", genome);
            }
            prop_assert!(cache.lock().unwrap().bytes() <= budget);
            if forget {
                cache.lock().unwrap().clear();
            }
        }
    }
}

/// All partial scores of populations, in the order asked, however the work is divided.
fn partial_scores(
    model: &Llama,
    sets: &[EvalSet],
    populations: &[Vec<Genome>],
    workers: usize,
    cache_bytes: u64,
) -> HashMap<(ChunkId, Genome), Outcome> {
    let workers = Workers { count: workers, threads: 1 };
    let mut evaluator =
        LocalEvaluator::start(std::slice::from_ref(model), sets.to_vec(), workers, cache_bytes, Arc::default());
    let mut scores = HashMap::new();
    for genomes in populations {
        let chunks = (0..sets[0].chunks.len()).map(|chunk| ChunkId { set: 0, chunk });
        let work = chunks.map(|chunk| Work { chunk, genomes: genomes.clone() }).collect();
        let mut sink = |partial: criadero::eval::Partial| {
            scores.insert((partial.chunk, partial.genome), partial.outcome);
            Ok(())
        };
        evaluator.evaluate(work, &mut sink).unwrap();
    }
    scores
}

#[test]
#[cfg_attr(not(assets), ignore = "no assets")]
fn smollm2_scores_alike_alone_in_any_population_in_any_order_and_with_states_kept() {
    let (assets, packaged) = (default_data_dir(), smollm2());
    let checkpoint = Checkpoint::open(&packaged).unwrap();
    let model = Llama::load(&checkpoint, Device::Cpu, Kind::Float).unwrap();
    let task = Task::open("arc_easy", Some(&assets)).unwrap();
    let items = task.items(Some(4)).unwrap();
    let items: Vec<&Item> = items.iter().collect();
    let packing = PackingOptions { chunk_tokens: 96, max_length: 2048 };
    let set = pack_items("arc_easy", task.scoring(), &items, &checkpoint.tokenizer().unwrap(), packing).unwrap();
    assert!(set.chunks.len() > 1);
    let space = SearchSpace::shipped("smollm2-135m").unwrap();
    let bred = populations(&space, 3, 4, &mut ChaCha8Rng::seed_from_u64(1));
    let sets = [set];
    let alone: Vec<Vec<Genome>> = bred.iter().flatten().map(|genome| vec![genome.clone()]).collect();
    let expected = partial_scores(&model, &sets, &alone, 1, 0);
    let turned: Vec<Vec<Genome>> =
        bred.iter().rev().map(|population| population.iter().rev().cloned().collect()).collect();
    assert!(partial_scores(&model, &sets, &bred, 1, 0) == expected, "in populations");
    assert!(partial_scores(&model, &sets, &turned, 2, 0) == expected, "in another order, on two workers");
    assert!(partial_scores(&model, &sets, &bred, 2, 64 << 20) == expected, "with hidden states kept");
    assert!(partial_scores(&model, &sets, &bred, 1, 3 << 20) == expected, "with hidden states driven out");
}

#[test]
fn refuses_genomes_that_are_no_prefixes() {
    let model = tiny_model();
    for (text, expected) in [
        ("4x128*3", "3 layers"),
        ("4x128*3:6x128", "layer 3: 6 heads, expected a multiple of 2 up to 4"),
        ("4x128*3:3x128", "layer 3: 3 heads, expected a multiple of 2 up to 4"),
        ("4x128*3:4x129", "layer 3: mlp width 129, expected up to 128"),
        (
            "4x128*3:4x100@8",
            "mlp width 100, for Q8_0, which stores rows of a multiple of 32; the nearest are 96 and 128",
        ),
        ("4x128*3:4x128@q3_k", "hidden size 64, for Q3_K"),
    ] {
        let error = model.network(&text.parse().unwrap()).err().unwrap().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
    let long = vec![1; model.config().max_position_embeddings + 1];
    assert!(model.batch(&TokenTree::chain(&long)).is_err());
    assert!(model.batch(&TokenTree::chain(&[512])).is_err());
}

#[test]
fn a_dropped_layer_is_the_identity() {
    let model = tiny_model();
    let batch = model.batch(&TokenTree::chain(&[1, 2, 3])).unwrap();
    let hidden = model.network(&"-*4".parse().unwrap()).unwrap().hidden(&batch);
    let embedding = model.tensor(TensorName::Embedding).unwrap();
    assert_eq!(hidden, embedding.index_select(0, &Tensor::from_slice(&[1_i64, 2, 3])));
}

#[test]
fn a_network_that_gives_no_number_fails_alone_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    copy_of_tiny(dir.path());
    // All bits set is NaN in every float format; only the last channels of layer 2 are touched.
    let file = dir.path().join("model.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let tensors: serde_json::Value = serde_json::from_slice(&bytes[8..header]).unwrap();
    let offsets = &tensors["model.layers.2.mlp.up_proj.weight"]["data_offsets"];
    let [start, end] = [0, 1].map(|side| header + offsets[side].as_u64().unwrap() as usize);
    bytes[start + (end - start) / 2..end].fill(0xff);
    std::fs::write(&file, bytes).unwrap();
    let model = Llama::load(&Checkpoint::open(dir.path()).unwrap(), Device::Cpu, Kind::Float).unwrap();
    let genomes: Vec<Genome> = ["4x128*4", "4x128*2:4x64:4x128"].map(|text| text.parse().unwrap()).to_vec();
    let outcomes = outcomes(&model, &genomes);
    assert!(matches!(&outcomes[0], Outcome::Failed(reason) if reason.contains("NaN")), "{:?}", outcomes[0]);
    assert!(matches!(outcomes[1], Outcome::Scored(_)));
}
