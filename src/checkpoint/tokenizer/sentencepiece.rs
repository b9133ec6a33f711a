//! SentencePiece's `tokenizer.model` (`sentencepiece_model.proto`): the fields that decide ids.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::string_slice, clippy::cast_possible_truncation, clippy::cast_sign_loss)
)]

use std::path::Path;

use crate::error::{Error, Result};

/// Pieces are words and parts of words; the search for merges is quadratic in their length.
const MAX_PIECE_BYTES: usize = 4096;

/// A piece's part in the vocabulary (`SentencePiece.Type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PieceKind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

const PIECE_KINDS: [PieceKind; 6] = [
    PieceKind::Normal,
    PieceKind::Unknown,
    PieceKind::Control,
    PieceKind::UserDefined,
    PieceKind::Unused,
    PieceKind::Byte,
];

/// A row of the vocabulary.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Piece {
    pub(super) text: String,
    pub(super) score: f32,
    pub(super) kind: PieceKind,
}

/// How pieces are chosen (`TrainerSpec.ModelType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    /// The cut of the largest sum of scores.
    Unigram,
    /// Merges, the best score first.
    Bpe,
}

/// A SentencePiece model.
#[derive(Debug, PartialEq)]
pub(super) struct SentencePiece {
    pub(super) pieces: Vec<Piece>,
    pub(super) algorithm: Algorithm,
    pub(super) byte_fallback: bool,
    pub(super) unk_id: usize,
    /// A space before every text.
    pub(super) add_dummy_prefix: bool,
    /// One space for several, none at the ends.
    pub(super) remove_extra_whitespaces: bool,
    /// Compiled normalization rules; empty for none.
    pub(super) charsmap: Vec<u8>,
}

impl SentencePiece {
    /// Reads the file's bytes; `path` is for error messages.
    ///
    /// # Errors
    /// `Format` with what was found where.
    pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<SentencePiece> {
        SentencePiece::parse(bytes).map_err(|reason| {
            let remedy = "a tokenizer of another kind needs its tokenizer.json";
            Error::format(path, "SentencePiece tokenizer.model", format!("{reason}; {remedy}"))
        })
    }

    fn parse(bytes: &[u8]) -> Reason<SentencePiece> {
        // What the specification says where a field is not there.
        let mut model = SentencePiece {
            pieces: Vec::new(),
            algorithm: Algorithm::Unigram,
            byte_fallback: false,
            unk_id: 0,
            add_dummy_prefix: true,
            remove_extra_whitespaces: true,
            charsmap: Vec::new(),
        };
        for field in Fields(bytes) {
            match field? {
                (1, Field::Bytes(piece)) => {
                    let place = model.pieces.len();
                    model.pieces.push(Piece::parse(piece).map_err(|reason| format!("piece {place}: {reason}"))?);
                }
                (2, Field::Bytes(spec)) => model.read_trainer(spec).map_err(|reason| format!("trainer: {reason}"))?,
                (3, Field::Bytes(spec)) => {
                    model.read_normalizer(spec).map_err(|reason| format!("normalizer: {reason}"))?;
                }
                _ => {}
            }
        }
        match model.pieces.get(model.unk_id) {
            Some(piece) if piece.kind == PieceKind::Unknown => Ok(model),
            Some(piece) => Err(format!("unk_id {}: found {piece:?}, expected the unknown piece", model.unk_id)),
            None => Err(format!("{} pieces, expected more than unk_id {}", model.pieces.len(), model.unk_id)),
        }
    }

