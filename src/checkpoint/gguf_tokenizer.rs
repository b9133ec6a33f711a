//! Tokenizers inside GGUF files: `tokenizer.ggml.*` to Hugging Face's files and back.
//!
//! Two kinds: `gpt2`, byte-level BPE with stored merges, and `llama`, SentencePiece's BPE, whose merges follow
//! from the scores of the pieces.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::checkpoint::config::LlamaConfig;
use crate::checkpoint::gguf_metadata::{Entry, Metadata};
use crate::checkpoint::hf::TokenizerFiles;
use crate::checkpoint::hf_writer::pretty;
use crate::checkpoint::tokenizer::{TOKENIZER_CONFIG_FILE, TOKENIZER_FILE, Tokenizer, TokenizerConfig};
use crate::error::{Error, Result};

/// Token types (`llama.h`, `enum llama_token_type`).
const NORMAL: u32 = 1;
const UNKNOWN: u32 = 2;
const CONTROL: u32 = 3;
const USER_DEFINED: u32 = 4;
const UNUSED: u32 = 5;
const BYTE: u32 = 6;

/// SentencePiece's mark of a space.
const SPACE: &str = "\u{2581}";
/// Pieces are words and parts of words; the search for merges is quadratic in their length.
const MAX_PIECE_BYTES: usize = 4096;

/// How text is cut before byte-level BPE, by the names llama.cpp gives in `tokenizer.ggml.pre`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PreTokenizer {
    Gpt2,
    Smollm,
    Llama3,
    /// What llama.cpp does with files that name none.
    Default,
}

/// Names in files, the one we write first among equals.
const PRE_NAMES: [(&str, PreTokenizer); 7] = [
    ("gpt-2", PreTokenizer::Gpt2),
    ("gpt2", PreTokenizer::Gpt2),
    ("smollm", PreTokenizer::Smollm),
    ("llama-bpe", PreTokenizer::Llama3),
    ("llama3", PreTokenizer::Llama3),
    ("llama-v3", PreTokenizer::Llama3),
    ("default", PreTokenizer::Default),
];

const GPT2_PATTERN: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3_PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

impl PreTokenizer {
    /// The step of `tokenizer.json` that cuts alike.
    fn json(self) -> Value {
        let byte_level = |use_regex: bool| json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex });
        let split = |pattern: &str| json!({ "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated", "invert": false });
        let sequence = |steps: Vec<Value>| json!({ "type": "Sequence", "pretokenizers": steps });
        match self {
            PreTokenizer::Gpt2 => byte_level(true),
            PreTokenizer::Smollm => {
                sequence(vec![json!({ "type": "Digits", "individual_digits": true }), byte_level(true)])
            }
            PreTokenizer::Llama3 => sequence(vec![split(LLAMA3_PATTERN), byte_level(false)]),
            PreTokenizer::Default => sequence(vec![
                split(r"[\p{P}\$\+<=>\^~\|]+"),
                split(GPT2_PATTERN),
                split(r"\p{N}+"),
                split("[0-9][0-9][0-9]"),
                byte_level(false),
            ]),
        }
    }

    /// LLaMA 3 takes a whole word that is a token, whatever its merges say, and begins texts with BOS.
    fn is_llama3(self) -> bool {
        self == PreTokenizer::Llama3
    }
}

