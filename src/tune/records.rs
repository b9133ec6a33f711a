//! Training files, and the documents they hold.

use std::fmt;
use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::checkpoint::{ChatTemplate, Tokenizer};
use crate::error::{Error, Result};
use crate::task::read_text;
use crate::tune::document::Document;
use crate::tune::part::{Encoder, Part};
use crate::tune::record::{FORMAT, Record};
use crate::tune::template::Template;
use crate::tune::{alpaca, chat};

/// What the records of a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// `messages`, each `{role, content}`: the assistant's turns are learned.
    Chat,
    /// `instruction` and `output`, perhaps `input`: the output is learned.
    Alpaca,
    /// `text`: all of it is learned.
    Text,
    /// No records: the file is one text, all of it is learned.
    Plain,
}

impl Kind {
    /// The fields by which a record is recognised. The first kind that fits counts: published Alpaca sets have a
    /// `text` beside their fields.
    const RECORDS: [(Kind, &[&str]); 3] =
        [(Kind::Chat, &["messages"]), (Kind::Alpaca, &["instruction", "output"]), (Kind::Text, &["text"])];

    fn of(record: &Record) -> Result<Kind> {
        let fits = |(_, fields): &&(Kind, &[&str])| fields.iter().all(|field| record.has(field));
        match Kind::RECORDS.iter().find(fits) {
            Some((kind, _)) => Ok(*kind),
            None => Err(record.error(format!(
                "found {}, expected `instruction` and `output`, or `messages`, or `text`",
                record.names()
            ))),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Kind::Chat => "conversations",
            Kind::Alpaca => "instructions",
            Kind::Text => "texts",
            Kind::Plain => "a plain text",
        })
    }
}

/// What makes documents of text.
#[derive(Clone, Copy)]
pub struct Reading<'a> {
    /// The model's tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// The chat template that came with it, for conversations; ChatML where there is none.
    pub chat_template: Option<&'a ChatTemplate>,
    /// Tokens of the windows that a plain text is cut into.
    pub length: usize,
}

/// The documents of one file, in its order.
#[derive(Clone, Debug, PartialEq)]
pub struct Records {
    /// What the file holds.
    pub kind: Kind,
    /// Its documents, each with a target.
    pub documents: Vec<Document>,
    /// How many records were left out because nothing in them is to be learned: empty texts, conversations in which
    /// the assistant says nothing.
    pub skipped: usize,
    /// Whether conversations were written as ChatML because the tokenizer came without a template.
    pub assumed_chatml: bool,
}

impl Records {
    /// Reads a training file: records where the name ends in `.json`, `.jsonl`, `.jsonl.gz`, `.parquet` or `.arrow`,
    /// one plain text otherwise. All records must be of the first one's kind.
    ///
    /// # Errors
    /// Naming the file and the record: fields that are missing or are no text, a conversation that the template does
    /// not take; naming the file: one that holds nothing to learn.
    pub fn read(path: &Path, reading: &Reading) -> Result<Records> {
        let encoder = Encoder::new(reading.tokenizer)?;
        if !Record::are_in(path) {
            return plain(path, &encoder, reading.length);
        }
        let records = Record::read_all(path)?;
        let Some(first) = records.first() else {
            return Err(Error::format(path, FORMAT, "found no record, expected one or more"));
        };
        let kind = Kind::of(first)?;
        let template = match kind {
            Kind::Chat => Some(Template::new(reading.chat_template, reading.tokenizer)?),
            _ => None,
        };
        let document = |record: &Record| {
            let found = Kind::of(record)?;
            if found != kind {
                return Err(record.error(format!("found {found}, but the file began with {kind}; split it by kind")));
            }
            let document = match &template {
                Some(template) => encoder.document(&chat::parts(record, template)?),
                None if kind == Kind::Alpaca => encoder.closed(&alpaca::parts(record)?),
                None => encoder.closed(&[Part::learned(record.text("text")?)]),
            };
            document.map_err(|error| record.error(error))
        };
        // Collected before errors are looked at, so that the first wrong record is named and not any.
        let documents: Vec<Result<Document>> = records.par_iter().map(document).collect();
        let mut documents = documents.into_iter().collect::<Result<Vec<Document>>>()?;
        documents.retain(|document| document.targets() > 0);
        if documents.is_empty() {
            let found = format!("found nothing to learn in {} records ({kind}), expected a text", records.len());
            return Err(Error::format(path, FORMAT, found));
        }
        let skipped = records.len() - documents.len();
        let assumed_chatml = kind == Kind::Chat && reading.chat_template.is_none();
        Ok(Records { kind, documents, skipped, assumed_chatml })
    }
}

