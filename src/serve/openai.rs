//! OpenAI's completions and chat completions as they are asked for and answered, as far as they are served.
//!
//! Fields and their meaning as in OpenAI's API reference ("Completions", "Chat completions"), and as its Python client sends and reads them.
//! Behind them `top_k`, `ignore_eos` and `guided_choice`, which other servers know, and budgets by the names of sizes and speeds.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::string_slice, clippy::cast_possible_truncation, clippy::cast_sign_loss)
)]

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::menu::BUDGETS;
use super::request::{Ending, Likely, Written};
use crate::checkpoint::Tokenizer;
use crate::error::{Error, Result};
use crate::model::generation::Sampling;
use crate::space::Constraint;

/// Choices of a request, stops, and most likely tokens, at most.
const CHOICES: usize = 128;
const STOPS: usize = 16;
const LIKELY: usize = 20;
/// Texts that an answer is chosen of.
const GUIDED: std::ops::RangeInclusive<usize> = 2..=128;
/// Tokens where a completion does not say how many; a chat goes on to its end.
const TOKENS: usize = 16;

/// Fields that change what is written and are not served, each with the value that changes nothing.
const NOT_SERVED: [(&str, &str); 11] = [
    ("best_of", "1"),
    ("echo", "false"),
    ("suffix", "\"\""),
    ("logit_bias", "{}"),
    ("presence_penalty", "0"),
    ("frequency_penalty", "0"),
    ("tools", "[]"),
    ("functions", "[]"),
    ("tool_choice", "\"none\""),
    ("response_format", "{\"type\":\"text\"}"),
    ("modalities", "[\"text\"]"),
];

/// Which of the two is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Completion,
    Chat,
}

/// What a completion begins with.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub(super) enum Prompt {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<u32>),
    ManyTokens(Vec<Vec<u32>>),
}

/// What is gone on from.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Input {
    Prompt(Prompt),
    Messages(Vec<Value>),
}

