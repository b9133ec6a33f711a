//! Text to tokens and back, by the tokenizer that came with the checkpoint.

use std::path::Path;

use super::hf::TokenizerFiles;
use crate::checkpoint::config::LlamaConfig;
use crate::error::{Error, Result};

mod added_tokens;
mod class;
mod config;
mod sentencepiece;
mod sentencepiece_json;
mod source;
pub(super) mod template;
mod trial;

use config::SpecialToken;
pub(super) use config::{TOKENIZER_CONFIG_FILE, TOKENIZER_FILE, TokenizerConfig};
pub(super) use source::tokenizer_json;
use template::Template;

/// The tokenizer of a checkpoint. Token ids are those of transformers' `AutoTokenizer` on the same files, without what a
/// template puts behind a text.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    bos: Option<u32>,
    eos: Option<u32>,
    template: Template,
    vocab: usize,
    notes: Vec<String>,
}

impl Tokenizer {
    /// The tokenizer of these files; `path` is for error messages.
    pub(super) fn new(path: &Path, files: &TokenizerFiles, config: &LlamaConfig) -> Result<Tokenizer> {
        let mut settings = TokenizerConfig::of(path, files)?;
        let mut notes = std::mem::take(&mut settings.notes);
        let (mut json, said) = tokenizer_json(path, files, &settings)?;
        notes.extend(said);
        let wrong = |error: tokenizers::Error| Error::format(path, TOKENIZER_FILE, error.to_string());
        notes.extend(class::apply(&mut json, &settings, config.family));
        notes.extend(without_dropout(&mut json));
        let json = json.to_string();
        trial::try_tokenizer(path, &json)?;
        let mut inner = tokenizers::Tokenizer::from_bytes(json).map_err(wrong)?;
        // Special tokens that a text writes are then plain text.
        inner.set_encode_special_tokens(settings.split_special_tokens.unwrap_or(false));
        // Some files keep the cutting and padding of a training run; transformers sets both anew as well.
        inner.with_truncation(None).map_err(wrong)?;
        inner.with_padding(None);
        let vocab = config.shape.vocab;
        notes.extend(added_tokens::add(&mut inner, path, &settings)?);
        notes.extend(added_tokens::past_the_end(&inner, vocab));
        let post_processor = serde_json::to_value(inner.get_post_processor())
            .map_err(|error| Error::format(path, TOKENIZER_FILE, error.to_string()))?;
        let template = Template::of(path, &post_processor)?;
        let id = |token: &Option<SpecialToken>| token.as_ref().and_then(|token| inner.token_to_id(token.text()));
        let bos = id(&settings.bos_token).or(config.bos_token_id);
        let eos = id(&settings.eos_token).or(config.eos_token_ids.first().copied());
        let mut tokenizer = Tokenizer { inner, bos, eos, template, vocab, notes };
        let said = [settings.add_bos_token, settings.add_eos_token];
        tokenizer.notes.extend(tokenizer.notes_on_template(said));
        Ok(tokenizer)
    }

    /// The same with further notes.
    pub(super) fn with_notes(mut self, notes: Vec<String>) -> Tokenizer {
        self.notes.extend(notes);
        self
    }

