//! Chat templates rendered as transformers renders them (`utils/chat_template_utils.py`).

use std::io;
use std::sync::{Mutex, PoisonError};

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{AutoEscape, Environment, ErrorKind, context};
use minijinja_contrib::pycompat::unknown_method_callback;
use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

use crate::checkpoint::{ChatTemplate, Tokenizer};
use crate::error::{Error, Result};
use crate::sandbox::{Inside, Limits, Sandbox, Subject, Work};
use crate::task::{STEPS, reason};

/// Why a template failed: a reason for people, without the file and the record, which the caller knows.
type Rendered<T, E = String> = std::result::Result<T, E>;

/// ChatML, for tokenizers that come without a template: the format that OpenAI published and many models took over.
const CHATML: &str = "{% for message in messages %}\
    {{ '<|im_start|>' ~ message.role ~ '\n' ~ message.content ~ '<|im_end|>\n' }}\
    {% endfor %}\
    {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// The template's name in its environment.
const NAME: &str = "chat";

/// What `strftime_now` writes for each letter: Friday 26 July 2024 at midnight, the day that LLaMA 3.1's template falls
/// back to. A training text that changed from day to day could not be resumed.
const DATE: [(char, &str); 12] = [
    ('Y', "2024"),
    ('y', "24"),
    ('B', "July"),
    ('b', "Jul"),
    ('m', "07"),
    ('d', "26"),
    ('j', "208"),
    ('A', "Friday"),
    ('a', "Fri"),
    ('H', "00"),
    ('M', "00"),
    ('S', "00"),
];

/// A chat template that is ready to render.
pub struct Template {
    name: &'static str,
    rendered: Rendering,
}

/// Where it is rendered.
enum Rendering {
    /// Here: our own words.
    Here(Environment<'static>),
    /// What strangers wrote: in a sandbox, or in the next one where a conversation ended it.
    Apart { setup: Setup, sandbox: Mutex<Option<Sandbox<Conversations>>> },
}

/// What a sandbox takes to render a template.
struct Setup {
    own: ChatTemplate,
    texts: Vec<(String, String)>,
}

impl Setup {
    /// Begins a sandbox that has compiled the template.
    fn open(&self) -> Result<Sandbox<Conversations>> {
        let Setup { own, texts } = self;
        let mut apart = Sandbox::open(Subject::new(&own.path, own.file), &(own.source.clone(), texts.clone()))?;
        let wrong = |reason| Error::format(&own.path, own.file, reason);
        apart.next().unwrap_or_else(|| Ok(Err("it was not compiled".to_string())))?.map_err(wrong)?;
        Ok(apart)
    }
}

impl Template {
    /// Compiles the tokenizer's own template, in a [sandbox](crate::sandbox), or ChatML where it has none.
    ///
    /// # Errors
    /// `Format` when it is not Jinja.
    pub fn new(own: Option<&ChatTemplate>, tokenizer: &Tokenizer) -> Result<Template> {
        let Some(own) = own else {
            let env = compiled(CHATML, &[]).expect("ChatML is Jinja");
            return Ok(Template { name: "ChatML", rendered: Rendering::Here(env) });
        };
        let mut texts = Vec::new();
        for (name, id) in [("bos_token", tokenizer.bos()), ("eos_token", tokenizer.eos())] {
            if let Some(id) = id {
                texts.push((name.to_string(), tokenizer.decode(&[id])?));
            }
        }
        texts.extend(own.special_tokens.iter().map(|(name, text)| (name.to_string(), text.clone())));
        let setup = Setup { own: own.clone(), texts };
        let sandbox = Mutex::new(Some(setup.open()?));
        Ok(Template { name: own.file, rendered: Rendering::Apart { setup, sandbox } })
    }

