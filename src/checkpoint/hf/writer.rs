//! Writes Hugging Face directories: safetensors in shards, `config.json`, tokenizer files.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};
use tch::Tensor;

use super::config_writer::{class_of, to_json};
use super::directory::{ADAPTER_DIR, CARD_FILE, CONFIG_FILE, CORRECTIONS_FILE, INDEX_FILE, SINGLE_FILE};
use super::model_card::is_as_written;
use crate::checkpoint::config::{Dtype, LlamaConfig};
use crate::checkpoint::family::FamilyRow;
use crate::checkpoint::names::TensorName;
use crate::checkpoint::raw_tensor::write_weights;
use crate::error::{Error, Result};
use crate::output::{self, MADE_BY, Output, StagedDirectory};

/// Bytes of weights in one file at most, as save_pretrained's default once was; a larger tensor has its own file.
const SHARD_BYTES: u64 = 5_000_000_000;
/// A safetensors header is padded with spaces so that weights begin at a multiple of this.
const HEADER_ALIGNMENT: usize = 8;
/// The remote code of networks whose layers differ.
const REMOTE_CODE: (&str, &str) = ("modeling_criadero.py", include_str!("modeling_criadero.py"));

/// The small files beside the weights that say how text becomes tokens, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenizerFiles(pub BTreeMap<String, Vec<u8>>);

impl TokenizerFiles {
    /// The files transformers reads beside `config.json`, where they are there.
    const NAMES: [&str; 10] = [
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "tokenizer.model",
        "vocab.json",
        "merges.txt",
        "chat_template.jinja",
        "chat_template.json",
        "generation_config.json",
    ];

    /// A Hugging Face directory's files, byte for byte.
    pub fn copy_from(dir: &Path) -> Result<TokenizerFiles> {
        let mut files = BTreeMap::new();
        for name in TokenizerFiles::NAMES {
            let path = dir.join(name);
            if path.is_file() {
                files.insert(name.to_string(), fs::read(&path).map_err(Error::io(&path))?);
            }
        }
        Ok(TokenizerFiles(files))
    }
}

/// What the library's own [`write()`] calls itself where directories say who made them.
const LIBRARY: &str = "hf::write";

/// A directory for a checkpoint, and whatever else a supernet or a fine-tuning has beside it: made beside its place, and published
/// as a whole.
///
/// # Errors
/// What [`Output::directory`] refuses.
pub fn stage(output: &Output, place: &Path) -> Result<StagedDirectory> {
    output.directory(place, is_own)
}

/// Whether a file or directory is part of what is written.
fn is_own(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return false };
    let shard = name.starts_with("model-") && name.ends_with(".safetensors");
    let others = [SINGLE_FILE, INDEX_FILE, CONFIG_FILE, CORRECTIONS_FILE, CARD_FILE, ADAPTER_DIR, REMOTE_CODE.0];
    shard || others.contains(&name) || TokenizerFiles::NAMES.contains(&name) || is_as_written(path)
}

/// Writes a checkpoint in Hugging Face's layout to a place where nothing is, or a checkpoint that this function wrote. Nothing is at
/// `dir` before everything is written.
///
/// # Errors
/// What [`write_into`] and [`Output::directory`] refuse.
pub fn write(
    dir: &Path,
    config: &LlamaConfig,
    tensors: &dyn Fn(TensorName) -> Result<Tensor>,
    tokenizer: &TokenizerFiles,
    dtype: Dtype,
) -> Result<()> {
    let staged = stage(&Output::of(LIBRARY), dir)?;
    write_into(&staged, config, tensors, tokenizer, dtype)?;
    staged.publish()
}

/// Writes a checkpoint in Hugging Face's layout into a directory under way. `tensors` is asked once for each tensor of `config`, in
/// the order of a forward pass, and only one is in memory at a time.
///
/// A network whose layers are all alike is plain LLaMA; otherwise our remote code is written too. The weights' header names the
/// command that makes the directory.
///
/// # Errors
/// `Io`; `Invalid` for a weight that is not finite or overflows the type.
pub fn write_into(
    staged: &StagedDirectory,
    config: &LlamaConfig,
    tensors: &dyn Fn(TensorName) -> Result<Tensor>,
    tokenizer: &TokenizerFiles,
    dtype: Dtype,
) -> Result<()> {
    write_sharded(staged, config, tensors, tokenizer, dtype.unquantized(), SHARD_BYTES)
}

