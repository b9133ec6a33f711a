//! Gradients of the elastic forward against PyTorch's: whole, narrow, low-rank and distilled, with and without recomputation.

use std::collections::BTreeMap;
use std::path::Path;

use criadero::checkpoint::{Adapters, Checkpoint, LayerTensor, LowRank, TensorName};
use criadero::model::Llama;
use criadero::space::Genome;
use criadero::tune::adamw::Parameter;
use criadero::tune::backward::{Learned, learn};
use criadero::tune::batch::Batch;
use criadero::tune::head_loss::{HeadLoss, Lesson};
use criadero::tune::{Document, Sequence};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use tch::{Device, Kind, Tensor, no_grad};

use crate::goldens::{TINY, tiny_model};

/// Of the largest gradient of a tensor, or of 1 where that is less.
const TOLERANCE: f64 = 1e-4;

/// What make_tiny_gradients.py wrote.
struct Golden(BTreeMap<String, Tensor>);

impl Golden {
    fn open() -> Golden {
        let tensors = Tensor::read_safetensors(Path::new(TINY).join("gradients.safetensors")).unwrap();
        Golden(tensors.into_iter().collect())
    }

    /// Its two documents as one sequence; the first tokens that are scored are 1 and 8.
    fn sequence(&self) -> Sequence {
        let document = |(name, first): (&str, usize)| -> Document {
            let tokens = Vec::<i64>::try_from(&self.0[name]).unwrap();
            tokens.iter().enumerate().map(|(place, &token)| (token as u32, place >= first)).collect()
        };
        Sequence { documents: [("tokens.0", 1), ("tokens.1", 8)].map(document).into() }
    }

    fn adapters(&self) -> Adapters {
        let places = (0..4).flat_map(|layer| LayerTensor::matrices().map(move |tensor| (layer, tensor)));
        let matrices = places.map(|(layer, tensor)| {
            let side = |side: &str| self.0[&format!("lora.input.{}.lora_{side}", module(layer, tensor))].copy();
            ((layer, tensor), LowRank { a: side("A"), b: side("B") })
        });
        Adapters { rank: 3, alpha: 6.0, matrices: matrices.collect() }
    }
}

fn module(layer: usize, tensor: LayerTensor) -> String {
    TensorName::Layer(layer, tensor).hf().trim_end_matches(".weight").to_string()
}

fn train_everything(model: &Llama) -> Vec<Parameter> {
    model.weights().into_iter().map(|(name, tensor)| Parameter::new(name, tensor)).collect()
}

/// The gradients of a model's weights under the names of a checkpoint.
fn gradients(parameters: &[Parameter]) -> BTreeMap<String, Tensor> {
    let mut found = BTreeMap::new();
    for Parameter { name, tensor, .. } in parameters {
        let gradient = tensor.grad();
        match name.strip_suffix("qkv_proj") {
            Some(layer) => {
                // (k, g + 2, e, d): two groups of two query heads, a key and a value.
                let heads = gradient.view([2, 4, 16, 64]);
                for (part, first, count) in [("q_proj", 0, 2), ("k_proj", 2, 1), ("v_proj", 3, 1)] {
                    let rows = heads.narrow(1, first, count).reshape([-1, 64]);
                    found.insert(format!("model.{layer}self_attn.{part}.weight"), rows);
                }
            }
            None => {
                let name = name.replace(".o_proj", ".self_attn.o_proj");
                let name = ["gate_proj", "up_proj", "down_proj"]
                    .iter()
                    .fold(name, |name, part| name.replace(&format!(".{part}"), &format!(".mlp.{part}")));
                let name = if name == "lm_head" { name } else { format!("model.{name}") };
                found.insert(format!("{name}.weight"), gradient);
            }
        }
    }
    found
}

/// Every stored gradient of a case against the found ones; how many were compared.
fn compare(golden: &Golden, prefix: &str, found: &BTreeMap<String, Tensor>) -> usize {
    let stored = golden.0.iter().filter_map(|(name, tensor)| Some((name.strip_prefix(prefix)?, tensor)));
    let stored: Vec<_> = stored.collect();
    for (name, expected) in &stored {
        let found = found.get(*name).unwrap_or_else(|| panic!("no gradient {name} in {:?}", found.keys()));
        let largest = expected.abs().max().double_value(&[]).max(1.0);
        let difference = (found - *expected).abs().max().double_value(&[]);
        assert!(difference < TOLERANCE * largest, "{prefix}{name}: {difference:e} of {largest}");
    }
    stored.len()
}

fn loss_of(golden: &Golden, case: &str) -> f64 {
    golden.0[&format!("{case}.loss")].double_value(&[])
}

fn parent() -> Genome {
    "4x128*4".parse().unwrap()
}

fn narrow() -> Genome {
    "4x128:2x64:0x96:4x0".parse().unwrap()
}

#[test]
fn gradients_of_weights_equal_pytorch() {
    let golden = Golden::open();
    for (case, genome) in [("full", parent()), ("narrow", narrow()), ("kl", narrow())] {
        for recompute in [false, true] {
            let model = tiny_model();
            let batch = Batch::new(&model, &[&golden.sequence()]).unwrap();
            let teacher = no_grad(|| {
                let hidden = model.network(&parent()).unwrap().hidden(&batch.forest);
                model.head().final_norm(&hidden.index_select(0, &batch.rows))
            });
            let parameters = train_everything(&model);
            let lesson = match case {
                "kl" => Lesson::Teacher { head: model.head(), normed: &teacher },
                _ => Lesson::Labels(&batch.labels),
            };
            let Learned { loss, .. } = learn(&model.network(&genome).unwrap(), &batch, &lesson, &|_| 1.0, recompute);
            let expected = loss_of(&golden, case);
            assert!((loss - expected).abs() < TOLERANCE, "{case}: {loss}, expected {expected}");
            let compared = compare(&golden, &format!("{case}.grad."), &gradients(&parameters));
            assert!(compared > 20, "{case}: {compared} tensors");
        }
    }
}

