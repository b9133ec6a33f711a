//! How text is cut before byte-level BPE: llama.cpp's names and the steps of `tokenizer.json` that cut alike.

use serde_json::{Value, json};

use crate::error::{Error, Result};

/// How text is cut before byte-level BPE, by the names llama.cpp gives in `tokenizer.ggml.pre`.
#[derive(Debug)]
pub(crate) struct PreTokenizer {
    /// llama.cpp's names (`llama-vocab.cpp`); we write the first.
    names: &'static [&'static str],
    steps: &'static [Step],
    /// Whether the models of these names compose their text (NFC) first. llama.cpp has no such step.
    composes: bool,
    /// Whether a whole word that is a token is taken, whatever the merges say.
    takes_whole_words: bool,
    /// Where the file does not say.
    adds_bos: bool,
}

/// A step of `tokenizer.json`'s pre-tokenizer.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Matches of a pattern stand alone.
    Split(&'static str),
    /// Digits stand alone, one by one.
    Digits,
    /// Runs of punctuation stand alone.
    Punctuation,
    /// Words as GPT-2 cuts them, then bytes as letters.
    Gpt2,
    /// Bytes as letters.
    Bytes,
}

use Step::{Bytes, Digits, Gpt2, Punctuation, Split};

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const JAIS2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}";
const MINICPM5: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const BAILING: &str =
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+";
const SEED_CODER: &str = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\r\n]+|\\s*[\r\n]+|\\s+(?!\\S)|\\s+";
const EXAONE_MOE: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+";
const BLOOM: &str = " ?[^(\\s|[.,!?\u{2026}\u{3002}\u{ff0c}\u{3001}\u{964}\u{6d4}\u{60c}])]+";
const DEEPSEEK_V3: &str = "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+";
/// Letters of alphabets with two cases.
const DEEPSEEK_LETTERS: &str = "\\s?[A-Za-z\u{b5}\u{c0}-\u{d6}\u{d8}-\u{f6}\u{f8}-\u{1ba}\u{1bc}-\u{1bf}\u{1c4}-\u{293}\u{295}-\u{2af}\
     \u{370}-\u{373}\u{376}\u{377}\u{37b}-\u{37d}\u{37f}\u{386}\u{388}-\u{38a}\u{38c}\u{38e}-\u{3a1}\u{3a3}-\u{3f5}\
     \u{3f7}-\u{481}\u{48a}-\u{52f}\u{531}-\u{556}\u{10a0}-\u{10c5}\u{13a0}-\u{13f5}\u{13f8}-\u{13fd}\
     \u{1c90}-\u{1cba}\u{1cbd}-\u{1cbf}\u{1d00}-\u{1d2b}\u{1d6b}-\u{1d77}\u{1d79}-\u{1d9a}\u{1e00}-\u{1f15}\
     \u{1f18}-\u{1f1d}\u{1f20}-\u{1f45}\u{1f48}-\u{1f4d}\u{1f50}-\u{1f57}\u{1f59}\u{1f5b}\u{1f5d}\u{1f5f}-\u{1f7d}\
     \u{1f80}-\u{1fb4}\u{1fb6}-\u{1fbc}\u{1fbe}\u{1fc2}-\u{1fc4}\u{1fc6}-\u{1fcc}\u{1fd0}-\u{1fd3}\u{1fd6}-\u{1fdb}\
     \u{1fe0}-\u{1fec}\u{1ff2}-\u{1ff4}\u{1ff6}-\u{1ffc}\u{2102}\u{2107}\u{210a}-\u{2113}\u{2115}\u{2119}-\u{211d}\
     \u{2124}\u{2126}\u{2128}\u{212a}-\u{212d}\u{212f}-\u{2134}\u{2139}\u{213c}-\u{213f}\u{2145}-\u{2149}\u{214e}\
     \u{2183}\u{2184}\u{2c00}-\u{2c7b}\u{2c7e}-\u{2ce4}\u{2ceb}-\u{2cee}\u{2cf2}\u{2cf3}\u{a640}-\u{a66d}\
     \u{a680}-\u{a69b}\u{a722}-\u{a76f}\u{a771}-\u{a787}\u{a78b}-\u{a78e}\u{ab70}-\u{abbf}\u{fb00}-\u{fb06}\
     \u{fb13}-\u{fb17}\u{ff21}-\u{ff3a}\u{ff41}-\u{ff5a}\u{10400}-\u{1044f}\u{104b0}-\u{104d3}\u{104d8}-\u{104fb}\
     \u{10c80}-\u{10cb2}\u{10cc0}-\u{10cf2}\u{118a0}-\u{118df}\u{1e900}-\u{1e943}]+";
