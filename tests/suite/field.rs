//! Inputs from the field: files that say a thing twice, that other tools wrote, or that are not what they seem.

use std::path::Path;

use criadero::checkpoint::export::{Gguf, Hf};
use criadero::checkpoint::{Checkpoint, Dtype, RopeScaling, export};
use criadero::model::{Llama, TokenTree};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor, no_grad};

use crate::command::criadero;
use crate::goldens::{copy_of_tiny, load, tiny, tiny_model};

/// A copy of the tiny model.
fn copy() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    copy_of_tiny(dir.path());
    dir
}

/// The same with its configuration changed.
fn with_config(change: impl FnOnce(&mut Value)) -> tempfile::TempDir {
    let dir = copy();
    let path = dir.path().join("config.json");
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    change(&mut config);
    std::fs::write(&path, config.to_string()).unwrap();
    dir
}

/// The tensors of the tiny model.
fn tensors() -> Vec<(String, Tensor)> {
    Tensor::read_safetensors(copy().path().join("model.safetensors")).unwrap()
}

fn write(dir: &Path, file: &str, tensors: &[(String, Tensor)]) {
    Tensor::write_safetensors(tensors, dir.join(file)).unwrap();
}

/// The logits of a few tokens.
fn logits(model: &Llama) -> Tensor {
    let tokens: Vec<u32> = (0..40).map(|place| place * 31 % 509).collect();
    let batch = model.batch(&TokenTree::chain(&tokens)).unwrap();
    no_grad(|| model.whole().unwrap().forward(&batch))
}

fn opened(dir: &Path) -> (Checkpoint, Vec<String>) {
    let checkpoint = Checkpoint::open(dir).unwrap();
    let notes = checkpoint.notes().to_vec();
    (checkpoint, notes)
}

#[test]
fn a_head_of_its_own_counts_whatever_the_tied_flag_says() {
    let dir = with_config(|config| config["tie_word_embeddings"] = json!(true));
    let (checkpoint, notes) = opened(dir.path());
    assert!(notes.len() == 1 && notes[0].contains("lm_head.weight is stored and differs"), "{notes:?}");
    assert!(!checkpoint.config().shape.tied);
    assert_eq!(logits(&load(&checkpoint)), logits(&tiny_model()), "as with tie_word_embeddings: false");
}

#[test]
fn one_end_of_a_tied_model_is_both() {
    let both = tensors();
    let embedding = both.iter().find(|(name, _)| name == "model.embed_tokens.weight").unwrap().1.shallow_clone();
    let tied = |keep: [&str; 2], equal: bool| {
        let dir = with_config(|config| config["tie_word_embeddings"] = json!(true));
        let kept = both.iter().filter(|(name, _)| !name.contains("embed") && !name.contains("lm_head"));
        let mut kept: Vec<_> = kept.map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
        for name in keep.into_iter().filter(|name| !name.is_empty()) {
            kept.push((name.into(), if equal { embedding.copy() } else { embedding.shallow_clone() }));
        }
        write(dir.path(), "model.safetensors", &kept);
        let (checkpoint, notes) = opened(dir.path());
        assert_eq!(notes, [""; 0]);
        assert!(checkpoint.config().shape.tied);
        logits(&load(&checkpoint))
    };
    let usual = tied(["model.embed_tokens.weight", ""], false);
    assert_eq!(tied(["lm_head.weight", ""], false), usual, "the head alone");
    assert_eq!(tied(["lm_head.weight", "model.embed_tokens.weight"], true), usual, "the same values twice");
}

#[test]
fn the_index_says_which_of_two_tensors_of_one_name_counts() {
    let dir = copy();
    std::fs::remove_file(dir.path().join("model.safetensors")).unwrap();
    let (first, mut second): (Vec<_>, Vec<_>) =
        tensors().into_iter().partition(|(name, _)| !name.contains("layers.2") && !name.contains("layers.3"));
    let of = |file: &'static str, tensors: &[(String, Tensor)]| -> Vec<(String, Value)> {
        tensors.iter().map(|(name, _)| (name.clone(), json!(file))).collect()
    };
    let map = of("1.safetensors", &first).into_iter().chain(of("2.safetensors", &second)).collect();
    let index = json!({ "metadata": {}, "weight_map": Value::Object(map) });
    std::fs::write(dir.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
    second.push(("model.norm.weight".into(), Tensor::full([64], 7.0, (Kind::BFloat16, Device::Cpu))));
    write(dir.path(), "1.safetensors", &first);
    write(dir.path(), "2.safetensors", &second);
    let (checkpoint, notes) = opened(dir.path());
    assert!(notes.len() == 1 && notes[0].contains("model.norm.weight in 2.safetensors"), "{notes:?}");
    assert_eq!(logits(&load(&checkpoint)), logits(&tiny_model()));
    assert_eq!(checkpoint.digest().unwrap(), tiny().digest().unwrap());
}

