//! Hugging Face's tokenizer files as the `tokenizer.*` pairs of a GGUF file.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::checkpoint::chat_template::ChatTemplate;
use crate::checkpoint::config::LlamaConfig;
use crate::checkpoint::gguf::metadata::Entry;
use crate::checkpoint::gguf::pre_tokenizer::PreTokenizer;
use crate::checkpoint::gguf::tokenizer::{BYTE, CONTROL, NORMAL, SPACE, UNKNOWN, UNUSED, USER_DEFINED};
use crate::checkpoint::hf::TokenizerFiles;
use crate::checkpoint::tokenizer::{TOKENIZER_FILE, Tokenizer, TokenizerConfig, tokenizer_json};
use crate::error::{Error, Result};

/// The part of `tokenizer.json` that GGUF keeps.
#[derive(Deserialize)]
struct TokenizerJson {
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    normalizer: Option<Value>,
    pre_tokenizer: Option<Value>,
    model: Model,
}

#[derive(Deserialize)]
struct AddedToken {
    id: u32,
    content: String,
    #[serde(default)]
    special: bool,
}

#[derive(Deserialize)]
struct Model {
    #[serde(rename = "type")]
    kind: Option<String>,
    vocab: BTreeMap<String, u32>,
    #[serde(default)]
    merges: Vec<Merge>,
    byte_fallback: Option<bool>,
    #[serde(default)]
    ignore_merges: bool,
    unk_token: Option<String>,
}

/// Newer files keep a pair, older ones a text with a space between.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Pair(String, String),
    Joined(String),
}

impl Merge {
    fn joined(&self) -> String {
        match self {
            Merge::Pair(left, right) => format!("{left} {right}"),
            Merge::Joined(text) => text.clone(),
        }
    }
}

/// The `tokenizer.*` pairs of a GGUF file from Hugging Face's files.
///
/// # Errors
/// `Invalid` when llama.cpp has no name for this tokenizer's way of cutting text.
pub(crate) fn from_files(path: &Path, files: &TokenizerFiles, config: &LlamaConfig) -> Result<Vec<(String, Entry)>> {
    let tokenizer = Tokenizer::new(path, files, config)?;
    let settings = TokenizerConfig::of(path, files)?;
    let (json, _) = tokenizer_json(path, files, &settings)?;
    let parsed: TokenizerJson =
        serde_json::from_value(json).map_err(|error| Error::format(path, TOKENIZER_FILE, error.to_string()))?;
    if parsed.model.kind.as_deref().is_some_and(|kind| kind != "BPE") {
        return Err(unknown("model", &parsed.model.kind.map(Value::from)));
    }

    let unk = settings.unk_token.as_ref().map(|token| token.text()).or(parsed.model.unk_token.as_deref());
    let (tokens, types) = parsed.rows(config.shape.vocab, unk);
    let mut pairs = if parsed.is_sentencepiece() { parsed.sentencepiece(&tokens)? } else { parsed.byte_level()? };
    pairs.push(("tokens", Entry::strings(&tokens)));
    pairs.push(("token_type", Entry::i32s(&types)));
    pairs.extend(around(&tokenizer)?);
    let id =
        |text: Option<&str>| text.and_then(|text| tokens.iter().position(|token| token == text)).map(|id| id as u32);
    let pad = id(settings.pad_token.as_ref().map(|token| token.text()));
    let specials = [("bos", tokenizer.bos()), ("eos", tokenizer.eos()), ("unknown", id(unk)), ("padding", pad)];
    let specials = specials.map(|(name, id)| Some((format!("tokenizer.ggml.{name}_token_id"), Entry::u32(id?))));
    let chat_template = ChatTemplate::find(path, files)?;
    let chat_template =
        chat_template.map(|found| ("tokenizer.chat_template".to_string(), Entry::string(&found.source)));
    let pairs = pairs.into_iter().map(|(name, entry)| (format!("tokenizer.ggml.{name}"), entry));
    Ok(pairs.chain(specials.into_iter().flatten()).chain(chat_template).collect())
}

