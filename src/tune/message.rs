//! A message of a conversation, as the many kinds of training data write it and as chat templates take it.

use serde_json::{Map, Value};

use crate::task::kind_of;

/// Why a message cannot be used: a reason for people, without the file and the record, which the caller knows.
type Result<T, E = String> = std::result::Result<T, E>;

/// The role whose words are learned.
const ASSISTANT: &str = "assistant";

/// The roles that data name, in lower case, and what chat templates call them. The second half are ShareGPT's and its
/// relatives'.
const ROLES: [(&str, &str); 15] = [
    ("system", "system"),
    ("developer", "developer"),
    ("user", "user"),
    (ASSISTANT, ASSISTANT),
    ("tool", "tool"),
    ("function", "function"),
    ("ipython", "ipython"),
    ("human", "user"),
    ("gpt", ASSISTANT),
    ("model", ASSISTANT),
    ("bot", ASSISTANT),
    ("chatgpt", ASSISTANT),
    ("bing", ASSISTANT),
    ("bard", ASSISTANT),
    ("observation", "tool"),
];

/// A message in the form of a chat template: an object with `role` and `content`.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// All of its fields but those that are null.
    pub fields: Value,
    /// Whether its words are to be learned.
    pub learned: bool,
}

impl Message {
    /// What someone says; the assistant's words are learned.
    pub fn said(role: &str, content: &str) -> Message {
        Message { fields: serde_json::json!({ "role": role, "content": content }), learned: role == ASSISTANT }
    }

    /// A message as data write it: `{role, content}`, or ShareGPT's `{from, value}`. The content is text, or a list of parts of text.
    /// Beside tool calls it may be missing. The assistant's words are learned unless `train` is false or `weight` is 0. `at` is
    /// where it is in its record, such as `messages[1]`.
    pub fn read(value: &Value, at: &str) -> Result<Message> {
        let Some(object) = value.as_object() else {
            return Err(format!("`{at}`: found {}, expected {{role, content}} or {{from, value}}", kind_of(value)));
        };
        let name = |usual: &'static str, other: &'static str| if object.contains_key(usual) { usual } else { other };
        let (speaker, words) = (name("role", "from"), name("content", "value"));
        let role = role(object.get(speaker), at)?;
        let content = match object.get(words) {
            None | Some(Value::Null) if calls_tools(object) => String::new(),
            // An error about a field that neither form has names the usual one.
            None => return Err(format!("`{at}.content`: found nothing, expected text")),
            Some(content) => text_of(content, &format!("{at}.{words}"))?,
        };
        let mut learned = role == ASSISTANT;
        for flag in ["train", "weight"] {
            learned &= is_set(object.get(flag), &format!("{at}.{flag}"))?;
        }
        let mut fields = Map::from_iter([("role".to_string(), role.into()), ("content".to_string(), content.into())]);
        // Tables give every message all columns of the file, null where it has none; a template would take them for given.
        let others =
            object.iter().filter(|(name, value)| ![speaker, words].contains(&name.as_str()) && !value.is_null());
        fields.extend(others.map(|(name, value)| (name.clone(), value.clone())));
        Ok(Message { fields: Value::Object(fields), learned })
    }

    /// Who speaks.
    pub fn role(&self) -> &str {
        self.fields["role"].as_str().unwrap_or_default()
    }
}

fn calls_tools(message: &Map<String, Value>) -> bool {
    message.get("tool_calls").and_then(Value::as_array).is_some_and(|calls| !calls.is_empty())
}

fn role(value: Option<&Value>, at: &str) -> Result<&'static str> {
    let Some(Value::String(name)) = value else {
        return Err(format!("`{at}.role`: found {}, expected text", value.map_or("nothing", kind_of)));
    };
    let lower = name.to_lowercase();
    ROLES.iter().find(|(known, _)| *known == lower).map(|(_, role)| *role).ok_or_else(|| {
        let known: Vec<&str> = ROLES.iter().map(|(known, _)| *known).collect();
        format!("`{at}`: found the role {name:?}, expected one of {}", known.join(", "))
    })
}

/// The text of a content: its own, or that of its parts.
fn text_of(content: &Value, at: &str) -> Result<String> {
    match content {
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) => {
            parts.iter().enumerate().map(|(place, part)| text_of_part(part, &format!("{at}[{place}]"))).collect()
        }
        other => Err(format!("`{at}`: found {}, expected text", kind_of(other))),
    }
}