    /// What a reader of the numbers should know about the tokens around a text.
    fn notes_on_template(&self, [add_bos, add_eos]: [Option<bool>; 2]) -> Vec<String> {
        let text = |ids: &[u32]| {
            let names = ids.iter().map(|&id| self.inner.id_to_token(id).unwrap_or_else(|| id.to_string()));
            names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" ")
        };
        let Template { before, behind } = &self.template;
        let mut notes = Vec::new();
        for (flag, said, ids) in [("add_bos_token", add_bos, before), ("add_eos_token", add_eos, behind)] {
            if said.is_some_and(|said| said == ids.is_empty()) {
                let adds = if ids.is_empty() { "none".to_string() } else { text(ids) };
                notes.push(format!(
                    "`{flag}` of {TOKENIZER_CONFIG_FILE} is {}, the template of {TOKENIZER_FILE} adds {adds}: the template \
                     is followed, as transformers 5 does",
                    ids.is_empty()
                ));
            }
        }
        if !behind.is_empty() {
            notes.push(format!(
                "the tokenizer puts {} behind every text; it is left out of contexts and of what is scored. \
                 lm-evaluation-harness keeps it, which shifts its log-likelihoods by as many tokens",
                text(behind)
            ));
        }
        notes
    }

    /// The text's tokens behind what the tokenizer puts before a text; a BOS that the text itself brings is not doubled.
    ///
    /// What a template puts behind a text, such as EOS, is left out: contexts go on, and a scored text ends where its
    /// author ended it. An EOS that the text writes stays.
    ///
    /// # Errors
    /// `Invalid` when a token is not in the model's vocabulary.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let wrong = |error: tokenizers::Error| Error::invalid("text to encode", error, "text of the tokenizer's kind");
        let encoded = trial::caught("text to encode", || self.inner.encode_fast(text, false))?;
        let mut ids = encoded.map_err(wrong)?.get_ids().to_vec();
        let before = &self.template.before;
        if !ids.starts_with(before) {
            ids.splice(0..0, before.iter().copied());
        }
        match ids.iter().find(|&&id| id as usize >= self.vocab) {
            Some(&id) => {
                let found = format!("{id} (`{}`)", self.inner.id_to_token(id).unwrap_or_default());
                Err(Error::invalid("token", found, format!("less than the model's vocabulary of {}", self.vocab)))
            }
            None => Ok(ids),
        }
    }

    /// A text's tokens inside another one: behind a line end, with which few vocabularies merge anything, so that it begins neither
    /// with BOS nor with SentencePiece's mark of a space.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_inside(&self, text: &str) -> Result<Vec<u32>> {
        let line_end = self.encode("\n")?;
        let tokens = self.encode(&["\n", text].concat())?;
        if let Some(inside) = tokens.strip_prefix(line_end.as_slice()) {
            return Ok(inside.to_vec());
        }
        let tokens = self.encode(text)?;
        let bos = self.bos().filter(|bos| self.adds_bos() && tokens.first() == Some(bos));
        Ok(tokens[usize::from(bos.is_some())..].to_vec())
    }

    /// The tokens' text, special tokens included.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        trial::caught("tokens to decode", || self.inner.decode(ids, false))?
            .map_err(|error| Error::invalid("tokens to decode", error, "ids of the vocabulary"))
    }

    /// The text of tokens as they come, special ones left out: what each adds, nothing while a character is incomplete.
    pub fn stream(&self) -> impl FnMut(u32) -> Result<String> + '_ {
        let mut stream = self.inner.decode_stream(true);
        move |id| {
            let added = trial::caught("token to decode", || stream.step(id))?
                .map_err(|error| Error::invalid("token to decode", error, "an id of the vocabulary"));
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

    /// The token whose text this is, if it is one.
    pub fn token(&self, text: &str) -> Option<u32> {
        self.inner.token_to_id(text)
    }

    /// Whether [`Tokenizer::encode`] puts BOS first.
    pub fn adds_bos(&self) -> bool {
        self.bos.is_some() && self.template.before.first() == self.bos.as_ref()
    }

    /// What the tokenizer puts around a text by its own template; [`Tokenizer::encode`] leaves out what comes behind.
    pub(super) fn around(&self) -> (&[u32], &[u32]) {
        (&self.template.before, &self.template.behind)
    }

    /// Where the tokenizer's files disagree or other programs tokenize otherwise, a sentence each: for users to read once.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// BLAKE3 of everything that decides token ids.
    pub fn digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.inner.to_string(false).unwrap_or_default().as_bytes());
        let Tokenizer { bos, eos, template, vocab, .. } = self;
        hasher.update(format!("\n{bos:?} {eos:?} {:?} {vocab}", template.before).as_bytes());
        hasher.finalize().to_hex().to_string()
    }
}

