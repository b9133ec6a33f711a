//! Every family and every kind of rotary scaling against transformers, and through every exporter and back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use criadero::checkpoint::{Checkpoint, Dtype, EXPORTERS, Family, LayerTensor, TensorName, export};
use criadero::model::generation::{Generation, write_greedily};
use criadero::model::{DecodeBatch, Llama, Targets, TokenTree, TreeBuilder};
use criadero::space::{Extra, Genome, ModelShape};
use criadero::tune::adamw::Parameter;
use criadero::tune::backward::learn;
use criadero::tune::batch::Batch;
use criadero::tune::head_loss::Lesson;
use criadero::tune::{Document, Sequence};
use serde::Deserialize;
use tch::{Tensor, no_grad};

use crate::command::{criadero, said, succeed};
use crate::goldens::{GOLDENS, copy_of_tiny, load};

/// Their names, and what is told apart by each.
const MODELS: [&str; 6] = ["llama-biases", "mistral-window", "qwen2", "qwen2-window", "qwen3", "qwen3-biases"];
/// Logits, log-probabilities, and gradients as shares of a tensor's largest or of 1.
const TOLERANCE: f64 = 1e-4;

fn families() -> PathBuf {
    Path::new(GOLDENS).join("families")
}

#[derive(Deserialize)]
struct Golden {
    tokens: Vec<u32>,
    log_probs: Vec<f64>,
    /// Of the last tokens.
    logits: Vec<Vec<f32>>,
    loss: f64,
    narrow: Narrow,
    generated: Generated,
}

#[derive(Deserialize)]
struct Narrow {
    genome: String,
    logits: Vec<Vec<f32>>,
}

#[derive(Deserialize)]
struct Generated {
    tokens: Vec<u32>,
    smallest_lead: f64,
}

/// A model with its tokenizer, in a directory of its own.
struct Model {
    name: &'static str,
    dir: tempfile::TempDir,
    golden: Golden,
}

impl Model {
    fn named(name: &'static str) -> Model {
        let dir = tempfile::tempdir().unwrap();
        let from = families().join(name);
        for file in ["config.json", "model.safetensors"] {
            std::fs::copy(from.join(file), dir.path().join(file)).unwrap();
        }
        std::fs::copy(families().join("tokenizer.json"), dir.path().join("tokenizer.json")).unwrap();
        let golden = std::fs::read_to_string(from.join("golden.json")).unwrap();
        Model { name, dir, golden: serde_json::from_str(&golden).unwrap() }
    }

    fn checkpoint(&self) -> Checkpoint {
        let checkpoint = Checkpoint::open(self.dir.path()).unwrap();
        assert_eq!(checkpoint.notes(), [""; 0], "{}", self.name);
        checkpoint
    }

    fn llama(&self) -> Llama {
        load(&self.checkpoint())
    }
}

/// The logits of a sequence's last tokens in a network: (last, v).
fn logits(model: &Llama, genome: Option<&str>, tokens: &[u32], last: usize) -> Tensor {
    let batch = model.batch(&TokenTree::chain(tokens)).unwrap();
    let network = match genome {
        Some(genome) => model.network(&genome.parse().unwrap()).unwrap(),
        None => model.whole().unwrap(),
    };
    let all = no_grad(|| network.forward(&batch));
    all.narrow(0, (tokens.len() - last) as i64, last as i64)
}

/// The log-probability of every token after those before it.
fn log_probs(model: &Llama, tokens: &[u32]) -> Vec<f64> {
    let batch = model.batch(&TokenTree::chain(tokens)).unwrap();
    let targets = Targets {
        rows: (0..tokens.len() as i64 - 1).collect(),
        pairs: tokens.iter().skip(1).enumerate().map(|(row, &token)| (row as u32, token)).collect(),
        ..Targets::default()
    };
    let predicted = no_grad(|| model.whole().unwrap().predict(&batch, &targets, None));
    predicted.log_probs.into_iter().map(f64::from).collect()
}

