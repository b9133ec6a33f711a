//! Models on the Hugging Face hub: by name into the cache that `huggingface_hub` keeps too, then opened as any directory.

use std::path::{Path, PathBuf};

use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};

use super::hf::{CONFIG_FILE, CORRECTIONS_FILE, INDEX_FILE, MODEL_CARD_FILE, NOTICE_FILES, SINGLE_FILE, shard_names};
use super::hub_id::HubId;
use crate::error::{Error, Result};

/// What an address on the hub begins with.
const SCHEME: &str = "hf://";
/// Times that a download which breaks off goes on where it was.
const RETRIES: usize = 5;

/// A model's name on the hub and the revision that is meant: a branch, a tag or a commit.
#[derive(Clone, Debug, PartialEq)]
pub struct HubModel {
    name: HubId,
    revision: String,
    /// Whether it was written with the scheme, so that it can be nothing else.
    scheme: bool,
}

impl HubModel {
    /// Reads `hf://ORG/NAME`, or without scheme what looks like it; either with `@REVISION`, else `main`. `None` for what looks like a path.
    ///
    /// # Errors
    /// `Invalid` for the scheme before something that names no model.
    pub fn parse(text: &str) -> Result<Option<HubModel>> {
        let (scheme, rest) = text.strip_prefix(SCHEME).map_or((false, text), |rest| (true, rest));
        let (name, revision) = rest.split_once('@').unwrap_or((rest, "main"));
        let revised = !revision.is_empty() && !revision.contains("..") && !revision.contains(char::is_whitespace);
        match (HubId::parse(name).filter(|_| revised), scheme) {
            (Some(name), _) => Ok(Some(HubModel { name, revision: revision.into(), scheme })),
            (None, true) => Err(Error::invalid("model", text, "hf://ORG/NAME, perhaps with @REVISION")),
            (None, false) => Ok(None),
        }
    }

    /// Brings what [`Checkpoint::open`](super::Checkpoint::open) reads into the cache, as far as it is not there, all of one commit:
    /// configuration, tokenizer, model card, licence, safetensors. Returns the directory.
    ///
    /// `HF_TOKEN`, `HF_ENDPOINT`, `HF_HOME`, `HF_HUB_CACHE` and `HF_HUB_OFFLINE` mean what they mean to huggingface_hub. Where the hub
    /// cannot be reached, what the cache has of that revision is taken.
    ///
    /// # Errors
    /// `Missing` where the hub has no such model, wants a token, has no safetensors of it, or cannot be reached; `Io`; what an index of
    /// shards is refused for.
    pub fn fetch(&self) -> Result<PathBuf> {
        let cache = Cache::new(cache_path());
        if variable("HF_HUB_OFFLINE")
            .is_some_and(|value| ["1", "ON", "YES", "TRUE"].contains(&value.to_uppercase().as_str()))
        {
            let remedy = "HF_HUB_OFFLINE forbids to ask the hub; without it the model is downloaded";
            return self.cached(&cache).ok_or_else(|| self.missing(cache.path(), remedy));
        }
        let token = variable("HF_TOKEN").or_else(|| Cache::from_env().token());
        let endpoint = variable("HF_ENDPOINT").map(|endpoint| endpoint.trim_end_matches('/').to_string());
        let mut builder = ApiBuilder::from_cache(cache.clone()).with_token(token).with_retries(RETRIES);
        if let Some(endpoint) = endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        let api = builder.build().map_err(|error| self.refused(&error))?;
        match self.fetch_from(&api, &cache) {
            Err(Failure::Hub(error)) if unreachable(&error) => self.cached(&cache).ok_or_else(|| self.refused(&error)),
            Err(Failure::Hub(error)) => Err(self.refused(&error)),
            Err(Failure::Other(error)) => Err(error),
            Ok(dir) => Ok(dir),
        }
    }

    fn fetch_from(&self, api: &Api, cache: &Cache) -> std::result::Result<PathBuf, Failure> {
        let info = api.repo(self.repo(&self.revision)).info()?;
        let names: Vec<&str> = info.siblings.iter().map(|file| file.rfilename.as_str()).collect();
        let has = |name: &str| names.contains(&name);
        let commit = api.repo(self.repo(&info.sha));
        // Weights last: what is there is either all of a model or refused for what it lacks.
        let texts = names.iter().copied().filter(|name| is_text(name));
        texts.map(|name| commit.get(name)).collect::<std::result::Result<Vec<_>, _>>()?;
        let weights = match (has(SINGLE_FILE), has(INDEX_FILE)) {
            (true, _) => vec![SINGLE_FILE.to_string()],
            (false, true) => shard_names(&commit.get(INDEX_FILE)?)?,
            (false, false) => return Err(Failure::Other(self.no_weights(&names))),
        };
        let weights = weights.iter().map(String::as_str).chain(has(CORRECTIONS_FILE).then_some(CORRECTIONS_FILE));
        weights.map(|name| commit.get(name)).collect::<std::result::Result<Vec<_>, _>>()?;
        // By the name that was asked for, so that it is found without the hub.
        let named = cache.repo(self.repo(&self.revision));
        named.create_ref(&info.sha).map_err(Error::io(cache.path()))?;
        Ok(named.pointer_path(&info.sha))
    }

    /// What the cache has of the revision.
    fn cached(&self, cache: &Cache) -> Option<PathBuf> {
        let repo = cache.repo(self.repo(&self.revision));
        let by_commit = || Some(repo.pointer_path(&self.revision)).filter(|dir| dir.join(CONFIG_FILE).is_file());
        repo.get(CONFIG_FILE).and_then(|path| Some(path.parent()?.to_path_buf())).or_else(by_commit)
    }