    fn read_trainer(&mut self, bytes: &[u8]) -> Reason<()> {
        for field in Fields(bytes) {
            match field? {
                (3, Field::Number(1)) => self.algorithm = Algorithm::Unigram,
                (3, Field::Number(2)) => self.algorithm = Algorithm::Bpe,
                (3, found) => return Err(format!("model_type: found {found:?}, expected 1 (unigram) or 2 (BPE)")),
                (24, Field::Number(1)) => return Err("treat_whitespace_as_suffix: found true, expected false".into()),
                (35, Field::Number(flag)) => self.byte_fallback = flag != 0,
                (40, Field::Number(id)) => {
                    self.unk_id = usize::try_from(id).map_err(|_| format!("unk_id: found {id}"))?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn read_normalizer(&mut self, bytes: &[u8]) -> Reason<()> {
        for field in Fields(bytes) {
            match field? {
                (2, Field::Bytes(rules)) => self.charsmap = rules.to_vec(),
                (3, Field::Number(flag)) => self.add_dummy_prefix = flag != 0,
                (4, Field::Number(flag)) => self.remove_extra_whitespaces = flag != 0,
                (5, Field::Number(0)) => return Err("escape_whitespaces: found false, expected true".into()),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Piece {
    fn parse(bytes: &[u8]) -> Reason<Piece> {
        let mut piece = Piece { text: String::new(), score: 0.0, kind: PieceKind::Normal };
        for field in Fields(bytes) {
            match field? {
                (1, Field::Bytes(text)) if text.len() <= MAX_PIECE_BYTES => {
                    piece.text = String::from_utf8(text.to_vec()).map_err(|error| error.to_string())?;
                }
                (1, Field::Bytes(text)) => {
                    return Err(format!("{} bytes, expected at most {MAX_PIECE_BYTES}", text.len()));
                }
                (2, Field::Fixed32(bits)) => piece.score = f32::from_bits(bits),
                (3, Field::Number(kind)) => {
                    let kind = usize::try_from(kind).ok().and_then(|kind| PIECE_KINDS.get(kind.checked_sub(1)?));
                    piece.kind = *kind.ok_or("type: expected 1 to 6")?;
                }
                _ => {}
            }
        }
        if !piece.score.is_finite() {
            return Err(format!("score: found {}", piece.score));
        }
        Ok(piece)
    }
}

/// A result whose error is the reason alone.
type Reason<T> = std::result::Result<T, String>;

/// The value of a field of a Protocol Buffers message.
#[derive(Debug, PartialEq)]
enum Field<'a> {
    Number(u64),
    Fixed32(u32),
    Fixed64,
    Bytes(&'a [u8]),
}

/// The fields of a message in their order, each with its number. After an error nothing follows.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Reason<&'a [u8]> {
        let (taken, rest) =
            self.0.split_at_checked(count).ok_or_else(|| format!("{count} bytes promised, {} left", self.0.len()))?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Reason<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let &[byte] = self.take(1)? else { return Err("no byte".into()) };
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err("a number of more than 64 bits".into())
    }

    fn field(&mut self) -> Reason<(u64, Field<'a>)> {
        let tag = self.number()?;
        let value = match tag & 7 {
            0 => Field::Number(self.number()?),
            1 => self.take(8).map(|_| Field::Fixed64)?,
            2 => {
                let count = self.number()?;
                Field::Bytes(self.take(usize::try_from(count).map_err(|_| format!("{count} bytes promised"))?)?)
            }
            5 => {
                let bytes = self.take(4)?;
                Field::Fixed32(u32::from_le_bytes(bytes.try_into().expect("four bytes were taken")))
            }
            other => return Err(format!("wire type {other}")),
        };
        Ok((tag >> 3, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Reason<(u64, Field<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Trained by SentencePiece: `scripts/parity/make_sentencepiece.py`.
    pub(crate) const BPE: &[u8] = include_bytes!("../../../tests/goldens/sentencepiece/bpe.model");
    pub(crate) const UNIGRAM: &[u8] = include_bytes!("../../../tests/goldens/sentencepiece/unigram.model");

    fn read(bytes: &[u8]) -> Result<SentencePiece> {
        SentencePiece::read(Path::new("m"), bytes)
    }

    #[test]
    fn reads_what_decides_ids() {
        let model = read(BPE).unwrap();
        assert_eq!((model.algorithm, model.byte_fallback, model.unk_id), (Algorithm::Bpe, true, 0));
        assert_eq!((model.add_dummy_prefix, model.remove_extra_whitespaces), (true, false));
        assert!(model.charsmap.is_empty());
        let piece = |text: &str, kind| Piece { text: text.into(), score: 0.0, kind };
        let first = [
            piece("<unk>", PieceKind::Unknown),
            piece("<s>", PieceKind::Control),
            piece("</s>", PieceKind::Control),
            piece("<|ctl|>", PieceKind::Control),
            piece("<|user|>", PieceKind::UserDefined),
            piece("<0x00>", PieceKind::Byte),
        ];
        assert_eq!(model.pieces[..6], first);
        let model = read(UNIGRAM).unwrap();
        assert_eq!((model.algorithm, model.remove_extra_whitespaces), (Algorithm::Unigram, true));
        assert!(!model.charsmap.is_empty());
    }

    #[test]
    fn rejects_files_that_are_no_model() {
        let piece = |fields: &[u8]| [&[0x0a, fields.len() as u8], fields].concat();
        let unk = piece(&[0x0a, 1, b'?', 0x18, 2]);
        assert_eq!(read(&unk).unwrap().pieces.len(), 1);
        let cases: [(&str, Vec<u8>, &str); 10] = [
            ("nothing", vec![], "0 pieces, expected more than unk_id 0"),
            ("a tiktoken vocabulary", b"IQ== 0\nIg== 1\n".to_vec(), "not a valid SentencePiece tokenizer.model file"),
            ("no unknown piece", piece(&[0x0a, 1, b'a']), "expected the unknown piece"),
            ("a piece longer than the file", vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f], "bytes promised, 0 left"),
            ("a number without end", vec![0x08; 1].into_iter().chain([0xff; 12]).collect(), "more than 64 bits"),
            ("an unknown type of piece", piece(&[0x18, 9]), "piece 0: type: expected 1 to 6"),
            ("a score that is no number", piece(&[0x15, 0, 0, 0xc0, 0x7f]), "piece 0: score: found NaN"),
            ("text that is no UTF-8", piece(&[0x0a, 1, 0xff]), "piece 0: invalid utf-8"),
            ("a model of words", [&unk[..], &[0x12, 2, 0x18, 3]].concat(), "trainer: model_type: found Number(3)"),
            ("spaces behind words", [&unk[..], &[0x12, 3, 0xc0, 1, 1]].concat(), "treat_whitespace_as_suffix"),
        ];
        for (what, bytes, reason) in cases {
            let error = read(&bytes).unwrap_err().to_string();
            assert!(error.contains(reason), "{what}: `{reason}` is not in: {error}");
        }
        for len in 0..UNIGRAM.len().min(3000) {
            let _ = read(&UNIGRAM[..len]);
        }
    }
}