fn assert_near(found: &Tensor, expected: &Tensor, what: &str) {
    assert_eq!(found.size(), expected.size(), "{what}");
    let difference = (found - expected).abs().max().double_value(&[]);
    assert!(difference < TOLERANCE, "{what}: largest difference {difference:e}");
    assert!(expected.abs().max().double_value(&[]) > 0.1, "{what}: the golden values are all near zero");
}

#[test]
fn families_are_read_as_what_they_are() {
    for (name, family, extras, window) in [
        ("llama-biases", Family::Llama, vec![Extra::QkvBias, Extra::OBias, Extra::MlpBias], [None; 3]),
        ("mistral-window", Family::Mistral, vec![], [Some(7); 3]),
        ("qwen2", Family::Qwen2, vec![Extra::QkvBias], [None; 3]),
        ("qwen2-window", Family::Qwen2, vec![Extra::QkvBias], [None, Some(5), Some(5)]),
        ("qwen3", Family::Qwen3, vec![Extra::HeadNorms], [None; 3]),
        ("qwen3-biases", Family::Qwen3, vec![Extra::HeadNorms, Extra::QkvBias, Extra::OBias], [None; 3]),
    ] {
        let checkpoint = Model::named(name).checkpoint();
        let config = checkpoint.config();
        assert_eq!((config.family, config.shape.extras), (family, extras.into_iter().collect()), "{name}");
        assert_eq!([0, 1, 2].map(|layer| config.window_of(layer)), window, "{name}");
    }
}

#[test]
fn logits_of_every_family_equal_transformers() {
    for model in MODELS.map(Model::named) {
        let (llama, golden) = (model.llama(), &model.golden);
        let expected = Tensor::from_slice2(&golden.logits);
        assert_near(&logits(&llama, None, &golden.tokens, golden.logits.len()), &expected, model.name);
        let found = log_probs(&llama, &golden.tokens);
        for (place, (found, expected)) in found.iter().zip(&golden.log_probs).enumerate() {
            assert!((found - expected).abs() < TOLERANCE, "{}, token {place}: {found}, not {expected}", model.name);
        }
    }
}

#[test]
fn narrow_networks_of_every_family_are_the_zero_padded_ones() {
    for model in MODELS.map(Model::named) {
        let Narrow { genome, logits: expected } = &model.golden.narrow;
        let found = logits(&model.llama(), Some(genome), &model.golden.tokens, expected.len());
        assert_near(&found, &Tensor::from_slice2(expected), model.name);
    }
}

/// The gradients of a model's weights under the names of a checkpoint.
fn gradients(parameters: &[Parameter], shape: &ModelShape) -> BTreeMap<String, Tensor> {
    let (e, g) = (shape.head_dim as i64, shape.group() as i64);
    let mut found = BTreeMap::new();
    for Parameter { name, tensor, .. } in parameters {
        let (name, end) = name.strip_suffix(".bias").map_or((name.as_str(), "weight"), |name| (name, "bias"));
        let gradient = tensor.grad();
        if let Some(layer) = name.strip_suffix("qkv_proj") {
            let columns = gradient.size().get(1).copied();
            let heads = gradient.view([-1, g + 2, e, columns.unwrap_or(1)]);
            for (part, first, count) in [("q_proj", 0, g), ("k_proj", g, 1), ("v_proj", g + 1, 1)] {
                let rows = heads.narrow(1, first, count).reshape([-1, columns.unwrap_or(1)]);
                let rows = if columns.is_none() { rows.squeeze_dim(1) } else { rows };
                found.insert(format!("model.{layer}self_attn.{part}.{end}"), rows);
            }
            continue;
        }
        let (parent, part) = name.rsplit_once('.').unwrap_or(("", name));
        let half = match part {
            "o_proj" | "q_norm" | "k_norm" => "self_attn.",
            "gate_proj" | "up_proj" | "down_proj" => "mlp.",
            _ => "",
        };
        let parent = if parent.is_empty() { String::new() } else { format!("{parent}.") };
        let name = if part == "lm_head" { part.to_string() } else { format!("model.{parent}{half}{part}") };
        found.insert(format!("{name}.{end}"), gradient);
    }
    found
}

