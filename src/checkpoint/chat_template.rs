//! The chat template that came with a tokenizer.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::hf::TokenizerFiles;
use crate::checkpoint::tokenizer::{TOKENIZER_CONFIG_FILE, TokenizerConfig};
use crate::error::{Error, Result};

const JINJA_FILE: &str = "chat_template.jinja";
const JSON_FILE: &str = "chat_template.json";
/// Of several named templates, the one for conversations without tools or documents.
const DEFAULT: &str = "default";

/// How a model writes conversations: Jinja, for transformers to render.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatTemplate {
    /// The checkpoint it came with, for messages.
    pub path: PathBuf,
    /// Which of its files it is from.
    pub file: &'static str,
    /// The template.
    pub source: String,
    /// Tokens that it may name, such as `bos_token`, and their text: those that tokenizer_config.json has.
    pub special_tokens: Vec<(&'static str, String)>,
}

impl ChatTemplate {
    /// The template of these files, where there is one: in `chat_template.jinja`, else `chat_template.json`, else
    /// `tokenizer_config.json`. `path` is for error messages.
    ///
    /// # Errors
    /// `Format` when what is there is no template.
    pub fn find(path: &Path, files: &TokenizerFiles) -> Result<Option<ChatTemplate>> {
        let settings = TokenizerConfig::of(path, files)?;
        let (file, source) = if let Some(bytes) = files.0.get(JINJA_FILE) {
            let text = String::from_utf8(bytes.clone());
            (JINJA_FILE, text.map_err(|error| Error::format(path, JINJA_FILE, error.to_string()))?)
        } else if let Some(bytes) = files.0.get(JSON_FILE) {
            let wrong = |error: serde_json::Error| Error::format(path, JSON_FILE, error.to_string());
            let value: Value = serde_json::from_slice(bytes).map_err(wrong)?;
            (JSON_FILE, chosen(path, JSON_FILE, value.get("chat_template").unwrap_or(&Value::Null))?)
        } else if let Some(value) = &settings.chat_template {
            (TOKENIZER_CONFIG_FILE, chosen(path, TOKENIZER_CONFIG_FILE, value)?)
        } else {
            return Ok(None);
        };
        let TokenizerConfig { bos_token, eos_token, unk_token, pad_token, .. } = settings;
        let named =
            [("bos_token", bos_token), ("eos_token", eos_token), ("unk_token", unk_token), ("pad_token", pad_token)];
        let special_tokens = named.into_iter().filter_map(|(name, token)| Some((name, token?.text().to_string())));
        Ok(Some(ChatTemplate { path: path.into(), file, source, special_tokens: special_tokens.collect() }))
    }
}

/// The template of a `chat_template` field: a text, or several with their names.
fn chosen(path: &Path, file: &'static str, value: &Value) -> Result<String> {
    let wrong = |found: String| {
        let expected = "expected a text, or a list of {name, template} with `default` among them";
        Error::format(path, file, format!("`chat_template`: found {found}, {expected}"))
    };
    let text = |value: &Value| value.as_str().map(String::from);
    let named = match value {
        Value::String(source) => return Ok(source.clone()),
        Value::Array(list) => {
            let pair = |entry: &Value| Some((text(entry.get("name")?)?, text(entry.get("template")?)?));
            list.iter().map(pair).collect::<Option<Vec<_>>>()
        }
        _ => None,
    };
    let mut named = named.ok_or_else(|| wrong(value.to_string()))?;
    if let Some(place) = named.iter().position(|(name, _)| name == DEFAULT) {
        return Ok(named.swap_remove(place).1);
    }
    let names: Vec<String> = named.into_iter().map(|(name, _)| name).collect();
    Err(wrong(format!("templates named [{}]", names.join(", "))))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn find(files: &[(&str, &str)]) -> Result<Option<ChatTemplate>> {
        let files = files.iter().map(|(name, text)| (name.to_string(), text.as_bytes().to_vec()));
        ChatTemplate::find(Path::new("m"), &TokenizerFiles(files.collect()))
    }

    #[test]
    fn files_are_asked_in_the_order_of_transformers() {
        let settings =
            json!({ "chat_template": "c", "bos_token": { "content": "<s>" }, "pad_token": null }).to_string();
        let json = json!({ "chat_template": "b" }).to_string();
        let files = [(JINJA_FILE, "a"), (JSON_FILE, json.as_str()), (TOKENIZER_CONFIG_FILE, settings.as_str())];
        for (first, source) in ["a", "b", "c"].into_iter().enumerate() {
            let found = find(&files[first..]).unwrap().unwrap();
            assert_eq!((found.file, found.source.as_str()), (files[first].0, source));
            assert_eq!(found.special_tokens, [("bos_token", "<s>".to_string())]);
        }
        assert_eq!(find(&[(TOKENIZER_CONFIG_FILE, "{}")]).unwrap(), None);
        assert_eq!(find(&[]).unwrap(), None);
    }

    #[test]
    fn of_named_templates_the_default_one_counts() {
        let found = |value: Value| {
            let settings = json!({ "chat_template": value }).to_string();
            find(&[(TOKENIZER_CONFIG_FILE, settings.as_str())]).map(|found| found.map(|found| found.source))
        };
        let named = |name: &str, source: &str| json!({ "name": name, "template": source });
        let both = json!([named("tool_use", "t"), named("default", "d")]);
        assert_eq!(found(both).unwrap().as_deref(), Some("d"));
        assert_eq!(found(Value::Null).unwrap(), None);
        let error = found(json!([named("tool_use", "t"), named("rag", "r")])).unwrap_err().to_string();
        assert_eq!(
            error,
            "m: not a valid tokenizer_config.json file: `chat_template`: found templates named [tool_use, rag], expected \
             a text, or a list of {name, template} with `default` among them"
        );
        let error = found(json!([1])).unwrap_err().to_string();
        assert!(error.contains("found [1], expected a text"), "{error}");
    }
}
