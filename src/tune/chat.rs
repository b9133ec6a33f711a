//! Conversations: the text that the chat template makes of them, and which of it the assistant says.

use minijinja::Value;

use crate::error::Result;
use crate::task::kind_of;
use crate::tune::part::Part;
use crate::tune::record::Record;
use crate::tune::template::Template;

/// The role whose words are learned.
const ASSISTANT: &str = "assistant";

/// A record's `messages`, and its `tools` where it has some, as the template writes them: the assistant's turns are to
/// be learned, with what the template writes to end them.
///
/// Where a turn begins and ends is what the template makes of the conversation up to it and through it: a template
/// that writes those otherwise once more messages follow cannot be taken apart so.
///
/// # Errors
/// When the template refuses the conversation, or rewrites what stands before.
pub fn parts(record: &Record, template: &Template) -> Result<Vec<Part>> {
    let roles = roles(record)?;
    let value = |field| record.value(field).map_or_else(|| Value::from(()), Value::from_serialize);
    let (tools, messages) = (value("tools"), value("messages"));
    let messages: Vec<Value> = messages.try_iter().map_err(|error| record.error(error))?.collect();
    let render = |count: usize, prompt: bool| {
        let wrong = |reason| record.error(format!("the template ({}) does not take it: {reason}", template.name()));
        template.render(&messages[..count], &tools, prompt).map_err(wrong)
    };

    let whole = render(messages.len(), false)?;
    let mut parts = Vec::new();
    let mut read = 0;
    for (place, _) in roles.iter().enumerate().filter(|(_, role)| **role == ASSISTANT) {
        let (before, through) = (render(place, true)?, render(place + 1, false)?);
        let fits = whole.starts_with(&through) && through.starts_with(&before) && before.len() >= read;
        if !fits {
            return Err(record.error(format!(
                "the template ({}) writes messages up to `messages[{place}]` not as in the whole conversation, so the \
                 assistant's words cannot be found; split the conversation there, or give the tokenizer a template \
                 that writes a turn the same whatever follows",
                template.name()
            )));
        }
        parts.push(Part::given(&whole[read..before.len()]));
        parts.push(Part::learned(&whole[before.len()..through.len()]));
        read = through.len();
    }
    parts.push(Part::given(&whole[read..]));
    parts.retain(|part| !part.text.is_empty());
    Ok(parts)
}