#[test]
fn gradients_of_every_family_equal_pytorch() {
    for model in MODELS.map(Model::named) {
        let stored = Tensor::read_safetensors(families().join(model.name).join("gradients.safetensors")).unwrap();
        let stored: BTreeMap<String, Tensor> = stored.into_iter().collect();
        for recompute in [false, true] {
            let llama = model.llama();
            let document: Document =
                model.golden.tokens.iter().enumerate().map(|(place, &token)| (token, place > 0)).collect();
            let batch = Batch::new(&llama, &[&Sequence { documents: vec![document] }]).unwrap();
            let weights = llama.weights().into_iter();
            let parameters: Vec<Parameter> = weights.map(|(name, tensor)| Parameter::new(name, tensor)).collect();
            let whole = llama.whole().unwrap();
            let learned = learn(&whole, &batch, &Lesson::Labels(&batch.labels), &|_| 1.0, recompute);
            assert!((learned.loss - model.golden.loss).abs() < TOLERANCE, "{}: {}", model.name, learned.loss);
            let found = gradients(&parameters, &llama.config().shape);
            for (name, expected) in stored.iter().filter(|(name, _)| *name != "loss") {
                let found = found.get(name).unwrap_or_else(|| panic!("no gradient {name} in {:?}", found.keys()));
                let largest = expected.abs().max().double_value(&[]).max(1.0);
                let difference = (found - expected).abs().max().double_value(&[]);
                assert!(difference < TOLERANCE * largest, "{}, {name}: {difference:e} of {largest}", model.name);
            }
            assert!(stored.len() > 9, "{}: {} tensors", model.name, stored.len());
        }
    }
}

#[test]
fn every_family_goes_on_as_transformers_does() {
    for model in MODELS.map(Model::named) {
        let (llama, golden) = (model.llama(), &model.golden);
        let Generated { tokens: expected, smallest_lead } = &golden.generated;
        assert!(*smallest_lead > 5.0 * TOLERANCE, "{}: the golden choice is close, {smallest_lead}", model.name);
        let genome = llama.config().genome.clone();
        let mut generation = Generation::begin(&llama, &genome, &golden.tokens[..10], expected.len()).unwrap();
        let mut found = vec![];
        while found.len() < expected.len() {
            let token = generation.logits().argmax(0, false).int64_value(&[]) as u32;
            found.push(token);
            generation.push(token).unwrap();
        }
        assert_eq!(&found, expected, "{}", model.name);
        // The same beside prompts that are shorter and longer, with two tokens in common and with none.
        let prompt = &golden.tokens[..10];
        let longer = [&prompt[..2], &[7; 30]].concat();
        for company in [vec![&prompt[..3], &longer], vec![&longer[3..], &longer]] {
            let prompts: Vec<&[u32]> = [prompt].into_iter().chain(company).collect();
            let mut found = vec![Vec::new(); prompts.len()];
            write_greedily(&llama, &genome, &prompts, expected.len(), &mut |place, token| {
                found[place].push(token);
                Ok(place != 1 || found[place].len() < 2)
            })
            .unwrap();
            assert_eq!(&found[0], expected, "{}", model.name);
            assert_eq!([found[1].len(), found[2].len()], [2, expected.len()]);
            let mut batch = DecodeBatch::of(&llama, &genome).unwrap();
            let mut logits: Vec<Tensor> =
                prompts.iter().map(|prompt| batch.join(prompt, expected.len()).unwrap()).collect();
            let mut found = vec![];
            while found.len() < expected.len() {
                let next: Vec<u32> = logits.iter().map(|row| row.argmax(0, false).int64_value(&[]) as u32).collect();
                found.push(next[0]);
                logits = batch.push(&next).unwrap().unbind(0);
            }
            assert_eq!(&found, expected, "{}, in a batch", model.name);
        }
    }
}

