//! Writes Hugging Face directories: safetensors in shards, `config.json`, tokenizer files.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tch::Tensor;

use super::config_writer::{class_of, to_json};
use super::directory::{CONFIG_FILE, CORRECTIONS_FILE, INDEX_FILE, SINGLE_FILE};
use crate::atomic_file;
use crate::checkpoint::config::{Dtype, LlamaConfig};
use crate::checkpoint::family::FamilyRow;
use crate::checkpoint::names::TensorName;
use crate::checkpoint::raw_tensor::write_weights;
use crate::error::{Error, Result};

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

/// Writes a checkpoint in Hugging Face's layout. `tensors` is asked once for each tensor of `config`, in the
/// order of a forward pass, and only one is in memory at a time. Nothing is at `dir` before everything is
/// written; an older checkpoint there is replaced file by file at the end, other files beside it stay.
///
/// A network whose layers are all alike is plain LLaMA; otherwise our remote code is written too.
pub fn write(
    dir: &Path,
    config: &LlamaConfig,
    tensors: &dyn Fn(TensorName) -> Result<Tensor>,
    tokenizer: &TokenizerFiles,
    dtype: Dtype,
) -> Result<()> {
    write_sharded(dir, config, tensors, tokenizer, dtype.unquantized(), SHARD_BYTES)
}

fn write_sharded(
    dir: &Path,
    config: &LlamaConfig,
    tensors: &dyn Fn(TensorName) -> Result<Tensor>,
    tokenizer: &TokenizerFiles,
    dtype: Dtype,
    shard_bytes: u64,
) -> Result<()> {
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(Error::io(parent))?;
    let staging = tempfile::Builder::new().prefix(".criadero-").tempdir_in(parent).map_err(Error::io(parent))?;
    let at = |name: &str| staging.path().join(name);

    let shards = plan_shards(config, dtype, shard_bytes);
    let mut weight_map = BTreeMap::new();
    for (index, shard) in shards.iter().enumerate() {
        let file = match shards.len() {
            1 => SINGLE_FILE.to_string(),
            count => format!("model-{:05}-of-{count:05}.safetensors", index + 1),
        };
        weight_map.extend(shard.tensors.iter().map(|(name, _)| (name.hf(), file.clone())));
        write_shard(&at(&file), shard, tensors, dtype)?;
    }
    if shards.len() > 1 {
        let total: u64 = shards.iter().map(|shard| shard.bytes).sum();
        let index = json!({ "metadata": { "total_size": total }, "weight_map": weight_map });
        atomic_file::write(&at(INDEX_FILE), pretty(&index))?;
    }
    for (name, bytes) in &tokenizer.0 {
        atomic_file::write(&at(name), bytes)?;
    }
    let (class, alike) = class_of(config);
    if !alike {
        atomic_file::write(&at(REMOTE_CODE.0), remote_code(class))?;
    }
    atomic_file::write(&at(CONFIG_FILE), pretty(&to_json(config, dtype)))?;
    publish(staging, dir)
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

fn write_shard(path: &Path, shard: &Shard, tensors: &dyn Fn(TensorName) -> Result<Tensor>, dtype: Dtype) -> Result<()> {
    let mut header = BTreeMap::from([("__metadata__".to_string(), json!({ "format": "pt" }))]);
    let mut start = 0;
    for (name, shape) in &shard.tensors {
        let end = start + shape.iter().product::<usize>() * dtype.bytes();
        header.insert(name.hf(), json!({ "dtype": dtype.safetensors(), "shape": shape, "data_offsets": [start, end] }));
        start = end;
    }
    let header = safetensors_header(&header);
    atomic_file::write_with(path, |writer| {
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

/// Moves a finished directory to its place.
fn publish(staging: tempfile::TempDir, dir: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    if !dir.exists() {
        fs::set_permissions(staging.path(), fs::Permissions::from_mode(0o755)).map_err(Error::io(dir))?;
        let staging = staging.keep();
        return fs::rename(&staging, dir).map_err(Error::io(dir));
    }
    // They are of the weights that go now.
    let corrections = dir.join(CORRECTIONS_FILE);
    if corrections.is_file() {
        fs::remove_file(&corrections).map_err(Error::io(&corrections))?;
    }
    let mut names = file_names(staging.path())?;
    // The configuration last: whoever finds it finds the weights it speaks of.
    names.sort_by_key(|name| name == Path::new(CONFIG_FILE));
    for name in &names {
        fs::rename(staging.path().join(name), dir.join(name)).map_err(Error::io(dir.join(name)))?;
    }
    // A single file left from before would be read in place of the new shards.
    for stale in file_names(dir)? {
        let text = stale.to_string_lossy();
        let weights = text.starts_with("model") && (text.ends_with(".safetensors") || text == INDEX_FILE);
        if weights && !names.contains(&stale) {
            fs::remove_file(dir.join(&stale)).map_err(Error::io(dir.join(&stale)))?;
        }
    }
    Ok(())
}

fn file_names(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).map_err(Error::io(dir))?;
    entries.map(|entry| Ok(entry.map_err(Error::io(dir))?.file_name().into())).collect()
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

    #[test]
    fn reads_back_the_shards_it_wrote() {
        let dir = tempfile::tempdir().unwrap();
        let config = small().with_genome("6x64:3x32:0x16:6x0".parse().unwrap());
        for (out, shard_bytes) in [("single", u64::MAX), ("sharded", 20_000)] {
            let out = dir.path().join(out);
            write_sharded(&out, &config, &seeded(&config), &TokenizerFiles::default(), Dtype::F32, shard_bytes)
                .unwrap();
            let read = Checkpoint::open(&out).unwrap();
            assert_eq!(read.config(), &config);
            for name in config.tensors() {
                assert_eq!(read.tensor(name, Kind::Float).unwrap(), seeded(&config)(name).unwrap(), "{name:?}");
            }
        }
        let files = file_names(&dir.path().join("sharded")).unwrap();
        assert!(files.len() > 5 && files.contains(&INDEX_FILE.into()), "{files:?}");
        let digest = |out| Checkpoint::open(dir.path().join(out)).unwrap().digest().unwrap();
        assert_eq!(digest("single"), digest("sharded"), "the same content");
    }

    #[test]
    fn replaces_an_older_checkpoint_and_keeps_strangers() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let config = small();
        let write = |shard_bytes| {
            write_sharded(&out, &config, &seeded(&config), &TokenizerFiles::default(), Dtype::BF16, shard_bytes)
        };
        write(u64::MAX).unwrap();
        fs::write(out.join("criadero.json"), "{}").unwrap();
        write(20_000).unwrap();
        assert!(!out.join(SINGLE_FILE).exists() && out.join("criadero.json").exists());
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
