//! Text to tokens and back, by the tokenizer that came with the checkpoint.

use std::path::Path;

use serde::Deserialize;

use super::hf::TokenizerFiles;
use crate::checkpoint::config::LlamaConfig;
use crate::error::{Error, Result};

pub(super) const TOKENIZER_FILE: &str = "tokenizer.json";
pub(super) const TOKENIZER_CONFIG_FILE: &str = "tokenizer_config.json";

/// The tokenizer of a checkpoint. Token ids equal transformers' `AutoTokenizer` on the same files.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    bos: Option<u32>,
    eos: Option<u32>,
    /// What `tokenizer_config.json` asks for; without a word of it the template in `tokenizer.json` stands.
    add_bos_token: Option<bool>,
    adds_bos: bool,
    vocab: usize,
}

/// The part of `tokenizer_config.json` that decides ids.
#[derive(Default, Deserialize)]
pub(super) struct TokenizerConfig {
    pub(super) add_bos_token: Option<bool>,
    pub(super) bos_token: Option<SpecialToken>,
    pub(super) eos_token: Option<SpecialToken>,
    pub(super) unk_token: Option<SpecialToken>,
    pub(super) pad_token: Option<SpecialToken>,
    pub(super) chat_template: Option<serde_json::Value>,
}

/// A token by its text, alone or with flags.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum SpecialToken {
    Text(String),
    Added { content: String },
}

impl SpecialToken {
    pub(super) fn text(&self) -> &str {
        match self {
            SpecialToken::Text(text) | SpecialToken::Added { content: text } => text,
        }
    }
}

impl TokenizerConfig {
    /// Reads the file where there is one.
    pub(super) fn of(path: &Path, files: &TokenizerFiles) -> Result<TokenizerConfig> {
        let Some(bytes) = files.0.get(TOKENIZER_CONFIG_FILE) else { return Ok(TokenizerConfig::default()) };
        serde_json::from_slice(bytes).map_err(|error| Error::format(path, TOKENIZER_CONFIG_FILE, error.to_string()))
    }
}

impl Tokenizer {
    /// The tokenizer of these files; `path` is for error messages.
    pub(super) fn new(path: &Path, files: &TokenizerFiles, config: &LlamaConfig) -> Result<Tokenizer> {
        let bytes = files.0.get(TOKENIZER_FILE).ok_or_else(|| Error::Missing {
            what: TOKENIZER_FILE.into(),
            path: path.into(),
            remedy: "load the tokenizer with transformers' AutoTokenizer and save_pretrained it there".into(),
        })?;
        let wrong = |error: tokenizers::Error| Error::format(path, TOKENIZER_FILE, error.to_string());
        let mut inner = tokenizers::Tokenizer::from_bytes(bytes).map_err(wrong)?;
        // Some files keep the cutting and padding of a training run; transformers sets both anew as well.
        inner.with_truncation(None).map_err(wrong)?;
        inner.with_padding(None);
        let settings = TokenizerConfig::of(path, files)?;
        let id = |token: &Option<SpecialToken>| token.as_ref().and_then(|token| inner.token_to_id(token.text()));
        let bos = id(&settings.bos_token).or(config.bos_token_id);
        let eos = id(&settings.eos_token).or(config.eos_token_ids.first().copied());
        let template = inner.encode_fast("", true).map_err(wrong)?.get_ids().first().copied();
        let by_template = template.is_some() && template == bos;
        let add_bos_token = settings.add_bos_token;
        let adds_bos = add_bos_token.unwrap_or(by_template) && bos.is_some();
        Ok(Tokenizer { inner, bos, eos, add_bos_token, adds_bos, vocab: config.shape.vocab })
    }

