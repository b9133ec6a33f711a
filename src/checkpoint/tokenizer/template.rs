//! What the post-processor of `tokenizer.json` puts around a text.

use std::path::Path;

use serde_json::{Value, json};

use crate::error::{Error, Result};

/// Tokens that stand around every text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Template {
    pub(super) before: Vec<u32>,
    pub(super) behind: Vec<u32>,
}

impl Template {
    /// What a post-processor does to a single text.
    ///
    /// # Errors
    /// `Format` when it is of a kind that is not known, or does not hold the text once.
    pub(super) fn of(path: &Path, post_processor: &Value) -> Result<Template> {
        Template::read(post_processor).ok_or_else(|| {
            let expected = "expected null, ByteLevel, TemplateProcessing with the text once, BertProcessing, \
                            RobertaProcessing or a Sequence with one of them";
            Error::format(path, "tokenizer.json", format!("post_processor: found {post_processor}, {expected}"))
        })
    }

    fn read(step: &Value) -> Option<Template> {
        if step.is_null() {
            return Some(Template::default());
        }
        match step["type"].as_str()? {
            "ByteLevel" => Some(Template::default()),
            "TemplateProcessing" => Template::of_pieces(step["single"].as_array()?, &step["special_tokens"]),
            "BertProcessing" | "RobertaProcessing" => {
                let id = |name: &str| Some(vec![number(&step[name][1])?]);
                Some(Template { before: id("cls")?, behind: id("sep")? })
            }
            "Sequence" => {
                let steps = step["processors"].as_array()?.iter().map(Template::read).collect::<Option<Vec<_>>>()?;
                let mut adding = steps.into_iter().filter(|step| *step != Template::default());
                // What a second one makes of the first one's tokens differs between versions of the tokenizers.
                let template = adding.next().unwrap_or_default();
                adding.next().is_none().then_some(template)
            }
            _ => None,
        }
    }

    fn of_pieces(pieces: &[Value], special_tokens: &Value) -> Option<Template> {
        let text = pieces.iter().position(|piece| piece.get("Sequence").is_some())?;
        let ids = |pieces: &[Value]| -> Option<Vec<u32>> {
            let lists = pieces.iter().map(|piece| {
                let name = piece.get("SpecialToken")?.get("id")?.as_str()?;
                special_tokens.get(name)?.get("ids")?.as_array()?.iter().map(number).collect()
            });
            Some(lists.collect::<Option<Vec<Vec<u32>>>>()?.concat())
        };
        Some(Template { before: ids(&pieces[..text])?, behind: ids(&pieces[text + 1..])? })
    }
}

/// The step that puts BOS before a text and EOS behind it.
pub(crate) fn json(bos: Option<(u32, &str)>, eos: Option<(u32, &str)>) -> Value {
    if bos.is_none() && eos.is_none() {
        return Value::Null;
    }
    let sequence = |id: &str, type_id: u32| {
        let token = |special: Option<(u32, &str)>| {
            special.map(|(_, text)| json!({ "SpecialToken": { "id": text, "type_id": type_id } }))
        };
        let text = json!({ "Sequence": { "id": id, "type_id": type_id } });
        token(bos).into_iter().chain([text]).chain(token(eos)).collect::<Vec<_>>()
    };
    let pair = [sequence("A", 0), sequence("B", 1)].concat();
    let specials = bos.into_iter().chain(eos);
    json!({
        "type": "TemplateProcessing",
        "single": sequence("A", 0),
        "pair": pair,
        "special_tokens": specials
            .map(|(id, text)| (text.to_string(), json!({ "id": text, "ids": [id], "tokens": [text] })))
            .collect::<serde_json::Map<_, _>>(),
    })
}

fn number(value: &Value) -> Option<u32> {
    u32::try_from(value.as_u64()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(single: Value) -> Value {
        json!({ "type": "TemplateProcessing", "single": single, "pair": [],
                "special_tokens": { "<s>": { "id": "<s>", "ids": [1], "tokens": ["<s>"] },
                                    "</s>": { "id": "</s>", "ids": [2, 3], "tokens": ["</s>", "."] } } })
    }

    #[test]
    fn reads_what_stands_around_the_text() {
        let token = |name: &str| json!({ "SpecialToken": { "id": name, "type_id": 0 } });
        let text = json!({ "Sequence": { "id": "A", "type_id": 0 } });
        let both = template(json!([token("<s>"), text, token("</s>")]));
        let cases = [
            (Value::Null, vec![], vec![]),
            (json!({ "type": "ByteLevel", "trim_offsets": true }), vec![], vec![]),
            (both.clone(), vec![1], vec![2, 3]),
            (json!({ "type": "Sequence", "processors": [{ "type": "ByteLevel" }, both] }), vec![1], vec![2, 3]),
            (json!({ "type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0] }), vec![0], vec![2]),
        ];
        for (step, before, behind) in cases {
            assert_eq!(Template::of(Path::new("m"), &step).unwrap(), Template { before, behind }, "{step}");
        }
        let strange = [
            template(json!([token("<s>")])),
            template(json!([text, text])),
            template(json!([text, token("<x>")])),
            json!({ "type": "Other" }),
        ];
        for step in strange {
            let error = Template::of(Path::new("m"), &step).unwrap_err().to_string();
            assert!(error.contains("post_processor: found {") && error.contains("expected null"), "{error}");
        }
    }
}