#[test]
fn windows_hide_the_same_tokens_in_a_forest_as_in_each_sequence_alone() {
    for model in ["mistral-window", "qwen2-window"].map(Model::named) {
        let llama = model.llama();
        let stem: Vec<u32> = (0..140).map(|token| token * 31 % 257).collect();
        let paths = [
            [&stem[..100], &[1, 2, 3]].concat(),
            [&stem[..100], &[1, 5]].concat(),
            [&stem[..60], &[9, 9, 9, 9]].concat(),
            stem[..5].to_vec(),
            vec![250, 2, 3],
        ];
        let mut builder = TreeBuilder::default();
        let nodes: Vec<Vec<u32>> = paths.iter().map(|path| builder.insert(path)).collect();
        let (tree, place) = builder.finish();
        let whole = llama.whole().unwrap();
        let together = no_grad(|| whole.forward(&llama.batch(&tree).unwrap()));
        for (path, nodes) in paths.iter().zip(nodes) {
            let rows: Vec<i64> = nodes.iter().map(|&node| i64::from(place[node as usize])).collect();
            let found = together.index_select(0, &Tensor::from_slice(&rows));
            assert_near(&found, &logits(&llama, None, path, path.len()), model.name);
        }
    }
}

#[derive(Deserialize)]
struct Ropes {
    tokens: Vec<u32>,
    cases: Vec<RopeCase>,
}

#[derive(Deserialize)]
struct RopeCase {
    name: String,
    rope_scaling: serde_json::Value,
    max_position_embeddings: usize,
    log_probs: Vec<f64>,
}

fn ropes() -> Ropes {
    serde_json::from_str(&std::fs::read_to_string(families().join("rope.json")).unwrap()).unwrap()
}

/// The tiny model with another kind of rotary scaling.
fn with_rope(case: &RopeCase, dir: &Path) -> Checkpoint {
    copy_of_tiny(dir);
    let path = dir.join("config.json");
    let mut config: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    config.as_object_mut().unwrap().remove("rope_parameters");
    config["rope_theta"] = 10000.0.into();
    config["rope_scaling"] = case.rope_scaling.clone();
    config["max_position_embeddings"] = case.max_position_embeddings.into();
    std::fs::write(&path, config.to_string()).unwrap();
    Checkpoint::open(dir).unwrap()
}

#[test]
fn every_kind_of_rotary_scaling_equals_transformers_also_after_an_export() {
    let Ropes { tokens, cases } = ropes();
    for case in &cases {
        let dir = tempfile::tempdir().unwrap();
        let parent = with_rope(case, dir.path());
        let near = |checkpoint: &Checkpoint, what: &str, tolerance: f64| {
            let found = log_probs(&load(checkpoint), &tokens);
            for (place, (found, expected)) in found.iter().zip(&case.log_probs).enumerate() {
                let difference = (found - expected).abs();
                assert!(difference < tolerance, "{}, {what}, token {place}: {difference:e}", case.name);
            }
        };
        near(&parent, "read", TOLERANCE);
        let genome = parent.config().genome.clone();
        for exporter in EXPORTERS {
            let (name, _) = exporter.name();
            let out = dir.path().join(name);
            let written = export(&parent, &genome, exporter, Some(Dtype::F32), &out).unwrap();
            // GGUF holds the numbers of a scaling as singles.
            near(&Checkpoint::open(&written).unwrap(), name, 2.0 * TOLERANCE);
        }
    }
    assert_eq!(cases.len(), 7);
}

#[test]
fn sequences_end_where_long_contexts_would_turn_every_position() {
    let Ropes { cases, .. } = ropes();
    let dir = tempfile::tempdir().unwrap();
    let case = cases.iter().find(|case| case.name == "longrope").unwrap();
    let model = load(&with_rope(case, dir.path()));
    assert_eq!((model.config().max_position_embeddings, model.config().positions()), (1024, 256));
    let error = model.batch(&TokenTree::chain(&[1; 257])).err().unwrap().to_string();
    assert!(error.contains("257 tokens") && error.contains("256"), "{error}");
}

