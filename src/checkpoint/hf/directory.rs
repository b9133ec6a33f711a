//! Hugging Face directories: `config.json` and one or more safetensors files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde::Deserialize;
use tch::Kind;

use super::config::{self, ReadConfig};
use super::safetensors_file::{is_rotary_table, open_safetensors};
use super::tensor_names::renamed;
use crate::checkpoint::config::LlamaConfig;
use crate::checkpoint::file_kind;
use crate::checkpoint::names::TensorName;
use crate::checkpoint::raw_tensor::{FoundTensors, RawTensor, match_tensors};
use crate::error::{Error, Result};

pub(crate) const CONFIG_FILE: &str = "config.json";
pub(crate) const SINGLE_FILE: &str = "model.safetensors";
pub(crate) const INDEX_FILE: &str = "model.safetensors.index.json";
/// Matrices for narrower widths of a supernet: of the weights beside it and no others.
pub(crate) const CORRECTIONS_FILE: &str = "corrections.safetensors";

/// A supernet's order and the scores behind it.
pub(crate) const CARD_FILE: &str = "criadero.json";
/// What the directory says of itself to people and to the hub.
pub(crate) const MODEL_CARD_FILE: &str = "README.md";
/// What licences and notices are called that go wherever the weights go.
pub(crate) const NOTICE_FILES: [&str; 6] =
    ["LICENSE", "LICENSE.md", "LICENSE.txt", "NOTICE", "NOTICE.txt", "USE_POLICY.md"];
/// Adapters lie beside the weights that they were merged into.
pub const ADAPTER_DIR: &str = "adapter";

const ADAPTER_FILE: &str = "adapter_model.safetensors";

/// Files that hold weights in ways that are not read, and what to do with each.
const OTHER_WEIGHTS: [(&str, &str); 7] = [
    (ADAPTER_FILE, "a LoRA adapter: merge it into the model it was trained on, and give that"),
    ("pytorch_model.bin", "a pickle: load it with transformers and save_pretrained it there"),
    ("pytorch_model.bin.index.json", "pickles: load them with transformers and save_pretrained them there"),
    ("consolidated.safetensors", "Mistral's own layout: take the files of the same model in transformers' layout"),
    ("consolidated.00.pth", "Meta's own layout: take the files of the same model in transformers' layout"),
    ("tf_model.h5", "TensorFlow's: load it with transformers and save_pretrained it there"),
    ("flax_model.msgpack", "Flax's: load it with transformers and save_pretrained it there"),
];

/// What a directory holds, checked: every tensor the configuration asks for lies where its entry says.
pub(crate) struct DirectoryContent {
    pub(crate) config: LlamaConfig,
    pub(crate) tensors: BTreeMap<TensorName, RawTensor>,
    /// Where its files contradict each other, and what was made of it.
    pub(crate) notes: Vec<String>,
}

/// Opens a directory and checks it.
pub(crate) fn open(dir: &Path) -> Result<DirectoryContent> {
    let config_path = dir.join(CONFIG_FILE);
    if !Error::is_absent(&dir.join(ADAPTER_FILE))? && !Error::is_absent(&dir.join(SINGLE_FILE))? {
        // Whether transformers applies it depends on what else is installed.
        let what = "an adapter lies beside the weights".into();
        let remedy = "merge it into the model, or move it elsewhere";
        let problems = vec![format!("found {ADAPTER_FILE}, expected none: {remedy}")];
        return Err(Error::Mismatch { path: dir.into(), what, problems });
    }
    if dir.is_dir() && Error::is_absent(&config_path)? && other_weights(dir).is_some() {
        return Err(no_weights(dir));
    }
    let ReadConfig { mut config, mut notes } = config::parse(&config_path, &read_text(&config_path)?)?;
    let found = renamed(dir, found_tensors(dir, &mut notes)?, &mut notes)?;
    let found = tie(found, &mut config, &mut notes)?;
    let tensors = match_tensors(dir, &config, found, TensorName::hf, is_rotary_table)?;
    if let Some(embedding) = tensors.get(&TensorName::Embedding) {
        config.dtype = embedding.ty.dtype();
    }
    Ok(DirectoryContent { config, tensors, notes })
}

/// Whether the output matrix is the embedding: transformers 5.23's rule. Where both are stored and differ, the flag is wrong;
/// where one is stored, it is both.
fn tie(mut found: FoundTensors, config: &mut LlamaConfig, notes: &mut Vec<String>) -> Result<FoundTensors> {
    if !config.shape.tied {
        return Ok(found);
    }
    let [embedding, head] = [TensorName::Embedding.hf(), TensorName::Head.hf()];
    let differ = match (found.get(&embedding), found.get(&head)) {
        (Some(embedding), Some(head)) => !equal(embedding, head)?,
        _ => false,
    };
    if differ {
        let stored = format!("{head} is stored and differs from {embedding}");
        notes.push(format!("tie_word_embeddings is true, but {stored}: the stored one counts, as in transformers"));
        config.shape.tied = false;
        return Ok(found);
    }
    if let Some(head) = found.remove(&head) {
        found.entry(embedding).or_insert(head);
    }
    Ok(found)
}

/// Whether two tensors hold the same values.
fn equal(one: &RawTensor, other: &RawTensor) -> Result<bool> {
    if one.shape != other.shape {
        return Ok(false);
    }
    if one.ty == other.ty {
        return Ok(one.digest()? == other.digest()?);
    }
    Ok(one.read(Kind::Float)? == other.read(Kind::Float)?)
}