/// Builds `tokenizer.json` and the files beside it from a GGUF file's metadata.
pub(super) fn to_files(metadata: &Metadata, config: &LlamaConfig) -> Result<TokenizerFiles> {
    let key = "tokenizer.ggml.model";
    let kind = metadata.text(key)?.ok_or_else(|| metadata.wrong(key, "missing"))?;
    let vocabulary = Vocabulary::read(metadata)?;
    let parts = match kind.as_str() {
        "gpt2" => byte_level_parts(metadata, &vocabulary)?,
        "llama" => sentencepiece_parts(metadata, &vocabulary)?,
        _ => return Err(Error::unknown("GGUF tokenizer model", kind, ["gpt2", "llama"])),
    };
    let flag = |name: &str| metadata.flag(&format!("tokenizer.ggml.{name}"));
    let adds_bos = flag("add_bos_token")?.unwrap_or(parts.adds_bos);
    let adds_eos = flag("add_eos_token")?.unwrap_or(false);
    let special = |name: &str| -> Result<Option<(u32, &String)>> {
        let id = metadata.count(&format!("tokenizer.ggml.{name}_token_id"))?;
        Ok(id.and_then(|id| Some((id, vocabulary.tokens.get(id as usize)?))))
    };
    let (bos, eos) = (special("bos")?, special("eos")?);
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": vocabulary.added_tokens(),
        "normalizer": parts.normalizer,
        "pre_tokenizer": parts.pre_tokenizer,
        "post_processor": template(bos.filter(|_| adds_bos), eos.filter(|_| adds_eos)),
        "decoder": parts.decoder,
        "model": parts.model,
    });
    let text = |token: Option<(u32, &String)>| token.map(|(_, text)| text.clone());
    let mut settings = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": text(bos),
        "eos_token": text(eos),
        "unk_token": text(special("unknown")?),
        "pad_token": text(special("padding")?),
        "add_bos_token": adds_bos && bos.is_some(),
        "add_eos_token": adds_eos && eos.is_some(),
        "clean_up_tokenization_spaces": false,
        "model_max_length": config.max_position_embeddings,
    });
    if let Some(template) = metadata.text("tokenizer.chat_template")? {
        settings["chat_template"] = json!(template);
    }
    let generation = json!({
        "bos_token_id": config.bos_token_id,
        "eos_token_id": config.eos_token_ids,
        "pad_token_id": special("padding")?.map(|(id, _)| id),
    });
    let files = [
        (TOKENIZER_FILE, tokenizer.to_string()),
        (TOKENIZER_CONFIG_FILE, pretty(&settings)),
        ("generation_config.json", pretty(&generation)),
    ];
    Ok(TokenizerFiles(files.map(|(name, text)| (name.to_string(), text.into_bytes())).into()))
}

/// `tokenizer.ggml.tokens` with their types.
struct Vocabulary {
    tokens: Vec<String>,
    types: Vec<u32>,
    /// Of a text that is there twice, the first.
    ids: HashMap<String, u32>,
}

impl Vocabulary {
    fn read(metadata: &Metadata) -> Result<Vocabulary> {
        let key = "tokenizer.ggml.tokens";
        let tokens = metadata.texts(key)?.ok_or_else(|| metadata.wrong(key, "missing"))?;
        let key = "tokenizer.ggml.token_type";
        let types = metadata.counts(key)?.unwrap_or_else(|| vec![NORMAL; tokens.len()]);
        if types.len() != tokens.len() {
            return Err(metadata.wrong(key, format!("{} values, expected {}", types.len(), tokens.len())));
        }
        let mut ids = HashMap::with_capacity(tokens.len());
        for (id, token) in tokens.iter().enumerate() {
            ids.entry(token.clone()).or_insert(id as u32);
        }
        Ok(Vocabulary { tokens, types, ids })
    }

    fn json(&self) -> Value {
        self.tokens
            .iter()
            .map(|token| (token.clone(), json!(self.ids[token])))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }

    /// Tokens that are found in the text before it is cut.
    fn added_tokens(&self) -> Vec<Value> {
        let kinds = self.tokens.iter().zip(&self.types).enumerate();
        kinds
            .filter(|(_, (_, ty))| [UNKNOWN, CONTROL, USER_DEFINED].contains(ty))
            .map(|(id, (token, &ty))| {
                json!({
                    "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": ty != USER_DEFINED,
                })
            })
            .collect()
    }
}

/// What the two kinds differ in.
struct Parts {
    normalizer: Value,
    pre_tokenizer: Value,
    decoder: Value,
    model: Value,
    /// Where the file says nothing.
    adds_bos: bool,
}

fn bpe(vocabulary: &Vocabulary, merges: Vec<(&str, &str)>, unk: Option<&str>, byte_fallback: bool) -> Value {
    json!({
        "type": "BPE", "dropout": null, "unk_token": unk, "continuing_subword_prefix": null,
        "end_of_word_suffix": null, "fuse_unk": byte_fallback, "byte_fallback": byte_fallback,
        "ignore_merges": false, "vocab": vocabulary.json(), "merges": merges,
    })
}