/// The speakers of a record's messages, which all must have a role and a content.
fn roles(record: &Record) -> Result<Vec<&str>> {
    let messages = record.value("messages");
    let Some(messages) = messages.and_then(|messages| messages.as_array()).filter(|messages| !messages.is_empty())
    else {
        let found =
            messages.map_or("null", |messages| if messages.is_array() { "no message" } else { kind_of(messages) });
        return Err(record.error(format!("`messages`: found {found}, expected a list of {{role, content}}")));
    };
    let mut roles = Vec::with_capacity(messages.len());
    for (place, message) in messages.iter().enumerate() {
        for field in ["role", "content"] {
            let value = message.get(field);
            if !value.is_some_and(|value| value.is_string()) {
                let found = value.map_or("nothing", kind_of);
                return Err(record.error(format!("`messages[{place}].{field}`: found {found}, expected text")));
            }
        }
        roles.extend(message["role"].as_str());
    }
    Ok(roles)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::checkpoint::ChatTemplate;
    use crate::tune::fixture::tiny;
    use crate::tune::record::tests::record;

    fn template(source: Option<&str>) -> Template {
        let own = source.map(|source| ChatTemplate {
            path: "model".into(),
            file: "chat_template.jinja",
            source: source.to_string(),
            special_tokens: vec![],
        });
        Template::new(own.as_ref(), &tiny()).unwrap()
    }

    fn messages(turns: &[(&str, &str)]) -> Json {
        turns.iter().map(|(role, content)| json!({ "role": role, "content": content })).collect()
    }

    fn parts_of(source: Option<&str>, turns: &[(&str, &str)]) -> Result<Vec<Part>> {
        parts(&record(json!({ "messages": messages(turns) })), &template(source))
    }

    #[test]
    fn the_assistants_turns_are_learned_with_their_ends() {
        let turns = [("system", "s"), ("user", "u"), ("assistant", "a"), ("user", "v"), ("assistant", "b")];
        let expected = [
            Part::given("<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nu<|im_end|>\n<|im_start|>assistant\n"),
            Part::learned("a<|im_end|>\n"),
            Part::given("<|im_start|>user\nv<|im_end|>\n<|im_start|>assistant\n"),
            Part::learned("b<|im_end|>\n"),
        ];
        assert_eq!(parts_of(None, &turns).unwrap(), expected);
        let last = Part::given("<|im_start|>user\nv<|im_end|>\n");
        assert_eq!(parts_of(None, &turns[..4]).unwrap(), [&expected[..2], &[last]].concat());
        let asked = Part::given("<|im_start|>user\nu<|im_end|>\n");
        assert_eq!(parts_of(None, &turns[1..2]).unwrap(), [asked], "nothing to learn");
        let said = [Part::given("<|im_start|>assistant\n"), Part::learned("a<|im_end|>\n")];
        assert_eq!(parts_of(None, &turns[2..3]).unwrap(), said);
    }

    #[test]
    fn templates_without_a_generation_prompt_are_cut_where_the_answer_begins() {
        let source = "{% for m in messages %}{% if m.role == 'user' %}{{ bos_token ~ '[INST] ' ~ m.content ~ ' [/INST]' }}\
                      {% else %}{{ ' ' ~ m.content ~ ' ' ~ eos_token }}{% endif %}{% endfor %}";
        let turns = [("user", "u"), ("assistant", "a"), ("user", "v"), ("assistant", "b")];
        let given = |text| Part::given(format!("<s>[INST] {text} [/INST]"));
        let expected = [given("u"), Part::learned(" a </s>"), given("v"), Part::learned(" b </s>")];
        assert_eq!(parts_of(Some(source), &turns).unwrap(), expected);
    }

    #[test]
    fn tools_reach_the_template() {
        let fields = json!({ "messages": messages(&[("user", "u")]), "tools": [{ "name": "f", "args": {} }] });
        let parts = parts(&record(fields), &template(Some("{{ tools | tojson }}"))).unwrap();
        assert_eq!(parts, [Part::given(r#"[{"name": "f", "args": {}}]"#)]);
    }

    #[test]
    fn templates_that_rewrite_what_was_said_are_refused() {
        let turns = [("user", "u"), ("assistant", "a"), ("user", "v"), ("assistant", "b")];
        let error = parts_of(Some("{{ messages|length }}"), &turns).unwrap_err().to_string();
        let start = "a.jsonl: not a valid training data file: line 7: the template (chat_template.jinja) writes messages \
                     up to `messages[1]` not as in the whole conversation";
        assert!(error.starts_with(start), "{error}");
        let error = parts_of(Some("{{ raise_exception('no system role') }}"), &turns).unwrap_err().to_string();
        assert!(
            error.ends_with("line 7: the template (chat_template.jinja) does not take it: no system role"),
            "{error}"
        );
    }

    #[test]
    fn messages_without_role_or_content_are_named() {
        for (value, reason) in [
            (json!([]), "`messages`: found no message, expected a list of {role, content}"),
            (json!(null), "`messages`: found null, expected a list"),
            (json!("u"), "`messages`: found text, expected a list"),
            (json!([{ "role": "user", "content": "u" }, { "role": "user" }]), "`messages[1].content`: found nothing"),
            (json!([{ "role": "user", "content": null }]), "`messages[0].content`: found null, expected text"),
            (json!([{ "role": 1, "content": "u" }]), "`messages[0].role`: found a number, expected text"),
            (json!(["u"]), "`messages[0].role`: found nothing, expected text"),
        ] {
            let error = parts(&record(json!({ "messages": value })), &template(None)).unwrap_err().to_string();
            assert!(error.contains(&format!("line 7: {reason}")), "{error}");
        }
    }
}