fn text_of_part(part: &Value, at: &str) -> Result<String> {
    match (part, part.get("type").and_then(Value::as_str), part.get("text")) {
        (Value::String(text), ..) | (_, Some("text"), Some(Value::String(text))) => Ok(text.clone()),
        (_, Some("text"), text) => {
            Err(format!("`{at}.text`: found {}, expected text", text.map_or("nothing", kind_of)))
        }
        (_, Some(other), _) => {
            Err(format!("`{at}`: found a part of type {other:?}, expected \"text\", which is all this model reads"))
        }
        (_, None, _) => Err(format!("`{at}`: found {}, expected {{\"type\": \"text\", \"text\": ...}}", kind_of(part))),
    }
}

/// A flag that is set unless it says otherwise.
fn is_set(flag: Option<&Value>, at: &str) -> Result<bool> {
    match flag {
        None | Some(Value::Null) => Ok(true),
        Some(Value::Bool(set)) => Ok(*set),
        Some(other) => match other.as_f64() {
            Some(weight) if weight == 0.0 || weight == 1.0 => Ok(weight == 1.0),
            _ => Err(format!("`{at}`: found {other}, expected true or 1, false or 0")),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Result<Message> {
        Message::read(&value, "messages[1]")
    }

    #[test]
    fn both_ways_of_writing_and_all_names_are_one() {
        for (value, role, learned) in [
            (json!({ "role": "assistant", "content": "a" }), "assistant", true),
            (json!({ "from": "gpt", "value": "a" }), "assistant", true),
            (json!({ "from": "ChatGPT", "value": "a", "weight": null }), "assistant", true),
            (json!({ "role": "model", "value": "a", "train": true, "weight": 1.0 }), "assistant", true),
            (json!({ "from": "gpt", "value": "a", "weight": 0 }), "assistant", false),
            (json!({ "from": "gpt", "value": "a", "train": false }), "assistant", false),
            (json!({ "from": "human", "value": "a" }), "user", false),
            (json!({ "from": "human", "value": "a", "train": true }), "user", false),
            (json!({ "from": "system", "value": "a" }), "system", false),
            (json!({ "from": "observation", "value": "a" }), "tool", false),
            (json!({ "role": "ipython", "content": "a" }), "ipython", false),
        ] {
            let message = read(value.clone()).unwrap();
            assert_eq!(
                (message.role(), &message.fields["content"], message.learned),
                (role, &json!("a"), learned),
                "{value}"
            );
        }
        assert!(ROLES.iter().all(|(known, role)| *known == known.to_lowercase() && ROLES.contains(&(*role, *role))));
    }

    #[test]
    fn parts_of_text_are_joined() {
        let parts = json!([{ "type": "text", "text": "a " }, "b", { "type": "text", "text": "c", "image": null }]);
        assert_eq!(read(json!({ "role": "user", "content": parts })).unwrap().fields["content"], "a bc");
    }

    #[test]
    fn other_fields_stay_and_nulls_go() {
        let calls = json!([{ "function": { "name": "f" } }]);
        let message =
            read(json!({ "name": "n", "from": "gpt", "value": null, "tool_calls": calls, "id": null })).unwrap();
        assert_eq!(
            message.fields,
            json!({ "role": "assistant", "content": "", "name": "n", "tool_calls": calls }),
            "beside tool calls there may be no words"
        );
    }

    #[test]
    fn what_is_no_message_is_named() {
        for (value, reason) in [
            (json!("u"), "`messages[1]`: found text, expected {role, content} or {from, value}"),
            (json!({ "content": "u" }), "`messages[1].role`: found nothing, expected text"),
            (json!({ "role": 1, "content": "u" }), "`messages[1].role`: found a number, expected text"),
            (json!({ "role": "user" }), "`messages[1].content`: found nothing, expected text"),
            (json!({ "role": "user", "content": null }), "`messages[1].content`: found null, expected text"),
            (json!({ "from": "human", "value": 1 }), "`messages[1].value`: found a number, expected text"),
            (json!({ "from": "gpt", "value": null, "tool_calls": [] }), "`messages[1].value`: found null"),
            (
                json!({ "from": "narrator", "value": "u" }),
                "`messages[1]`: found the role \"narrator\", expected one of system, developer, user, assistant, tool",
            ),
            (
                json!({ "role": "user", "content": ["a", { "type": "image_url", "image_url": {} }] }),
                "`messages[1].content[1]`: found a part of type \"image_url\", expected \"text\"",
            ),
            (
                json!({ "role": "user", "content": [{ "type": "text" }] }),
                "`messages[1].content[0].text`: found nothing, expected text",
            ),
            (json!({ "role": "user", "content": [7] }), "`messages[1].content[0]`: found a number, expected {\"type\""),
            (
                json!({ "from": "gpt", "value": "a", "weight": 0.5 }),
                "`messages[1].weight`: found 0.5, expected true or 1, false or 0",
            ),
        ] {
            let error = read(value.clone()).unwrap_err();
            assert!(error.starts_with(reason), "{value}: {error}");
        }
    }
}
