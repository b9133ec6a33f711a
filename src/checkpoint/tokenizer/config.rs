//! The small files beside `tokenizer.json`: which tokens are special, and what they are called.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::checkpoint::hf::TokenizerFiles;
use crate::error::{Error, Result};

pub(crate) const TOKENIZER_CONFIG_FILE: &str = "tokenizer_config.json";
pub(crate) const TOKENIZER_FILE: &str = "tokenizer.json";
pub(super) const SENTENCEPIECE_FILE: &str = "tokenizer.model";
/// What transformers looks for in tokenizer.json to know that it is no SentencePiece tokenizer.
const BYTE_LEVEL: &[u8] = b"\"ByteLevel\"";
const SPECIAL_TOKENS_MAP_FILE: &str = "special_tokens_map.json";
const ADDED_TOKENS_FILE: &str = "added_tokens.json";

/// The part of `tokenizer_config.json` that decides ids, with what older files keep beside it.
#[derive(Default, Deserialize)]
pub(crate) struct TokenizerConfig {
    pub(super) add_bos_token: Option<bool>,
    pub(super) add_eos_token: Option<bool>,
    pub(super) add_prefix_space: Option<bool>,
    /// Whether special tokens that a text writes are split like any other text.
    pub(super) split_special_tokens: Option<bool>,
    pub(super) legacy: Option<bool>,
    pub(super) tokenizer_class: Option<String>,
    /// Whether transformers makes the tokenizer as its class for LLaMA does, whatever steps tokenizer.json has.
    #[serde(skip)]
    pub(super) is_made_by_llama_class: bool,
    pub(crate) bos_token: Option<SpecialToken>,
    pub(crate) eos_token: Option<SpecialToken>,
    pub(crate) unk_token: Option<SpecialToken>,
    pub(crate) pad_token: Option<SpecialToken>,
    additional_special_tokens: Option<Extra>,
    extra_special_tokens: Option<Extra>,
    added_tokens_decoder: Option<BTreeMap<String, SpecialToken>>,
    pub(crate) chat_template: Option<serde_json::Value>,
    /// `added_tokens.json`, where `added_tokens_decoder` is not there.
    #[serde(skip)]
    added_tokens: BTreeMap<String, u32>,
    /// Where two files say different things, and which one counts.
    #[serde(skip)]
    pub(super) notes: Vec<String>,
}

/// Further special tokens: a list, or texts with names of their own.
#[derive(Deserialize)]
#[serde(untagged)]
enum Extra {
    List(Vec<SpecialToken>),
    Named(BTreeMap<String, SpecialToken>),
}

impl Extra {
    fn tokens(&self) -> Vec<&SpecialToken> {
        match self {
            Extra::List(tokens) => tokens.iter().collect(),
            Extra::Named(tokens) => tokens.values().collect(),
        }
    }
}

/// A token by its text, alone or with flags.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum SpecialToken {
    Text(String),
    Added(ListedToken),
}

/// A token with how it is found in a text.
#[derive(Clone, Deserialize)]
pub(crate) struct ListedToken {
    content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    normalized: Option<bool>,
    #[serde(default)]
    special: bool,
}

impl SpecialToken {
    pub(crate) fn text(&self) -> &str {
        match self {
            SpecialToken::Text(text) | SpecialToken::Added(ListedToken { content: text, .. }) => text,
        }
    }

    /// As the `tokenizers` crate has it; special ones are not normalized unless that is said.
    fn added(&self, special: bool) -> tokenizers::AddedToken {
        let plain = |text: &str| tokenizers::AddedToken::from(text, special);
        match self {
            SpecialToken::Text(text) => plain(text),
            SpecialToken::Added(listed) => {
                let special = special || listed.special;
                tokenizers::AddedToken {
                    single_word: listed.single_word,
                    lstrip: listed.lstrip,
                    rstrip: listed.rstrip,
                    normalized: listed.normalized.unwrap_or(!special),
                    special,
                    ..plain(&listed.content)
                }
            }
        }
    }
}

/// `special_tokens_map.json`.
#[derive(Default, Deserialize)]
struct SpecialTokensMap {
    bos_token: Option<SpecialToken>,
    eos_token: Option<SpecialToken>,
    unk_token: Option<SpecialToken>,
    pad_token: Option<SpecialToken>,
}

/// Whether a directory's model is of the type whose tokenizer.json transformers takes as it is, whatever class is named.
fn is_mistral(path: &Path) -> bool {
    let text = std::fs::read(path.join("config.json")).unwrap_or_default();
    serde_json::from_slice(&text).is_ok_and(|config: serde_json::Value| config["model_type"] == "mistral")
}