#[test]
fn networks_of_every_family_compute_the_same_after_an_export() {
    for model in MODELS.map(Model::named) {
        let parent = model.checkpoint();
        let llama = load(&parent);
        // Short enough that no window of a GGUF matters.
        let tokens = &model.golden.tokens[..5];
        for genome in ["4x64*3", "4x16*3", "2x64*3", "2x32:4x16:4x64", "-:2x32:4x0", "4x64:0x16:2x8"] {
            let genome: Genome = genome.parse().unwrap();
            let expected = logits(&llama, Some(&genome.to_string()), tokens, 5);
            for exporter in EXPORTERS {
                let (name, _) = exporter.name();
                let what = format!("{}, {genome}, {name}", model.name);
                let out = tempfile::tempdir().unwrap();
                let written = export(&parent, &genome, exporter, Some(Dtype::F32), &out.path().join("out"));
                let written = match written {
                    Ok(written) => written,
                    Err(error) => {
                        let error = error.to_string();
                        assert!(what.starts_with("qwen3-biases") && name == "gguf", "{what}: {error}");
                        assert!(error.contains("none of its architectures has"), "{error}");
                        continue;
                    }
                };
                let child = Checkpoint::open(&written).unwrap();
                assert_eq!(child.notes(), [""; 0], "{what}");
                let found = logits(&load(&child), None, tokens, 5);
                assert_near(&found, &expected, &what);
                if name == "hf" {
                    let whole = logits(&load(&child), None, &model.golden.tokens, 24);
                    assert_near(&whole, &logits(&llama, Some(&genome.to_string()), &model.golden.tokens, 24), &what);
                }
            }
        }
    }
}

/// A space of the tiny models' sizes.
fn space(shape: &ModelShape) -> String {
    let sizes = shape.fields().map(|(name, value)| format!("{name}: {value}")).join(", ");
    format!("shape: {{ {sizes} }}\ndepth: [2, 3]\nheads: [2, 4]\nmlp: [32, 64]\n")
}