/// Takes away that a text is cut otherwise each time, which is for training; says so.
fn without_dropout(json: &mut serde_json::Value) -> Option<String> {
    let dropout =
        json.pointer_mut("/model/dropout").filter(|dropout| dropout.as_f64().is_some_and(|rate| rate != 0.0))?;
    let rate = dropout.take();
    Some(format!("`dropout` {rate} of {TOKENIZER_FILE} is left out: with it a text has other tokens each time"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::config::tests::small;
    use serde_json::{Value, json};

    /// Words `a` and `b` with `<s>` and `</s>`, split at spaces, and the names of what a template puts around a text (`A`).
    fn files(single: &[&str], settings: Value) -> TokenizerFiles {
        let special = |id: u32, content: &str| {
            json!({ "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": true })
        };
        let piece = |name: &&str| match *name {
            "A" => json!({ "Sequence": { "id": "A", "type_id": 0 } }),
            name => json!({ "SpecialToken": { "id": name, "type_id": 0 } }),
        };
        let template = json!({
            "type": "TemplateProcessing",
            "single": single.iter().map(piece).collect::<Vec<_>>(),
            "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 0 } }],
            "special_tokens": { "<s>": { "id": "<s>", "ids": [1], "tokens": ["<s>"] },
                                "</s>": { "id": "</s>", "ids": [2], "tokens": ["</s>"] } },
        });
        let tokenizer = json!({
            "version": "1.0", "truncation": { "direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0 },
            "padding": null, "normalizer": null, "decoder": null,
            "added_tokens": [special(1, "<s>"), special(2, "</s>")],
            "pre_tokenizer": { "type": "Whitespace" },
            "post_processor": if single.is_empty() { Value::Null } else { template },
            "model": { "type": "WordLevel", "vocab": { "?": 0, "<s>": 1, "</s>": 2, "a": 3, "b": 4, "far": 99 }, "unk_token": "?" },
        });
        let mut files = TokenizerFiles::default();
        add(&mut files, TOKENIZER_FILE, &tokenizer);
        add(&mut files, TOKENIZER_CONFIG_FILE, &settings);
        files
    }

    fn add(files: &mut TokenizerFiles, name: &str, value: &Value) {
        files.0.insert(name.into(), value.to_string().into_bytes());
    }

    fn opened(files: &TokenizerFiles) -> Result<Tokenizer> {
        Tokenizer::new(Path::new("t"), files, &small())
    }

    fn tokenizer(single: &[&str], settings: Value) -> Tokenizer {
        opened(&files(single, settings)).unwrap()
    }

    /// The notes but for the one on `far`, which lies past the small model's rows.
    fn notes(tokenizer: &Tokenizer) -> Vec<&str> {
        tokenizer.notes().iter().map(String::as_str).filter(|note| !note.contains("past the model's")).collect()
    }

    #[test]
    fn adds_bos_as_the_template_says_and_never_twice() {
        let named = json!({ "bos_token": "<s>" });
        let flag = |flag: bool| json!({ "add_bos_token": flag, "bos_token": "<s>" });
        let cases = [
            (true, named.clone(), "a b", vec![1, 3, 4]),
            (true, named.clone(), "<s>a", vec![1, 3]),
            (true, named.clone(), "", vec![1]),
            (true, flag(false), "a", vec![1, 3]),
            (false, flag(true), "a", vec![3]),
            (false, flag(true), "<s>a", vec![1, 3]),
            (false, named, "a b a b", vec![3, 4, 3, 4]),
        ];
        for (adds, settings, text, ids) in cases {
            let single: &[&str] = if adds { &["<s>", "A"] } else { &[] };
            let tokenizer = tokenizer(single, settings.clone());
            assert_eq!(tokenizer.adds_bos(), adds, "{settings}");
            assert_eq!(tokenizer.encode(text).unwrap(), ids, "{single:?} {settings} {text}");
            let disagrees = settings.get("add_bos_token").is_some();
            assert_eq!(notes(&tokenizer).len(), usize::from(disagrees), "{settings}");
        }
        let tokenizer = tokenizer(&["<s>", "A"], json!({ "add_bos_token": false }));
        assert_eq!(
            notes(&tokenizer),
            [
                "`add_bos_token` of tokenizer_config.json is false, the template of tokenizer.json adds `<s>`: the template is \
              followed, as transformers 5 does"
            ]
        );
    }

    #[test]
    fn leaves_out_what_a_template_puts_behind_a_text() {
        for single in [&["A", "</s>"][..], &["<s>", "A", "</s>"]] {
            let tokenizer = tokenizer(single, json!({ "add_eos_token": true }));
            let bos = &[1][..single.len() - 2];
            for (text, ids) in [("a b", vec![3, 4]), ("a</s>", vec![3, 2]), ("", vec![])] {
                assert_eq!(tokenizer.encode(text).unwrap(), [bos, &ids].concat(), "{single:?} {text}");
            }
            let [note] = notes(&tokenizer)[..] else { panic!("{:?}", tokenizer.notes()) };
            assert!(note.contains("puts `</s>` behind every text; it is left out"), "{note}");
            assert!(note.contains("lm-evaluation-harness keeps it"), "{note}");
        }
    }

    #[test]
    fn knows_special_tokens_by_their_text() {
        let tokenizer = tokenizer(&[], json!({ "bos_token": { "content": "</s>" }, "eos_token": "<s>" }));
        assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(2), Some(1)));
        assert_eq!(tokenizer.decode(&[1, 3, 4]).unwrap(), "<s> a b");
    }

    /// Two files that say different things; what transformers 5.23 makes of each was tried.
    #[test]
    fn follows_transformers_where_two_files_disagree() {
        let listed = |id: &str, text: &str, lstrip: bool| json!({ "added_tokens_decoder": { id: { "content": text, "lstrip": lstrip, "special": true } } });
        let map = json!({ "bos_token": "</s>", "eos_token": { "content": "<s>", "lstrip": false } });

        let mut with_map = files(&[], json!({ "bos_token": "<s>", "eos_token": "<s>" }));
        add(&mut with_map, "special_tokens_map.json", &map);
        let tokenizer = opened(&with_map).unwrap();
        assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(2), Some(1)));
        assert_eq!(
            notes(&tokenizer),
            ["`bos_token` is `<s>` in tokenizer_config.json and `</s>` in special_tokens_map.json: \
              special_tokens_map.json is followed, as transformers does"]
        );

        let mut settings = listed("2", "</s>", false);
        settings["bos_token"] = json!("<s>");
        let mut with_map = files(&[], settings);
        add(&mut with_map, "special_tokens_map.json", &map);
        let tokenizer = opened(&with_map).unwrap();
        assert_eq!(tokenizer.bos(), Some(1));
        assert!(notes(&tokenizer)[0].ends_with("tokenizer_config.json is followed, as transformers does"));

        let tokenizer = opened(&files(&[], listed("3", "</s>", false))).unwrap();
        assert_eq!(tokenizer.encode("a</s>").unwrap(), [3, 2]);
        assert!(notes(&tokenizer)[0].ends_with("`</s>` 2 instead of 3"), "{:?}", tokenizer.notes());

        let tokenizer = opened(&files(&[], listed("2", "</s>", true))).unwrap();
        assert_eq!(tokenizer.encode("a </s>").unwrap(), [3, 2]);
        assert!(notes(&tokenizer)[0].contains("differ in how tokens are found"), "{:?}", tokenizer.notes());
    }

    #[test]
    fn knows_tokens_that_only_the_files_beside_it_list() {
        let listed = json!({ "added_tokens_decoder": { "6": { "content": "<x>", "special": true } } });
        assert_eq!(opened(&files(&[], listed)).unwrap().encode("a<x>").unwrap(), [3, 6]);
        let mut older = files(&[], json!({}));
        add(&mut older, "added_tokens.json", &json!({ "<x>": 6, "<y>": 7, "</s>": 2 }));
        let tokenizer = opened(&older).unwrap();
        assert_eq!((tokenizer.encode("<y><x>").unwrap(), notes(&tokenizer)), (vec![7, 6], vec![]));
        let named = json!({ "pad_token": "<p>", "additional_special_tokens": ["<q>"], "extra_special_tokens": {} });
        let tokenizer = opened(&files(&[], named)).unwrap();
        assert_eq!(tokenizer.encode("<p><q>").unwrap(), [6, 7], "transformers gives them the next free ids");
    }

    #[test]
    fn rejects_ids_that_no_file_settles() {
        let listed = |id: &str, text: &str| json!({ "added_tokens_decoder": { id: { "content": text } } });
        let cases = [
            (listed("2", "<end>"), "id 2: `<end>` in tokenizer_config.json, `</s>` in tokenizer.json"),
            (listed("30", "<x>"), "`<x>`: id 30 in tokenizer_config.json, 6 is tokenizer.json's next free one"),
            (listed("x", "<x>"), "`added_tokens_decoder`: found id `x`, expected a number"),
        ];
        for (settings, reason) in cases {
            let error = opened(&files(&[], settings)).err().unwrap().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn rejects_tokens_the_model_does_not_have() {
        let tokenizer = tokenizer(&[], json!({}));
        let note = "the tokenizer has tokens past the model's 40 rows; a text with one of them is refused: `far` 99";
        assert_eq!(tokenizer.notes(), [note]);
        let error = tokenizer.encode("a far").unwrap_err().to_string();
        assert_eq!(error, "token: found 99 (`far`), expected less than the model's vocabulary of 40");
    }

    #[test]
    fn rejects_files_that_are_no_tokenizer() {
        let mut broken = files(&[], json!({}));
        broken.0.insert(TOKENIZER_FILE.into(), b"{}".into());
        let new = |files: &TokenizerFiles| opened(files).err().unwrap().to_string();
        assert!(new(&broken).contains("tokenizer.json"));
        assert!(new(&TokenizerFiles::default()).contains("vocab.json with merges.txt not found"));
        assert!(new(&files(&[], json!([]))).contains("tokenizer_config.json"));
    }

    #[test]
    fn digests_what_decides_ids() {
        let digest = |single: &[&str]| tokenizer(single, json!({})).digest();
        assert_eq!(digest(&["<s>", "A"]), digest(&["<s>", "A"]));
        assert_ne!(digest(&["<s>", "A"]), digest(&[]));
    }
}
