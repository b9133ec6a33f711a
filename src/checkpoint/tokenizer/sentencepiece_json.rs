//! `tokenizer.json` of a SentencePiece model, as `LlamaTokenizer` of transformers 5.23 makes it.

use std::collections::HashSet;
use std::path::Path;

use serde_json::{Value, json};
use tokenizers::normalizers::Precompiled;

use crate::checkpoint::tokenizer::config::{SpecialToken, TokenizerConfig};
use crate::checkpoint::tokenizer::sentencepiece::{Algorithm, Piece, PieceKind, SentencePiece};
use crate::checkpoint::tokenizer::template;
use crate::error::{Error, Result};

/// SentencePiece's mark of a space.
const SPACE: &str = "\u{2581}";
/// The tokenizer, and where other programs read the same file otherwise.
///
/// Pieces are chosen as SentencePiece chooses them. Tokens that stand in the text by name, and the space before it, are
/// transformers' business: `legacy` puts that space behind every such token too, not only before the text.
pub(super) fn to_json(path: &Path, model: &SentencePiece, settings: &TokenizerConfig) -> Result<(Value, Vec<String>)> {
    let mut notes = Vec::new();
    let mut note = |what: &str| notes.push(format!("tokenizer.model: {what}"));
    let adds_space = settings.add_prefix_space.unwrap_or(model.add_dummy_prefix);
    if settings.add_prefix_space.is_none() && !model.add_dummy_prefix {
        note("it puts no space before a text (add_dummy_prefix); transformers 5 does all the same");
    }
    if !settings.is_llama() {
        note(
            "tokenizer_class is not LlamaTokenizer; the file is read as that class reads it, and transformers may read it otherwise",
        );
    }
    if settings.add_bos_token.is_none() {
        note("tokenizer_config.json has no add_bos_token; no BOS is added, as transformers 5 does");
    }
    let mut normalizers = Vec::new();
    if !model.charsmap.is_empty() {
        let rules = Precompiled::from(&model.charsmap).map_err(|error| {
            Error::format(path, "SentencePiece tokenizer.model", format!("precompiled_charsmap: {error}"))
        })?;
        normalizers.push(json!(rules));
    }
    if model.remove_extra_whitespaces {
        normalizers.push(json!({ "type": "Strip", "strip_left": false, "strip_right": true }));
        normalizers.push(json!({ "type": "Replace", "pattern": { "Regex": " {2,}" }, "content": " " }));
    }
    if !normalizers.is_empty() {
        note("its normalization is applied, as SentencePiece does; transformers 5 leaves it out");
    }
    let by_score = model.algorithm == Algorithm::Bpe && !scores_fall(&model.pieces);
    if by_score {
        note("pieces are merged by their scores, as SentencePiece does; transformers 5 goes by their ids");
    }
    if model.algorithm == Algorithm::Unigram {
        note("a unigram model, read as such; LlamaTokenizer of transformers 5 takes it for BPE");
    }
    let unk = model.pieces[model.unk_id].text.as_str();
    let text = |token: &Option<SpecialToken>| token.as_ref().map(|token| token.text().to_string());
    let (bos, eos) = (text(&settings.bos_token), text(&settings.eos_token));
    let added = |wanted: Option<bool>, token| {
        let id = model.pieces.iter().position(|piece| piece.text == token)? as u32;
        (wanted == Some(true)).then_some((id, token))
    };
    let around = [(settings.add_bos_token, bos.as_deref()), (settings.add_eos_token, eos.as_deref())];
    let [bos, eos] = around.map(|(wanted, token)| added(wanted, token?));
    let post_processor = template::json(bos, eos);
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added_tokens(model, unk),
        "normalizer": (!normalizers.is_empty()).then(|| json!({ "type": "Sequence", "normalizers": normalizers })),
        "pre_tokenizer": spaces(adds_space, settings),
        "post_processor": post_processor,
        "decoder": decoder(adds_space),
        "model": match model.algorithm {
            Algorithm::Bpe => bpe(model, by_score),
            Algorithm::Unigram => unigram(model),
        },
    });
    Ok((tokenizer, notes))
}

/// A tokenizer.json with the steps of `LlamaTokenizer`, which keeps its vocabulary, added tokens and template alone.
pub(super) fn as_llama_class(mut tokenizer: Value, settings: &TokenizerConfig) -> Value {
    if tokenizer["model"]["type"] != "BPE" {
        return tokenizer;
    }
    let adds_space = settings.add_prefix_space.unwrap_or(true);
    tokenizer["normalizer"] = Value::Null;
    tokenizer["pre_tokenizer"] = spaces(adds_space, settings);
    tokenizer["decoder"] = decoder(adds_space);
    for (name, value) in [("fuse_unk", true), ("byte_fallback", true), ("ignore_merges", false)] {
        tokenizer["model"][name] = json!(value);
    }
    tokenizer
}