/// A file's text, or which file of a checkpoint is not there.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    if Error::look(path)?.is_some_and(|found| !found.is_file()) {
        return Err(Error::format(path, "JSON", "found a directory, a pipe or a device, expected a file"));
    }
    let bytes = fs::read(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => Error::Missing {
            what: "checkpoint file".into(),
            path: path.into(),
            remedy: "give a Hugging Face checkpoint directory or a .gguf file".into(),
        },
        _ => Error::Io { path: path.into(), cause: error },
    })?;
    if let Some(reason) = file_kind::other_than(&bytes, "JSON") {
        return Err(Error::format(path, "JSON", reason));
    }
    String::from_utf8(bytes).map_err(|error| Error::format(path, "JSON", error.to_string()))
}

#[derive(Deserialize)]
struct ShardIndex {
    /// Tensor name to file name.
    weight_map: BTreeMap<String, String>,
}

/// The tensors of a directory; as in transformers, a single file goes before an index. Of several files each has the tensors that
/// the index says: others in it are left over from something else.
fn found_tensors(dir: &Path, notes: &mut Vec<String>) -> Result<FoundTensors> {
    let (single, index_path) = (dir.join(SINGLE_FILE), dir.join(INDEX_FILE));
    if !Error::is_absent(&single)? {
        if !Error::is_absent(&index_path)? {
            notes.push(format!("{SINGLE_FILE} and {INDEX_FILE} are both there: the first counts, as in transformers"));
        }
        return Ok(open_safetensors(&single)?.1);
    }
    if Error::is_absent(&index_path)? {
        return Err(no_weights(dir));
    }
    let ShardIndex { weight_map } = read_index(&index_path)?;
    let present = |name: &str| dir.join(name).is_file();
    let shards = names_of(&index_path, &weight_map, &present)?;
    let (mut found, mut left_out) = (FoundTensors::new(), Vec::new());
    for file in shards {
        for (name, tensor) in open_safetensors(&dir.join(file))?.1 {
            if weight_map.get(&name).is_some_and(|place| place == file) {
                found.insert(name, tensor);
            } else if !is_rotary_table(&name) {
                left_out.push(format!("{name} in {file}"));
            }
        }
    }
    if !left_out.is_empty() {
        let which = left_out.join(", ");
        notes.push(format!("tensors that {INDEX_FILE} does not look for where they are do not count: {which}"));
    }
    let missing = weight_map.iter().filter(|(name, _)| !found.contains_key(*name) && !is_rotary_table(name));
    let problems: Vec<String> = missing.map(|(name, file)| format!("{name}: not in {file}")).collect();
    if problems.is_empty() {
        return Ok(found);
    }
    Err(Error::Mismatch { path: index_path, what: "the index names tensors that are not there".into(), problems })
}

/// The files that an index names, wherever they are by now.
pub(crate) fn shard_names(index_path: &Path) -> Result<Vec<String>> {
    let ShardIndex { weight_map } = read_index(index_path)?;
    Ok(names_of(index_path, &weight_map, &|_| true)?.into_iter().map(String::from).collect())
}

fn read_index(path: &Path) -> Result<ShardIndex> {
    serde_json::from_str(&read_text(path)?).map_err(|error| Error::format(path, "shard index", error.to_string()))
}

/// The index is a stranger's file: it names files beside itself and nothing else.
fn names_of<'a>(
    index_path: &Path,
    weight_map: &'a BTreeMap<String, String>,
    present: &dyn Fn(&str) -> bool,
) -> Result<BTreeSet<&'a str>> {
    let names: BTreeSet<&str> = weight_map.values().map(String::as_str).collect();
    let problem = |name: &&str| match Path::new(name).file_name() == Some(name.as_ref()) {
        false => Some(format!("`{name}`: not a plain file name")),
        true if present(name) => None,
        true => Some(format!("{name}: missing")),
    };
    let problems: Vec<String> = names.iter().filter_map(problem).collect();
    if problems.is_empty() {
        return Ok(names);
    }
    Err(Error::Mismatch { path: index_path.into(), what: "the index names files that cannot be read".into(), problems })
}

/// Says what there is instead of weights that are read.
fn no_weights(dir: &Path) -> Error {
    let there = |(name, what): (String, &str)| format!("{name} is there, {what}");
    let usual = || "give a directory with a model in transformers' layout".into();
    let remedy = other_weights(dir).map_or_else(usual, there);
    Error::Missing { what: format!("{SINGLE_FILE} or {INDEX_FILE}"), path: dir.into(), remedy }
}

/// What there is instead of weights that are read, and what to do with it.
fn other_weights(dir: &Path) -> Option<(String, &'static str)> {
    let known = OTHER_WEIGHTS.iter().find(|(name, _)| dir.join(name).is_file());
    known.map(|&(name, what)| (name.to_string(), what)).or_else(|| file_like(dir))
}

/// The first file that holds weights under another name.
fn file_like(dir: &Path) -> Option<(String, &'static str)> {
    let mut names: Vec<String> =
        fs::read_dir(dir).ok()?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    let of = |name: &String| {
        let what = match Path::new(name).extension()?.to_str()? {
            "gguf" => "a model of its own: give the file, not its directory",
            "safetensors" if name.contains("-of-") => "without an index of the shards: download the rest of the model",
            "bin" | "pt" | "pth" | "ckpt" => "a pickle: load it with transformers and save_pretrained it there",
            _ => return None,
        };
        Some((name.clone(), what))
    };
    names.iter().find_map(of)
}
