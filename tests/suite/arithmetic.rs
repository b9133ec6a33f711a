//! The same model in bfloat16 and in int8: close to float32, the same bits however it is run, and never reported where it matters.
//! Everywhere, also where a CPU emulates them.

use std::fs;
use std::path::Path;

use criadero::arithmetic::Arithmetic;
use criadero::checkpoint::Checkpoint;
use criadero::model::{Llama, Network};
use criadero::plan::load_beside_float32;
use criadero::run::{Front, RunSettings};
use criadero::space::{BlockWeights, Genome};
use criadero::tune::Sequence;
use criadero::tune::adamw::Parameter;
use criadero::tune::backward::{Learned, learn};
use criadero::tune::batch::Batch;
use criadero::tune::head_loss::Lesson;
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use crate::command::{criadero, fail, fail_with, said, succeed};
use crate::damage::edit;
use crate::eval::{per_item, questions};
use crate::goldens::{TINY, copy_of_tiny};

const NARROW: &str = "2x64:4x128:-:0x64";

/// Log-likelihoods of every item, as `eval` writes them.
fn rows(dir: &Path, model: &str, task: &str, extra: &[&str]) -> (Vec<Value>, String) {
    let out = dir.join("rows.jsonl");
    let arguments = ["eval", model, "--task", task, "--threads", "1", "--chunk-tokens", "128", "--per-item"];
    let (_, notes) = said(criadero(&[&arguments[..], &[out.to_str().unwrap()], extra].concat()));
    (per_item(&out), notes)
}

fn log_likelihoods(rows: &[Value]) -> Vec<f64> {
    let of = |row: &Value| -> Vec<f64> { serde_json::from_value(row["log_likelihoods"].clone()).unwrap() };
    rows.iter().flat_map(of).collect()
}