fn byte_level_parts(metadata: &Metadata, vocabulary: &Vocabulary) -> Result<Parts> {
    let pre = metadata.text("tokenizer.ggml.pre")?.unwrap_or_else(|| "default".into());
    let &(_, pre) = PRE_NAMES
        .iter()
        .find(|(name, _)| *name == pre)
        .ok_or_else(|| Error::unknown("GGUF pre-tokenizer", &pre, PRE_NAMES.map(|(name, _)| name)))?;
    let key = "tokenizer.ggml.merges";
    let merges = metadata.texts(key)?.ok_or_else(|| metadata.wrong(key, "missing"))?;
    let merges = merges
        .iter()
        .enumerate()
        .map(|(index, merge)| {
            merge.split_once(' ').ok_or_else(|| metadata.wrong(key, format!("value {index}: expected two tokens")))
        })
        .collect::<Result<_>>()?;
    let mut model = bpe(vocabulary, merges, None, false);
    model["ignore_merges"] = json!(pre.is_llama3());
    Ok(Parts {
        normalizer: Value::Null,
        pre_tokenizer: pre.json(),
        decoder: json!({ "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true }),
        model,
        adds_bos: pre.is_llama3(),
    })
}

fn sentencepiece_parts(metadata: &Metadata, vocabulary: &Vocabulary) -> Result<Parts> {
    let key = "tokenizer.ggml.scores";
    let scores = metadata.numbers(key)?.ok_or_else(|| metadata.wrong(key, "missing"))?;
    if scores.len() != vocabulary.tokens.len() {
        let (found, expected) = (scores.len(), vocabulary.tokens.len());
        return Err(metadata.wrong(key, format!("{found} values, expected {expected}")));
    }
    if let Some(id) = vocabulary.tokens.iter().position(|token| token.len() > MAX_PIECE_BYTES) {
        return Err(metadata.wrong("tokenizer.ggml.tokens", format!("token {id}: longer than {MAX_PIECE_BYTES} bytes")));
    }
    let spaces = json!({ "type": "Replace", "pattern": { "String": " " }, "content": SPACE });
    let prefix = json!({ "type": "Prepend", "prepend": SPACE });
    let adds_space = metadata.flag("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
    let normalizers = if adds_space { vec![prefix, spaces] } else { vec![spaces] };
    let mut decoders = vec![
        json!({ "type": "Replace", "pattern": { "String": SPACE }, "content": " " }),
        json!({ "type": "ByteFallback" }),
        json!({ "type": "Fuse" }),
    ];
    if adds_space {
        decoders.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
    }
    let unk = vocabulary.types.iter().position(|&ty| ty == UNKNOWN).map(|id| vocabulary.tokens[id].as_str());
    Ok(Parts {
        normalizer: json!({ "type": "Sequence", "normalizers": normalizers }),
        pre_tokenizer: Value::Null,
        decoder: json!({ "type": "Sequence", "decoders": decoders }),
        model: bpe(vocabulary, merges_of_scores(vocabulary, &scores), unk, true),
        adds_bos: true,
    })
}

/// SentencePiece joins the two neighbours whose union scores highest. As BPE: every way to cut a piece into two
/// pieces is a merge, and merges are ranked by the piece's score.
fn merges_of_scores<'a>(vocabulary: &'a Vocabulary, scores: &[f64]) -> Vec<(&'a str, &'a str)> {
    let mut merges = vec![];
    for (id, token) in vocabulary.tokens.iter().enumerate() {
        if ![NORMAL, USER_DEFINED].contains(&vocabulary.types[id]) {
            continue;
        }
        for (cut, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(cut);
            if let (Some(&left_id), Some(&right_id)) = (vocabulary.ids.get(left), vocabulary.ids.get(right)) {
                merges.push((scores[id], id, left_id, right_id, (left, right)));
            }
        }
    }
    merges.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2, a.3).cmp(&(b.1, b.2, b.3))));
    merges.into_iter().map(|merge| merge.4).collect()
}