    /// The text's tokens with what the tokenizer adds by default; a BOS that the text itself brings is not doubled.
    ///
    /// # Errors
    /// `Invalid` when a token is not in the model's vocabulary.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let wrong = |error: tokenizers::Error| Error::invalid("text to encode", error, "text of the tokenizer's kind");
        let mut ids = self.inner.encode_fast(text, true).map_err(wrong)?.get_ids().to_vec();
        if let Some(bos) = self.bos {
            let starts = ids.first() == Some(&bos);
            match self.add_bos_token {
                Some(true) if !starts => ids.insert(0, bos),
                // The template adds it although the settings say no; what is left may be the text's own.
                Some(false) if starts && self.template_adds(bos)? => drop(ids.remove(0)),
                _ => {}
            }
            if self.adds_bos && ids.starts_with(&[bos, bos]) {
                ids.remove(0);
            }
        }
        match ids.iter().find(|&&id| id as usize >= self.vocab) {
            Some(id) => Err(Error::invalid("token", id, format!("less than the model's vocabulary of {}", self.vocab))),
            None => Ok(ids),
        }
    }

    fn template_adds(&self, bos: u32) -> Result<bool> {
        let empty =
            self.inner.encode_fast("", true).map_err(|error| Error::invalid("empty text", error, "no error"))?;
        Ok(empty.get_ids().first() == Some(&bos))
    }

    /// The tokens' text, special tokens included.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.inner
            .decode(ids, false)
            .map_err(|error| Error::invalid("tokens to decode", error, "ids of the vocabulary"))
    }

    /// The text of tokens as they come, special ones left out: what each adds, nothing while a character is incomplete.
    pub fn stream(&self) -> impl FnMut(u32) -> Result<String> + '_ {
        let mut stream = self.inner.decode_stream(true);
        move |id| {
            let added =
                stream.step(id).map_err(|error| Error::invalid("token to decode", error, "an id of the vocabulary"));
            Ok(added?.unwrap_or_default())
        }
    }

    /// The token that begins a text.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The token that ends one.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// Whether [`Tokenizer::encode`] puts BOS first.
    pub fn adds_bos(&self) -> bool {
        self.adds_bos
    }

    /// BLAKE3 of everything that decides token ids.
    pub fn digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.inner.to_string(false).unwrap_or_default().as_bytes());
        let Tokenizer { bos, eos, add_bos_token, adds_bos, vocab, .. } = self;
        hasher.update(format!("\n{bos:?} {eos:?} {add_bos_token:?} {adds_bos} {vocab}").as_bytes());
        hasher.finalize().to_hex().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::config::tests::small;
    use serde_json::{Value, json};

    /// Words `a` and `b` behind `<s>` and `</s>`, split at spaces.
    fn files(template_bos: bool, settings: Value) -> TokenizerFiles {
        let special = |id: u32, content: &str| {
            json!({ "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": true })
        };
        let template = json!({
            "type": "TemplateProcessing",
            "single": [{ "SpecialToken": { "id": "<s>", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }],
            "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 0 } }],
            "special_tokens": { "<s>": { "id": "<s>", "ids": [1], "tokens": ["<s>"] } },
        });
        let tokenizer = json!({
            "version": "1.0", "truncation": { "direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0 },
            "padding": null, "normalizer": null, "decoder": null,
            "added_tokens": [special(1, "<s>"), special(2, "</s>")],
            "pre_tokenizer": { "type": "Whitespace" },
            "post_processor": if template_bos { template } else { Value::Null },
            "model": { "type": "WordLevel", "vocab": { "?": 0, "<s>": 1, "</s>": 2, "a": 3, "b": 4, "far": 99 }, "unk_token": "?" },
        });
        let text = |value: &Value| value.to_string().into_bytes();
        TokenizerFiles(
            [(TOKENIZER_FILE.to_string(), text(&tokenizer)), (TOKENIZER_CONFIG_FILE.to_string(), text(&settings))]
                .into(),
        )
    }

    fn tokenizer(template_bos: bool, settings: Value) -> Tokenizer {
        Tokenizer::new(Path::new("t"), &files(template_bos, settings), &small()).unwrap()
    }

    #[test]
    fn adds_bos_as_the_settings_say_and_never_twice() {
        let cases = [
            (true, json!({}), true, "a b", vec![1, 3, 4]),
            (true, json!({}), true, "<s>a", vec![1, 3]),
            (true, json!({}), true, "", vec![1]),
            (true, json!({ "add_bos_token": false }), false, "a", vec![3]),
            (true, json!({ "add_bos_token": false }), false, "<s>a", vec![1, 3]),
            (false, json!({ "add_bos_token": true }), true, "a", vec![1, 3]),
            (false, json!({ "add_bos_token": true }), true, "<s>a", vec![1, 3]),
            (false, json!({}), false, "a b a b", vec![3, 4, 3, 4]),
        ];
        for (template, settings, adds, text, ids) in cases {
            let tokenizer = tokenizer(template, settings.clone());
            assert_eq!(tokenizer.adds_bos(), adds, "{settings}");
            assert_eq!(tokenizer.encode(text).unwrap(), ids, "{template} {settings} {text}");
        }
    }

    #[test]
    fn knows_special_tokens_by_their_text() {
        let tokenizer = tokenizer(false, json!({ "bos_token": { "content": "</s>" }, "eos_token": "<s>" }));
        assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(2), Some(1)));
        assert_eq!(tokenizer.decode(&[1, 3, 4]).unwrap(), "<s> a b");
    }

    #[test]
    fn rejects_tokens_the_model_does_not_have() {
        let error = tokenizer(false, json!({})).encode("a far").unwrap_err().to_string();
        assert_eq!(error, "token: found 99, expected less than the model's vocabulary of 40");
    }

    #[test]
    fn rejects_files_that_are_no_tokenizer() {
        let mut broken = files(false, json!({}));
        broken.0.insert(TOKENIZER_FILE.into(), b"{}".into());
        let new = |files: &TokenizerFiles| Tokenizer::new(Path::new("t"), files, &small()).err().unwrap().to_string();
        assert!(new(&broken).contains("tokenizer.json"));
        assert!(new(&TokenizerFiles::default()).contains("tokenizer.json not found"));
        assert!(new(&files(false, json!([]))).contains("tokenizer_config.json"));
    }

    #[test]
    fn digests_what_decides_ids() {
        assert_eq!(tokenizer(true, json!({})).digest(), tokenizer(true, json!({})).digest());
        assert_ne!(tokenizer(true, json!({})).digest(), tokenizer(false, json!({})).digest());
        assert_ne!(tokenizer(true, json!({})).digest(), tokenizer(true, json!({ "add_bos_token": false })).digest());
    }
}