fn largest(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn an_arithmetic_is_close_to_float32_and_its_bits_do_not_depend_on_company() {
    let dir = tempfile::tempdir().unwrap();
    let task = questions(dir.path(), 24);
    let networks = dir.path().join("networks.txt");
    fs::write(&networks, format!("4x128*4\n{NARROW}\n2x128*4\n")).unwrap();
    let networks = networks.display().to_string();
    let score = |extra: &[&str]| rows(dir.path(), TINY, &task, &[&["--genomes", &networks][..], extra].concat()).0;
    let exact = score(&["--arithmetic", "f32"]);
    assert_eq!(exact, score(&[]), "float32 is what is quoted");
    let size = log_likelihoods(&exact).into_iter().fold(0.0_f64, |most, one| most.max(one.abs()));
    // Weights and inputs of products have 8 bits, in int8 of what the largest one has.
    let mut all = vec![exact.clone()];
    for (arithmetic, bound) in [("bf16", size / 128.0), ("int8", size / 32.0)] {
        let flags = ["--arithmetic", arithmetic];
        let together = score(&flags);
        let difference = largest(&log_likelihoods(&exact), &log_likelihoods(&together));
        assert!(difference > 0.0 && difference < bound, "{arithmetic}: {difference} of {size}");
        assert_eq!(score(&[&flags[..], &["--alone"]].concat()), together);
        let mut alone = rows(dir.path(), TINY, &task, &[&flags[..], &["--genome", NARROW]].concat()).0;
        alone.iter_mut().for_each(|row| row["genome"] = NARROW.into());
        let of_narrow: Vec<Value> = together.iter().filter(|row| row["genome"] == NARROW).cloned().collect();
        assert_eq!(alone, of_narrow);
        assert!(!all.contains(&together), "{arithmetic}");
        all.push(together);
    }
}

#[test]
fn products_in_int8_are_of_corrected_matrices() {
    let dir = tempfile::tempdir().unwrap();
    let [text, supernet, plain] = ["text.txt", "supernet", "plain"].map(|name| dir.path().join(name));
    fs::write(&text, "What is which? Question one is two. The goose is larger than the trout. ".repeat(40)).unwrap();
    let path = |path: &Path| path.display().to_string();
    let order = path(&supernet.join("criadero.json"));
    let rank =
        |more: &[&str]| succeed(criadero(&[&["rank", TINY, "--text", &path(&text), "--out"][..], more].concat()));
    let size = ["--tokens", "512", "--window", "64", "--loss-tokens", "0"];
    rank(&[&[&path(&supernet)[..], "--space", "tiny"][..], &size].concat());
    rank(&[&path(&plain), "--order", &order]);
    let logits = |path: &Path, kind, genome: &str| {
        let model = Llama::load(&Checkpoint::open(path).unwrap(), Device::Cpu, kind).unwrap();
        let tree = criadero::model::TokenTree::chain(&[1, 5, 9, 200, 77, 3]);
        let network: Network = model.network(&genome.parse().unwrap()).unwrap();
        network.forward(&model.batch(&tree).unwrap())
    };
    let apart = |a: &Tensor, b: &Tensor| (a - b).norm().double_value(&[]) / b.norm().double_value(&[]);
    for genome in ["2x64*4", "4x96*4", "2x128*2:4x64*2"] {
        let exact = logits(&supernet, Kind::Float, genome);
        let rounded = apart(&logits(&supernet, Kind::Int8, genome), &exact);
        let uncorrected = apart(&logits(&plain, Kind::Float, genome), &exact);
        assert!(rounded < uncorrected / 2.0, "{genome}: {rounded} and {uncorrected}");
    }
}

/// Products of quantized matrices are as in bfloat16.
#[test]
fn products_in_int8_are_of_unquantized_matrices() {
    let checkpoint = Checkpoint::open(Path::new(TINY)).unwrap();
    let [bf16, int8] = [Kind::BFloat16, Kind::Int8].map(|kind| Llama::load(&checkpoint, Device::Cpu, kind).unwrap());
    assert_eq!((int8.kind(), int8.is_int8(), bf16.is_int8()), (Kind::BFloat16, true, false));
    let tree = criadero::model::TokenTree::chain(&[1, 5, 9, 200, 77, 3]);
    let logits = |model: &Llama, genome: &str| {
        let network: Network = model.network(&genome.parse().unwrap()).unwrap();
        network.forward(&model.batch(&tree).unwrap())
    };
    for (genome, same) in [("4x128@8*4", true), ("-*4", true), ("4x128*4", false), ("4x128@8*3:4x128", false)] {
        assert_eq!(logits(&bf16, genome) == logits(&int8, genome), same, "{genome}");
    }
    assert_eq!(logits(&int8.share().with_int8(false), "4x128*4"), logits(&bf16, "4x128*4"));
}

#[test]
fn a_bfloat16_checkpoint_is_in_float32_beside_itself_without_a_second_copy() {
    let dir = tempfile::tempdir().unwrap();
    copy_of_tiny(dir.path());
    let path = dir.path().join("model.safetensors");
    let stored = |kind| {
        let tensors = Tensor::read_safetensors(Path::new(TINY).join("model.safetensors")).unwrap();
        let tensors: Vec<(String, Tensor)> = tensors.into_iter().map(|(name, one)| (name, one.to_kind(kind))).collect();
        Tensor::write_safetensors(&tensors, &path).unwrap();
        Checkpoint::open(dir.path()).unwrap()
    };
    let tree = criadero::model::TokenTree::chain(&[1, 5, 9, 200, 77, 3]);
    for (kind, shares) in [(Kind::BFloat16, true), (Kind::Float, false)] {
        let checkpoint = stored(kind);
        assert_eq!(checkpoint.is_bf16(), shares);
        let whole = Llama::load(&checkpoint, Device::Cpu, Kind::Float).unwrap();
        let none = BlockWeights::default();
        let (fast, note) = load_beside_float32(&checkpoint, (Device::Cpu, Kind::BFloat16), none).unwrap();
        assert_eq!(note, None);
        let beside = fast.float32().unwrap();
        assert_eq!((fast.kind(), beside.kind()), (Kind::BFloat16, Kind::Float));
        for genome in ["4x128*4", NARROW, "4x128@8*4"] {
            let genome: Genome = genome.parse().unwrap();
            let logits = |model: &Llama| {
                let network: Network = model.network(&genome).unwrap();
                network.forward(&model.batch(&tree).unwrap())
            };
            assert_eq!(logits(beside), logits(&whole), "{genome} of {kind:?}");
            let most = |of: Tensor| of.abs().max().double_value(&[]);
            let (difference, size) = (most(logits(&fast) - logits(&whole)), most(logits(&whole)));
            assert!(difference > 0.0 && difference < size / 16.0, "{difference} of {size}");
        }
        let at = |model: &Llama| model.weights()[1].1.data_ptr();
        assert_eq!(at(&fast) == at(beside), shares);
    }
}

/// A search that ends with the same bytes when its journal is cut, and whose front is float32's.
#[test]
fn a_search_in_bfloat16_resumes_and_reports_in_float32() {
    resumes_and_reports_in_float32(Arithmetic::Bf16, "cpu bfloat16");
}

#[test]
fn a_search_in_int8_resumes_and_reports_in_float32() {
    resumes_and_reports_in_float32(Arithmetic::Int8, "cpu int8");
}

fn resumes_and_reports_in_float32(fast: Arithmetic, device: &str) {
    let dir = tempfile::tempdir().unwrap();
    let task = questions(dir.path(), 40);
    let run = dir.path().join("run").display().to_string();
    let nll = format!("choice_nll:{task}");
    let what = ["search", "tiny", "--model", TINY, "--objective", &nll, "--objective", "params", "--out", &run];
    let size = ["--evals", "12", "--population", "6", "--chunk-tokens", "128", "--threads", "1"];
    let search = |arithmetic: &str| criadero(&[&what[..], &size, &["--arithmetic", arithmetic]].concat());
    let (table, notes) = said(search(fast.name()));
    assert!(table.contains("(search, f32)"), "{table}");
    assert!(notes.contains(&format!("of the front in {fast} and in float32: they differ by 0.")), "{notes}");
    assert_eq!(notes.contains("it is emulated"), !fast.is_native(), "{notes}");
    let settings = RunSettings::read(Path::new(&run)).unwrap().unwrap();
    assert_eq!(settings.frozen.arithmetic, fast);

    let read = |name: &str| fs::read(dir.path().join("run").join(name)).unwrap();
    let results = ["evaluations.csv", "front.csv", "front.json"].map(read);
    let log = String::from_utf8(read("chunks.log")).unwrap();
    let half: String = log.split_inclusive('\n').take(log.lines().count() / 2).collect();
    fs::write(dir.path().join("run/chunks.log"), half + "torn").unwrap();
    fs::remove_file(dir.path().join("run/state.json")).unwrap();
    succeed(search("auto"));
    assert_eq!(["evaluations.csv", "front.csv", "front.json"].map(read), results, "a run keeps its arithmetic");

    let error = fail(search("f32"));
    assert!(error.contains("arithmetic") && error.contains(fast.name()) && error.contains("f32"), "{error}");
    // As if it had begun where the CPU is of the other sort.
    let path = dir.path().join("run/run.json");
    edit(&path, |text| {
        let emulated = format!("{device}, emulated");
        let there = text.replace(&emulated, device);
        if there == text { text.replace(device, &emulated) } else { there }
    });
    let error = fail(search("auto"));
    assert!(error.contains("emulate"), "{error}");

    // What is reported is what `eval` says, in float32.
    let front = Front::read_json(&dir.path().join("run/front.json")).unwrap();
    let point = front.points.last().unwrap();
    let genome = point.genome.to_string();
    let split = |split: &str| {
        let mut eval = criadero(&["eval", TINY, "--task", &task, "--genome", &genome, "--split", split, "--json"]);
        eval.args(["--threads", "1", "--chunk-tokens", "128"]);
        serde_json::from_str::<Value>(&succeed(eval)).unwrap()["choice_nll"].as_f64().unwrap()
    };
    let close = |a: f64, b: f64| (a - b).abs() < 1e-5;
    assert!(close(split("search"), point.value(&Front::float32_name(&nll)).unwrap()), "{point:?}");
    assert!(!close(split("search"), point.value(&nll).unwrap()), "searched in {fast}");
    let held_out = point.held_out.iter().find(|score| score.name == nll).unwrap();
    assert!(close(split("held-out"), held_out.value), "{point:?}");
}

/// A column of the largest float32 behind a channel that is always 0: infinity in bfloat16, and 0 · ∞ is no number.
#[test]
fn what_overflows_is_scored_again_in_float32_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("model");
    fs::create_dir(&model).unwrap();
    copy_of_tiny(&model);
    let path = model.join("model.safetensors");
    let tensors = Tensor::read_safetensors(&path).unwrap().into_iter();
    let tensors: Vec<(String, Tensor)> = tensors.map(|(name, one)| (name, one.to_kind(Kind::Float))).collect();
    for (name, tensor) in &tensors {
        match name.as_str() {
            "model.layers.1.mlp.gate_proj.weight" => drop(tensor.narrow(0, 7, 1).fill_(0.0)),
            "model.layers.1.mlp.down_proj.weight" => drop(tensor.narrow(1, 7, 1).fill_(f64::from(f32::MAX))),
            _ => {}
        }
    }
    Tensor::write_safetensors(&tensors, &path).unwrap();
    let model = model.display().to_string();
    let task = questions(dir.path(), 12);
    let (exact, notes) = rows(dir.path(), &model, &task, &[]);
    assert!(!notes.contains("computed again"), "{notes}");
    for arithmetic in ["bf16", "int8"] {
        let (fast, notes) = rows(dir.path(), &model, &task, &["--arithmetic", arithmetic]);
        assert!(notes.contains("scores were no finite numbers and were computed again in float32"), "{notes}");
        assert_eq!(fast, exact, "{arithmetic}");
    }
}