#[test]
fn gradients_of_adapters_equal_pytorch() {
    let golden = Golden::open();
    for recompute in [false, true] {
        let mut model = tiny_model();
        model.adapt(&golden.adapters());
        let batch = Batch::new(&model, &[&golden.sequence()]).unwrap();
        let named = model.adapters().unwrap().named();
        let parameters: Vec<Parameter> = named.into_iter().map(|(name, tensor)| Parameter::new(name, tensor)).collect();
        let genome: Genome = "2x128:4x32:4x128:2x96".parse().unwrap();
        let lesson = Lesson::Labels(&batch.labels);
        let Learned { loss, .. } = learn(&model.network(&genome).unwrap(), &batch, &lesson, &|_| 1.0, recompute);
        assert!((loss - loss_of(&golden, "lora")).abs() < TOLERANCE, "{loss}");
        let name =
            |one: &Parameter| one.name.trim_start_matches("base_model.model.").trim_end_matches(".weight").to_string();
        let found = parameters.iter().map(|one| (name(one), one.tensor.grad())).collect();
        assert_eq!(compare(&golden, "lora.grad.", &found), 4 * 7 * 2);
    }
}

#[test]
fn gradients_add_up_and_weights_multiply_them() {
    let golden = Golden::open();
    let model = tiny_model();
    let batch = Batch::new(&model, &[&golden.sequence()]).unwrap();
    let parameters = train_everything(&model);
    for weight in [0.25, 0.75] {
        learn(&model.network(&parent()).unwrap(), &batch, &Lesson::Labels(&batch.labels), &|_| weight, false);
    }
    assert!(compare(&golden, "full.grad.", &gradients(&parameters)) > 20);
}

#[test]
fn the_loss_in_pieces_equals_autograd_in_one() {
    let model = tiny_model();
    let rows = |seed: u64| {
        // libtorch's generator belongs to all tests at once.
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let values: Vec<f32> = (0..600 * 64).map(|_| StandardNormal.sample(&mut rng)).collect();
        Tensor::from_slice(&values).view([600, 64])
    };
    let (normed, teacher) = (rows(1).set_requires_grad(true), rows(2));
    let head = model.head().matrix().set_requires_grad(true);
    let labels = Tensor::arange(600, (Kind::Int64, Device::Cpu)).remainder(512);
    let log_probs = |of: &Tensor| of.matmul(&head.tr()).log_softmax(1, Kind::Float);
    let by_labels = -log_probs(&normed).gather(1, &labels.unsqueeze(1), false).sum(Kind::Float);
    let theirs = no_grad(|| log_probs(&teacher));
    let by_teacher = (theirs.exp() * (&theirs - log_probs(&normed))).sum(Kind::Float);
    let lessons = [Lesson::Labels(&labels), Lesson::Teacher { head: model.head(), normed: &teacher }];
    for (expected, lesson) in [by_labels, by_teacher].into_iter().zip(lessons) {
        let gradients = Tensor::run_backward(&[&expected], &[&normed, &head], true, false);
        let found = HeadLoss::of(model.head(), &normed.detach(), &lesson, true);
        let relative = |a: &Tensor, b: &Tensor| (a - b).abs().max().double_value(&[]) / b.abs().max().double_value(&[]);
        assert!((found.sum / expected.double_value(&[]) - 1.0).abs() < 1e-5);
        assert!(relative(&found.normed, &gradients[0]) < 1e-4);
        assert!(relative(&found.head.unwrap(), &gradients[1]) < 1e-4);
        assert!(HeadLoss::of(model.head(), &normed.detach(), &lesson, false).head.is_none());
    }
}

#[test]
fn a_merged_model_computes_what_the_adapted_one_does() {
    let golden = Golden::open();
    let mut adapted = tiny_model();
    adapted.adapt(&golden.adapters());
    let dir = tempfile::tempdir().unwrap();
    let base = Checkpoint::open(Path::new(TINY)).unwrap();
    let config = criadero::checkpoint::LlamaConfig { dtype: criadero::checkpoint::Dtype::F32, ..base.config().clone() };
    let files = base.tokenizer_files().unwrap();
    let tensor = |name| adapted.tensor(name);
    criadero::checkpoint::hf::write(dir.path(), &config, &tensor, &files, config.dtype).unwrap();
    let merged = Llama::load(&Checkpoint::open(dir.path()).unwrap(), Device::Cpu, Kind::Float).unwrap();
    let batch = Batch::new(&adapted, &[&golden.sequence()]).unwrap();
    for genome in [parent(), narrow()] {
        let logits = |model: &Llama| model.network(&genome).unwrap().forward(&batch.forest);
        let difference = (logits(&adapted) - logits(&merged)).abs().max().double_value(&[]);
        assert!(difference < 1e-4, "{genome}: {difference:e}");
        let without = (logits(&tiny_model()) - logits(&merged)).abs().max().double_value(&[]);
        assert!(without > 0.1, "the adapters do something: {without}");
    }
}
