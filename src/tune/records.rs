//! Training files, and the documents they hold.

use std::path::Path;

use rayon::prelude::*;

use crate::checkpoint::{ChatTemplate, Tokenizer};
use crate::error::{Error, Result};
use crate::task::{LeftOut, read_text};
use crate::tune::document::Document;
use crate::tune::kind::Kind;
use crate::tune::part::{Encoder, Part};
use crate::tune::record::{FORMAT, Record};
use crate::tune::template::Template;

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
    /// The records that were left out: those that cannot be used, and those in which nothing is to be learned, such as empty texts
    /// and conversations in which the assistant says nothing.
    pub left_out: LeftOut,
    /// Whether conversations were written as ChatML because the tokenizer came without a template.
    pub assumed_chatml: bool,
}

impl Records {
    /// Reads a training file: records where the name ends in `.json`, `.jsonl`, `.jsonl.gz`, `.parquet` or `.arrow`,
    /// one plain text otherwise. The first record that is of a known kind says what they all are; others are left out.
    ///
    /// # Errors
    /// Naming the file: one that is no data; one of whose records more than half cannot be used, with the first reasons: fields that
    /// are missing or are no text, unknown roles, a conversation that the template does not take; one that holds nothing to learn.
    pub fn read(path: &Path, reading: &Reading) -> Result<Records> {
        let encoder = Encoder::new(reading.tokenizer)?;
        if !Record::are_in(path) {
            return plain(path, &encoder, reading.length);
        }
        let records = Record::read_all(path);
        let of = records.len();
        if of == 0 {
            return Err(Error::format(path, FORMAT, "found no record, expected one or more"));
        }
        let kind = records.iter().flatten().find_map(|record| Kind::of(record).ok());
        let kind = kind.map_or(Kind::Text, |(kind, _)| kind);
        let template = || Template::new(reading.chat_template, reading.tokenizer);
        let template = kind.takes_template().then(template).transpose()?;
        let document = |record: Result<Record>| {
            let record = record?;
            let (found, fields) = Kind::of(&record)?;
            if found != kind {
                return Err(record.error(format!("found {found}, but the file began with {kind}; split it by kind")));
            }
            let document = kind.document(&record, fields, &encoder, template.as_ref())?;
            if document.targets() == 0 {
                return Err(record.error(format!("found nothing to learn ({kind}), expected a text")));
            }
            Ok(document)
        };
        // Collected before errors are looked at, so that they are told in the order of the file.
        let made: Vec<Result<Document>> = records.into_par_iter().map(document).collect();
        let (mut documents, mut left_out) = (Vec::with_capacity(of), LeftOut::default());
        for document in made {
            documents.extend(left_out.keep(document)?);
        }
        let left_out = left_out.out_of(of, FORMAT, path)?;
        let assumed_chatml = kind.takes_template() && reading.chat_template.is_none();
        Ok(Records { kind, documents, left_out, assumed_chatml })
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
    Ok(Records { kind: Kind::Plain, documents, left_out: LeftOut::default(), assumed_chatml: false })
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
        assert_eq!((records.kind, records.left_out.count, records.assumed_chatml), (Kind::Alpaca, 0, false));
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
            assert_eq!((records.kind, records.left_out.count, records.assumed_chatml), (Kind::Chat, 1, true));
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
        assert_eq!((records.kind, records.left_out.count), (Kind::Text, 1));
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
        assert_eq!((records.kind, records.left_out.count), (Kind::Plain, 0));
        let tokens: Vec<Vec<u32>> = records.documents.iter().map(|document| document.tokens.clone()).collect();
        assert_eq!(tokens, [vec![260, 280, 272, 264], vec![280, 272, 1]]);
        assert_eq!(records.documents[1].scored, [false, true, true]);
        let with_bos = tiny_with_bos();
        let records = read_with(&with_bos, "a", "the cat the").unwrap();
        assert_eq!(records.documents[0].tokens, [0, 260, 280, 272]);
        assert_eq!(records.documents.len(), 2, "{:?}", records.documents);
    }