/// A request as it was asked for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Asked {
    pub(super) model: String,
    pub(super) budget: Vec<Constraint>,
    pub(super) input: Input,
    /// `None` for as many as there is room for.
    pub(super) tokens: Option<usize>,
    pub(super) choices: usize,
    pub(super) sampling: Sampling,
    pub(super) seed: Option<u64>,
    pub(super) stops: Vec<String>,
    pub(super) ignore_eos: bool,
    pub(super) likely: Option<usize>,
    pub(super) stream: bool,
    pub(super) stream_usage: bool,
    /// Texts of which one is the answer, where it is not written freely.
    pub(super) guided: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum YesOrCount {
    Yes(bool),
    Count(usize),
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

/// The fields that are read; all others are left alone.
#[derive(Deserialize)]
struct Body {
    model: Option<String>,
    prompt: Option<Prompt>,
    messages: Option<Vec<Value>>,
    max_tokens: Option<usize>,
    max_completion_tokens: Option<usize>,
    n: Option<usize>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    top_k: Option<usize>,
    seed: Option<i64>,
    stop: Option<OneOrMany>,
    ignore_eos: Option<bool>,
    guided_choice: Option<Vec<String>>,
    logprobs: Option<YesOrCount>,
    top_logprobs: Option<usize>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
}

/// A limit by the name of a size or a speed, as a number or text such as `100M`.
pub(super) fn budget(name: &str, value: &str) -> Result<Option<Constraint>> {
    let Some((_, sign)) = BUDGETS.into_iter().find(|(known, _)| *known == name) else { return Ok(None) };
    let value = value.trim();
    let limit = if value.starts_with(['<', '>']) { value.to_string() } else { format!("{sign}{value}") };
    Constraint::new(name, &limit).map(Some)
}

impl Asked {
    /// Reads a body.
    ///
    /// # Errors
    /// `Invalid` with the field that does not do.
    pub(super) fn read(kind: Kind, body: &[u8]) -> Result<Asked> {
        let wrong = |what: &str, found: String, expected: &str| Err(Error::invalid(what, found, expected));
        let value: Value = serde_json::from_slice(body).map_err(|error| Error::invalid("body", error, "JSON"))?;
        let Value::Object(mut fields) = value else { return wrong("body", "no object".into(), "a JSON object") };
        fields.retain(|_, value| !value.is_null());
        check_served(&fields)?;
        let mut limits = Vec::new();
        for (name, _) in BUDGETS {
            let text = match fields.remove(name) {
                None => continue,
                Some(Value::Number(number)) => number.to_string(),
                Some(Value::String(text)) => text,
                Some(other) => return wrong(name, other.to_string(), "a number"),
            };
            limits.extend(budget(name, &text)?);
        }
        let body: Body = serde_json::from_value(Value::Object(fields))
            .map_err(|error| Error::invalid("body", error, "the API's fields"))?;
        let input = match (kind, body.prompt, body.messages) {
            (Kind::Completion, Some(prompt), _) => Input::Prompt(prompt),
            (Kind::Chat, _, Some(messages)) => Input::Messages(plain_messages(messages)?),
            (Kind::Completion, ..) => return wrong("prompt", "none".into(), "a text, several, or their tokens"),
            (Kind::Chat, ..) => return wrong("messages", "none".into(), "one at least"),
        };
        let choices = body.n.unwrap_or(1);
        if !(1..=CHOICES).contains(&choices) {
            return wrong("n", choices.to_string(), "1 to 128 choices");
        }
        let stops = match body.stop {
            None => Vec::new(),
            Some(OneOrMany::One(stop)) => vec![stop],
            Some(OneOrMany::Many(stops)) => stops,
        };
        if stops.len() > STOPS || stops.iter().any(String::is_empty) {
            return wrong(
                "stop",
                format!("{} texts, or an empty one", stops.len()),
                "16 texts at most, none of them empty",
            );
        }
        let likely = match (kind, body.logprobs, body.top_logprobs) {
            (_, None | Some(YesOrCount::Yes(false)), None) => None,
            (Kind::Completion, Some(YesOrCount::Count(count)), _) => Some(count),
            (_, Some(YesOrCount::Yes(true)), count) => Some(count.unwrap_or(0)),
            (Kind::Chat, Some(YesOrCount::Count(_)), _) => {
                return wrong("logprobs", "a number".into(), "true or false");
            }
            (_, _, Some(_)) => {
                return wrong("top_logprobs", "a number without `logprobs`".into(), "`logprobs` beside it");
            }
        };
        if likely.is_some_and(|count| count > LIKELY) {
            return wrong("logprobs", likely.unwrap_or(0).to_string(), "20 tokens at most");
        }
        let stream = body.stream.unwrap_or(false);
        let guided = body.guided_choice;
        if let Some(guided) = &guided {
            if !GUIDED.contains(&guided.len()) || guided.iter().any(String::is_empty) {
                let found = format!("{} texts, or an empty one", guided.len());
                return wrong("guided_choice", found, "2 to 128 texts, none of them empty");
            }
            if stream || choices > 1 || likely.is_some() {
                let found = "`stream`, `n` or `logprobs` beside it".to_string();
                return wrong("guided_choice", found, "none of them: one text is chosen, and comes at once");
            }
        }
        let tokens = body.max_completion_tokens.or(body.max_tokens);
        let tokens = if kind == Kind::Completion { tokens.or(Some(TOKENS)) } else { tokens };
        if tokens == Some(0) {
            return wrong("max_tokens", "0".into(), "one at least");
        }
        let sampling = Sampling {
            temperature: body.temperature.unwrap_or(1.0),
            top_k: body.top_k.unwrap_or(0),
            top_p: body.top_p.unwrap_or(1.0),
        };
        sampling.check()?;
        Ok(Asked {
            model: body.model.unwrap_or_default(),
            budget: limits,
            input,
            tokens,
            choices,
            sampling,
            seed: body.seed.map(i64::cast_unsigned),
            stops,
            ignore_eos: body.ignore_eos.unwrap_or(false),
            likely,
            stream,
            stream_usage: body.stream_options.is_some_and(|options| options.include_usage),
            guided,
        })
    }
}

/// Refuses what would change the answer and is not served.
fn check_served(fields: &Map<String, Value>) -> Result<()> {
    for (name, nothing) in NOT_SERVED {
        let Some(found) = fields.get(name) else { continue };
        let nothing: Value = serde_json::from_str(nothing).expect("the table is JSON");
        let same = *found == nothing || found.as_f64().zip(nothing.as_f64()).is_some_and(|(a, b)| a == b);
        if !same {
            return Err(Error::invalid(name, found, format!("{nothing}, or no such field: it is not served here")));
        }
    }
    Ok(())
}

/// Messages whose content is one text, as templates of models without pictures have it.
fn plain_messages(messages: Vec<Value>) -> Result<Vec<Value>> {
    let wrong = |found: String| Error::invalid("messages", found, "objects with `role` and a `content` of text");
    if messages.is_empty() {
        return Err(wrong("none".into()));
    }
    let plain = |message: Value| {
        let Value::Object(mut fields) = message else { return Err(wrong("no object".into())) };
        if !fields.get("role").is_some_and(Value::is_string) {
            return Err(wrong("no role".into()));
        }
        let content = match fields.remove("content") {
            Some(Value::String(text)) => text,
            None | Some(Value::Null) => String::new(),
            Some(Value::Array(parts)) => {
                let text = |part: &Value| {
                    let is_text = part.get("type").is_none_or(|kind| kind == "text");
                    part.get("text").and_then(Value::as_str).filter(|_| is_text).map(str::to_string)
                };
                let texts: Option<Vec<String>> = parts.iter().map(text).collect();
                texts.ok_or_else(|| wrong("a part that is no text".into()))?.concat()
            }
            Some(other) => return Err(wrong(other.to_string())),
        };
        fields.insert("content".into(), content.into());
        Ok(Value::Object(fields))
    };
    messages.into_iter().map(plain).collect()
}

/// What all answers to one request have in common.
#[derive(Clone)]
pub(super) struct Heading {
    pub(super) kind: Kind,
    pub(super) id: String,
    pub(super) created: u64,
    pub(super) model: String,
}

/// A choice that is whole.
#[derive(Default)]
pub(super) struct Choice {
    pub(super) written: Written,
    pub(super) ending: Option<Ending>,
    pub(super) tokens: usize,
}

fn finish_reason(ending: Option<Ending>) -> Value {
    match ending {
        None => Value::Null,
        Some(Ending::Stop) => "stop".into(),
        Some(Ending::Length | Ending::Timeout) => "length".into(),
    }
}

/// Tokens of prompts and of what was written.
pub(super) fn usage(prompt: usize, written: usize) -> Value {
    json!({ "prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written })
}

impl Heading {
    fn of_kind(&self, completion: &str, chat: &str) -> Map<String, Value> {
        let object = if self.kind == Kind::Chat { chat } else { completion };
        let Value::Object(fields) =
            json!({ "id": self.id, "object": object, "created": self.created, "model": self.model })
        else {
            return Map::new();
        };
        fields
    }

    /// The answer with everything in it.
    pub(super) fn whole(&self, choices: &[Choice], prompt: usize, tokenizer: &Tokenizer) -> Value {
        let choice = |(index, Choice { written, ending, .. }): (usize, &Choice)| {
            let (logprobs, reason) = (self.logprobs(written, 0, tokenizer), finish_reason(*ending));
            match self.kind {
                Kind::Completion => {
                    json!({ "index": index, "text": written.text, "logprobs": logprobs, "finish_reason": reason })
                }
                Kind::Chat => {
                    let message = json!({ "role": "assistant", "content": written.text, "refusal": null });
                    json!({ "index": index, "message": message, "logprobs": logprobs, "finish_reason": reason })
                }
            }
        };
        let mut fields = self.of_kind("text_completion", "chat.completion");
        fields.insert("choices".into(), choices.iter().enumerate().map(choice).collect());
        fields.insert("usage".into(), usage(prompt, choices.iter().map(|choice| choice.tokens).sum()));
        Value::Object(fields)
    }

    /// The answer to prompts of which each has chosen a text, with the share and the network of each; with the tokens of prompts, and of what
    /// was chosen.
    pub(super) fn chosen(&self, texts: &[(&str, f64, String)], prompt: usize, written: usize) -> Value {
        let choice = |(index, (text, share, network)): (usize, &(&str, f64, String))| {
            let (part, content) = match self.kind {
                Kind::Completion => ("text", json!(text)),
                Kind::Chat => ("message", json!({ "role": "assistant", "content": text, "refusal": null })),
            };
            json!({
                part: content, "index": index, "logprobs": null, "finish_reason": "stop", "share": share, "model": network,
            })
        };
        let mut fields = self.of_kind("text_completion", "chat.completion");
        fields.insert("choices".into(), texts.iter().enumerate().map(choice).collect());
        fields.insert("usage".into(), usage(prompt, written));
        Value::Object(fields)
    }

    /// A piece of a stream: of a choice that has `before` characters so far.
    pub(super) fn piece(
        &self,
        index: usize,
        written: &Written,
        before: usize,
        ending: Option<Ending>,
        tokenizer: &Tokenizer,
    ) -> Value {
        let (logprobs, reason) = (self.logprobs(written, before, tokenizer), finish_reason(ending));
        let choice = match self.kind {
            Kind::Completion => {
                json!({ "index": index, "text": written.text, "logprobs": logprobs, "finish_reason": reason })
            }
            Kind::Chat => {
                let delta = if ending.is_some() { json!({}) } else { json!({ "content": written.text }) };
                json!({ "index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason })
            }
        };
        self.of_stream(vec![choice])
    }

    /// What a stream of a chat begins with.
    pub(super) fn opening(&self, index: usize) -> Value {
        let delta = json!({ "role": "assistant", "content": "" });
        self.of_stream(vec![json!({ "index": index, "delta": delta, "logprobs": null, "finish_reason": null })])
    }

    /// What a stream ends with where that is asked for.
    pub(super) fn closing(&self, usage: Value) -> Value {
        let mut fields = self.of_kind("text_completion", "chat.completion.chunk");
        fields.insert("choices".into(), json!([]));
        fields.insert("usage".into(), usage);
        Value::Object(fields)
    }

    fn of_stream(&self, choices: Vec<Value>) -> Value {
        let mut fields = self.of_kind("text_completion", "chat.completion.chunk");
        fields.insert("choices".into(), choices.into());
        Value::Object(fields)
    }

    fn logprobs(&self, Written { tokens, .. }: &Written, before: usize, tokenizer: &Tokenizer) -> Value {
        if tokens.is_empty() {
            return Value::Null;
        }
        let text = |likely: &Likely| text_of(likely.token, tokenizer);
        if self.kind == Kind::Chat {
            let entry = |likely: &Likely| {
                let text = text(likely);
                // Parts of a character have bytes of their own, which the tokenizer does not say.
                let bytes = (!text.contains(char::REPLACEMENT_CHARACTER)).then(|| text.as_bytes().to_vec());
                json!({ "token": text, "logprob": likely.log_probability, "bytes": bytes })
            };
            let content = tokens.iter().map(|(own, top)| {
                let mut fields = entry(own);
                if let Some(fields) = fields.as_object_mut() {
                    fields.insert("top_logprobs".into(), top.iter().map(entry).collect());
                }
                fields
            });
            return json!({ "content": content.collect::<Vec<Value>>(), "refusal": null });
        }
        let mut offset = before;
        let mut offsets = Vec::new();
        for (own, _) in tokens {
            offsets.push(offset);
            offset += text(own).chars().count();
        }
        let top = |(_, top): &(Likely, Vec<Likely>)| -> Map<String, Value> {
            top.iter().map(|likely| (text(likely), likely.log_probability.into())).collect()
        };
        json!({
            "tokens": tokens.iter().map(|(own, _)| text(own)).collect::<Vec<_>>(),
            "token_logprobs": tokens.iter().map(|(own, _)| own.log_probability).collect::<Vec<_>>(),
            "top_logprobs": tokens.iter().map(top).collect::<Vec<_>>(),
            "text_offset": offsets,
        })
    }
}

/// A token's text as it is behind others: some decoders leave away the space that a text begins with.
fn text_of(token: u32, tokenizer: &Tokenizer) -> String {
    let [once, twice] = [&[token][..], &[token, token]].map(|tokens| tokenizer.decode(tokens).unwrap_or_default());
    twice.strip_prefix(once.as_str()).map_or(once.clone(), str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completion(body: Value) -> Result<Asked> {
        Asked::read(Kind::Completion, body.to_string().as_bytes())
    }

    fn chat(body: Value) -> Result<Asked> {
        Asked::read(Kind::Chat, body.to_string().as_bytes())
    }

    #[test]
    fn a_completion_has_the_defaults_of_the_api() {
        let asked = completion(json!({ "model": "m", "prompt": "Hello", "user": "me", "stop": null })).unwrap();
        assert_eq!((asked.tokens, asked.choices, asked.stream, asked.likely), (Some(16), 1, false, None));
        assert_eq!(asked.sampling, Sampling { temperature: 1.0, top_k: 0, top_p: 1.0 });
        assert_eq!(asked.input, Input::Prompt(Prompt::Text("Hello".into())));
        let asked =
            completion(json!({ "prompt": [1, 2], "stop": ["a"], "logprobs": 3, "max_tokens": 4, "seed": 5 })).unwrap();
        assert_eq!(asked.input, Input::Prompt(Prompt::Tokens(vec![1, 2])));
        assert_eq!(
            (asked.stops, asked.likely, asked.tokens, asked.seed),
            (vec!["a".to_string()], Some(3), Some(4), Some(5))
        );
        assert!(matches!(
            completion(json!({ "prompt": [[1], [2]] })).unwrap().input,
            Input::Prompt(Prompt::ManyTokens(_))
        ));
    }

    #[test]
    fn a_chat_joins_parts_of_text() {
        let parts = json!([{ "type": "text", "text": "Hel" }, { "type": "text", "text": "lo" }]);
        let asked =
            chat(json!({ "messages": [{ "role": "user", "content": parts }], "max_completion_tokens": 7 })).unwrap();
        assert_eq!(asked.input, Input::Messages(vec![json!({ "role": "user", "content": "Hello" })]));
        assert_eq!(asked.tokens, Some(7));
        let more = json!({ "messages": [{ "role": "user", "content": "x" }], "logprobs": true, "top_logprobs": 2,
            "stream": true, "stream_options": { "include_usage": true } });
        let asked = chat(more).unwrap();
        assert_eq!((asked.likely, asked.tokens, asked.stream, asked.stream_usage), (Some(2), None, true, true));
    }

    #[test]
    fn budgets_are_numbers_or_text() {
        let asked =
            completion(json!({ "prompt": "x", "params": "100M", "latency_ms": 30, "decode_tps": ">= 5" })).unwrap();
        let limits: Vec<String> = asked.budget.iter().map(Constraint::to_string).collect();
        let expected: Vec<String> = ["latency_ms<=30", "decode_tps>=5", "params<=100M"]
            .iter()
            .map(|text| text.parse::<Constraint>().unwrap().to_string())
            .collect();
        assert_eq!(limits, expected);
        assert!(completion(json!({ "prompt": "x", "params": true })).is_err());
        assert!(completion(json!({ "prompt": "x", "params": "much" })).is_err());
        assert_eq!(budget("speed", "3").unwrap(), None);
    }

    #[test]
    fn what_is_not_served_and_what_is_wrong_are_named() {
        let error = |body: Value| completion(body).unwrap_err().to_string();
        for (field, value) in [
            ("echo", json!(true)),
            ("best_of", json!(3)),
            ("presence_penalty", json!(0.5)),
            ("logit_bias", json!({ "5": 3 })),
            ("n", json!(0)),
            ("n", json!(1000)),
            ("stop", json!([""])),
            ("logprobs", json!(21)),
            ("max_tokens", json!(0)),
            ("temperature", json!(-1)),
            ("top_p", json!(0)),
            ("guided_choice", json!([])),
            ("guided_choice", json!(["a"])),
            ("guided_choice", json!(["a", ""])),
        ] {
            let said = error(json!({ "prompt": "x", field: value }));
            let named = [field, "top-p"].iter().any(|name| said.contains(name));
            assert!(named, "{field}: {said}");
        }
        assert!(completion(json!({ "prompt": "x", "echo": false, "presence_penalty": 0.0, "best_of": 1 })).is_ok());
        let both = json!({ "prompt": "x", "guided_choice": ["a", "b"], "stream": true });
        assert!(error(both).contains("comes at once"));
        assert!(error(json!({})).contains("prompt"));
        assert!(error(json!([1])).contains("a JSON object"));
        assert!(Asked::read(Kind::Chat, b"{").unwrap_err().to_string().contains("JSON"));
        for messages in [
            json!([]),
            json!([1]),
            json!([{ "content": "x" }]),
            json!([{ "role": "user", "content": 3 }]),
            json!([{ "role": "user", "content": [{ "type": "image_url" }] }]),
        ] {
            let said = chat(json!({ "messages": messages })).unwrap_err().to_string();
            assert!(said.contains("messages"), "{said}");
        }
        let tools = json!({ "messages": [{ "role": "user", "content": "x" }], "tools": [{}] });
        assert!(chat(tools).unwrap_err().to_string().contains("not served here"));
    }
}
