//! Stretches of a document's text, some given and some to be learned, and their tokens.

use crate::checkpoint::Tokenizer;
use crate::error::{Error, Result};
use crate::tune::document::Document;

/// A stretch of a document's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The text.
    pub text: String,
    /// Whether its tokens are targets.
    pub scored: bool,
}

impl Part {
    /// A text that the model reads.
    pub fn given(text: impl Into<String>) -> Part {
        Part { text: text.into(), scored: false }
    }

    /// A text that it learns to write.
    pub fn learned(text: impl Into<String>) -> Part {
        Part { text: text.into(), scored: true }
    }
}

/// Makes documents of parts, with the BOS that the tokenizer adds by itself and never a second one.
pub struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    /// What the tokenizer puts before a text: a token and how a text would write it.
    bos: Option<(u32, String)>,
}

impl<'a> Encoder<'a> {
    /// An encoder by the tokenizer's own settings.
    pub fn new(tokenizer: &'a Tokenizer) -> Result<Encoder<'a>> {
        let bos = match tokenizer.bos().filter(|_| tokenizer.adds_bos()) {
            Some(bos) => Some((bos, tokenizer.decode(&[bos])?)),
            None => None,
        };
        Ok(Encoder { tokenizer, bos })
    }

    /// The parts as one document.
    ///
    /// The parts are tokenized together, and a part's tokens are those beyond as many as the text before it has alone.
    /// Where a token would reach across a boundary, each part is tokenized by itself, as a prompt is when the model is
    /// used; a SentencePiece tokenizer then begins each part as it begins a text, with its mark of a space.
    pub fn document(&self, parts: &[Part]) -> Result<Document> {
        match self.joined(parts)? {
            Some(document) => Ok(document),
            None => self.separate(parts),
        }
    }

    /// The parts as one document that ends with EOS, which is a target.
    ///
    /// # Errors
    /// When the tokenizer has no EOS.
    pub fn closed(&self, parts: &[Part]) -> Result<Document> {
        let Some(eos) = self.tokenizer.eos() else {
            return Err(Error::invalid("tokenizer", "no EOS token", "`eos_token` in tokenizer_config.json"));
        };
        let mut document = self.document(parts)?;
        if document.tokens.last() != Some(&eos) {
            document.scored.push(!document.is_empty());
            document.tokens.push(eos);
        }
        Ok(document)
    }

    fn joined(&self, parts: &[Part]) -> Result<Option<Document>> {
        let text: String = parts.iter().map(|part| part.text.as_str()).collect();
        let tokens = self.tokenizer.encode(&text)?;
        let mut scored = Vec::with_capacity(tokens.len());
        let mut end = 0;
        for part in parts {
            end += part.text.len();
            let mut reached = tokens.len();
            if end < text.len() {
                let before = self.tokenizer.encode(&text[..end])?;
                if !tokens.starts_with(&before) || before.len() < scored.len() {
                    return Ok(None);
                }
                reached = before.len();
            }
            scored.resize(reached, part.scored);
        }
        Ok(Some(tokens.into_iter().zip(scored).collect()))
    }

    fn separate(&self, parts: &[Part]) -> Result<Document> {
        let mut pairs = Vec::new();
        for part in parts {
            let tokens = if pairs.is_empty() { self.tokenizer.encode(&part.text)? } else { self.later(&part.text)? };
            pairs.extend(tokens.into_iter().map(|token| (token, part.scored)));
        }
        Ok(pairs.into_iter().collect())
    }

    /// A text's tokens inside a document, where no BOS is but one that the text writes.
    fn later(&self, text: &str) -> Result<Vec<u32>> {
        let mut tokens = self.tokenizer.encode(text)?;
        if let Some((bos, written)) = &self.bos
            && tokens.first() == Some(bos)
            && !text.starts_with(written.as_str())
        {
            tokens.remove(0);
        }
        Ok(tokens)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::tune::fixture::{tiny, tiny_with, tiny_with_bos};

    /// Tokens of a document, each with whether it is a target.
    fn pairs(document: Document) -> Vec<(u32, bool)> {
        document.tokens.into_iter().zip(document.scored).collect()
    }

    fn given<const N: usize>(tokens: [u32; N]) -> Vec<(u32, bool)> {
        tokens.map(|token| (token, false)).to_vec()
    }

    fn learned<const N: usize>(tokens: [u32; N]) -> Vec<(u32, bool)> {
        tokens.map(|token| (token, true)).to_vec()
    }

    #[test]
    fn only_learned_parts_and_eos_are_targets() {
        let tokenizer = tiny();
        let parts = [Part::given("### Response:"), Part::learned("Hi there")];
        let encoder = Encoder::new(&tokenizer).unwrap();
        let prompt = given([4, 4, 4, 222, 51, 262, 81, 287, 409, 27]);
        let response = learned([41, 74, 264, 266]);
        assert_eq!(pairs(encoder.document(&parts).unwrap()), [prompt.clone(), response.clone()].concat());
        assert_eq!(pairs(encoder.closed(&parts).unwrap()), [prompt.clone(), response, learned([1])].concat());
        let empty = [Part::given("### Response:"), Part::learned("")];
        assert_eq!(pairs(encoder.closed(&empty).unwrap()), [prompt, learned([1])].concat());
        let text = [Part::learned("the cat")];
        assert_eq!(pairs(encoder.closed(&text).unwrap()), [given([260]), learned([280, 272, 1])].concat());
        let three = [Part::given("a"), Part::learned(" the"), Part::given(" the")];
        assert_eq!(pairs(encoder.document(&three).unwrap()), [given([66]), learned([264]), given([264])].concat());
    }

    #[test]
    fn no_token_reaches_across_a_boundary() {
        let (plain, with_bos) = (tiny(), tiny_with_bos());
        // `the` is one token, 260, of which `th`, 279, is no beginning.
        let parts = [Part::given("th"), Part::learned("e"), Part::given("<s>b")];
        let document = Encoder::new(&plain).unwrap().document(&parts).unwrap();
        assert_eq!(pairs(document), [given([279]), learned([70]), given([0, 67])].concat());
        let document = Encoder::new(&with_bos).unwrap().document(&parts).unwrap();
        assert_eq!(pairs(document), [given([0, 279]), learned([70]), given([0, 67])].concat());
    }

    #[test]
    fn bos_comes_first_where_the_tokenizer_adds_it_and_once() {
        let tokenizer = tiny_with_bos();
        let encoder = Encoder::new(&tokenizer).unwrap();
        for text in ["the cat", "<s>the cat"] {
            let document = encoder.closed(&[Part::learned(text)]).unwrap();
            assert_eq!(pairs(document), [given([0]), learned([260, 280, 272, 1])].concat(), "{text}");
        }
    }

    #[test]
    fn eos_is_written_once_by_whoever_adds_it() {
        let tokenizer = tiny_with(|tokenizer, _| {
            let (text, end) =
                (json!({ "Sequence": { "id": "A", "type_id": 0 } }), json!({ "id": "</s>", "type_id": 0 }));
            tokenizer["post_processor"]["single"] = json!([text, { "SpecialToken": end }]);
            tokenizer["post_processor"]["special_tokens"] =
                json!({ "</s>": { "id": "</s>", "ids": [1], "tokens": ["</s>"] } });
        });
        assert!(tokenizer.notes()[0].contains("puts `</s>` behind every text"), "the fixture adds EOS");
        let encoder = Encoder::new(&tokenizer).unwrap();
        let parts = [Part::given("a"), Part::learned("b")];
        assert_eq!(pairs(encoder.closed(&parts).unwrap()), [given([66]), learned([67, 1])].concat());
        assert_eq!(pairs(encoder.document(&parts).unwrap()), [given([66]), learned([67])].concat());
        let plain = tiny();
        let document = Encoder::new(&plain).unwrap().closed(&[Part::learned("a</s>")]).unwrap();
        assert_eq!(pairs(document), [given([66]), learned([1])].concat());
    }

    #[test]
    fn nothing_is_no_target() {
        let tokenizer = tiny();
        let encoder = Encoder::new(&tokenizer).unwrap();
        assert_eq!(encoder.document(&[]).unwrap(), Document::default());
        assert_eq!(encoder.closed(&[Part::learned("")]).unwrap().targets(), 0);
    }
}
