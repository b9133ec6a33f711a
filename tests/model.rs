//! The elastic forward pass against transformers, and population walks against single networks, bit for bit.

use std::path::Path;

use criadero::checkpoint::Checkpoint;
use criadero::eval::Outcome;
use criadero::eval::packing::Chunk;
use criadero::eval::population::walk;
use criadero::model::{Llama, Targets, TokenTree, TreeBuilder};
use criadero::space::{Gene, Genome};
use tch::{Device, Kind, Tensor};

const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens/tiny-llama");

fn tiny() -> Llama {
    tch::set_num_threads(1);
    Llama::load(&Checkpoint::open(Path::new(TINY)).unwrap(), Device::Cpu, Kind::Float).unwrap()
}

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
    let model = tiny();
    let batch = model.batch(&TokenTree::chain(&tokens)).unwrap();
    let found = model.forward(&model.config().genome.clone(), &batch);
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
    let model = tiny();
    let mut builder = TreeBuilder::default();
    let paths: Vec<Vec<u32>> = sequences().iter().map(|sequence| builder.insert(sequence)).collect();
    let (tree, place) = builder.finish();
    assert!(tree.len() < sequences().iter().map(Vec::len).sum::<usize>(), "something is shared");
    let genome: Genome = "4x128:2x64:0x96:4x0".parse().unwrap();
    let forest = model.forward(&genome, &model.batch(&tree).unwrap());
    for (sequence, path) in sequences().iter().zip(paths) {
        let alone = model.forward(&genome, &model.batch(&TokenTree::chain(sequence)).unwrap());
        let nodes: Vec<i64> = path.iter().map(|&node| i64::from(place[node as usize])).collect();
        let shared = forest.index_select(0, &Tensor::from_slice(&nodes));
        let difference = largest_difference(&shared, &alone);
        assert!(difference < 1e-5, "{} tokens: largest logit difference {difference:e}", sequence.len());
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
    Chunk { tree, targets: Targets { rows, pairs, greedy: true }, items: 0..1, requests }
}

fn outcomes(model: &Llama, genomes: &[Genome]) -> Vec<Outcome> {
    let mut outcomes = vec![None; genomes.len()];
    let mut keep = |place: usize, outcome: Outcome| {
        assert!(outcomes[place].replace(outcome).is_none(), "each network is scored once");
        true
    };
    walk(model, &chunk(), None, genomes, &mut keep).unwrap();
    outcomes.into_iter().map(Option::unwrap).collect()
}

#[test]
fn a_population_scores_bit_for_bit_what_each_network_alone_does() {
    let model = tiny();
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

#[test]
fn refuses_genomes_that_are_no_prefixes() {
    let model = tiny();
    for (text, expected) in [
        ("4x128*3", "3 layers"),
        ("4x128*3:6x128", "6x128"),
        ("4x128*3:3x128", "in steps of 2"),
        ("4x128*3:4x129", "4x129"),
        ("4x128*3:4x128@8", "8 bits"),
    ] {
        let error = model.check(&text.parse().unwrap()).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
    let long = vec![1; model.config().max_position_embeddings + 1];
    assert!(model.batch(&TokenTree::chain(&long)).is_err());
    assert!(model.batch(&TokenTree::chain(&[512])).is_err());
}

#[test]
fn a_dropped_layer_is_the_identity() {
    let model = tiny();
    let batch = model.batch(&TokenTree::chain(&[1, 2, 3])).unwrap();
    let hidden = model.embed(&batch);
    assert_eq!(model.layer(1, Gene::DROPPED, &hidden, &batch), hidden);
}

#[test]
fn a_network_that_gives_no_number_fails_alone_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(TINY).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
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