#[test]
fn an_arithmetic_that_there_is_none_of_is_refused() {
    let error = fail_with(criadero(&["generate", TINY, "--prompt", "a", "--arithmetic", "fp8"]), 2);
    assert!(error.contains("unknown arithmetic `fp8`") && error.contains("bf16"), "{error}");
    for learning in ["rank", "tune", "distill", "route"] {
        let error = fail_with(criadero(&[learning, TINY, "--arithmetic", "int8"]), 2);
        assert!(error.contains("int8") && error.contains("expected f32 or bf16"), "{error}");
    }
}

/// A search that is free to choose says what it measured, whatever it takes.
#[test]
fn a_search_says_why_it_takes_an_arithmetic() {
    let dir = tempfile::tempdir().unwrap();
    let task = questions(dir.path(), 40);
    let run = dir.path().join("run").display().to_string();
    let nll = format!("choice_nll:{task}");
    let what = ["search", "tiny", "--model", TINY, "--objective", &nll, "--objective", "params", "--out", &run];
    let size = ["--evals", "6", "--population", "6", "--chunk-tokens", "128", "--threads", "1", "--arithmetic", "auto"];
    let (_, notes) = said(criadero(&[&what[..], &size].concat()));
    let settings = RunSettings::read(Path::new(&run)).unwrap().unwrap();
    let [first, second] = [Arithmetic::Int8, Arithmetic::Bf16].map(Arithmetic::is_native);
    let tried = if first { "int8" } else { "bf16" };
    let taken = format!("the search is in {}: {tried} is ", settings.frozen.arithmetic);
    assert_eq!(notes.contains(&taken), second, "{notes}");
    if !Arithmetic::Bf16.is_native() {
        assert_eq!(settings.frozen.arithmetic, Arithmetic::F32);
    }
}