fn write_sharded(
    staged: &StagedDirectory,
    config: &LlamaConfig,
    tensors: &dyn Fn(TensorName) -> Result<Tensor>,
    tokenizer: &TokenizerFiles,
    dtype: Dtype,
    shard_bytes: u64,
) -> Result<()> {
    let at = |name: &str| staged.path().join(name);
    let made_by = format!("criadero {}", staged.command());
    let shards = plan_shards(config, dtype, shard_bytes);
    let mut weight_map = BTreeMap::new();
    for (index, shard) in shards.iter().enumerate() {
        let file = match shards.len() {
            1 => SINGLE_FILE.to_string(),
            count => format!("model-{:05}-of-{count:05}.safetensors", index + 1),
        };
        weight_map.extend(shard.tensors.iter().map(|(name, _)| (name.hf(), file.clone())));
        write_shard(&at(&file), shard, tensors, dtype, &made_by)?;
    }
    if shards.len() > 1 {
        let total: u64 = shards.iter().map(|shard| shard.bytes).sum();
        let index = json!({ "metadata": { "total_size": total }, "weight_map": weight_map });
        output::write(&at(INDEX_FILE), pretty(&index))?;
    }
    for (name, bytes) in &tokenizer.0 {
        output::write(&at(name), bytes)?;
    }
    let (class, alike) = class_of(config);
    if !alike {
        output::write(&at(REMOTE_CODE.0), remote_code(class))?;
    }
    output::write(&at(CONFIG_FILE), pretty(&to_json(config, dtype)))
}

/// Our remote code on a family's classes: it is written for LLaMA's, and the others have the same parts.
fn remote_code(class: &FamilyRow) -> String {
    REMOTE_CODE.1.replace("llama", class.model_type).replace("Llama", class.class)
}

/// JSON as transformers writes it: indented, with a line end.
pub(crate) fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

/// The tensors of one file.
struct Shard {
    tensors: Vec<(TensorName, Vec<usize>)>,
    bytes: u64,
}

fn plan_shards(config: &LlamaConfig, dtype: Dtype, shard_bytes: u64) -> Vec<Shard> {
    let mut shards: Vec<Shard> = vec![];
    for name in config.tensors() {
        let Some(shape) = config.tensor_shape(name) else { continue };
        let bytes = (shape.iter().product::<usize>() * dtype.bytes()) as u64;
        match shards.last_mut() {
            Some(shard) if shard.bytes + bytes <= shard_bytes => {
                shard.tensors.push((name, shape));
                shard.bytes += bytes;
            }
            _ => shards.push(Shard { tensors: vec![(name, shape)], bytes }),
        }
    }
    shards
}

fn write_shard(
    path: &Path,
    shard: &Shard,
    tensors: &dyn Fn(TensorName) -> Result<Tensor>,
    dtype: Dtype,
    made_by: &str,
) -> Result<()> {
    let mut header = BTreeMap::from([("__metadata__".to_string(), json!({ "format": "pt", MADE_BY: made_by }))]);
    let mut start = 0;
    for (name, shape) in &shard.tensors {
        let end = start + shape.iter().product::<usize>() * dtype.bytes();
        header.insert(name.hf(), json!({ "dtype": dtype.safetensors(), "shape": shape, "data_offsets": [start, end] }));
        start = end;
    }
    let header = safetensors_header(&header);
    output::write_with(path, |writer| {
        writer.write_all(&header).map_err(Error::io(path))?;
        for (name, shape) in &shard.tensors {
            let tensor = tensors(*name)?;
            check_shape(*name, &tensor, shape)?;
            write_weights(writer, path, &name.hf(), &tensor, dtype)?;
        }
        Ok(())
    })
}

/// The bytes before the weights: the header's length and the header, padded.
pub(crate) fn safetensors_header(entries: &BTreeMap<String, Value>) -> Vec<u8> {
    let mut json = serde_json::to_string(entries).expect("a map of strings to JSON is JSON");
    json.extend(std::iter::repeat_n(' ', json.len().next_multiple_of(HEADER_ALIGNMENT) - json.len()));
    [&(json.len() as u64).to_le_bytes()[..], json.as_bytes()].concat()
}