    /// For messages: the file it is from, or `ChatML`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The conversation's text, with the words that begin the assistant's turn after it where `prompt` says so.
    pub fn render(&self, messages: &[Json], tools: &Json, prompt: bool) -> Rendered<String> {
        let conversation = Conversation { messages: messages.to_vec(), tools: tools.clone(), prompt };
        match &self.rendered {
            Rendering::Here(env) => conversation.render(env),
            Rendering::Apart { setup, sandbox } => {
                let mut sandbox = sandbox.lock().unwrap_or_else(PoisonError::into_inner);
                let mut apart = match sandbox.take() {
                    Some(apart) => apart,
                    None => setup.open().map_err(|error| error.to_string())?,
                };
                let rendered = apart.ask(&conversation).map_err(|error| error.to_string())?;
                *sandbox = Some(apart);
                rendered
            }
        }
    }
}

/// What a template makes a text of.
#[derive(Serialize, Deserialize)]
struct Conversation {
    messages: Vec<Json>,
    tools: Json,
    prompt: bool,
}

impl Conversation {
    fn render(&self, env: &Environment) -> Rendered<String> {
        let template = env.get_template(NAME).map_err(reason)?;
        let (messages, tools) = (Value::from_serialize(&self.messages), Value::from_serialize(&self.tools));
        // transformers names all four, whether they are there or not.
        let values = context! { messages, tools, documents => Value::from(()), add_generation_prompt => self.prompt };
        template.render(values).map_err(reason)
    }
}

/// The work of rendering conversations with one template: its source, and texts that it may name. The first answer is empty and says
/// that it compiled.
struct Conversations;

impl Work for Conversations {
    type Setup = (String, Vec<(String, String)>);
    type Question = Conversation;
    type Answer = Rendered<String>;
    const LIMITS: Limits = Limits::TEXT;

    fn work((source, texts): Self::Setup, inside: &mut Inside<Conversations>) -> Result<()> {
        let env = match compiled(&source, &texts) {
            Ok(env) => env,
            Err(error) => return inside.answer(&Err(reason(error))),
        };
        inside.answer(&Ok(String::new()))?;
        while let Some(conversation) = inside.question()? {
            inside.answer(&conversation.render(&env))?;
        }
        Ok(())
    }
}

/// An environment that has the template, and texts that it may name.
fn compiled(source: &str, texts: &[(String, String)]) -> Rendered<Environment<'static>, minijinja::Error> {
    let mut env = environment();
    texts.iter().for_each(|(name, text)| env.add_global(name.clone(), text.as_str()));
    env.add_template_owned(NAME, without_generation_marks(source))?;
    Ok(env)
}

/// The environment that transformers renders chat templates in, with Python's methods.
fn environment() -> Environment<'static> {
    let mut env = Environment::new();
    env.set_fuel(Some(STEPS));
    env.set_trim_blocks(true);
    env.set_lstrip_blocks(true);
    env.set_auto_escape_callback(|_| AutoEscape::None);
    env.set_unknown_method_callback(unknown_method_callback);
    env.set_formatter(|out, _, value| {
        let written = match value.kind() {
            ValueKind::Undefined => Ok(()),
            ValueKind::None => out.write_str("None"),
            ValueKind::Bool => out.write_str(if value.is_true() { "True" } else { "False" }),
            ValueKind::Seq | ValueKind::Map | ValueKind::Iterable => {
                return Err(invalid(format!("a {} would be printed", value.kind())));
            }
            _ => write!(out, "{value}"),
        };
        written.map_err(|error| invalid(error.to_string()))
    });
    env.add_function("raise_exception", |message: String| Err::<Value, _>(invalid(message)));
    env.add_function("strftime_now", strftime);
    env.add_filter("tojson", tojson);
    env
}

/// The source with plain conditions in place of `{% generation %}`, which marks the assistant's words for transformers
/// and writes nothing, and with the line ends that Jinja2 gives templates.
fn without_generation_marks(source: &str) -> String {
    let mark = Regex::new(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}").expect("a constant pattern");
    let condition = |found: &regex::Captures| {
        let word = if found.get(2).is_some() { "endif" } else { "if true" };
        format!("{{%{} {word} {}%}}", &found[1], &found[3])
    };
    mark.replace_all(&source.replace("\r\n", "\n"), condition).into_owned()
}

fn strftime(format: String) -> Rendered<String, minijinja::Error> {
    let mut text = String::with_capacity(format.len());
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        let letter = chars.next().unwrap_or('%');
        match DATE.iter().find(|(known, _)| *known == letter) {
            Some((_, value)) => text.push_str(value),
            None if letter == '%' => text.push('%'),
            None => return Err(invalid(format!("strftime_now does not know `%{letter}`"))),
        }
    }
    Ok(text)
}

/// `json.dumps` as transformers calls it: nothing is escaped for HTML, and spaces follow commas and colons.
fn tojson(value: Value, options: Kwargs) -> Rendered<String, minijinja::Error> {
    let indent: Option<usize> = options.get("indent")?;
    if options.get::<Option<bool>>("ensure_ascii")? == Some(true) {
        return Err(invalid("tojson cannot write ASCII alone".to_string()));
    }
    options.assert_all_used()?;
    let mut json = Vec::new();
    let written = match indent {
        Some(width) => {
            let indent = " ".repeat(width);
            value.serialize(&mut Serializer::with_formatter(&mut json, PrettyFormatter::with_indent(indent.as_bytes())))
        }
        None => value.serialize(&mut Serializer::with_formatter(&mut json, PythonFormatter)),
    };
    written.map_err(|error| invalid(error.to_string()))?;
    String::from_utf8(json).map_err(|error| invalid(error.to_string()))
}

