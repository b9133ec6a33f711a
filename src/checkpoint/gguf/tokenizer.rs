//! Tokenizers inside GGUF files: Hugging Face's files from `tokenizer.ggml.*`.
//!
//! Two kinds: `gpt2`, byte-level BPE with stored merges, and `llama`, SentencePiece's BPE, whose merges follow
//! from the scores of the pieces.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::checkpoint::config::LlamaConfig;
use crate::checkpoint::gguf::metadata::Metadata;
use crate::checkpoint::gguf::pre_tokenizer::PreTokenizer;
use crate::checkpoint::hf::{TokenizerFiles, pretty};
use crate::checkpoint::tokenizer::{TOKENIZER_CONFIG_FILE, TOKENIZER_FILE, template};
use crate::error::{Error, Result};

/// Token types (`llama.h`, `enum llama_token_type`).
pub(crate) const NORMAL: u32 = 1;
pub(crate) const UNKNOWN: u32 = 2;
pub(crate) const CONTROL: u32 = 3;
pub(crate) const USER_DEFINED: u32 = 4;
pub(crate) const UNUSED: u32 = 5;
pub(crate) const BYTE: u32 = 6;

/// llama.cpp's name for how it cuts text when nothing is known.
const DEFAULT: &str = "default";

/// Ids of special tokens of SentencePiece models, as llama.cpp has them where the file does not say.
const SPECIAL_IDS: [(&str, u32); 3] = [("bos", 1), ("eos", 2), ("unknown", 0)];

/// SentencePiece's mark of a space.
pub(crate) const SPACE: &str = "\u{2581}";
/// Pieces are words and parts of words; the search for merges is quadratic in their length.
const MAX_PIECE_BYTES: usize = 4096;

/// Builds `tokenizer.json` and the files beside it from a GGUF file's metadata.
pub(crate) fn to_files(metadata: &Metadata, config: &LlamaConfig) -> Result<TokenizerFiles> {
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
    let special = |name: &str| -> Result<Option<(u32, &str)>> {
        let usual = SPECIAL_IDS.iter().find(|(known, _)| kind == "llama" && *known == name).map(|&(_, id)| id);
        let id = metadata.count(&format!("tokenizer.ggml.{name}_token_id"))?.or(usual);
        Ok(id.and_then(|id| Some((id, vocabulary.tokens.get(id as usize)?.as_str()))))
    };
    let (bos, eos) = (special("bos")?, special("eos")?);
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": vocabulary.added_tokens(),
        "normalizer": parts.normalizer,
        "pre_tokenizer": parts.pre_tokenizer,
        "post_processor": template::json(bos.filter(|_| adds_bos), eos.filter(|_| adds_eos)),
        "decoder": parts.decoder,
        "model": parts.model,
    });
    let text = |token: Option<(u32, &str)>| token.map(|(_, text)| text.to_string());
    let mut settings = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": text(bos),
        "eos_token": text(eos),
        "unk_token": text(special("unknown")?),
        "pad_token": text(special("padding")?),
        "add_bos_token": adds_bos && bos.is_some(),
        "add_eos_token": adds_eos && eos.is_some(),
        "clean_up_tokenization_spaces": false,
        "model_max_length": config.positions(),
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

/// How the file says text is cut. Early converters wrote nothing, or `default`, for what they did not know.
fn named_pre_tokenizer(metadata: &Metadata) -> Result<Option<String>> {
    Ok(metadata.text("tokenizer.ggml.pre")?.filter(|name| name != DEFAULT))
}