/// Refuses a tensor that is not as large as the header says.
pub(crate) fn check_shape(name: TensorName, tensor: &Tensor, expected: &[usize]) -> Result<()> {
    let found = tensor.size();
    if found.iter().map(|&size| size as usize).eq(expected.iter().copied()) {
        return Ok(());
    }
    Err(Error::invalid(format!("shape of {} to be written", name.hf()), format!("{found:?}"), format!("{expected:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Checkpoint;
    use crate::checkpoint::config::tests::small;
    use tch::{Device, Kind};

    fn seeded(config: &LlamaConfig) -> impl Fn(TensorName) -> Result<Tensor> + use<> {
        let config = config.clone();
        move |name| {
            let shape: Vec<i64> = config.tensor_shape(name).unwrap().iter().map(|&size| size as i64).collect();
            let len: i64 = shape.iter().product();
            let seed = name.hf().bytes().map(i64::from).sum::<i64>();
            Ok((Tensor::arange(len, (Kind::Float, Device::Cpu)) * 0.37 + seed as f64).sin().view(shape.as_slice()))
        }
    }

    fn sharded(out: &Path, config: &LlamaConfig, dtype: Dtype, shard_bytes: u64) -> Result<()> {
        let staged = stage(&Output::of(LIBRARY), out)?;
        write_sharded(&staged, config, &seeded(config), &TokenizerFiles::default(), dtype, shard_bytes)?;
        staged.publish()
    }

    #[test]
    fn reads_back_the_shards_it_wrote() {
        let dir = tempfile::tempdir().unwrap();
        let config = small().with_genome("6x64:3x32:0x16:6x0".parse().unwrap());
        for (out, shard_bytes) in [("single", u64::MAX), ("sharded", 20_000)] {
            let out = dir.path().join(out);
            sharded(&out, &config, Dtype::F32, shard_bytes).unwrap();
            let read = Checkpoint::open(&out).unwrap();
            assert_eq!(read.config(), &config);
            for name in config.tensors() {
                assert_eq!(read.tensor(name, Kind::Float).unwrap(), seeded(&config)(name).unwrap(), "{name:?}");
            }
        }
        let files = fs::read_dir(dir.path().join("sharded")).unwrap().count();
        assert!(files > 5 && dir.path().join("sharded").join(INDEX_FILE).is_file(), "{files}");
        let digest = |out| Checkpoint::open(dir.path().join(out)).unwrap().digest().unwrap();
        assert_eq!(digest("single"), digest("sharded"), "the same content");
    }

    #[test]
    fn replaces_an_older_checkpoint_as_a_whole_and_refuses_one_with_strangers_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let write = |shard_bytes| sharded(&out, &small(), Dtype::BF16, shard_bytes);
        write(u64::MAX).unwrap();
        fs::write(out.join("criadero.json"), "{}").unwrap();
        write(20_000).unwrap();
        assert!(!out.join(SINGLE_FILE).exists() && !out.join("criadero.json").exists(), "it was of other weights");
        fs::write(out.join("notes.txt"), "mine").unwrap();
        let error = write(u64::MAX).unwrap_err().to_string();
        assert!(error.contains("also holds notes.txt") && error.contains("--force"), "{error}");
        fs::remove_file(out.join("notes.txt")).unwrap();
        write(u64::MAX).unwrap();
        assert!(out.join(SINGLE_FILE).exists() && !out.join(INDEX_FILE).exists());
        Checkpoint::open(&out).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no staging directory is left");
    }

    #[test]
    fn leaves_nothing_behind_when_a_tensor_cannot_be_written() {
        let dir = tempfile::tempdir().unwrap();
        let config = small();
        type Source<'a> = &'a dyn Fn(TensorName) -> Result<Tensor>;
        let failures: [(&str, Source); 3] = [
            ("stopped on request", &|_| Err(Error::Interrupted)),
            ("shape of", &|_| Ok(Tensor::zeros([2, 2], (Kind::Float, Device::Cpu)))),
            ("not a finite number", &|name| Ok(seeded(&config)(name)? * 1e6)),
        ];
        for (reason, tensors) in failures {
            let out = dir.path().join("out");
            let error = write(&out, &config, tensors, &TokenizerFiles::default(), Dtype::F16).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        }
    }
}
