//! Where a directory has its tokenizer: `tokenizer.json`, or what older checkpoints have instead.

use std::path::Path;

use serde_json::{Value, json};

use crate::checkpoint::file_kind;
use crate::checkpoint::gguf::pre_tokenizer::PreTokenizer;
use crate::checkpoint::hf::TokenizerFiles;
use crate::checkpoint::tokenizer::config::{SENTENCEPIECE_FILE, SpecialToken, TOKENIZER_FILE, TokenizerConfig};
use crate::checkpoint::tokenizer::sentencepiece::SentencePiece;
use crate::checkpoint::tokenizer::{sentencepiece_json, template};
use crate::error::{Error, Result};

const VOCAB_FILE: &str = "vocab.json";
const MERGES_FILE: &str = "merges.txt";

/// Classes of transformers 5.23 that read `vocab.json` and `merges.txt`: how they cut text, by llama.cpp's names, and
/// what their first token is called where the settings do not say.
const CLASSES: [(&str, &str, Option<&str>); 2] =
    [("Qwen2Tokenizer", "qwen2", None), ("GPT2Tokenizer", "gpt-2", Some(END_OF_TEXT))];
/// What both classes call their last token where the settings do not.
const END_OF_TEXT: &str = "<|endoftext|>";

/// `tokenizer.json` of these files, as it is or made from `tokenizer.model` or `vocab.json` and `merges.txt`, and what
/// users should know of that.
///
/// # Errors
/// `Missing` when there is none of them; `Format` and `Invalid` when they cannot be read.
pub(crate) fn tokenizer_json(
    path: &Path,
    files: &TokenizerFiles,
    settings: &TokenizerConfig,
) -> Result<(Value, Vec<String>)> {
    let file = |name: &str| files.0.get(name);
    if let Some(bytes) = file(TOKENIZER_FILE) {
        if let Some(reason) = file_kind::other_than(bytes, "JSON") {
            return Err(Error::format(path, TOKENIZER_FILE, reason));
        }
        let given: Value =
            serde_json::from_slice(bytes).map_err(|error| Error::format(path, TOKENIZER_FILE, error.to_string()))?;
        let by_class = settings.is_made_by_llama_class;
        let json = if by_class { sentencepiece_json::as_llama_class(given, settings) } else { given };
        return Ok((json, Vec::new()));
    }
    if let Some(bytes) = file(SENTENCEPIECE_FILE) {
        return sentencepiece_json::to_json(path, &SentencePiece::read(path, bytes)?, settings);
    }
    if let (Some(vocab), Some(merges)) = (file(VOCAB_FILE), file(MERGES_FILE)) {
        return Ok((of_vocab_and_merges(path, vocab, merges, settings)?, Vec::new()));
    }
    Err(Error::Missing {
        what: format!("{TOKENIZER_FILE}, {SENTENCEPIECE_FILE} or {VOCAB_FILE} with {MERGES_FILE}"),
        path: path.into(),
        remedy: "load the tokenizer with transformers' AutoTokenizer and save_pretrained it there".into(),
    })
}