/// Gradients in bfloat16 against float32's, as PyTorch gave them: of the loss, and of every weight by its direction and its length.
#[test]
fn gradients_in_bfloat16_point_where_those_of_float32_do() {
    let dir = tempfile::tempdir().unwrap();
    copy_of_tiny(dir.path());
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let sequence = Sequence { documents: vec![(0..48).map(|place| (3 + place * 37 % 250, place > 0)).collect()] };
    let genome: Genome = "4x128:2x64:4x96:4x128".parse().unwrap();
    let learned = |kind, recompute| {
        let model = Llama::load(&checkpoint, Device::Cpu, kind).unwrap();
        let batch = Batch::new(&model, &[&sequence]).unwrap();
        let parameters: Vec<Parameter> =
            model.weights().into_iter().map(|(name, tensor)| Parameter::new(name, tensor)).collect();
        let network = model.network(&genome).unwrap();
        let Learned { loss, .. } = learn(&network, &batch, &Lesson::Labels(&batch.labels), &|_| 1.0, recompute);
        let gradient = |one: &Parameter| (one.name.clone(), one.tensor.grad().to_kind(Kind::Float));
        (loss, parameters.iter().map(gradient).collect::<Vec<_>>())
    };
    let (exact_loss, exact) = learned(Kind::Float, false);
    for recompute in [false, true] {
        let (loss, gradients) = learned(Kind::BFloat16, recompute);
        assert!((loss - exact_loss).abs() < 0.02 * exact_loss, "{loss}, in float32 {exact_loss}");
        for ((name, ours), (_, theirs)) in gradients.iter().zip(&exact) {
            let norm = |of: &Tensor| of.norm().double_value(&[]);
            let (length, exact_length) = (norm(ours), norm(theirs));
            if exact_length > 0.0 {
                let cosine = (ours * theirs).sum(Kind::Float).double_value(&[]) / (length * exact_length);
                assert!(cosine > 0.98, "{name}, recompute {recompute}: cosine {cosine}");
                assert!((length / exact_length - 1.0).abs() < 0.05, "{name}: {length} of {exact_length}");
            } else {
                assert_eq!(length, 0.0, "{name}");
            }
        }
    }
}
