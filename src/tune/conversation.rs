//! A record's conversation: the messages that its fields hold, in order, and the tools that are there for it.

use serde_json::Value;

use crate::error::Result;
use crate::task::kind_of;
use crate::tune::message::Message;
use crate::tune::record::Record;

/// What a chat template is given.
#[derive(Clone, Debug, PartialEq)]
pub struct Conversation {
    /// The messages.
    pub messages: Vec<Message>,
    /// Descriptions of tools; null where there are none.
    pub tools: Value,
}

impl Conversation {
    /// The conversation that a record holds in these fields: one list of messages, or what is asked and what is answered, each as text
    /// or as messages. Of two only the second is learned. A `system` or `system_prompt` of its own comes first.
    ///
    /// # Errors
    /// A field or a message that is none.
    pub fn of(record: &Record, fields: &[&str]) -> Result<Conversation> {
        let mut messages = match fields {
            [asked, answered] => {
                let mut messages = said(record, asked, "user")?;
                messages.iter_mut().for_each(|message| message.learned = false);
                messages.extend(said(record, answered, "assistant")?);
                messages
            }
            _ => fields.iter().map(|field| list(record, field)).collect::<Result<Vec<_>>>()?.concat(),
        };
        let own = messages.first().is_some_and(|message| message.role() == "system");
        let system = match record.optional_text("system")? {
            "" => record.optional_text("system_prompt")?,
            system => system,
        };
        if !own && !system.is_empty() {
            messages.insert(0, Message::said("system", system));
        }
        Ok(Conversation { messages, tools: tools(record)? })
    }
}

/// A field's text as one message, or its messages.
fn said(record: &Record, field: &str, role: &str) -> Result<Vec<Message>> {
    match record.value(field) {
        Some(Value::Array(_)) => list(record, field),
        _ => Ok(vec![Message::said(role, record.text(field)?)]),
    }
}

/// A field's messages, of which there must be one.
fn list(record: &Record, field: &str) -> Result<Vec<Message>> {
    let wrong = |found: &str| record.error(format!("`{field}`: found {found}, expected a list of {{role, content}}"));
    match record.value(field) {
        Some(Value::Array(messages)) if messages.is_empty() => Err(wrong("no message")),
        Some(Value::Array(messages)) => {
            let read = |(place, message)| Message::read(message, &format!("{field}[{place}]"));
            messages
                .iter()
                .enumerate()
                .map(read)
                .collect::<std::result::Result<_, _>>()
                .map_err(|reason| record.error(reason))
        }
        other => Err(wrong(other.map_or("null", kind_of))),
    }
}

/// The tools as they are, or as JSON in text, which sets with a column of text have.
fn tools(record: &Record) -> Result<Value> {
    match record.value("tools") {
        None => Ok(Value::Null),
        Some(Value::String(text)) if text.trim().is_empty() => Ok(Value::Null),
        Some(Value::String(text)) => serde_json::from_str(text)
            .map_err(|error| record.error(format!("`tools`: found text that is no JSON ({error}), expected a list"))),
        Some(tools) => Ok(tools.clone()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::tune::record::tests::record;

    /// Each message's role and content, and whether it is learned.
    fn of(fields: &[&str], value: Value) -> Vec<(String, String, bool)> {
        let text = |message: &Message, field: &str| message.fields[field].as_str().unwrap().to_string();
        let messages = Conversation::of(&record(value), fields).unwrap().messages;
        messages.iter().map(|one| (text(one, "role"), text(one, "content"), one.learned)).collect()
    }

    fn message(role: &str, content: &str, learned: bool) -> (String, String, bool) {
        (role.to_string(), content.to_string(), learned)
    }

    #[test]
    fn a_list_and_a_pair_are_conversations() {
        let list = json!([{ "from": "human", "value": "u" }, { "from": "gpt", "value": "a" }]);
        let both = [message("user", "u", false), message("assistant", "a", true)];
        assert_eq!(of(&["conversations"], json!({ "conversations": list })), both);
        assert_eq!(of(&["question", "answer"], json!({ "question": "u", "answer": "a" })), both);
        let more = json!([{ "role": "user", "content": "v" }, { "role": "assistant", "content": "b" }]);
        let four = [
            &both[..1],
            &[message("assistant", "a", false), message("user", "v", false), message("assistant", "b", true)],
        ]
        .concat();
        assert_eq!(
            of(&["prompt", "completion"], json!({ "prompt": list, "completion": more })),
            four,
            "of two the second is learned"
        );
        assert_eq!(
            of(&["prompt", "response"], json!({ "prompt": list, "response": "b" }))[1..],
            [message("assistant", "a", false), message("assistant", "b", true)]
        );
    }

    #[test]
    fn a_system_prompt_of_the_record_comes_first_where_the_conversation_has_none() {
        let user = json!([{ "role": "user", "content": "u" }]);
        let expected = [message("system", "s", false), message("user", "u", false)];
        for field in ["system", "system_prompt"] {
            assert_eq!(of(&["messages"], json!({ "messages": user, field: "s" })), expected);
            assert_eq!(of(&["messages"], json!({ "messages": user, field: "" }))[..], expected[1..]);
        }
        let own = json!([{ "role": "system", "content": "s" }, { "role": "user", "content": "u" }]);
        assert_eq!(of(&["messages"], json!({ "messages": own, "system": "other" })), expected);
    }

    #[test]
    fn tools_may_be_json_in_text() {
        let of = |tools: Value| {
            let fields = json!({ "messages": [{ "role": "user", "content": "u" }], "tools": tools });
            Conversation::of(&record(fields), &["messages"]).map(|conversation| conversation.tools)
        };
        let tools = json!([{ "name": "f" }]);
        assert_eq!(of(tools.clone()).unwrap(), tools);
        assert_eq!(of(json!(tools.to_string())).unwrap(), tools);
        assert_eq!((of(json!(" ")).unwrap(), of(json!(null)).unwrap()), (Value::Null, Value::Null));
        assert!(of(json!("f")).unwrap_err().to_string().contains("`tools`: found text that is no JSON"));
    }

    #[test]
    fn what_is_no_conversation_is_named() {
        for (value, reason) in [
            (json!([]), "`messages`: found no message, expected a list of {role, content}"),
            (json!(null), "`messages`: found null, expected a list"),
            (json!("u"), "`messages`: found text, expected a list"),
            (json!([{ "role": "user", "content": "u" }, { "role": "user" }]), "`messages[1].content`: found nothing"),
        ] {
            let error = Conversation::of(&record(json!({ "messages": value })), &["messages"]).unwrap_err().to_string();
            assert!(error.contains(&format!("line 7: {reason}")), "{error}");
        }
        let error = Conversation::of(&record(json!({ "question": 1, "answer": "a" })), &["question", "answer"]);
        assert!(error.unwrap_err().to_string().ends_with("line 7: `question`: found a number, expected text"));
    }
}