/// Byte-level BPE in two files.
fn of_vocab_and_merges(path: &Path, vocab: &[u8], merges: &[u8], settings: &TokenizerConfig) -> Result<Value> {
    let class = settings.tokenizer_class.as_deref().unwrap_or("no tokenizer_class");
    let known = CLASSES.iter().find(|(known, ..)| class.trim_end_matches("Fast") == *known);
    let &(_, name, first) = known.ok_or_else(|| {
        let classes = CLASSES.map(|(class, ..)| class).join(" or ");
        let expected = format!("{classes}, whose way to cut text is known, or a {TOKENIZER_FILE}");
        Error::invalid(format!("tokenizer_class beside {VOCAB_FILE} and {MERGES_FILE}"), class, expected)
    })?;
    let vocab: Value =
        serde_json::from_slice(vocab).map_err(|error| Error::format(path, VOCAB_FILE, error.to_string()))?;
    let merges = std::str::from_utf8(merges).map_err(|error| Error::format(path, MERGES_FILE, error.to_string()))?;
    let lines = merges.lines().map(str::trim).enumerate();
    let merges = lines.filter(|(place, line)| !(line.is_empty() || *place == 0 && line.starts_with("#version")));
    let merges = merges.map(|(place, line)| {
        line.split_once(' ').ok_or_else(|| {
            Error::format(path, MERGES_FILE, format!("line {}: found `{line}`, expected two tokens", place + 1))
        })
    });
    let pre_tokenizer = PreTokenizer::named(name)?;
    let id = |text: &str| u32::try_from(vocab.get(text)?.as_u64()?).ok();
    let around = |wanted: Option<bool>, token: &'_ Option<SpecialToken>, default: Option<&str>| {
        let text = token.as_ref().map(SpecialToken::text).or(default)?.to_string();
        (wanted == Some(true)).then_some((id(&text)?, text))
    };
    let bos = around(settings.add_bos_token, &settings.bos_token, first);
    let eos = around(settings.add_eos_token, &settings.eos_token, Some(END_OF_TEXT));
    let [bos, eos] = [&bos, &eos].map(|token| token.as_ref().map(|(id, text)| (*id, text.as_str())));
    let end = id(END_OF_TEXT).map(|id| {
        json!({ "id": id, "content": END_OF_TEXT, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true })
    });
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": end.into_iter().collect::<Vec<_>>(),
        "normalizer": pre_tokenizer.normalizer(),
        "pre_tokenizer": pre_tokenizer.json(),
        "post_processor": template::json(bos, eos),
        "decoder": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true },
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "", "end_of_word_suffix": "",
            "fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": vocab,
            "merges": merges.collect::<Result<Vec<_>>>()?,
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(files: &[(&str, &str)], settings: Value) -> Result<Value> {
        let files = files.iter().map(|(name, text)| (name.to_string(), text.as_bytes().to_vec()));
        let mut files = TokenizerFiles(files.collect());
        files.0.insert("tokenizer_config.json".into(), settings.to_string().into_bytes());
        let settings = TokenizerConfig::of(Path::new("m"), &files)?;
        tokenizer_json(Path::new("m"), &files, &settings).map(|(made, _)| made)
    }

    /// Ids of `AutoTokenizer` of transformers 5.23 on these files.
    #[test]
    fn reads_byte_level_bpe_in_two_files() {
        let vocab = r#"{"a": 0, "b": 1, "1": 2, "Ġ": 3, "ab": 4, "Ġab": 5, "11": 6, "<|endoftext|>": 7}"#;
        let files = [(VOCAB_FILE, vocab), (MERGES_FILE, "#version: 0.2\na b\nĠ ab\n1 1\n\n")];
        let ids = |class: &str, text: &str| {
            let settings = json!({ "tokenizer_class": class, "add_bos_token": true, "add_eos_token": true });
            let made = of(&files, settings).unwrap().to_string();
            let tokenizer = tokenizers::Tokenizer::from_bytes(made).unwrap();
            tokenizer.encode_fast(text, true).unwrap().get_ids().to_vec()
        };
        assert_eq!(ids("Qwen2Tokenizer", "ab ab11<|endoftext|>b"), [4, 5, 2, 2, 7, 1, 7]);
        assert_eq!(ids("GPT2TokenizerFast", "ab ab11"), [7, 4, 5, 6, 7]);
        let refusal = |files: &[(&str, &str)], settings| of(files, settings).unwrap_err().to_string();
        let error = refusal(&files, json!({ "tokenizer_class": "BartTokenizer" }));
        assert!(error.contains("found BartTokenizer, expected Qwen2Tokenizer or GPT2Tokenizer"), "{error}");
        let qwen = || json!({ "tokenizer_class": "Qwen2Tokenizer" });
        let error = refusal(&[files[0], (MERGES_FILE, "a b\nab\n")], qwen());
        assert!(error.contains("merges.txt file: line 2: found `ab`, expected two tokens"), "{error}");
        let error = refusal(&files[..1], qwen());
        assert!(error.contains("tokenizer.json, tokenizer.model or vocab.json with merges.txt not found"), "{error}");
        let pointer = [(TOKENIZER_FILE, "version https://git-lfs.github.com/spec/v1")];
        let error = refusal(&pointer, json!({ "tokenizer_class": "LlamaTokenizer" }));
        assert!(error.contains("git lfs pull"), "{error}");
    }
}