/// One text, cut into windows that are documents of their own.
fn plain(path: &Path, encoder: &Encoder, length: usize) -> Result<Records> {
    let text = read_text(path)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let wrong = |reason: String| Error::format(path, FORMAT, reason);
    let document = encoder.closed(&[Part::learned(text)]).map_err(|error| wrong(error.to_string()))?;
    let documents = if text.trim().is_empty() { vec![] } else { document.pieces(length) };
    if documents.is_empty() {
        let tokens = document.len();
        return Err(wrong(format!(
            "found nothing to learn in {tokens} tokens in windows of {length}, expected a text and windows of 2 or more"
        )));
    }
    Ok(Records { kind: Kind::Plain, documents, skipped: 0, assumed_chatml: false })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;
    use crate::tune::fixture::{tiny, tiny_with_bos};

    fn read_with(tokenizer: &Tokenizer, name: &str, bytes: impl AsRef<[u8]>) -> Result<Records> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        Records::read(&path, &Reading { tokenizer, chat_template: None, length: 4 })
    }

    fn read(name: &str, bytes: impl AsRef<[u8]>) -> Result<Records> {
        read_with(&tiny(), name, bytes)
    }

    /// The tokens of each document, and what of it is learned.
    fn texts(records: &Records) -> Vec<(String, String)> {
        let tokenizer = tiny();
        let text = |document: &Document| {
            let pairs = document.tokens.iter().zip(&document.scored);
            let learned: Vec<u32> = pairs.filter(|(_, scored)| **scored).map(|(token, _)| *token).collect();
            (tokenizer.decode(&document.tokens).unwrap(), tokenizer.decode(&learned).unwrap())
        };
        records.documents.iter().map(text).collect()
    }

    #[test]
    fn instructions_are_learned_by_their_output() {
        let array = r#"[{"instruction": "Add.", "input": "", "output": "Hi there", "text": "unused"},
                        {"instruction": "Add.", "output": ""}]"#;
        let records = read("a.json", array).unwrap();
        assert_eq!((records.kind, records.skipped, records.assumed_chatml), (Kind::Alpaca, 0, false));
        let [first, second] = &records.documents[..] else { panic!("two records are two documents") };
        // tokenizers 0.23.3 gives the prompt 97 tokens.
        assert_eq!((first.len(), second.len()), (102, 98));
        assert_eq!(first.tokens[97..], [41, 74, 264, 266, 1]);
        let place = |document: &Document| document.scored.iter().position(|scored| *scored);
        assert_eq!((first.targets(), place(first), second.targets(), place(second)), (5, Some(97), 1, Some(97)));
        assert!(texts(&records)[0].0.ends_with("### Instruction:\nAdd.\n\n### Response:Hi there</s>"));
    }

    #[test]
    fn conversations_are_learned_by_what_the_assistant_says() {
        let lines = "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}, {\"role\": \"assistant\", \"content\": \"the \
                     cat\"}]}\n{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}]}\n";
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(lines.as_bytes()).unwrap();
        for (name, bytes) in [("a.jsonl", lines.as_bytes().to_vec()), ("a.jsonl.gz", gzip.finish().unwrap())] {
            let records = read(name, bytes).unwrap();
            assert_eq!((records.kind, records.skipped, records.assumed_chatml), (Kind::Chat, 1, true));
            let whole = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nthe cat<|im_end|>\n";
            assert_eq!(texts(&records), [(whole.to_string(), "the cat<|im_end|>\n".to_string())]);
            // tokenizers 0.23.3 gives 46 tokens before the answer.
            let answer = [260, 280, 272, 29, 93, 74, 78, 64, 300, 69, 93, 31, 200];
            assert_eq!(records.documents[0].tokens[46..], answer);
        }
    }

    #[test]
    fn texts_are_learned_whole_and_empty_ones_left_out() {
        let lines = "{\"text\": \"the cat\"}\n{\"text\": \"\"}\n";
        let records = read("a.jsonl", lines).unwrap();
        assert_eq!((records.kind, records.skipped), (Kind::Text, 1));
        assert_eq!(records.documents[0].tokens, [260, 280, 272, 1]);
        assert_eq!(records.documents[0].scored, [false, true, true, true]);
        let with_bos = tiny_with_bos();
        let records = read_with(&with_bos, "a.jsonl", lines).unwrap();
        assert_eq!(records.documents[0].tokens, [0, 260, 280, 272, 1]);
        assert_eq!(records.documents[0].scored, [false, true, true, true, true]);
    }

    #[test]
    fn plain_texts_become_windows() {
        let records = read("a.md", "\u{feff}the cat the cat").unwrap();
        assert_eq!((records.kind, records.skipped), (Kind::Plain, 0));
        let tokens: Vec<Vec<u32>> = records.documents.iter().map(|document| document.tokens.clone()).collect();
        assert_eq!(tokens, [vec![260, 280, 272, 264], vec![280, 272, 1]]);
        assert_eq!(records.documents[1].scored, [false, true, true]);
        let with_bos = tiny_with_bos();
        let records = read_with(&with_bos, "a", "the cat the").unwrap();
        assert_eq!(records.documents[0].tokens, [0, 260, 280, 272]);
        assert_eq!(records.documents.len(), 2, "{:?}", records.documents);
    }

    #[test]
    fn errors_name_the_file_and_the_line() {
        let text = |text: &str| format!("{{\"text\": \"{text}\"}}\n");
        let alpaca = r#"{"instruction": "a", "output": "b"}"#;
        for (name, content, reason) in [
            (
                "a.jsonl",
                format!("{}\n{alpaca}", text("a")),
                "line 3: found instructions, but the file began with texts; split",
            ),
            (
                "a.jsonl",
                text("a") + "{\"question\": 1}",
                "line 2: found `question`, expected `instruction` and `output`, or",
            ),
            (
                "a.jsonl",
                "{\"output\": \"a\"}".into(),
                "line 1: found `output`, expected `instruction` and `output`, or",
            ),
            (
                "a.json",
                "[{\"text\": \"a\"},\n{\"text\": 1}]".into(),
                "record 2, line 2: `text`: found a number, expected text",
            ),
            ("a.json", "[]".into(), "found no record, expected one or more"),
            ("a.jsonl", "\n\n".into(), "found no record, expected one or more"),
            ("a.jsonl", text("").repeat(3), "found nothing to learn in 3 records (texts), expected a text"),
            ("a.txt", "".into(), "found nothing to learn in 1 tokens in windows of 4"),
            ("a.txt", " \n".into(), "found nothing to learn in"),
        ] {
            let error = read(name, &content).unwrap_err().to_string();
            assert!(error.contains(&format!("/{name}: not a valid training data file: {reason}")), "{error}");
        }
        let error = read("a.txt", [b'a', 0xff]).unwrap_err().to_string();
        assert!(error.contains("a.txt: not a valid text file: not UTF-8"), "{error}");
    }
}