#[test]
fn names_of_other_tools_are_read_and_said() {
    for (change, note) in [
        (
            (|name: &str| name.trim_start_matches("model.").to_string()) as fn(&str) -> String,
            "with `model.` before them",
        ),
        (|name| format!("_orig_mod.{name}"), "without `_orig_mod.`"),
        (|name| format!("module.{name}"), "without `module.`"),
        (|name| format!("base_model.model.{}", name.replace("_proj.", "_proj.base_layer.")), "`base_model.model.`"),
        (|name| format!("base_model.model._orig_mod.{name}"), "without `_orig_mod.` and `base_model.model.`"),
        (|name| name.replace(".mlp.", "._checkpoint_wrapped_module.mlp."), "without `._checkpoint_wrapped_module.`"),
    ] {
        let dir = copy();
        let renamed: Vec<_> = tensors().into_iter().map(|(name, tensor)| (change(&name), tensor)).collect();
        write(dir.path(), "model.safetensors", &renamed);
        let (checkpoint, notes) = opened(dir.path());
        assert!(notes.len() == 1 && notes[0].contains(note), "`{note}` is not in {notes:?}");
        assert_eq!(checkpoint.digest().unwrap(), tiny().digest().unwrap(), "{note}");
    }
}

#[test]
fn adapters_beside_the_weights_are_not_left_out_in_silence() {
    let dir = copy();
    let mut more = tensors();
    let a = Tensor::ones([2, 64], (Kind::BFloat16, Device::Cpu));
    more.push(("base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight".into(), a));
    write(dir.path(), "model.safetensors", &more);
    let error = Checkpoint::open(dir.path()).err().unwrap().to_string();
    assert!(error.contains("1 tensors of LoRA") && error.contains("merge"), "{error}");
    assert_eq!(error.lines().count(), 2, "{error}");
}

#[test]
fn says_in_two_lines_what_stands_in_for_weights() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n";
    let whole = std::fs::read(copy().path().join("model.safetensors")).unwrap();
    let cases: [(&str, &[u8], &str); 7] = [
        ("model.safetensors", pointer.as_bytes(), "git lfs pull"),
        ("model.safetensors", b"<!DOCTYPE html><html></html>", "a web page"),
        ("model.safetensors", b"PK\x03\x04archive/data.pkl", "a pickle of PyTorch"),
        ("model.safetensors", &whole[..whole.len() / 2], "cut off"),
        ("model.safetensors", &whole[..1000], "cut off"),
        ("config.json", pointer.as_bytes(), "git lfs pull"),
        ("config.json", b"<html>", "a web page"),
    ];
    for (file, bytes, said) in cases {
        let dir = copy();
        std::fs::write(dir.path().join(file), bytes).unwrap();
        let error = Checkpoint::open(dir.path()).err().unwrap().to_string();
        assert!(error.contains(said) && error.contains(file) && error.lines().count() <= 2, "{said}: {error}");
    }
    for (file, said) in [
        ("pytorch_model.bin", "a pickle"),
        ("adapter_model.safetensors", "a LoRA adapter"),
        ("model-00001-of-00002.safetensors", "without an index"),
        ("model.Q4_0.gguf", "give the file"),
        ("consolidated.00.pth", "Meta's own layout"),
    ] {
        let dir = copy();
        std::fs::rename(dir.path().join("model.safetensors"), dir.path().join(file)).unwrap();
        let error = Checkpoint::open(dir.path()).err().unwrap().to_string();
        assert!(error.contains(said) && error.contains(file) && error.lines().count() <= 2, "{said}: {error}");
    }
}