    #[test]
    fn each_kind_of_record_is_learned_by_its_answer() {
        let question = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n";
        let chat = (Kind::Chat, format!("{question}the cat<|im_end|>\n"), "the cat<|im_end|>\n");
        let completion = (Kind::Completion, "Hi the cat</s>".to_string(), " the cat</s>");
        let user = r#"{"role": "user", "content": [{"type": "text", "text": "Hi"}]}"#;
        let assistant = r#"{"role": "assistant", "content": "the cat"}"#;
        for (record, (kind, whole, learned)) in [
            (r#"{"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "the cat"}]}"#, &chat),
            (&format!(r#"{{"conversation": [{user}, {assistant}]}}"#), &chat),
            (&format!(r#"{{"messages": [{user}, {assistant}], "chosen": [], "rejected": []}}"#), &chat),
            (&format!(r#"{{"prompt": [{user}], "completion": [{assistant}]}}"#), &chat),
            (&format!(r#"{{"prompt": [{user}], "response": "the cat"}}"#), &chat),
            (r#"{"prompt": "Hi", "response": "the cat"}"#, &chat),
            (r#"{"question": "Hi", "answer": "the cat"}"#, &chat),
            (r#"{"system_prompt": "", "question": "Hi", "response": "the cat"}"#, &chat),
            (r#"{"query": "Hi", "response": "the cat"}"#, &chat),
            (r#"{"input": "Hi", "output": "the cat"}"#, &chat),
            (r#"{"prompt": "Hi", "completion": " the cat"}"#, &completion),
            (r#"{"prompt": "Hi", "completion": " the cat", "label": true}"#, &completion),
        ] {
            let records = read("a.jsonl", record).unwrap();
            assert_eq!(records.kind, *kind, "{record}");
            assert_eq!(texts(&records), [(whole.clone(), learned.to_string())], "{record}");
        }
        let dolly = read("a.jsonl", r#"{"instruction": "Hi", "context": "", "response": "the cat"}"#).unwrap();
        assert_eq!((dolly.kind, texts(&dolly)[0].1.as_str()), (Kind::Alpaca, "the cat</s>"));
        let error = read("a.jsonl", r#"{"prompt": "Hi", "completion": "no", "label": false}"#).unwrap_err().to_string();
        assert!(error.contains("line 1: `label` is false: the completion is one that is not wanted"), "{error}");
    }

    #[test]
    fn a_models_own_template_decides_where_the_answer_begins() {
        let own = ChatTemplate {
            path: "model".into(),
            file: "chat_template.jinja",
            source: "{% for m in messages %}{% if m.role == 'assistant' %}{{ 'assistant:\n' }}{% generation %}\
                     {{ m.content ~ '|' }}{% endgeneration %}{% else %}{{ m.role ~ ': ' ~ m.content ~ '|' }}{% endif %}\
                     {% endfor %}{% if add_generation_prompt %}{{ 'assistant:\n' }}{% endif %}"
                .to_string(),
            special_tokens: vec![],
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        let record = r#"{"system": "s", "conversations": [{"from": "human", "value": "u"}, {"from": "gpt", "value": "the cat"},
                         {"from": "human", "value": "v"}, {"from": "gpt", "value": "b"}]}"#;
        fs::write(&path, record.replace('\n', "")).unwrap();
        let tokenizer = tiny();
        let reading = Reading { tokenizer: &tokenizer, chat_template: Some(&own), length: 4 };
        let records = Records::read(&path, &reading).unwrap();
        assert!(!records.assumed_chatml);
        // `input_ids` and `assistant_masks` of `apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)`
        // of transformers 5.23.0 for the same five messages.
        let tokens = [
            84, 90, 84, 85, 70, 78, 27, 282, 93, 86, 84, 261, 27, 222, 86, 93, 66, 84, 84, 390, 85, 66, 274, 27, 200,
            260, 280, 272, 93, 86, 84, 261, 27, 222, 87, 93, 66, 84, 84, 390, 85, 66, 274, 27, 200, 67, 93,
        ];
        let [document] = &records.documents[..] else { panic!("one record is one document") };
        assert_eq!(document.tokens, tokens);
        let learned: Vec<usize> = (0..tokens.len()).filter(|&place| document.scored[place]).collect();
        assert_eq!(learned, [25, 26, 27, 28, 45, 46]);
    }

    #[test]
    fn bad_records_are_left_out_and_named() {
        let lines =
            "{\"txt\": 1}\n{\"text\": \"the cat\"}\noops\n{\"text\": \"a\"}\n{\"text\": \"the\"}\n{\"text\": null}\n";
        let records = read("a.jsonl", lines).unwrap();
        let learned: Vec<String> = texts(&records).into_iter().map(|(whole, _)| whole).collect();
        assert_eq!(learned, ["the cat</s>", "a</s>", "the</s>"]);
        assert_eq!((records.left_out.count, records.left_out.of), (3, 6));
        let places: Vec<&str> = records.left_out.reasons.iter().map(|reason| reason.rows[0].as_str()).collect();
        assert_eq!(places, ["line 1", "line 3", "line 6"], "in the order of the file");
    }

    #[test]
    fn errors_name_the_file_and_the_line() {
        let text = |text: &str| format!("{{\"text\": \"{text}\"}}\n");
        let alpaca = r#"{"instruction": "a", "output": "b"}"#;
        let no_kind = "found `question`, expected `messages`, or `conversations`, or";
        for (name, content, reason) in [
            (
                "a.jsonl",
                format!("{}{alpaca}\n{alpaca}", text("a")),
                "training data: 2 of 3 rows cannot be used; up to half are left out, more must be mended:\n  \
                 line 2; line 3: found instructions, but the file began with texts; split",
            ),
            ("a.jsonl", "{\"question\": 1}\n".repeat(2), &format!("line 1; line 2: {no_kind}")),
            (
                "a.json",
                "[7, {\"text\": \"a\"},\n{\"text\": 1}]".into(),
                "2 of 3 rows cannot be used; up to half are left out, more must be mended:\n  \
                 record 1, line 1: found a number, which is no object; expected {\"field\": ...}\n  \
                 record 3, line 2: `text`: found a number, expected text",
            ),
            ("a.json", "[]".into(), "not a valid training data file: found no record, expected one or more"),
            ("a.jsonl", "\n\n".into(), "not a valid training data file: found no record, expected one or more"),
            (
                "a.jsonl",
                text("").repeat(3),
                "3 of 3 rows cannot be used; up to half are left out, more must be mended:\n  \
                 line 1; line 2; line 3: found nothing to learn (texts), expected a text",
            ),
            ("a.txt", "".into(), "found nothing to learn in 1 tokens in windows of 4"),
            ("a.txt", " \n".into(), "found nothing to learn in"),
            (
                "a.jsonl",
                "{\"chosen\": \"a\", \"rejected\": \"b\"}".into(),
                "line 1: found `chosen` and `rejected`, two answers of which one is preferred; this learns from one",
            ),
        ] {
            let error = read(name, &content).unwrap_err().to_string();
            assert!(error.contains(&format!("/{name}: ")) && error.contains(reason), "{error}");
        }
        let error = read("a.txt", [b'a', 0xff]).unwrap_err().to_string();
        assert!(error.contains("a.txt: not a valid text file: not UTF-8"), "{error}");
    }
}