    fn repo(&self, revision: &str) -> Repo {
        Repo::with_revision(self.name.as_str().into(), RepoType::Model, revision.into())
    }

    fn no_weights(&self, names: &[&str]) -> Error {
        let ends = [".safetensors", ".bin", ".gguf", ".pth", ".h5", ".msgpack"];
        let there: Vec<&str> =
            names.iter().copied().filter(|name| ends.iter().any(|end| name.ends_with(end))).collect();
        let there = if there.is_empty() { "no weights".into() } else { there.join(", ") };
        let remedy = format!(
            "the hub has {there} there; load it with transformers and save_pretrained it as safetensors, or download a .gguf"
        );
        self.missing(Path::new(&self.address()), &remedy)
    }

    fn address(&self) -> String {
        format!("{SCHEME}{}@{}", self.name.as_str(), self.revision)
    }

    fn missing(&self, path: &Path, remedy: &str) -> Error {
        Error::Missing { what: format!("model `{}`", self.name.as_str()), path: path.into(), remedy: remedy.into() }
    }

    /// What the hub answered, in words that say what to do.
    fn refused(&self, error: &ApiError) -> Error {
        let (name, revision) = (self.name.as_str(), &self.revision);
        let reason = match status(error) {
            Some(401 | 403) => format!(
                "the hub has no model {name} that may be read without a token, or with yours; check the name, accept its licence on its page, \
                 set HF_TOKEN"
            ),
            Some(404) => format!("the hub has no model {name} with a revision {revision}"),
            Some(status) => format!("the hub answered with status {status}; try again later"),
            None => format!(
                "the hub: {error}; check the network and repeat the command, downloads go on where they stopped"
            ),
        };
        let here = if self.scheme { String::new() } else { "no such path here, and ".into() };
        self.missing(Path::new(&self.address()), &format!("{here}{reason}"))
    }
}

/// What went wrong between here and the hub, or here.
enum Failure {
    Hub(ApiError),
    Other(Error),
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Failure {
        Failure::Hub(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Other(error)
    }
}

/// Configuration, tokenizer, templates, what a supernet says of itself, and what whoever publishes a network of it must hand on: small,
/// and all of them, since each may be asked for.
fn is_text(name: &str) -> bool {
    let ends = [".json", ".jinja"].iter().any(|end| name.ends_with(end));
    let tokenizer = ["merges.txt", "tokenizer.model"].contains(&name);
    let lineage = name == MODEL_CARD_FILE || NOTICE_FILES.contains(&name);
    !name.contains('/') && (ends || tokenizer || lineage) && name != INDEX_FILE
}

/// The files of a model's directory that are read of it, or handed on; by name.
///
/// # Errors
/// `Io`.
pub fn files_in(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(dir).map_err(Error::io(dir))?;
    let paths = entries.map(|entry| Ok(entry.map_err(Error::io(dir))?.path())).collect::<Result<Vec<_>>>()?;
    let is_of_model = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        path.is_file() && (is_text(&name) || name == INDEX_FILE || name.ends_with(".safetensors"))
    };
    let mut files: Vec<PathBuf> = paths.into_iter().filter(is_of_model).collect();
    files.sort();
    Ok(files)
}

/// Where huggingface_hub keeps what it downloads.
fn cache_path() -> PathBuf {
    let xdg = || Some(PathBuf::from(variable("XDG_CACHE_HOME")?).join("huggingface/hub"));
    match (variable("HF_HUB_CACHE"), variable("HF_HOME")) {
        (Some(path), _) => path.into(),
        (None, Some(home)) => PathBuf::from(home).join("hub"),
        (None, None) => xdg().unwrap_or_else(|| Cache::default().path().clone()),
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The status of an answer that is an error.
fn status(error: &ApiError) -> Option<u16> {
    match error {
        ApiError::RequestError(error) => match **error {
            ureq::Error::StatusCode(status) => Some(status),
            _ => None,
        },
        ApiError::TooManyRetries(error) => status(error),
        _ => None,
    }
}

/// Whether no answer came at all.
fn unreachable(error: &ApiError) -> bool {
    status(error).is_none() && matches!(error, ApiError::RequestError(_) | ApiError::TooManyRetries(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_a_name_from_a_path() {
        let read = |text| {
            HubModel::parse(text).unwrap().map(|model| (model.name.as_str().to_string(), model.revision, model.scheme))
        };
        let named = |name: &str, revision: &str, scheme| Some((name.to_string(), revision.to_string(), scheme));
        assert_eq!(read("hf://meta-llama/Llama-2-7b-hf"), named("meta-llama/Llama-2-7b-hf", "main", true));
        assert_eq!(read("hf://org/name@refs/pr/1"), named("org/name", "refs/pr/1", true));
        assert_eq!(read("Qwen/Qwen2.5-0.5B@abc"), named("Qwen/Qwen2.5-0.5B", "abc", false));
        for path in
            ["smollm2-135m", "/tmp/model", "./a/b", "../a", "a/b/c", "~/a", "a/b c", "a/..", "a/.b", "a/b@", "a--b/c"]
        {
            assert_eq!(read(path), None, "{path}");
        }
        for wrong in ["hf://", "hf://name", "hf://a/b/c", "hf://a/b@", "hf://../b", "hf://a/b@../x"] {
            assert!(HubModel::parse(wrong).unwrap_err().to_string().contains("hf://ORG/NAME"), "{wrong}");
        }
    }
}