/// Whether llama.cpp is to put BOS before a text and EOS behind it: it has no words for other tokens there.
fn around(tokenizer: &Tokenizer) -> Result<[(&'static str, Entry); 2]> {
    let (before, behind) = tokenizer.around();
    let is_only = |ids: &[u32], special: Option<u32>| ids.is_empty() || special.is_some_and(|special| ids == [special]);
    if !is_only(before, tokenizer.bos()) || !is_only(behind, tokenizer.eos()) {
        let found = format!("{before:?} before a text and {behind:?} behind it");
        let expected = "BOS before, EOS behind, or nothing, which is all that GGUF can say (export as hf instead)";
        return Err(Error::invalid(format!("post_processor of {TOKENIZER_FILE}"), found, expected));
    }
    let pair = |name, ids: &[u32]| (name, Entry::bool(!ids.is_empty()));
    Ok([pair("add_bos_token", before), pair("add_eos_token", behind)])
}

fn unknown(what: &str, found: &Option<Value>) -> Error {
    let expected = "one that llama.cpp has a name for (export as hf instead)";
    Error::invalid(format!("{what} of {TOKENIZER_FILE}"), json!(found), expected)
}

impl TokenizerJson {
    fn is_sentencepiece(&self) -> bool {
        self.model.byte_fallback == Some(true)
    }

    /// The token and the type of each of the vocabulary's rows.
    fn rows(&self, vocab: usize, unk: Option<&str>) -> (Vec<String>, Vec<i32>) {
        let sentencepiece = self.is_sentencepiece();
        let is_unknown = |token: &str| sentencepiece && Some(token) == unk;
        let mut tokens: Vec<String> = (0..vocab).map(|id| format!("[PAD{id}]")).collect();
        let mut types = vec![UNUSED as i32; tokens.len()];
        let vocabulary = self.model.vocab.iter().map(|(token, &id)| {
            let ty = match token.as_str() {
                token if sentencepiece && is_byte_token(token) => BYTE,
                token if is_unknown(token) => UNKNOWN,
                _ => NORMAL,
            };
            (id, token, ty)
        });
        let added = self.added_tokens.iter().map(|token| {
            let kind = if token.special { CONTROL } else { USER_DEFINED };
            (token.id, &token.content, if is_unknown(&token.content) { UNKNOWN } else { kind })
        });
        for (id, token, ty) in vocabulary.chain(added) {
            // A tokenizer may know tokens that the model has no row for; they cannot be encoded either.
            if let (Some(slot), Some(slot_type)) = (tokens.get_mut(id as usize), types.get_mut(id as usize)) {
                slot.clone_from(token);
                *slot_type = ty as i32;
            }
        }
        (tokens, types)
    }

    fn merges(&self) -> Vec<String> {
        self.model.merges.iter().map(Merge::joined).collect()
    }

    fn sentencepiece(&self, tokens: &[String]) -> Result<Vec<(&'static str, Entry)>> {
        let normalizer = self.normalizer.as_ref().map(Value::to_string).unwrap_or_default();
        let metaspace = self.pre_tokenizer.as_ref().map(Value::to_string).unwrap_or_default();
        let marks_spaces = normalizer.contains(SPACE) || metaspace.contains(SPACE);
        if !marks_spaces || !self.normalizer.as_ref().is_none_or(only_marks_spaces) {
            return Err(unknown("normalizer", &self.normalizer));
        }
        let adds_space = normalizer.contains("Prepend")
            || (metaspace.contains("Metaspace") && !metaspace.contains(r#""prepend_scheme":"never""#));
        Ok(vec![
            ("model", Entry::string("llama")),
            ("pre", Entry::string("default")),
            ("scores", Entry::f32s(&scores_of_merges(tokens, &self.merges()))),
            ("add_space_prefix", Entry::bool(adds_space)),
        ])
    }

    /// llama.cpp's name for how text is cut.
    fn pre_tokenizer_name(&self) -> Result<&'static str> {
        let [normalizer, step] = [&self.normalizer, &self.pre_tokenizer].map(|step| step.clone().unwrap_or_default());
        let whole_words = self.model.ignore_merges;
        if let Some(name) = PreTokenizer::name_of(&normalizer, &step, whole_words) {
            return Ok(name);
        }
        if let Some(name) = PreTokenizer::name_of(&normalizer, &step, !whole_words) {
            let expected = format!("{}, as llama.cpp has it for `{name}` (export as hf instead)", !whole_words);
            return Err(Error::invalid(format!("ignore_merges of {TOKENIZER_FILE}"), whole_words, expected));
        }
        Err(match PreTokenizer::name_of(&Value::Null, &step, whole_words) {
            Some(_) => unknown("normalizer", &self.normalizer),
            None => unknown("pre_tokenizer", &self.pre_tokenizer),
        })
    }

    fn byte_level(&self) -> Result<Vec<(&'static str, Entry)>> {
        Ok(vec![
            ("model", Entry::string("gpt2")),
            ("pre", Entry::string(self.pre_tokenizer_name()?)),
            ("merges", Entry::strings(&self.merges())),
        ])
    }
}

/// Whether a normalizer does nothing that llama.cpp would not do.
fn only_marks_spaces(normalizer: &Value) -> bool {
    match normalizer["type"].as_str() {
        None => normalizer.is_null(),
        Some("Sequence") => {
            normalizer["normalizers"].as_array().is_some_and(|steps| steps.iter().all(only_marks_spaces))
        }
        Some("Prepend") => normalizer["prepend"] == SPACE,
        Some("Replace") => normalizer["pattern"]["String"] == " " && normalizer["content"] == SPACE,
        Some(_) => false,
    }
}

fn is_byte_token(token: &str) -> bool {
    token.len() == 6 && token.starts_with("<0x") && token.ends_with('>')
}

/// What SentencePiece would have scored: a piece scores by the first merge that makes it.
fn scores_of_merges(tokens: &[String], merges: &[String]) -> Vec<f32> {
    let mut ranks: HashMap<String, usize> = HashMap::new();
    for (rank, merge) in merges.iter().enumerate() {
        ranks.entry(merge.replacen(' ', "", 1)).or_insert(rank);
    }
    tokens.iter().map(|token| -(ranks.get(token).copied().unwrap_or(merges.len()) as f32)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::config::tests::small;
    use crate::checkpoint::gguf::metadata::Metadata;
    use crate::checkpoint::gguf::tokenizer::tests::{byte_level, metadata, sentencepiece, tokenizer};
    use crate::checkpoint::gguf::tokenizer::to_files;

    #[test]
    fn writes_back_what_it_read() {
        let names = ["gpt-2", "smollm", "llama-bpe", "qwen2", "tekken", "deepseek-v3", "falcon"];
        let cases = names.into_iter().map(|name| (name, byte_level(name)));
        let cases = cases.chain([("llama-bpe", byte_level("llama3")), ("default", sentencepiece())]);
        for (pre, pairs) in cases {
            let read = metadata(pairs);
            let mut written = Metadata::new(Path::new("m.gguf"));
            for (key, entry) in from_files(Path::new("m"), &to_files(&read, &small()).unwrap(), &small()).unwrap() {
                assert!(written.insert(key, entry));
            }
            assert_eq!(written.text("tokenizer.ggml.pre").unwrap().as_deref(), Some(pre));
            assert_eq!(written.texts("tokenizer.ggml.merges").unwrap(), read.texts("tokenizer.ggml.merges").unwrap());
            let (before, after) = (tokenizer(&read), tokenizer(&written));
            assert_eq!(after.adds_bos(), before.adds_bos());
            for text in ["12 1", "abc bc", "'S é", "a<|end|>1", "<|user|>ab"] {
                assert_eq!(after.encode(text).ok(), before.encode(text).ok(), "{pre}: {text}");
            }
            let count = written.texts("tokenizer.ggml.tokens").unwrap().map(|tokens| tokens.len());
            assert_eq!(count, Some(small().shape.vocab), "padded to the model's vocabulary");
        }
    }

    /// A byte-level tokenizer that adds `before` and `behind` its texts, after a change.
    fn changed(around: [bool; 2], change: impl Fn(&mut Value)) -> Result<Vec<(String, Entry)>> {
        let mut pairs = byte_level("gpt-2");
        pairs.push(("add_bos_token", Entry::bool(around[0])));
        pairs.push(("add_eos_token", Entry::bool(around[1])));
        let mut files = to_files(&metadata(pairs), &small()).unwrap();
        let mut tokenizer: Value = serde_json::from_slice(&files.0[TOKENIZER_FILE]).unwrap();
        change(&mut tokenizer);
        files.0.insert(TOKENIZER_FILE.into(), tokenizer.to_string().into_bytes());
        from_files(Path::new("m"), &files, &small())
    }

    #[test]
    fn says_what_stands_around_a_text() {
        for around in [[false, false], [true, false], [false, true], [true, true]] {
            let pairs: BTreeMap<String, Entry> = changed(around, |_| {}).unwrap().into_iter().collect();
            let written = ["add_bos_token", "add_eos_token"].map(|name| &pairs[&format!("tokenizer.ggml.{name}")]);
            assert_eq!(written, [&Entry::bool(around[0]), &Entry::bool(around[1])]);
        }
    }

    #[test]
    fn rejects_normalizers_of_sentencepiece_that_llama_cpp_does_not_know() {
        let mut files = to_files(&metadata(sentencepiece()), &small()).unwrap();
        let mut tokenizer: Value = serde_json::from_slice(&files.0[TOKENIZER_FILE]).unwrap();
        let strip = json!({ "type": "Strip", "strip_left": false, "strip_right": true });
        tokenizer["normalizer"]["normalizers"].as_array_mut().unwrap().push(strip);
        files.0.insert(TOKENIZER_FILE.into(), tokenizer.to_string().into_bytes());
        let error = from_files(Path::new("m"), &files, &small()).unwrap_err().to_string();
        assert!(error.contains("normalizer of tokenizer.json: found") && error.contains("Strip"), "{error}");
    }

    #[test]
    fn rejects_tokenizers_that_llama_cpp_has_no_name_for() {
        let refusal = |change: &dyn Fn(&mut Value)| changed([true, true], change).unwrap_err().to_string();
        let error = refusal(&|tokenizer| tokenizer["pre_tokenizer"] = json!({ "type": "Whitespace" }));
        assert!(error.contains("pre_tokenizer of tokenizer.json: found") && error.contains("Whitespace"), "{error}");
        let error = refusal(&|tokenizer| tokenizer["normalizer"] = json!({ "type": "Lowercase" }));
        assert!(error.contains("normalizer of tokenizer.json: found") && error.contains("Lowercase"), "{error}");
        let error = refusal(&|tokenizer| {
            tokenizer["pre_tokenizer"] = PreTokenizer::named("tekken").unwrap().json();
        });
        assert_eq!(
            error,
            "ignore_merges of tokenizer.json: found false, expected true, as llama.cpp has it for `tekken` (export as hf \
             instead)"
        );
        let error = refusal(&|tokenizer| {
            tokenizer["post_processor"]["special_tokens"]["<|end|>"]["ids"] = json!([8, 9]);
        });
        assert!(error.contains("found [8, 9] before a text and [8, 9] behind it, expected BOS before"), "{error}");
    }
}