#[test]
fn says_what_to_give_instead_of_an_adapter_or_a_single_file() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("adapter_model.safetensors"), b"x").unwrap();
    std::fs::write(dir.path().join("adapter_config.json"), b"{}").unwrap();
    let error = Checkpoint::open(dir.path()).err().unwrap().to_string();
    assert!(error.contains("a LoRA adapter: merge it"), "{error}");
    for file in ["model.safetensors", "config.json"] {
        let error = Checkpoint::open(copy().path().join(file)).err().unwrap().to_string();
        assert!(error.contains("expected the directory itself"), "{error}");
    }
}

#[test]
fn divisors_that_llama_cpp_would_not_read_are_not_passed_over() {
    let llama3 = json!({ "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64, "rope_theta": 10000.0 });
    let dir = with_config(|config| config["rope_parameters"] = llama3);
    let parent = Checkpoint::open(dir.path()).unwrap();
    let genome = parent.config().genome.clone();
    let file = export(&parent, &genome, &Gguf, None, &dir.path().join("m.gguf")).unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    let at = bytes.windows(17).position(|window| window == b"rope_freqs.weight").unwrap();
    bytes[at..at + 10].copy_from_slice(b"rope_freqz");
    std::fs::write(&file, bytes).unwrap();
    let error = Checkpoint::open(&file).err().unwrap().to_string();
    assert!(error.contains("rope_freqz.weight: found, but the model has no such tensor"), "{error}");
}

#[test]
fn a_file_cut_off_is_said_once_and_not_for_each_tensor() {
    let dir = tempfile::tempdir().unwrap();
    let genome = tiny().config().genome.clone();
    let file = export(&tiny(), &genome, &Gguf, None, &dir.path().join("m.gguf")).unwrap();
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let error = Checkpoint::open(&file).err().unwrap().to_string();
    assert!(error.contains("cut off") && error.lines().count() <= 2, "{error}");
}

#[test]
fn models_of_other_tensors_are_explained_in_a_few_lines() {
    let dir = copy();
    let renamed: Vec<_> = tensors()
        .into_iter()
        .map(|(name, tensor)| (format!("transformer.{}", name.replace("model", "h")), tensor))
        .collect();
    write(dir.path(), "model.safetensors", &renamed);
    let error = Checkpoint::open(dir.path()).err().unwrap().to_string();
    assert!(error.contains("transformer.") && error.lines().count() <= 3, "{error}");
}

/// The tiny model as GGUF, uniform, with more keys; `{arch}` stands for its architecture.
fn gguf_with(keys: &[(&str, Key)]) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let genome = tiny().config().genome.clone();
    let file = export(&tiny(), &genome, &Gguf, Some(Dtype::F32), &dir.path().join("m.gguf")).unwrap();
    let bytes = std::fs::read(&file).unwrap();
    let pairs = u64::from_le_bytes(bytes[16..24].try_into().unwrap());
    let mut more = Vec::new();
    for (key, value) in keys {
        let key = key.replace("{arch}", "llama");
        more.extend((key.len() as u64).to_le_bytes());
        more.extend(key.bytes());
        match value {
            Key::Single(value) => {
                more.extend(6u32.to_le_bytes());
                more.extend(value.to_le_bytes());
            }
            Key::Text(text) => {
                more.extend(8u32.to_le_bytes());
                more.extend((text.len() as u64).to_le_bytes());
                more.extend(text.bytes());
            }
            Key::Count(value) => {
                more.extend(4u32.to_le_bytes());
                more.extend(value.to_le_bytes());
            }
        }
    }
    // The header grows by whole alignments, so that everything behind it keeps its place.
    let filler = |len: usize| {
        let key = "criadero.filler";
        let mut pair = (key.len() as u64).to_le_bytes().to_vec();
        pair.extend(key.bytes());
        pair.extend(8u32.to_le_bytes());
        pair.extend((len as u64).to_le_bytes());
        pair.extend(std::iter::repeat_n(b'x', len));
        pair
    };
    let short = (more.len() + filler(0).len()) % 32;
    more.extend(filler((32 - short) % 32));
    let count = (pairs + keys.len() as u64 + 1).to_le_bytes();
    let changed = [&bytes[..16], &count, &more, &bytes[24..]].concat();
    std::fs::write(&file, changed).unwrap();
    (dir, file)
}

enum Key {
    Single(f32),
    Text(&'static str),
    Count(u32),
}

#[test]
fn keys_of_a_gguf_stretch_positions_as_llama_cpp_reads_them() {
    let linear = |factor| Some(RopeScaling::Linear { linear_factor: factor });
    let read = |keys: &[(&str, Key)]| {
        let (_dir, file) = gguf_with(keys);
        let checkpoint = Checkpoint::open(&file).unwrap();
        (checkpoint.config().rope_scaling.clone(), checkpoint.notes().to_vec())
    };
    let old = ("{arch}.rope.scale_linear", Key::Single(8.0));
    assert_eq!(read(&[old]), (linear(8.0), vec![]));
    let new = || ("{arch}.rope.scaling.factor", Key::Single(4.0));
    assert_eq!(read(&[new()]), (linear(4.0), vec![]));
    let (scaling, notes) = read(&[new(), ("{arch}.rope.scale_linear", Key::Single(8.0))]);
    assert_eq!(scaling, linear(4.0));
    assert!(notes.len() == 1 && notes[0].contains("rope.scale_linear"), "{notes:?}");
    let (scaling, notes) = read(&[new(), ("{arch}.rope.scaling.type", Key::Text("none"))]);
    assert_eq!(scaling, None);
    assert!(notes.len() == 1 && notes[0].contains("does not count"), "{notes:?}");
    let yarn = read(&[new(), ("{arch}.rope.scaling.type", Key::Text("yarn"))]).0;
    assert!(
        matches!(yarn, Some(RopeScaling::Yarn(yarn)) if yarn.factor == 4.0 && yarn.original_max_position_embeddings == 256)
    );
    // The same function as a directory that says it.
    let (_dir, file) = gguf_with(&[("{arch}.rope.scale_linear", Key::Single(8.0))]);
    let config = with_config(|config| {
        config["rope_parameters"] = json!({ "rope_type": "linear", "factor": 8.0, "rope_theta": 10000.0 });
    });
    assert_eq!(
        logits(&load(&Checkpoint::open(&file).unwrap())),
        logits(&load(&Checkpoint::open(config.path()).unwrap()))
    );
}

#[test]
fn keys_of_a_gguf_that_change_the_function_are_refused_by_name() {
    for (key, said) in [
        (("{arch}.logit_scale", Key::Single(0.5)), "llama.logit_scale"),
        (("{arch}.residual_scale", Key::Single(0.22)), "llama.residual_scale"),
        (("{arch}.attention.scale", Key::Single(0.1)), "llama.attention.scale"),
        (("{arch}.attention.clamp_kqv", Key::Single(8.0)), "llama.attention.clamp_kqv"),
        (("{arch}.attn_logit_softcapping", Key::Single(50.0)), "llama.attn_logit_softcapping"),
        (("{arch}.expert_count", Key::Count(8)), "llama.expert_count"),
        (("{arch}.attention.sliding_window", Key::Count(64)), "a window of 64"),
        (
            ("{arch}.rope.scaling.type", Key::Text("dynamic")),
            "found `dynamic`, expected none, linear, yarn or longrope",
        ),
        (("{arch}.rope.scaling.yarn_ext_factor", Key::Single(0.5)), ""),
    ] {
        let (_dir, file) = gguf_with(&[key]);
        match Checkpoint::open(&file) {
            Err(error) => assert!(!said.is_empty() && error.to_string().contains(said), "{said}: {error}"),
            Ok(_) => assert_eq!(said, "", "counts for yarn alone"),
        }
    }
    // What says nothing.
    let (_dir, file) = gguf_with(&[
        ("{arch}.attention.sliding_window", Key::Count(256)),
        ("{arch}.logit_scale", Key::Single(1.0)),
        ("{arch}.expert_used_count", Key::Count(0)),
    ]);
    assert_eq!(opened(&file).1, [""; 0]);
}

#[test]
fn tensors_of_types_that_are_not_read_are_named_in_a_few_lines() {
    let dir = copy();
    let eight = |(name, tensor): (String, Tensor)| (name, tensor.to_kind(Kind::Int8));
    write(dir.path(), "model.safetensors", &tensors().into_iter().map(eight).collect::<Vec<_>>());
    let error = Checkpoint::open(dir.path()).err().unwrap().to_string();
    assert!(error.contains("found dtype I8, expected F32, F16 or BF16") && error.contains("2 more like it"), "{error}");
    assert!(error.lines().count() < 30, "{error}");
    let few = with_config(|config| config["intermediate_size"] = json!(127));
    let error = Checkpoint::open(few.path()).err().unwrap().to_string();
    assert!(error.contains("up_proj.weight and 2 more like it: found shape [128, 64], expected [127, 64]"), "{error}");
}

#[test]
fn a_split_gguf_is_one_model() {
    let dir = tempfile::tempdir().unwrap();
    let (_kept, file) = gguf_with(&[("split.count", Key::Count(2)), ("split.no", Key::Count(0))]);
    let first = dir.path().join("m-00001-of-00002.gguf");
    let second = dir.path().join("m-00002-of-00002.gguf");
    std::fs::copy(&file, &first).unwrap();
    let error = Checkpoint::open(&first).err().unwrap().to_string();
    assert!(error.contains("m-00002-of-00002.gguf: missing"), "{error}");
    // Two files with the same tensors are no model; moving some of them is what llama-gguf-split does.
    std::fs::copy(&file, &second).unwrap();
    let error = Checkpoint::open(&first).err().unwrap().to_string();
    assert!(error.contains("is here and in"), "{error}");
    let error = Checkpoint::open(&second).err().unwrap().to_string();
    assert!(error.contains("a name that ends in -00001-of-00002.gguf"), "{error}");
    move_tensors(&first, &second);
    let (checkpoint, notes) = opened(&first);
    assert_eq!(notes, [""; 0]);
    assert_eq!(logits(&load(&checkpoint)), logits(&tiny_model()));
}

/// Leaves half of a GGUF file's tensors to the first of two copies, the other half to the second.
fn move_tensors(first: &Path, second: &Path) {
    let bytes = std::fs::read(first).unwrap();
    let count = u64::from_le_bytes(bytes[8..16].try_into().unwrap());
    let infos = bytes.windows(12).position(|window| window == b"token_embd.w").unwrap() - 8;
    let mut places = vec![infos];
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
    for _ in 0..count {
        let at = places[places.len() - 1];
        let dims = at + 8 + number(at);
        let count = u32::from_le_bytes(bytes[dims..dims + 4].try_into().unwrap()) as usize;
        places.push(dims + 4 + 8 * count + 4 + 8);
    }
    let end = places[count as usize];
    let half = count as usize / 2;
    let data = end.next_multiple_of(32);
    for (file, range) in [(first, 0..half), (second, half..count as usize)] {
        let kept = &bytes[places[range.start]..places[range.end]];
        let mut out = [&bytes[..8], &(range.len() as u64).to_le_bytes(), &bytes[16..infos], kept].concat();
        out.resize(out.len().next_multiple_of(32), 0);
        out.extend(&bytes[data..]);
        std::fs::write(file, out).unwrap();
    }
}

#[test]
fn a_window_longer_than_the_input_costs_nothing() {
    let dir = with_config(|config| {
        config["model_type"] = json!("mistral");
        config["sliding_window"] = json!(4096);
    });
    let (checkpoint, notes) = opened(dir.path());
    assert_eq!(notes, [""; 0]);
    assert_eq!(logits(&load(&checkpoint)), logits(&tiny_model()));
}

#[test]
fn a_uniform_network_is_a_llama_with_scalars() {
    let dir = tempfile::tempdir().unwrap();
    let parent = tiny();
    let written = |genome: &str| {
        let out = dir.path().join(genome.replace(':', "_")).with_extension("gguf");
        std::fs::read(export(&parent, &genome.parse().unwrap(), &Gguf, None, &out).unwrap()).unwrap()
    };
    let has = |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    for genome in ["4x128*4", "2x64*3:-"] {
        let bytes = written(genome);
        assert!(has(&bytes, "llama.block_count") && !has(&bytes, "deci"), "{genome}");
        let key = "llama.attention.head_count";
        let at = bytes.windows(key.len()).position(|window| window == key.as_bytes()).unwrap() + key.len();
        assert_eq!(bytes[at..at + 4], 4u32.to_le_bytes(), "{genome}: a scalar");
    }
    assert!(has(&written("4x128*3:2x128"), "deci.block_count"));
    let uniform = dir.path().join("hf");
    export(&parent, &"2x64*4".parse().unwrap(), &Hf, None, &uniform).unwrap();
    let config = std::fs::read_to_string(uniform.join("config.json")).unwrap();
    assert!(config.contains(r#""model_type": "llama""#) && !uniform.join("modeling_criadero.py").exists(), "{config}");
}

#[test]
fn a_text_ends_where_the_generation_configuration_says() {
    let with = |generation: Option<Value>| {
        let dir = copy();
        let path = dir.path().join("generation_config.json");
        match generation {
            Some(value) => std::fs::write(path, value.to_string()).unwrap(),
            None => std::fs::remove_file(path).unwrap(),
        }
        Checkpoint::open(dir.path()).unwrap().stop_tokens().map_err(|error| error.to_string())
    };
    assert_eq!(with(None), Ok(vec![1]), "what config.json says");
    assert_eq!(with(Some(json!({}))), Ok(vec![1]));
    assert_eq!(with(Some(json!({ "eos_token_id": [7, 9] }))), Ok(vec![7, 9]), "as transformers generates");
    assert!(with(Some(json!({ "eos_token_id": 512 }))).unwrap_err().contains("less than the vocabulary's 512"));
    let (_dir, file) = gguf_with(&[("tokenizer.ggml.eot_token_id", Key::Count(9))]);
    assert_eq!(Checkpoint::open(&file).unwrap().stop_tokens().unwrap(), [1, 9]);
}

#[test]
fn a_command_that_refuses_leaves_no_empty_place_behind() {
    let broken = copy();
    std::fs::write(broken.path().join("model.safetensors"), "version https://git-lfs.github.com/spec/v1\n").unwrap();
    let broken = broken.path().display().to_string();
    let good = copy().keep();
    let text = good.join("text.txt");
    std::fs::write(&text, "The goose is larger than the trout. ".repeat(40)).unwrap();
    let task = good.join("task.jsonl");
    std::fs::write(&task, r#"{"context": "the", "choices": ["a", "b"], "gold": 0}"#).unwrap();
    let [model, text, task] = [&good, &text, &task].map(|path| path.display().to_string());
    let goals = ["--objective", &format!("choice_nll:{task}"), "--objective", "params"];
    let small = ["--evals", "4", "--population", "2", "--threads", "1"];
    let nothing = "/no/such/place";
    let cases: Vec<(Vec<&str>, &str)> = vec![
        (vec!["rank", &broken, "--text", &text], "git lfs"),
        (vec!["rank", &model, "--text", nothing], nothing),
        ([&["search", "tiny", "--model", &broken][..], &goals, &small].concat(), "git lfs"),
        ([&["search", "smollm2-135m", "--model", &model][..], &goals, &small].concat(), "shape.layers"),
        (
            [
                &["search", "tiny", "--model", &model, "--objective", "choice_nll:none.jsonl", "--objective", "params"]
                    [..],
                &small,
            ]
            .concat(),
            "none.jsonl",
        ),
        (vec!["tune", &broken, "--space", "tiny", "--data", &text], "git lfs"),
        (vec!["tune", &model, "--space", "tiny", "--length", "32", "--data", nothing], nothing),
        (vec!["export", &broken, "--genome=4x128*4", "--format", "hf"], "git lfs"),
        (vec!["export", &model, "--genome=9x128*4", "--format", "hf"], "9 heads"),
        (vec!["export", &model, "--genome=9x128*4", "--format", "gguf"], "9 heads"),
        (vec!["quantize", &broken, "--bits", "8", "--task", &task], "git lfs"),
        (vec!["eval", &broken, "--task", &task, "--per-item"], "git lfs"),
        (vec!["measure", &broken, "--space", "tiny"], "git lfs"),
        (vec!["synthesize", "--shape", "no-such-shape"], "no-such-shape"),
        (vec!["merge", &broken, "--adapters", nothing], ""),
    ];
    for (arguments, said) in cases {
        let place = tempfile::tempdir().unwrap();
        let out = place.path().join("out");
        let mut command = criadero(&arguments);
        if arguments.last() != Some(&"--per-item") {
            command.arg("--out");
        }
        let output = command.arg(&out).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && stderr.contains(said), "{arguments:?}: {stderr}");
        let left: Vec<_> = std::fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.is_empty(), "{arguments:?} left {left:?} behind: {stderr}");
    }
    std::fs::remove_dir_all(good).unwrap();
}

#[test]
fn what_a_configuration_says_of_rotary_parameters_counts_as_in_transformers() {
    let with = |rope: Value, parameters: Value| {
        let dir = with_config(|config| {
            config["rope_parameters"] = parameters;
            config["rope_scaling"] = rope;
        });
        Checkpoint::open(dir.path()).map(|checkpoint| (checkpoint.config().clone(), checkpoint.notes().to_vec()))
    };
    let linear = json!({ "rope_type": "linear", "factor": 2.0, "rope_theta": 777.0 });
    let (config, notes) = with(json!({}), linear.clone()).unwrap();
    assert_eq!((config.rope_theta, config.rope_scaling), (777.0, Some(RopeScaling::Linear { linear_factor: 2.0 })));
    assert_eq!(notes, [""; 0], "an empty table is none");
    let (config, notes) = with(json!({ "type": null, "factor": 2.0 }), Value::Null).unwrap();
    assert_eq!(config.rope_scaling, None);
    assert!(notes.len() == 1 && notes[0].contains("a factor of 2 without a rope_type"), "{notes:?}");
    for nested in
        [json!({ "full_attention": linear }), json!({ "sliding_attention": linear, "full_attention": linear })]
    {
        let error = with(Value::Null, nested).err().unwrap().to_string();
        assert!(error.contains("for each kind of layer"), "{error}");
    }
}

#[test]
fn attention_in_both_directions_and_windows_without_a_width_are_refused() {
    let refusal = |change: &dyn Fn(&mut Value)| Checkpoint::open(with_config(change).path()).err().unwrap().to_string();
    assert!(refusal(&|config| config["is_causal"] = json!(false)).contains("is_causal: found false, expected true"));
    let slides = refusal(&|config| {
        config["model_type"] = json!("qwen3");
        config["use_sliding_window"] = json!(true);
        config["sliding_window"] = Value::Null;
        config["layer_types"] = json!(["sliding_attention", "full_attention", "full_attention", "full_attention"]);
    });
    assert!(slides.contains("expected a sliding_window beside it"), "{slides}");
}

#[test]
fn an_architecture_has_no_tensors_that_llama_cpp_does_not_read_under_it() {
    let dir = tempfile::tempdir().unwrap();
    let families = Path::new(crate::goldens::GOLDENS).join("families");
    for (place, from) in [
        ("config.json", families.join("qwen3/config.json")),
        ("model.safetensors", families.join("qwen3/model.safetensors")),
        ("tokenizer.json", families.join("tokenizer.json")),
    ] {
        std::fs::copy(from, dir.path().join(place)).unwrap();
    }
    let parent = Checkpoint::open(dir.path()).unwrap();
    let file = export(&parent, &parent.config().genome, &Gguf, None, &dir.path().join("m.gguf")).unwrap();
    let text = std::fs::read(&file).unwrap();
    let renamed: Vec<u8> = text.windows(5).map(|window| if window == b"qwen3" { 1 } else { 0 }).collect();
    let mut bytes = text.clone();
    for at in (0..renamed.len()).filter(|&at| renamed[at] == 1) {
        bytes[at..at + 5].copy_from_slice(b"llama");
    }
    std::fs::write(&file, bytes).unwrap();
    let error = Checkpoint::open(&file).err().unwrap().to_string();
    assert!(error.contains("found head_norms in its layers, which llama.cpp does not read under `llama`"), "{error}");
}

#[test]
fn a_pipe_and_an_adapter_beside_the_weights_are_said() {
    let dir = copy();
    std::fs::remove_file(dir.path().join("config.json")).unwrap();
    std::fs::create_dir(dir.path().join("config.json")).unwrap();
    let error = Checkpoint::open(dir.path()).err().unwrap().to_string();
    assert!(error.contains("found a directory, a pipe or a device, expected a file"), "{error}");
    let dir = copy();
    std::fs::write(dir.path().join("adapter_model.safetensors"), b"x").unwrap();
    let error = Checkpoint::open(dir.path()).err().unwrap().to_string();
    assert!(error.contains("an adapter lies beside the weights") && error.contains("merge it"), "{error}");
}