/// What users should know of a GGUF file's tokenizer.
pub(crate) fn notes(metadata: &Metadata) -> Result<Vec<String>> {
    if named_pre_tokenizer(metadata)?.is_some() || metadata.text("tokenizer.ggml.model")?.as_deref() != Some("gpt2") {
        return Ok(Vec::new());
    }
    let found = "the file does not say how text is cut (tokenizer.ggml.pre)";
    Ok(vec![match PreTokenizer::name_of_vocabulary(&Vocabulary::read(metadata)?.tokens) {
        Some(name) => {
            format!("{found}; its vocabulary is that of `{name}`, which is used. llama.cpp cuts otherwise there")
        }
        None => format!("{found}; `default` is used, as llama.cpp does, and may not be what the model learned"),
    }])
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
    let pre = match named_pre_tokenizer(metadata)? {
        Some(name) => PreTokenizer::named(&name)?,
        None => PreTokenizer::named(PreTokenizer::name_of_vocabulary(&vocabulary.tokens).unwrap_or(DEFAULT))?,
    };
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
    model["ignore_merges"] = json!(pre.takes_whole_words());
    Ok(Parts {
        normalizer: pre.normalizer(),
        pre_tokenizer: pre.json(),
        decoder: json!({ "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true }),
        model,
        adds_bos: pre.adds_bos(),
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

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;

    use super::*;
    use crate::checkpoint::config::tests::small;
    use crate::checkpoint::gguf::metadata::Entry;
    use crate::checkpoint::tokenizer::Tokenizer;

    pub(crate) fn metadata(pairs: Vec<(&str, Entry)>) -> Metadata {
        let mut metadata = Metadata::new(Path::new("m.gguf"));
        for (name, entry) in pairs {
            metadata.insert(format!("tokenizer.ggml.{name}"), entry);
        }
        metadata
    }

    pub(crate) fn tokenizer(metadata: &Metadata) -> Tokenizer {
        Tokenizer::new(Path::new("m.gguf"), &to_files(metadata, &small()).unwrap(), &small()).unwrap()
    }

    /// Pieces of SentencePiece's BPE: "ab" before "bc" by score, bytes for what is in no piece.
    pub(crate) fn sentencepiece() -> Vec<(&'static str, Entry)> {
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
    fn puts_around_a_text_what_llama_cpp_does() {
        let mut pairs = sentencepiece();
        pairs.retain(|(name, _)| !name.ends_with("_token_id"));
        let plain = tokenizer(&metadata(pairs.clone()));
        assert_eq!((plain.bos(), plain.eos()), (Some(1), Some(2)));
        assert_eq!(plain.encode("abc").unwrap(), [1, 9, 6], "BOS is 1 and added where the file says neither");
        pairs.push(("add_eos_token", Entry::bool(true)));
        pairs.push(("remove_extra_whitespaces", Entry::bool(true)));
        let with_eos = tokenizer(&metadata(pairs));
        assert_eq!(with_eos.encode("abc").unwrap(), [1, 9, 6], "EOS is no part of a text");
        assert!(with_eos.notes()[0].starts_with("the tokenizer puts `</s>` behind every text"));
        assert_eq!(with_eos.encode("a  a").unwrap(), [1, 3, 4, 3, 3, 4], "llama.cpp removes no spaces of this kind");
    }

    #[test]
    fn adds_nothing_when_the_file_says_so() {
        let mut pairs = sentencepiece();
        pairs.push(("add_bos_token", Entry::bool(false)));
        pairs.push(("add_space_prefix", Entry::bool(false)));
        assert_eq!(tokenizer(&metadata(pairs)).encode("abc").unwrap(), [7, 6]);
    }

    /// Byte-level pieces: digits, a space (`Ġ`), and the merges that join them.
    pub(crate) fn byte_level(pre: &str) -> Vec<(&'static str, Entry)> {
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
            ("eos_token_id", Entry::u32(8)),
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
    fn known_vocabularies_are_cut_as_their_models_learned() {
        let said_default = byte_level("default");
        assert!(notes(&metadata(said_default.clone())).unwrap()[0].contains("`default` is used"));
        assert_eq!(notes(&metadata(byte_level("gpt-2"))).unwrap(), Vec::<String>::new());
        let mut pairs = said_default;
        pairs.retain(|(name, _)| *name != "pre");
        assert!(notes(&metadata(pairs.clone())).unwrap()[0].contains("`default` is used"));
        assert_eq!(tokenizer(&metadata(pairs.clone())).encode("'S").unwrap(), [5, 6]);
        let mut tokens: Vec<String> = (0..=128_000).map(|id| format!("[{id}]")).collect();
        for (id, token) in ["'", "S", "'S", "1", "2", "12"].into_iter().enumerate() {
            tokens[id] = token.into();
        }
        tokens[128_000] = "<|begin_of_text|>".into();
        pairs.retain(|(name, _)| !["tokens", "token_type", "merges", "bos_token_id", "eos_token_id"].contains(name));
        pairs.extend([("tokens", Entry::strings(&tokens)), ("merges", Entry::strings(&["' S", "1 2"]))]);
        let metadata = metadata(pairs);
        assert_eq!(tokenizer(&metadata).encode("'S12").unwrap(), [2, 5]);
        let [note] = &notes(&metadata).unwrap()[..] else { panic!() };
        assert!(note.contains("its vocabulary is that of `llama-bpe`"), "{note}");
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
        let error = to_files(&metadata(byte_level("kimi-k2")), &small()).unwrap_err().to_string();
        assert!(error.contains("unknown GGUF pre-tokenizer `kimi-k2`; known: gpt-2"), "{error}");
        let mut pairs = byte_level("gpt-2");
        pairs[3] = ("merges", Entry::strings(&["joined"]));
        assert!(to_files(&metadata(pairs), &small()).unwrap_err().to_string().contains("value 0: expected two tokens"));
    }
}