/// The step that marks spaces.
fn spaces(adds_space: bool, settings: &TokenizerConfig) -> Value {
    let scheme = match (adds_space, settings.legacy.unwrap_or(false)) {
        (false, _) => "never",
        (true, true) => "always",
        (true, false) => "first",
    };
    json!({ "type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": false })
}

fn decoder(adds_space: bool) -> Value {
    let steps = [
        json!({ "type": "Replace", "pattern": { "String": SPACE }, "content": " " }),
        json!({ "type": "ByteFallback" }),
        json!({ "type": "Fuse" }),
    ];
    let strip = adds_space.then(|| json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
    json!({ "type": "Sequence", "decoders": steps.into_iter().chain(strip).collect::<Vec<_>>() })
}

fn added_tokens(model: &SentencePiece, unk: &str) -> Vec<Value> {
    let pieces = model.pieces.iter().enumerate();
    let found = pieces
        .filter(|(_, piece)| [PieceKind::Control, PieceKind::UserDefined].contains(&piece.kind) || piece.text == unk);
    let token = |(id, piece): (usize, &Piece)| {
        json!({
            "id": id, "content": piece.text, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": piece.kind != PieceKind::UserDefined,
        })
    };
    found.map(token).collect()
}

fn unigram(model: &SentencePiece) -> Value {
    let vocab: Vec<Value> = model.pieces.iter().map(|piece| json!([piece.text, piece.score])).collect();
    json!({ "type": "Unigram", "unk_id": model.unk_id, "vocab": vocab, "byte_fallback": model.byte_fallback })
}

fn bpe(model: &SentencePiece, by_score: bool) -> Value {
    let mut vocab = serde_json::Map::new();
    for (id, piece) in model.pieces.iter().enumerate() {
        vocab.insert(piece.text.clone(), json!(id));
    }
    json!({
        "type": "BPE", "dropout": null, "unk_token": model.pieces[model.unk_id].text, "continuing_subword_prefix": null,
        "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false, "vocab": vocab,
        "merges": merges(&model.pieces, by_score),
    })
}

/// Whether later pieces score less, as those that were trained do.
fn scores_fall(pieces: &[Piece]) -> bool {
    let trained: Vec<f32> =
        pieces.iter().filter(|piece| piece.kind == PieceKind::Normal).map(|piece| piece.score).collect();
    trained.is_sorted_by(|one, next| one >= next)
}

/// Every way to cut a piece into two is a merge. They are ranked by the piece, by its id or its score, and of one piece
/// by how long the left part is (`generate_merges` of transformers).
fn merges(pieces: &[Piece], by_score: bool) -> Vec<[&str; 2]> {
    let known: HashSet<&str> = pieces.iter().map(|piece| piece.text.as_str()).collect();
    let mut ranked: Vec<&Piece> = pieces.iter().collect();
    if by_score {
        ranked.sort_by(|one, other| other.score.total_cmp(&one.score));
    }
    let mut merges = Vec::new();
    for piece in ranked {
        for (cut, _) in piece.text.char_indices().skip(1) {
            let (left, right) = piece.text.split_at(cut);
            if known.contains(left) && known.contains(right) {
                merges.push([left, right]);
            }
        }
    }
    merges
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::config::tests::small;
    use crate::checkpoint::hf::TokenizerFiles;
    use crate::checkpoint::tokenizer::Tokenizer;
    use crate::checkpoint::tokenizer::sentencepiece::tests::{BPE, UNIGRAM};

    /// `scripts/parity/make_sentencepiece.py` wrote it, with transformers and SentencePiece.
    fn golden() -> Value {
        serde_json::from_str(include_str!("../../../tests/goldens/sentencepiece/golden.json")).unwrap()
    }

    fn texts(golden: &Value) -> Vec<&str> {
        golden["texts"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
    }

    fn tokenizer(model: &[u8], settings: &Value) -> Tokenizer {
        let files = [("tokenizer.model", model.to_vec()), ("tokenizer_config.json", settings.to_string().into_bytes())];
        let files = TokenizerFiles(files.map(|(name, bytes)| (name.to_string(), bytes)).into());
        let mut config = small();
        config.shape.vocab = 512;
        Tokenizer::new(Path::new("m"), &files, &config).unwrap()
    }

    #[test]
    fn ids_are_those_of_transformers_llama_tokenizer() {
        let golden = golden();
        let rows = golden["bpe"]["transformers"].as_array().unwrap();
        assert_eq!(rows.len(), 5);
        for row in rows {
            let tokenizer = tokenizer(BPE, &row["settings"]);
            let adds_eos = row["settings"]["add_eos_token"] == true;
            for (text, ids) in texts(&golden).into_iter().zip(row["ids"].as_array().unwrap()) {
                let mut ids: Vec<u32> = serde_json::from_value(ids.clone()).unwrap();
                // What stands behind a text is no part of it.
                assert!(!adds_eos || ids.pop() == tokenizer.eos());
                // A BOS that the text writes is not doubled, as lm-evaluation-harness has it.
                if ids.len() > 1 && ids[0] == ids[1] && tokenizer.bos() == Some(ids[0]) {
                    ids.remove(0);
                }
                assert_eq!(tokenizer.encode(text).unwrap(), ids, "{} {text:?}", row["settings"]);
            }
        }
    }

    /// What transformers makes of tokenizer.json under this class is what it makes of tokenizer.model, but for the template.
    #[test]
    fn the_class_counts_more_than_the_steps_of_tokenizer_json() {
        let golden = golden();
        let (mut json, _) =
            to_json(Path::new("m"), &SentencePiece::read(Path::new("m"), BPE).unwrap(), &TokenizerConfig::default())
                .unwrap();
        let prepend = json!({ "type": "Prepend", "prepend": SPACE });
        let replace = json!({ "type": "Replace", "pattern": { "String": " " }, "content": SPACE });
        json["normalizer"] = json!({ "type": "Sequence", "normalizers": [prepend, replace] });
        json["pre_tokenizer"] = Value::Null;
        let open = |settings: &Value| {
            let files = [("tokenizer.json", json.to_string()), ("tokenizer_config.json", settings.to_string())];
            let files = TokenizerFiles(files.map(|(name, text)| (name.to_string(), text.into_bytes())).into());
            let mut config = small();
            config.shape.vocab = 512;
            Tokenizer::new(Path::new("m"), &files, &config).unwrap()
        };
        for place in [0, 1, 3] {
            let row = &golden["bpe"]["transformers"][place];
            let adds_bos = usize::from(row["settings"]["add_bos_token"] == true);
            for (text, ids) in texts(&golden).into_iter().zip(row["ids"].as_array().unwrap()) {
                let ids = &ids.as_array().unwrap()[adds_bos..];
                assert_eq!(json!(open(&row["settings"]).encode(text).unwrap()), json!(ids), "{text:?}");
            }
        }
        let other = open(&json!({ "tokenizer_class": "PreTrainedTokenizerFast" }));
        assert_ne!(
            other.encode("<s>the").unwrap(),
            open(&golden["bpe"]["transformers"][0]["settings"]).encode("<s>the").unwrap()
        );
    }

    #[test]
    fn unigram_models_are_cut_as_sentencepiece_cuts() {
        let golden = golden();
        let tokenizer = tokenizer(UNIGRAM, &json!({ "tokenizer_class": "LlamaTokenizer" }));
        let mut compared = 0;
        for (text, ids) in texts(&golden).into_iter().zip(golden["unigram"]["sentencepiece"].as_array().unwrap()) {
            // SentencePiece reads control tokens in a text letter by letter, and its mark of a space as a letter.
            if !text.contains(['<', '\u{2581}']) {
                assert_eq!(json!(tokenizer.encode(text).unwrap()), *ids, "{text:?}");
                compared += 1;
            }
        }
        assert_eq!(compared, 9);
        assert_eq!(tokenizer.notes().len(), 3, "{:?}", tokenizer.notes());
    }

    #[test]
    fn pieces_that_were_added_later_are_merged_by_their_scores() {
        let piece = |text: &str, score, kind| Piece { text: text.into(), score, kind };
        let normal = |text, score| piece(text, score, PieceKind::Normal);
        let unk = piece("<unk>", 0.0, PieceKind::Unknown);
        let letters = ["a", "b", "c"].map(|text| normal(text, -9.0));
        let pieces = [vec![unk, normal("ab", -2.0), normal("bc", -1.0)], letters.to_vec()].concat();
        let model = SentencePiece {
            pieces,
            algorithm: Algorithm::Bpe,
            byte_fallback: false,
            unk_id: 0,
            add_dummy_prefix: false,
            remove_extra_whitespaces: false,
            charsmap: vec![],
        };
        let (made, notes) = to_json(Path::new("m"), &model, &TokenizerConfig::default()).unwrap();
        let tokenizer = tokenizers::Tokenizer::from_bytes(made.to_string()).unwrap();
        assert_eq!(tokenizer.encode_fast("abcd", false).unwrap().get_ids(), [3, 2, 0]);
        assert!(notes.iter().any(|note| note.contains("merged by their scores")), "{notes:?}");
    }
}