const DEEPSEEK_PUNCTUATION: &str = "\\s?[!-/:-~\u{ff01}-\u{ff0f}\u{ff1a}-\u{ff5e}\u{2018}-\u{201f}\u{3000}-\u{3002}]+";
const CJK_AND_HANGUL: &str = "[\u{4e00}-\u{9fa5}\u{800}-\u{4e00}\u{ac00}-\u{d7ff}]+";
const CJK_AND_KANA: &str = "[\u{4e00}-\u{9fa5}\u{3040}-\u{309f}\u{30a0}-\u{30ff}]+";
const THREE_DIGITS: &str = "[0-9][0-9][0-9]";

impl PreTokenizer {
    const fn new(names: &'static [&'static str], steps: &'static [Step]) -> PreTokenizer {
        PreTokenizer { names, steps, composes: false, takes_whole_words: false, adds_bos: false }
    }

    const fn composing(self) -> PreTokenizer {
        PreTokenizer { composes: true, ..self }
    }

    const fn of_whole_words(self) -> PreTokenizer {
        PreTokenizer { takes_whole_words: true, ..self }
    }

    const fn after_bos(self) -> PreTokenizer {
        PreTokenizer { adds_bos: true, ..self }
    }
}

/// Vocabularies that are known by one token and its place, and how their models cut text: files of early 2024 do not say.
const KNOWN_VOCABULARIES: [(usize, &str, &str); 2] =
    [(128_000, "<|begin_of_text|>", "llama-bpe"), (151_643, "<|endoftext|>", "qwen2")];

/// Of rows with the same steps, the first is the one we write.
static PRE_TOKENIZERS: &[PreTokenizer] = &[
    PreTokenizer::new(
        &[
            "gpt-2",
            "gpt2",
            "phi-2",
            "jais",
            "jina-es",
            "jina-de",
            "jina-v2-es",
            "jina-v2-de",
            "gigachat",
            "a.x-4.0",
            "mellum",
            "modern-bert",
            "exaone4",
            "trillion",
            "granite-docling",
        ],
        &[Gpt2],
    ),
    PreTokenizer::new(&["olmo", "mpt"], &[Gpt2]).composing(),
    PreTokenizer::new(
        &["smollm", "starcoder", "refact", "codeshell", "exaone", "minerva-7b", "mellum2"],
        &[Digits, Gpt2],
    ),
    PreTokenizer::new(&["command-r"], &[Digits, Gpt2]).composing(),
    PreTokenizer::new(
        &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano"],
        &[Split(LLAMA3), Bytes],
    )
    .of_whole_words()
    .after_bos(),
    PreTokenizer::new(&["smaug-bpe", "dbrx", "chatglm-bpe", "glm4"], &[Split(LLAMA3), Bytes]),
    PreTokenizer::new(&["jais-2"], &[Split(JAIS2), Bytes]),
    PreTokenizer::new(&["minicpm5"], &[Split(r"\p{N}{1,3}"), Split(MINICPM5), Bytes]).of_whole_words(),
    PreTokenizer::new(&["qwen2"], &[Split(QWEN2), Bytes]).composing(),
    PreTokenizer::new(
        &["deepseek-r1-qwen", "kormo", "f2llmv2", "megrez", "stablelm2", "hunyuan", "solar-open", "grok-2"],
        &[Split(QWEN2), Bytes],
    ),
    PreTokenizer::new(&["qwen35"], &[Split(QWEN35), Bytes]).composing(),
    PreTokenizer::new(&["tekken"], &[Split(TEKKEN), Bytes]).of_whole_words().after_bos(),
    PreTokenizer::new(&["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"], &[Split(GPT4O), Bytes]),
    PreTokenizer::new(
        &["deepseek-llm"],
        &[
            Split("[\r\n]"),
            Split(DEEPSEEK_LETTERS),
            Split(DEEPSEEK_PUNCTUATION),
            Split(r"\s+$"),
            Split(CJK_AND_HANGUL),
            Digits,
            Bytes,
        ],
    ),
    PreTokenizer::new(
        &["deepseek-coder"],
        &[Split("[\r\n]"), Split(r"\s?\p{L}+"), Split(r"\s?\p{P}+"), Split(CJK_AND_HANGUL), Digits, Bytes],
    ),
    PreTokenizer::new(
        &["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"],
        &[Split(r"\p{N}{1,3}"), Split(CJK_AND_KANA), Split(DEEPSEEK_V3), Bytes],
    ),
    PreTokenizer::new(&["superbpe"], &[Split(r"\p{N}+"), Split(r"(?=(\d{3})+(?!\d))"), Bytes]),
    PreTokenizer::new(&["bailingmoe", "bailingmoe2", "llada-moe"], &[Split(BAILING), Bytes]),
    PreTokenizer::new(&["seed-coder"], &[Split(SEED_CODER), Bytes]),
    PreTokenizer::new(&["exaone-moe"], &[Split(EXAONE_MOE), Bytes]),
    PreTokenizer::new(&["bloom", "poro-chat", "gpt3-finnish"], &[Split(BLOOM), Bytes]),
    PreTokenizer::new(&["viking"], &[Split(BLOOM), Digits, Bytes]),
    PreTokenizer::new(&["falcon"], &[Punctuation, Gpt2, Split(THREE_DIGITS)]),
    // What llama.cpp does with files that name none.
    PreTokenizer::new(
        &["default"],
        &[Split(r"[\p{P}\$\+<=>\^~\|]+"), Split(GPT2), Split(r"\p{N}+"), Split(THREE_DIGITS), Bytes],
    ),
];

