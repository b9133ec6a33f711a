//! What the records of a training file are, by the fields they have.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Result;
use crate::tune::conversation::Conversation;
use crate::tune::document::Document;
use crate::tune::part::{Encoder, Part};
use crate::tune::record::Record;
use crate::tune::template::Template;
use crate::tune::{alpaca, chat};

/// What the records of a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Messages, or a question and its answer: the chat template writes them, the assistant's turns are learned.
    Chat,
    /// An instruction, perhaps with an input, and its output, which is learned.
    Alpaca,
    /// A text and how it goes on, which is learned.
    Completion,
    /// Two answers to one question, of which one is wanted: nothing that is learned from text.
    Preference,
    /// A text, all of which is learned.
    Text,
    /// No records: the file is one text, all of it is learned.
    Plain,
}

/// The fields of a record by which it is known and made.
pub type Fields = &'static [&'static str];

impl Kind {
    /// The fields by which a record is recognised. The first row that fits counts: published sets have fields of several,
    /// Alpaca's a `text` beside the others, UltraFeedback's `messages` beside `chosen`.
    const RECORDS: [(Kind, Fields); 14] = [
        (Kind::Chat, &["messages"]),
        (Kind::Preference, &["chosen", "rejected"]),
        (Kind::Chat, &["conversations"]),
        (Kind::Chat, &["conversation"]),
        (Kind::Alpaca, &["instruction", "output"]),
        (Kind::Alpaca, &["instruction", "response"]),
        (Kind::Completion, &["prompt", "completion"]),
        (Kind::Chat, &["prompt", "response"]),
        (Kind::Chat, &["question", "answer"]),
        (Kind::Chat, &["question", "response"]),
        (Kind::Chat, &["query", "response"]),
        (Kind::Chat, &["query", "answer"]),
        (Kind::Chat, &["input", "output"]),
        (Kind::Text, &["text"]),
    ];

    /// What a record is.
    ///
    /// # Errors
    /// Fields that belong to no kind, with those that would.
    pub fn of(record: &Record) -> Result<(Kind, Fields)> {
        let fits = |(_, fields): &&(Kind, Fields)| fields.iter().all(|field| record.has(field));
        match Kind::RECORDS.iter().find(fits) {
            // TRL calls it one type whether prompt and completion are texts or messages.
            Some((Kind::Completion, fields)) if matches!(record.value("prompt"), Some(Value::Array(_))) => {
                Ok((Kind::Chat, fields))
            }
            Some(found) => Ok(*found),
            None => {
                let known = Kind::RECORDS.iter().filter(|(kind, _)| *kind != Kind::Preference);
                let known: Vec<String> = known.map(|(_, fields)| format!("`{}`", fields.join("` and `"))).collect();
                Err(record.error(format!("found {}, expected {}", record.names(), known.join(", or "))))
            }
        }
    }

    /// Whether the chat template writes its documents.
    pub fn takes_template(self) -> bool {
        self == Kind::Chat
    }

    /// The document of a record of this kind; `template` is there where the kind takes one.
    pub fn document(
        self,
        record: &Record,
        fields: Fields,
        encoder: &Encoder,
        template: Option<&Template>,
    ) -> Result<Document> {
        if record.value("label") == Some(&Value::Bool(false)) && self == Kind::Completion {
            return Err(record.error("`label` is false: the completion is one that is not wanted"));
        }
        let document = match (self, template) {
            (Kind::Chat, Some(template)) => {
                encoder.document(&chat::parts(record, &Conversation::of(record, fields)?, template)?)
            }
            (Kind::Alpaca, _) => encoder.closed(&alpaca::parts(record, fields[1])?),
            (Kind::Completion, _) => {
                encoder.closed(&[Part::given(record.text(fields[0])?), Part::learned(record.text(fields[1])?)])
            }
            (Kind::Preference, _) => {
                return Err(record.error(
                    "found `chosen` and `rejected`, two answers of which one is preferred; this learns from one answer: give the \
                     chosen ones as `messages`, or as `prompt` and `completion`",
                ));
            }
            _ => encoder.closed(&[Part::learned(record.text(fields[0])?)]),
        };
        document.map_err(|error| record.error(error))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Kind::Chat => "conversations",
            Kind::Alpaca => "instructions",
            Kind::Completion => "completions",
            Kind::Preference => "preferences",
            Kind::Text => "texts",
            Kind::Plain => "a plain text",
        })
    }
}