#[test]
fn every_family_goes_through_all_commands() {
    for model in ["llama-biases", "mistral-window", "qwen2", "qwen3"].map(Model::named) {
        let at = |name: &str| model.dir.path().join(name).display().to_string();
        let run = |arguments: &[&str]| succeed(criadero(arguments));
        let from = model.dir.path().display().to_string();
        let checkpoint = model.checkpoint();
        std::fs::write(at("space.yaml"), space(&checkpoint.config().shape)).unwrap();
        std::fs::write(at("text.txt"), "the cat sat on the mat and the dog lay by the door. ".repeat(60)).unwrap();
        let rows = (0..24).map(|row| {
            format!("{{\"context\": \"the {row}\", \"choices\": [\"cat {row}\", \"mat\"], \"gold\": {}}}\n", row % 2)
        });
        std::fs::write(at("task.jsonl"), rows.collect::<String>()).unwrap();

        // The order of heads and channels changes no function.
        let (text, supernet) = (at("text.txt"), at("supernet"));
        run(&["rank", &from, "--text", &text, "--out", &supernet, "--tokens", "256", "--window", "32"]);
        let (before, after) = (model.llama(), load(&Checkpoint::open(&supernet).unwrap()));
        assert_eq!(after.config().family, before.config().family);
        let tokens = &model.golden.tokens;
        assert_near(&logits(&after, None, tokens, 24), &logits(&before, None, tokens, 24), model.name);
        assert_ne!(
            after.tensor(TensorName::Layer(0, LayerTensor::Up)).unwrap(),
            before.tensor(TensorName::Layer(0, LayerTensor::Up)).unwrap()
        );

        // Training changes every tensor of the table that the family has.
        let (space, tuned) = (at("space.yaml"), at("tuned"));
        let short =
            ["--length", "32", "--steps", "4", "--measure-every", "4", "--threads", "1", "--learning-rate", "1e-2"];
        run(&[&["tune", &supernet, "--space", &space, "--data", &text, "--out", &tuned][..], &short].concat());
        let tuned_model = load(&Checkpoint::open(&tuned).unwrap());
        for name in after.config().tensors() {
            let (one, other) = (after.tensor(name).unwrap(), tuned_model.tensor(name).unwrap());
            assert!(
                (one - other).abs().max().double_value(&[]) > 1e-4,
                "{}: {} was not trained",
                model.name,
                name.hf()
            );
        }

        // The divergence from the whole network grows as networks shrink, so that there is a front with a knee.
        let lines =
            (0..24).map(|row| format!("{{\"text\": \"the cat {row} sat on the mat {row} and the dog lay by it\"}}\n"));
        std::fs::write(at("lines.jsonl"), lines.collect::<String>()).unwrap();
        let (task, found) = (at("task.jsonl"), at("run"));
        let goals = ["--objective", &format!("kl:{}", at("lines.jsonl")), "--objective", "weight_bytes"];
        let size = ["--evals", "8", "--population", "4", "--chunk-tokens", "256", "--threads", "1"];
        run(&[&["search", &space, "--model", &tuned, "--out", &found][..], &goals, &size].concat());
        run(&["quantize", &tuned, "--task", &task, "--bits", "8", "--threads", "1", "--out", &at("quantized")]);
        let (gguf, hf) = (at("small.gguf"), at("small"));
        run(&["export", &found, "--pick", "knee", "--format", "gguf", "--out", &gguf]);
        run(&["export", &found, "--pick", "knee", "--format", "hf", "--out", &hf]);
        // What was scored is what both hold; matrices of 16 bits are rounded in the file.
        let of = |place: &str| logits(&load(&Checkpoint::open(place).unwrap()), None, &tokens[..5], 5);
        let difference = (of(&gguf) - of(&hf)).abs().max().double_value(&[]);
        assert!(difference < 0.05, "{}: {difference}", model.name);

        // In blocks a file and a directory hold the same values, biases and norms as they are.
        let (gguf, hf) = (at("blocks.gguf"), at("blocks"));
        let network = ["export", &tuned, "--genome=4x32:4x64*2", "--bits", "8", "--dtype", "f32"];
        run(&[&network[..], &["--format", "gguf", "--out", &gguf]].concat());
        run(&[&network[..], &["--format", "hf", "--out", &hf]].concat());
        assert_near(&of(&gguf), &of(&hf), model.name);
    }
}

#[test]
fn a_search_says_when_it_begins_which_formats_cannot_hold_its_networks() {
    let model = Model::named("qwen3-biases");
    let at = |name: &str| model.dir.path().join(name).display().to_string();
    std::fs::write(at("space.yaml"), space(&model.checkpoint().config().shape)).unwrap();
    let row = |row| format!("{{\"context\": \"the {row}\", \"choices\": [\"cat\", \"mat\"], \"gold\": 0}}\n");
    std::fs::write(at("task.jsonl"), (0..16).map(row).collect::<String>()).unwrap();
    let (space, from, out) = (at("space.yaml"), model.dir.path().display().to_string(), at("run"));
    let objective = format!("choice_nll:{}", at("task.jsonl"));
    let what = ["search", &space, "--model", &from, "--out", &out, "--objective", &objective, "--objective", "params"];
    let size = ["--evals", "4", "--population", "2", "--chunk-tokens", "64", "--threads", "1"];
    let (_, notes) = said(criadero(&[&what[..], &size].concat()));
    let note = "note: such networks cannot be exported as gguf: ";
    assert!(notes.contains(note) && notes.contains("none of its architectures has layers that differ"), "{notes}");
    assert!(!notes.contains("exported as hf"), "{notes}");
    let network = "4x64@8*3";
    let task = at("task.jsonl");
    let quantized = ["quantize", &from, "--task", &task, "--bits", "8", "--threads", "1", "--out", &at("quantized")];
    let (_, notes) = said(criadero(&quantized));
    assert!(notes.contains(note) && notes.contains(network), "{notes}");
}