impl PreTokenizer {
    /// The one that llama.cpp knows by this name.
    pub(crate) fn named(name: &str) -> Result<&'static PreTokenizer> {
        PRE_TOKENIZERS.iter().find(|row| row.names.contains(&name)).ok_or_else(|| {
            let known = PRE_TOKENIZERS.iter().flat_map(|row| row.names);
            Error::unknown("GGUF pre-tokenizer", name, known)
        })
    }

    /// The step of `tokenizer.json` that cuts alike.
    pub(crate) fn json(&self) -> Value {
        match self.steps {
            [step] => step.json(),
            steps => json!({ "type": "Sequence", "pretokenizers": steps.iter().map(Step::json).collect::<Vec<_>>() }),
        }
    }

    /// `tokenizer.json`'s normalizer for models of these names.
    pub(crate) fn normalizer(&self) -> Value {
        if self.composes { json!({ "type": "NFC" }) } else { Value::Null }
    }

    /// Whether a whole word that is a token is taken, whatever its merges say.
    pub(crate) fn takes_whole_words(&self) -> bool {
        self.takes_whole_words
    }

    /// Whether texts begin with BOS where the file does not say.
    pub(crate) fn adds_bos(&self) -> bool {
        self.adds_bos
    }

    /// The name of how models of this vocabulary cut text, where it is a known one.
    pub(crate) fn name_of_vocabulary(tokens: &[String]) -> Option<&'static str> {
        let has = |place: usize, text: &str| tokens.get(place).is_some_and(|token| token == text);
        KNOWN_VOCABULARIES.iter().find(|(place, text, _)| has(*place, text)).map(|&(.., name)| name)
    }

    /// llama.cpp's name for a tokenizer's normalizer and pre-tokenizer, as `tokenizer.json` has them, where it has one:
    /// of a tokenizer that takes whole words as tokens (`ignore_merges`) or not.
    ///
    /// A normalizer that composes text is passed over where no row has it, as llama.cpp does.
    pub(crate) fn name_of(normalizer: &Value, step: &Value, takes_whole_words: bool) -> Option<&'static str> {
        let composes = composes(normalizer)?;
        let step = plain(step);
        let alike = PRE_TOKENIZERS.iter().filter(|row| row.takes_whole_words == takes_whole_words);
        let mut alike: Vec<&PreTokenizer> = alike.filter(|row| plain(&row.json()) == step).collect();
        alike.sort_by_key(|row| row.composes != composes);
        Some(alike.first()?.names[0])
    }
}

impl Step {
    fn json(&self) -> Value {
        let byte_level = |use_regex: bool| json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex });
        match self {
            Split(pattern) => {
                json!({ "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated", "invert": false })
            }
            Digits => json!({ "type": "Digits", "individual_digits": true }),
            Punctuation => json!({ "type": "Punctuation", "behavior": "Contiguous" }),
            Gpt2 => byte_level(true),
            Bytes => byte_level(false),
        }
    }
}

/// Whether a normalizer composes text; `None` for one that does anything else.
fn composes(normalizer: &Value) -> Option<bool> {
    match normalizer["type"].as_str() {
        None => normalizer.is_null().then_some(false),
        Some("NFC") => Some(true),
        Some("Sequence") => {
            let steps = normalizer["normalizers"].as_array()?.iter().map(composes).collect::<Option<Vec<bool>>>()?;
            Some(steps.contains(&true))
        }
        Some(_) => None,
    }
}

/// The steps of a pre-tokenizer one after the other, written alike where they cut alike.
fn plain(step: &Value) -> Vec<Value> {
    match step["type"].as_str() {
        Some("Sequence") => step["pretokenizers"].as_array().into_iter().flatten().flat_map(plain).collect(),
        Some("ByteLevel") if step["add_prefix_space"] == false => {
            let words = (step["use_regex"] != false).then(|| Split(GPT2).json());
            words.into_iter().chain([Bytes.json()]).collect()
        }
        Some("Digits") if step["individual_digits"] == true => vec![Split(r"\p{N}").json()],
        // Some files remove what lies between the matches: nothing.
        Some("Split") if step["behavior"] == "Removed" && step["invert"] == true => {
            let known = step["pattern"]["Regex"].as_str().and_then(that_matches_everything);
            vec![known.map_or_else(|| step.clone(), |pattern| Split(pattern).json())]
        }
        _ => vec![step.clone()],
    }
}