/// The step that puts BOS before a text and EOS behind it.
fn template(bos: Option<(u32, &String)>, eos: Option<(u32, &String)>) -> Value {
    if bos.is_none() && eos.is_none() {
        return Value::Null;
    }
    let sequence = |id: &str, type_id: u32| {
        let token = |special: Option<(u32, &String)>| {
            special.map(|(_, text)| json!({ "SpecialToken": { "id": text, "type_id": type_id } }))
        };
        let text = json!({ "Sequence": { "id": id, "type_id": type_id } });
        token(bos).into_iter().chain([text]).chain(token(eos)).collect::<Vec<_>>()
    };
    let pair = [sequence("A", 0), sequence("B", 1)].concat();
    let specials = bos.into_iter().chain(eos);
    json!({
        "type": "TemplateProcessing",
        "single": sequence("A", 0),
        "pair": pair,
        "special_tokens": specials
            .map(|(id, text)| (text.clone(), json!({ "id": text, "ids": [id], "tokens": [text] })))
            .collect::<serde_json::Map<_, _>>(),
    })
}

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
pub(super) fn from_files(path: &Path, files: &TokenizerFiles, config: &LlamaConfig) -> Result<Vec<(String, Entry)>> {
    let tokenizer = Tokenizer::new(path, files, config)?;
    let settings = TokenizerConfig::of(path, files)?;
    let bytes = files.0.get(TOKENIZER_FILE).map(Vec::as_slice).unwrap_or_default();
    let parsed: TokenizerJson =
        serde_json::from_slice(bytes).map_err(|error| Error::format(path, TOKENIZER_FILE, error.to_string()))?;
    let sentencepiece = parsed.model.byte_fallback == Some(true);
    let unknown = |what: &str, found: &Option<Value>| {
        let expected = "one that llama.cpp has a name for (export as hf instead)";
        Error::invalid(format!("{} of {TOKENIZER_FILE}", what), json!(found), expected)
    };
    if parsed.model.kind.as_deref().is_some_and(|kind| kind != "BPE") {
        return Err(unknown("model", &parsed.model.kind.map(Value::from)));
    }

    let mut tokens: Vec<String> = (0..config.shape.vocab).map(|id| format!("[PAD{id}]")).collect();
    let mut types = vec![UNUSED as i32; tokens.len()];
    let unk = settings.unk_token.as_ref().map(|token| token.text()).or(parsed.model.unk_token.as_deref());
    let vocabulary = parsed.model.vocab.iter().map(|(token, &id)| {
        let ty = match token {
            _ if sentencepiece && is_byte_token(token) => BYTE,
            _ if sentencepiece && Some(token.as_str()) == unk => UNKNOWN,
            _ => NORMAL,
        };
        (id, token, ty)
    });
    let added = parsed.added_tokens.iter().map(|token| {
        let ty = match token.special {
            _ if sentencepiece && Some(token.content.as_str()) == unk => UNKNOWN,
            true => CONTROL,
            false => USER_DEFINED,
        };
        (token.id, &token.content, ty)
    });
    for (id, token, ty) in vocabulary.chain(added) {
        // A tokenizer may know tokens that the model has no row for; they cannot be encoded either.
        if let (Some(slot), Some(slot_type)) = (tokens.get_mut(id as usize), types.get_mut(id as usize)) {
            slot.clone_from(token);
            *slot_type = ty as i32;
        }
    }

    let merges: Vec<String> = parsed.model.merges.iter().map(Merge::joined).collect();
    let mut pairs: Vec<(&str, Entry)> = vec![];
    if sentencepiece {
        let normalizer = parsed.normalizer.as_ref().map(Value::to_string).unwrap_or_default();
        let metaspace = parsed.pre_tokenizer.as_ref().map(Value::to_string).unwrap_or_default();
        if !normalizer.contains(SPACE) && !metaspace.contains(SPACE) {
            return Err(unknown("normalizer", &parsed.normalizer));
        }
        let adds_space = normalizer.contains("Prepend")
            || (metaspace.contains("Metaspace") && !metaspace.contains(r#""prepend_scheme":"never""#));
        pairs.push(("model", Entry::string("llama")));
        pairs.push(("pre", Entry::string("default")));
        pairs.push(("scores", Entry::f32s(&scores_of_merges(&tokens, &merges))));
        pairs.push(("add_space_prefix", Entry::bool(adds_space)));
    } else {
        let pre = parsed.pre_tokenizer.as_ref().map(without_offsets);
        let known = PRE_NAMES.iter().find(|(_, kind)| Some(without_offsets(&kind.json())) == pre);
        let (name, _) = known.ok_or_else(|| unknown("pre_tokenizer", &parsed.pre_tokenizer))?;
        if parsed.normalizer.as_ref().is_some_and(|normalizer| !normalizer.is_null()) {
            return Err(unknown("normalizer", &parsed.normalizer));
        }
        pairs.push(("model", Entry::string("gpt2")));
        pairs.push(("pre", Entry::string(name)));
        pairs.push(("merges", Entry::strings(&merges)));
    }
    pairs.push(("tokens", Entry::strings(&tokens)));
    pairs.push(("token_type", Entry::i32s(&types)));
    pairs.push(("add_bos_token", Entry::bool(tokenizer.adds_bos())));
    let id =
        |text: Option<&str>| text.and_then(|text| tokens.iter().position(|token| token == text)).map(|id| id as u32);
    let pad = id(settings.pad_token.as_ref().map(|token| token.text()));
    let specials = [("bos", tokenizer.bos()), ("eos", tokenizer.eos()), ("unknown", id(unk)), ("padding", pad)];
    let specials = specials.map(|(name, id)| Some((format!("tokenizer.ggml.{name}_token_id"), Entry::u32(id?))));
    let chat_template = match files.0.get("chat_template.jinja") {
        Some(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        None => settings.chat_template.as_ref().and_then(Value::as_str).map(String::from),
    };
    let chat_template = chat_template.map(|text| ("tokenizer.chat_template".to_string(), Entry::string(&text)));
    let pairs = pairs.into_iter().map(|(name, entry)| (format!("tokenizer.ggml.{name}"), entry));
    Ok(pairs.chain(specials.into_iter().flatten()).chain(chat_template).collect())
}

fn is_byte_token(token: &str) -> bool {
    token.len() == 6 && token.starts_with("<0x") && token.ends_with('>')
}

/// The inverse of [`merges_of_scores`]: a piece scores by the first merge that makes it.
fn scores_of_merges(tokens: &[String], merges: &[String]) -> Vec<f32> {
    let mut ranks: HashMap<String, usize> = HashMap::new();
    for (rank, merge) in merges.iter().enumerate() {
        ranks.entry(merge.replacen(' ', "", 1)).or_insert(rank);
    }
    tokens.iter().map(|token| -(ranks.get(token).copied().unwrap_or(merges.len()) as f32)).collect()
}

/// A pre-tokenizer without the settings that do not change ids.
fn without_offsets(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .filter(|(name, _)| *name != "trim_offsets")
            .map(|(name, value)| (name.clone(), without_offsets(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Array(items) => items.iter().map(without_offsets).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::config::tests::small;

    fn metadata(pairs: Vec<(&str, Entry)>) -> Metadata {
        let mut metadata = Metadata::new(Path::new("m.gguf"));
        for (name, entry) in pairs {
            metadata.insert(format!("tokenizer.ggml.{name}"), entry);
        }
        metadata
    }

    fn tokenizer(metadata: &Metadata) -> Tokenizer {
        Tokenizer::new(Path::new("m.gguf"), &to_files(metadata, &small()).unwrap(), &small()).unwrap()
    }

    /// Pieces of SentencePiece's BPE: "ab" before "bc" by score, bytes for what is in no piece.
    fn sentencepiece() -> Vec<(&'static str, Entry)> {
        let mut tokens = vec!["<unk>", "<s>", "</s>", "▁", "a", "b", "c", "ab", "bc", "▁ab", "<0xC3>", "<0xA9>"];
        let mut types = vec![2, 3, 3, 1, 1, 1, 1, 1, 1, 1, 6, 6];
        let mut scores = vec![0.0, 0.0, 0.0, -9.0, -9.0, -9.0, -9.0, -1.0, -2.0, -3.0, 0.0, 0.0];
        tokens.push("<|user|>");
        types.push(4);
        scores.push(0.0);
        vec![
            ("model", Entry::string("llama")),
            ("tokens", Entry::strings(&tokens)),
            ("token_type", Entry::i32s(&types)),
            ("scores", Entry::f32s(&scores)),
            ("bos_token_id", Entry::u32(1)),
            ("eos_token_id", Entry::u32(2)),
            ("unknown_token_id", Entry::u32(0)),
        ]
    }

    #[test]
    fn joins_pieces_by_score_and_falls_back_to_bytes() {
        let tokenizer = tokenizer(&metadata(sentencepiece()));
        assert!(tokenizer.adds_bos());
        // "▁abc": "ab" outscores "bc", then "▁ab" is made.
        assert_eq!(tokenizer.encode("abc").unwrap(), [1, 9, 6]);
        assert_eq!(tokenizer.encode("cbc").unwrap(), [1, 3, 6, 8]);
        assert_eq!(tokenizer.encode("é").unwrap(), [1, 3, 10, 11]);
        assert_eq!(tokenizer.encode("a<|user|>").unwrap(), [1, 3, 4, 12]);
        assert_eq!(tokenizer.decode(&[9, 6, 10, 11]).unwrap(), "abcé");
    }

    #[test]
    fn adds_nothing_when_the_file_says_so() {
        let mut pairs = sentencepiece();
        pairs.push(("add_bos_token", Entry::bool(false)));
        pairs.push(("add_space_prefix", Entry::bool(false)));
        assert_eq!(tokenizer(&metadata(pairs)).encode("abc").unwrap(), [7, 6]);
    }

    /// Byte-level pieces: digits, a space (`Ġ`), and the merges that join them.
    fn byte_level(pre: &str) -> Vec<(&'static str, Entry)> {
        let tokens = ["1", "2", "12", "Ġ", "Ġ1", "'", "S", "'S", "<|end|>", "a", "!", "a!", "123", "3"];
        let merges = ["1 2", "Ġ 1", "' S", "a !"];
        let mut types = [NORMAL as i32; 14];
        types[8] = CONTROL as i32;
        vec![
            ("model", Entry::string("gpt2")),
            ("pre", Entry::string(pre)),
            ("tokens", Entry::strings(&tokens)),
            ("merges", Entry::strings(&merges)),
            ("token_type", Entry::i32s(&types)),
            ("bos_token_id", Entry::u32(8)),
        ]
    }

    #[test]
    fn cuts_text_as_the_named_pre_tokenizer_does() {
        let cases: [(&str, &str, &[u32]); 9] = [
            ("gpt-2", "12 1", &[2, 4]),
            ("smollm", "12 1", &[0, 1, 3, 0]), // digits one by one, apart from the space
            ("llama-bpe", "12 1", &[8, 2, 3, 0]), // numbers do not take the space; BOS first
            ("llama-bpe", "123", &[8, 12]),    // a whole word that is a token, though no merge makes it
            ("gpt-2", "123", &[2, 13]),
            ("gpt-2", "'S", &[5, 6]),
            ("llama-bpe", "'S", &[8, 7]), // contractions in either case
            ("gpt-2", "a<|end|>", &[9, 8]),
            ("default", "12 1", &[2, 3, 0]),
        ];
        for (pre, text, ids) in cases {
            assert_eq!(tokenizer(&metadata(byte_level(pre))).encode(text).unwrap(), ids, "{pre}: {text}");
        }
    }

    #[test]
    fn writes_back_what_it_read() {
        let cases =
            [("gpt-2", byte_level("gpt-2")), ("smollm", byte_level("smollm")), ("llama-bpe", byte_level("llama3"))];
        let cases = cases.into_iter().chain([("default", sentencepiece())]);
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

    #[test]
    fn rejects_tokenizers_it_does_not_know() {
        let replaced = |name: &'static str, entry: Entry| {
            let mut pairs = sentencepiece();
            pairs.retain(|(key, _)| *key != name);
            pairs.push((name, entry));
            to_files(&metadata(pairs), &small()).unwrap_err().to_string()
        };
        assert!(replaced("model", Entry::string("bert")).contains("`bert`; known: gpt2, llama"));
        assert!(replaced("scores", Entry::f32s(&[0.0])).contains("1 values, expected 13"));
        assert!(replaced("token_type", Entry::i32s(&[1])).contains("1 values, expected 13"));
        assert!(replaced("tokens", Entry::u32(1)).contains("expected text"));
        let long = vec!["x".repeat(MAX_PIECE_BYTES + 1); 13];
        assert!(replaced("tokens", Entry::strings(&long)).contains("token 0: longer"));
        let error = to_files(&metadata(byte_level("tekken")), &small()).unwrap_err().to_string();
        assert!(error.contains("unknown GGUF pre-tokenizer `tekken`; known: gpt-2"), "{error}");
        let mut pairs = byte_level("gpt-2");
        pairs[3] = ("merges", Entry::strings(&["joined"]));
        assert!(to_files(&metadata(pairs), &small()).unwrap_err().to_string().contains("value 0: expected two tokens"));
    }
}