/// The separators of Python's `json.dumps`.
struct PythonFormatter;

impl Formatter for PythonFormatter {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

fn invalid(reason: String) -> minijinja::Error {
    minijinja::Error::new(ErrorKind::InvalidOperation, reason)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::tune::fixture::tiny;

    fn compiled(source: &str) -> Result<Template> {
        let own = ChatTemplate {
            path: "model".into(),
            file: "chat_template.jinja",
            source: source.to_string(),
            special_tokens: vec![("pad_token", "<pad>".to_string())],
        };
        Template::new(Some(&own), &tiny())
    }

    fn render(source: &str) -> Rendered<String> {
        let messages = [
            json!({ "role": "user", "content": " Hi\n" }),
            json!({ "role": "assistant", "content": "<b> 'n \"é\"", "calls": { "b": [1, {}], "a": null } }),
        ];
        compiled(source).unwrap().render(&messages, &Json::Null, true)
    }

    #[test]
    fn chatml_stands_in_for_a_missing_template() {
        let template = Template::new(None, &tiny()).unwrap();
        let message = |role, content| json!({ "role": role, "content": content });
        let messages = [message("system", "Be kind."), message("user", "Hi\n")];
        let text = "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi\n<|im_end|>\n";
        assert_eq!(template.render(&messages, &Json::Null, false).unwrap(), text);
        let prompted = format!("{text}<|im_start|>assistant\n");
        assert_eq!(template.render(&messages, &Json::Null, true).unwrap(), prompted);
        assert_eq!(template.name(), "ChatML");
    }

    #[test]
    fn templates_render_as_in_transformers() {
        for (source, text) in [
            // trim_blocks and lstrip_blocks: a line with a block alone writes nothing.
            (
                "{% for message in messages %}\n    {% if true %}\n{{ message.role }}\n  {% endif %}\n{% endfor %}\n",
                "user\nassistant\n",
            ),
            (
                "{{ bos_token + messages[0]['content'].strip() + eos_token }}{{ pad_token }}{{ unk_token }}",
                "<s>Hi</s><pad>",
            ),
            ("{{ messages[0].content|trim }}|{{ messages[0].content.rstrip() }}|", "Hi| Hi|"),
            ("{% for key, value in messages[1].items() %}{{ key }} {% endfor %}", "role content calls "),
            ("{{ messages[0].get('name') }} {{ tools is none }} {{ documents is none }}", "None True True"),
            ("{{ messages[1].content | tojson }}", r#""<b> 'n \"é\"""#),
            ("{{ messages[1].calls | tojson }}", r#"{"b": [1, {}], "a": null}"#),
            ("{{ messages[1].calls | tojson(indent=2) }}", "{\n  \"b\": [\n    1,\n    {}\n  ],\n  \"a\": null\n}"),
            ("{% for m in messages %}{% if loop.last %}{% break %}{% endif %}{{ m.role }}{% endfor %}", "user"),
            ("a{%- generation -%} {{ messages[0].role }} {%- endgeneration %}\r\nb", "auserb"),
            (
                "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
                "2",
            ),
            ("{{ messages[1:][0].role }} {{ messages[::-1][0].role }} {{ messages|length }}", "assistant assistant 2"),
            ("{{ strftime_now('%d %b %Y, %A %H:%M %%') }}", "26 Jul 2024, Friday 00:00 %"),
            ("{% if strftime_now is defined and not enable_thinking is defined %}yes{% endif %}", "yes"),
        ] {
            assert_eq!(render(source).as_deref(), Ok(text), "{source}");
        }
    }

    #[test]
    fn what_a_template_refuses_is_told() {
        for (source, reason) in [
            ("{{ raise_exception('Roles must alternate') }}", "Roles must alternate"),
            ("a\n{{ raise_exception('no') }}", "no (line 2 of the template)"),
            ("{{ strftime_now('%Q') }}", "strftime_now does not know `%Q`"),
            ("{{ messages }}", "a sequence would be printed"),
            ("{{ messages | tojson(indent=1, skipkeys=true) }}", "unknown keyword argument 'skipkeys'"),
            ("{{ messages[5]['role'] }}", "undefined value"),
        ] {
            assert_eq!(render(source).unwrap_err(), reason, "{source}");
        }
        let error = compiled("{% if %}").err().unwrap().to_string();
        assert!(error.starts_with("model: not a valid chat_template.jinja file: "), "{error}");
    }
}