/// Reads a file where there is one.
fn read<T: Default + DeserializeOwned>(path: &Path, files: &TokenizerFiles, name: &'static str) -> Result<T> {
    let Some(bytes) = files.0.get(name) else { return Ok(T::default()) };
    serde_json::from_slice(bytes).map_err(|error| Error::format(path, name, error.to_string()))
}

impl TokenizerConfig {
    /// Reads the files that are there, each with the say that transformers 5.23 gives it
    /// (`PreTrainedTokenizerBase._from_pretrained`): special_tokens_map.json and added_tokens.json count only where
    /// tokenizer_config.json has no `added_tokens_decoder`, and then special_tokens_map.json counts more.
    pub(crate) fn of(path: &Path, files: &TokenizerFiles) -> Result<TokenizerConfig> {
        let mut config: TokenizerConfig = read(path, files, TOKENIZER_CONFIG_FILE)?;
        let map: SpecialTokensMap = read(path, files, SPECIAL_TOKENS_MAP_FILE)?;
        let older_files_count = config.added_tokens_decoder.is_none();
        let TokenizerConfig { bos_token, eos_token, unk_token, pad_token, notes, .. } = &mut config;
        for (name, own, other) in [
            ("bos_token", bos_token, map.bos_token),
            ("eos_token", eos_token, map.eos_token),
            ("unk_token", unk_token, map.unk_token),
            ("pad_token", pad_token, map.pad_token),
        ] {
            let Some(other) = other else { continue };
            if let Some(own) = own.as_ref().filter(|own| own.text() != other.text()) {
                let followed = if older_files_count { SPECIAL_TOKENS_MAP_FILE } else { TOKENIZER_CONFIG_FILE };
                notes.push(format!(
                    "`{name}` is `{}` in {TOKENIZER_CONFIG_FILE} and `{}` in {SPECIAL_TOKENS_MAP_FILE}: {followed} is \
                     followed, as transformers does",
                    own.text(),
                    other.text()
                ));
            }
            if older_files_count {
                *own = Some(other);
            }
        }
        if older_files_count {
            config.added_tokens = read(path, files, ADDED_TOKENS_FILE)?;
        }
        let is_byte_level = |bytes: &Vec<u8>| bytes.windows(BYTE_LEVEL.len()).any(|window| window == BYTE_LEVEL);
        config.is_made_by_llama_class = match files.0.get(TOKENIZER_FILE) {
            Some(bytes) => config.is_llama() && !is_byte_level(bytes) && !is_mistral(path),
            None => files.0.contains_key(SENTENCEPIECE_FILE),
        };
        if config.is_made_by_llama_class {
            let TokenizerConfig { bos_token, eos_token, unk_token, .. } = &mut config;
            for (token, name) in [(bos_token, "<s>"), (eos_token, "</s>"), (unk_token, "<unk>")] {
                token.get_or_insert_with(|| SpecialToken::Text(name.into()));
            }
        }
        Ok(config)
    }

    /// The tokens that are listed with an id, in its order, each with the name of its file.
    ///
    /// # Errors
    /// `Format` when an id is no number.
    pub(super) fn listed(&self, path: &Path) -> Result<Vec<(u32, tokenizers::AddedToken, &'static str)>> {
        let special: Vec<&str> = self.special().map(SpecialToken::text).collect();
        let mut listed = Vec::new();
        for (id, token) in self.added_tokens_decoder.iter().flatten() {
            let id: u32 = id.parse().map_err(|_| {
                let reason = format!("`added_tokens_decoder`: found id `{id}`, expected a number");
                Error::format(path, TOKENIZER_CONFIG_FILE, reason)
            })?;
            listed.push((id, token.added(special.contains(&token.text())), TOKENIZER_CONFIG_FILE));
        }
        for (text, &id) in &self.added_tokens {
            let token = tokenizers::AddedToken::from(text.as_str(), special.contains(&text.as_str()));
            listed.push((id, token, ADDED_TOKENS_FILE));
        }
        listed.sort_by_key(|(id, ..)| *id);
        Ok(listed)
    }

    /// Whether transformers' class for LLaMA is named.
    pub(super) fn is_llama(&self) -> bool {
        let class = self.tokenizer_class.as_deref().unwrap_or_default();
        ["LlamaTokenizer", "LLaMATokenizer"].contains(&class.trim_end_matches("Fast"))
    }

    /// The tokens that have a special meaning by name, without ids.
    pub(super) fn named(&self) -> Vec<tokenizers::AddedToken> {
        self.special().map(|token| token.added(true)).collect()
    }

    fn special(&self) -> impl Iterator<Item = &SpecialToken> {
        let TokenizerConfig { bos_token, eos_token, unk_token, pad_token, .. } = self;
        let extra = self.additional_special_tokens.iter().chain(&self.extra_special_tokens).flat_map(Extra::tokens);
        [bos_token, eos_token, unk_token, pad_token].into_iter().flatten().chain(extra)
    }
}