/// The pattern, where its matches leave nothing between them: there is one for spaces, and one for whatever is no space, letter or number.
fn that_matches_everything(pattern: &str) -> Option<&'static str> {
    [GPT2, LLAMA3, QWEN2, TEKKEN, GPT4O].into_iter().find(|&known| known == pattern)
}

#[cfg(test)]
mod tests {
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _, PreTokenizerWrapper};

    use super::*;

    #[test]
    fn knows_its_own_steps_by_name() {
        for row in PRE_TOKENIZERS {
            let written = PreTokenizer::name_of(&row.normalizer(), &row.json(), row.takes_whole_words).unwrap();
            assert_eq!(written, row.names[0]);
            for name in row.names {
                assert_eq!(PreTokenizer::named(name).unwrap().names, row.names);
            }
        }
        let mut names: Vec<&str> = PRE_TOKENIZERS.iter().flat_map(|row| row.names).copied().collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "a name stands in one row");
    }

    #[test]
    fn knows_vocabularies_by_one_token() {
        for (place, text, name) in KNOWN_VOCABULARIES {
            let mut tokens = vec![String::new(); place];
            assert_eq!(PreTokenizer::name_of_vocabulary(&tokens), None);
            tokens.push(text.into());
            assert_eq!(PreTokenizer::name_of_vocabulary(&tokens), Some(name));
            assert!(PreTokenizer::named(name).is_ok());
        }
    }

    #[test]
    fn knows_steps_that_are_written_otherwise() {
        let row = |name: &str| PreTokenizer::named(name).unwrap().json();
        let mut offsets = row("smollm");
        offsets["pretokenizers"][1]["trim_offsets"] = json!(false);
        let mut removed = row("gpt-4o");
        removed["pretokenizers"][0]["behavior"] = json!("Removed");
        removed["pretokenizers"][0]["invert"] = json!(true);
        let digits = json!({ "type": "Sequence", "pretokenizers": [Split(r"\p{N}").json(), Gpt2.json()] });
        let words = json!({ "type": "Sequence", "pretokenizers": [Split(GPT2).json(), Bytes.json()] });
        let nothing = json!({ "type": "Sequence", "normalizers": [] });
        let composing = json!({ "type": "Sequence", "normalizers": [{ "type": "NFC" }] });
        let cases = [
            (&Value::Null, offsets, false, Some("smollm")),
            (&nothing, removed, false, Some("gpt-4o")),
            (&nothing, digits, false, Some("smollm")),
            (&Value::Null, words.clone(), false, Some("gpt-2")),
            (&composing, words, false, Some("olmo")),
            (&composing, row("qwen2"), false, Some("qwen2")),
            (&composing, row("llama-bpe"), true, Some("llama-bpe")),
            (&Value::Null, row("llama-bpe"), false, Some("smaug-bpe")),
            (&Value::Null, row("qwen2"), true, None),
            (&Value::Null, json!({ "type": "Whitespace" }), false, None),
            (&json!({ "type": "Lowercase" }), row("gpt-2"), false, None),
        ];
        for (normalizer, step, takes_whole_words, name) in cases {
            assert_eq!(PreTokenizer::name_of(normalizer, &step, takes_whole_words), name, "{normalizer} {step}");
        }
    }

    /// `tests/goldens/pre_tokenizers.json`, which `scripts/parity/tokens.py` wrote with the `tokenizers` package of Python.
    #[test]
    fn cuts_as_the_tokenizers_package_does() {
        let golden = include_str!("../../../tests/goldens/pre_tokenizers.json");
        let golden: Value = serde_json::from_str(golden).unwrap();
        let texts: Vec<&str> = golden["texts"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
        for row in PRE_TOKENIZERS {
            let name = row.names[0];
            let step: PreTokenizerWrapper = serde_json::from_value(row.json()).unwrap();
            let expected = golden["pieces"][name].as_array().unwrap_or_else(|| panic!("{name} is not in the golden"));
            assert_eq!(expected.len(), texts.len());
            for (text, expected) in texts.iter().zip(expected) {
                let mut cut = PreTokenizedString::from(*text);
                step.pre_tokenize(&mut cut).unwrap();
                let pieces = cut.get_splits(OffsetReferential::Original, OffsetType::Byte);
                let pieces: Vec<&str> = pieces.iter().map(|(_, (start, end), _)| &text[*start..*end]).collect();
                assert_eq!(json!(pieces), *expected, "{name}: {text:?}");
            }
        }
    }
}
