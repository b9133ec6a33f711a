//! Conversations: the text that the chat template makes of them, and which of it the assistant says.

use serde_json::Value;

use crate::error::Result;
use crate::tune::conversation::Conversation;
use crate::tune::part::Part;
use crate::tune::record::Record;
use crate::tune::template::Template;

/// A record's conversation as the template writes it: the turns that are to be learned, with what the template writes to end them,
/// and what stands between.
///
/// Where a turn begins and ends is what the template makes of the conversation up to it and through it: a template
/// that writes those otherwise once more messages follow cannot be taken apart so.
///
/// # Errors
/// When the template refuses the conversation, or rewrites what stands before.
pub fn parts(record: &Record, conversation: &Conversation, template: &Template) -> Result<Vec<Part>> {
    let messages: Vec<Value> = conversation.messages.iter().map(|message| message.fields.clone()).collect();
    let render = |count: usize, prompt: bool| {
        let wrong = |reason| record.error(format!("the template ({}) does not take it: {reason}", template.name()));
        template.render(&messages[..count], &conversation.tools, prompt).map_err(wrong)
    };

    let whole = render(messages.len(), false)?;
    let mut parts = Vec::new();
    let mut read = 0;
    for (place, _) in conversation.messages.iter().enumerate().filter(|(_, message)| message.learned) {
        let (before, through) = (render(place, true)?, render(place + 1, false)?);
        let fits = whole.starts_with(&through) && through.starts_with(&before) && before.len() >= read;
        if !fits {
            return Err(record.error(format!(
                "the template ({}) writes the messages up to number {} not as in the whole conversation, so the \
                 assistant's words cannot be found; split the conversation there, or give the tokenizer a template \
                 that writes a turn the same whatever follows",
                template.name(),
                place + 1
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
        parts_with(json!({ "messages": messages(turns) }), &template(source))
    }

    fn parts_with(fields: Json, template: &Template) -> Result<Vec<Part>> {
        let record = record(fields);
        parts(&record, &Conversation::of(&record, &["messages"])?, template)
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
    fn turns_that_are_not_to_be_learned_are_given() {
        let turns = json!([
            { "from": "human", "value": "u" },
            { "from": "gpt", "value": "a", "weight": 0 },
            { "from": "human", "value": "v", "weight": 0 },
            { "from": "gpt", "value": "b", "weight": 1 },
        ]);
        let given = "<|im_start|>user\nu<|im_end|>\n<|im_start|>assistant\na<|im_end|>\n<|im_start|>user\nv<|im_end|>\n\
                     <|im_start|>assistant\n";
        let expected = [Part::given(given), Part::learned("b<|im_end|>\n")];
        assert_eq!(parts_with(json!({ "messages": turns }), &template(None)).unwrap(), expected);
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
        let parts = parts_with(fields, &template(Some("{{ tools | tojson }}"))).unwrap();
        assert_eq!(parts, [Part::given(r#"[{"name": "f", "args": {}}]"#)]);
    }

    #[test]
    fn templates_that_rewrite_what_was_said_are_refused() {
        let turns = [("user", "u"), ("assistant", "a"), ("user", "v"), ("assistant", "b")];
        let error = parts_of(Some("{{ messages|length }}"), &turns).unwrap_err().to_string();
        let start = "a.jsonl: not a valid training data file: line 7: the template (chat_template.jinja) writes the \
                     messages up to number 2 not as in the whole conversation";
        assert!(error.starts_with(start), "{error}");
        let error = parts_of(Some("{{ raise_exception('no system role') }}"), &turns).unwrap_err().to_string();
        assert!(
            error.ends_with("line 7: the template (chat_template.jinja) does not take it: no system role"),
            "{error}"
        );
    }
}
