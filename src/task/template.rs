//! Jinja templates and expressions over one row, with the Python methods that task files use.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use minijinja::value::{Value, ValueKind, from_args};
use minijinja::{AutoEscape, Environment, ErrorKind, Expression, State, Template, UndefinedBehavior};
use regex::Regex;

/// Why a template failed: a reason for people, without the file and the row, which the caller knows.
pub type Result<T, E = String> = std::result::Result<T, E>;

/// Steps of a template for one text: any template that is meant for people's texts takes a few thousand.
pub(crate) const STEPS: u64 = 1_000_000;

/// The environment that renders as Jinja2 does for lm-evaluation-harness: an undefined name is an error,
/// a trailing newline stays, nothing is escaped, strings have Python's methods, and `regex_replace` is there.
pub fn environment<'a>() -> Environment<'a> {
    let mut env = Environment::new();
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    env.set_fuel(Some(STEPS));
    env.set_keep_trailing_newline(true);
    env.set_auto_escape_callback(|_| AutoEscape::None);
    env.set_unknown_method_callback(python_method);
    env.set_formatter(|out, _, value| {
        let written = match value.kind() {
            ValueKind::None | ValueKind::Undefined => {
                return Err(invalid("a null or undefined value would be printed".to_string()));
            }
            ValueKind::Seq | ValueKind::Map | ValueKind::Iterable => {
                return Err(invalid(format!("a {} would be printed", value.kind())));
            }
            ValueKind::Bool => out.write_str(if value.is_true() { "True" } else { "False" }),
            _ => write!(out, "{value}"),
        };
        written.map_err(|error| invalid(error.to_string()))
    });
    let patterns = Mutex::new(HashMap::new());
    env.add_filter("regex_replace", move |text: &str, pattern: &str, replacement: &str| {
        let mut patterns = patterns.lock().unwrap_or_else(PoisonError::into_inner);
        let known: Option<&Regex> = patterns.get(pattern);
        let regex = match known {
            Some(regex) => regex.clone(),
            None => {
                let regex = Regex::new(pattern).map_err(|error| invalid(format!("regular expression: {error}")))?;
                patterns.insert(pattern.to_string(), regex.clone());
                regex
            }
        };
        Ok::<_, minijinja::Error>(regex.replace_all(text, python_replacement(replacement)).into_owned())
    });
    env
}

/// A compiled template that renders text.
pub struct Text<'a> {
    template: Template<'a, 'a>,
    fields: Vec<String>,
}

impl<'a> Text<'a> {
    /// Compiles `source`.
    pub fn new(env: &'a Environment<'a>, source: &'a str) -> Result<Text<'a>> {
        let template = env.template_from_str(source).map_err(reason)?;
        let fields = fields(env, template.undeclared_variables(true));
        Ok(Text { template, fields })
    }

    /// The text for one row.
    pub fn render(&self, row: &Value) -> Result<String> {
        check_fields(&self.fields, row)?;
        self.template.render(row).map_err(reason)
    }
}

/// A compiled expression that gives a value.
pub struct Formula<'a> {
    expression: Expression<'a, 'a>,
    fields: Vec<String>,
}

impl<'a> Formula<'a> {
    /// Compiles `source`.
    pub fn new(env: &'a Environment<'a>, source: &'a str) -> Result<Formula<'a>> {
        let expression = env.compile_expression(source).map_err(reason)?;
        let fields = fields(env, expression.undeclared_variables(true));
        Ok(Formula { expression, fields })
    }

    /// The value for one row.
    pub fn value(&self, row: &Value) -> Result<Value> {
        check_fields(&self.fields, row)?;
        self.expression.eval(row).map_err(reason)
    }

    /// The value for one row as a list of texts, which a single text is too.
    pub fn text_or_texts(&self, row: &Value) -> Result<Vec<String>> {
        match self.value(row)?.as_str() {
            Some(text) => Ok(vec![text.to_string()]),
            None => self.texts(row),
        }
    }

    /// The value for one row as a list of texts.
    pub fn texts(&self, row: &Value) -> Result<Vec<String>> {
        let value = self.value(row)?;
        let wrong = || format!("found {value} where a list of texts was expected");
        if value.kind() != ValueKind::Seq && value.kind() != ValueKind::Iterable {
            return Err(wrong());
        }
        let text = |item: Value| item.as_str().map(str::to_string).ok_or_else(wrong);
        value.try_iter().map_err(reason)?.map(text).collect()
    }
}

/// The fields of a row that a template reads, as dotted paths, in a fixed order.
fn fields(env: &Environment, names: impl IntoIterator<Item = String>) -> Vec<String> {
    let global = |name: &str| env.globals().any(|(global, _)| global == name);
    let mut fields: Vec<String> =
        names.into_iter().filter(|path| !global(path.split('.').next().unwrap_or(path))).collect();
    fields.sort();
    fields
}

/// Fails with the name of the first field that the row lacks, and the fields that it has.
fn check_fields(fields: &[String], row: &Value) -> Result<()> {
    for path in fields {
        let mut value = row.clone();
        for (depth, name) in path.split('.').enumerate() {
            // Beyond an object a dot is a method, which is not looked up but called.
            if value.kind() != ValueKind::Map {
                break;
            }
            let inner = value.get_attr(name).unwrap_or_default();
            if inner.is_undefined() {
                let names = value.try_iter().map_err(reason)?.map(|name| name.to_string());
                let mut names: Vec<String> = names.collect();
                names.sort();
                let whole: Vec<&str> = path.split('.').take(depth + 1).collect();
                let owner = if depth == 0 { "the row".to_string() } else { format!("`{}`", whole[..depth].join(".")) };
                return Err(format!("no field `{}`; {owner} has {}", whole.join("."), list(&names)));
            }
            value = inner;
        }
    }
    Ok(())
}

/// Names for a message: the first twenty, so that a hostile row cannot flood the terminal.
fn list(names: &[String]) -> String {
    match names.len() {
        0 => "no fields".to_string(),
        1..=20 => names.join(", "),
        count => format!("{} and {} more", names[..20].join(", "), count - 20),
    }
}

/// Python's methods of strings and lists, as far as task files use them.
fn python_method(_: &State, value: &Value, method: &str, args: &[Value]) -> Result<Value, minijinja::Error> {
    if value.kind() == ValueKind::Seq && method == "index" {
        let (wanted,): (Value,) = from_args(args)?;
        let place = value.try_iter()?.position(|item| item == wanted);
        return place.map(Value::from).ok_or_else(|| invalid(format!("{wanted} is not in {value}")));
    }
    let Some(text) = value.as_str() else {
        return Err(minijinja::Error::from(ErrorKind::UnknownMethod));
    };
    match method {
        "strip" | "lstrip" | "rstrip" => {
            let (chars,): (Option<&str>,) = from_args(args)?;
            let edge = |c: char| chars.map_or_else(|| is_python_space(c), |chars| chars.contains(c));
            let text = if method == "rstrip" { text } else { text.trim_start_matches(edge) };
            Ok(Value::from(if method == "lstrip" { text } else { text.trim_end_matches(edge) }))
        }
        "split" => {
            let (separator,): (Option<&str>,) = from_args(args)?;
            match separator {
                Some("") => Err(invalid("empty separator".to_string())),
                Some(separator) => Ok(text.split(separator).collect()),
                None => Ok(text.split(is_python_space).filter(|word| !word.is_empty()).collect()),
            }
        }
        "replace" => {
            let (from, to): (&str, &str) = from_args(args)?;
            Ok(Value::from(text.replace(from, to)))
        }
        "index" => {
            let (wanted,): (&str,) = from_args(args)?;
            let byte = text.find(wanted).ok_or_else(|| invalid(format!("`{wanted}` is not in `{text}`")))?;
            Ok(Value::from(text[..byte].chars().count()))
        }
        "capitalize" => {
            from_args::<()>(args)?;
            let mut chars = text.chars();
            // Python titles the first character: of several upper-case letters only the first stays upper.
            let mut first = chars.next().into_iter().flat_map(char::to_uppercase);
            let mut capitalized: String = first.next().into_iter().collect();
            capitalized.extend(first.flat_map(char::to_lowercase));
            capitalized.push_str(&chars.as_str().to_lowercase());
            Ok(Value::from(capitalized))
        }
        "lower" | "upper" => {
            from_args::<()>(args)?;
            Ok(Value::from(if method == "lower" { text.to_lowercase() } else { text.to_uppercase() }))
        }
        "startswith" | "endswith" => {
            let (part,): (&str,) = from_args(args)?;
            Ok(Value::from(if method == "startswith" { text.starts_with(part) } else { text.ends_with(part) }))
        }
        _ => Err(minijinja::Error::from(ErrorKind::UnknownMethod)),
    }
}

/// What `str.isspace` takes for white space: Unicode's, and the four separators of ASCII.
fn is_python_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// A replacement of Python's `re.sub` (`\1`) in the words of the `regex` crate (`${1}`).
fn python_replacement(replacement: &str) -> String {
    let mut ours = String::with_capacity(replacement.len());
    let mut chars = replacement.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('$', _) => ours.push_str("$$"),
            ('\\', Some(digit)) if digit.is_ascii_digit() => {
                ours.push_str(&format!("${{{digit}}}"));
                chars.next();
            }
            ('\\', Some('\\')) => {
                ours.push('\\');
                chars.next();
            }
            _ => ours.push(c),
        }
    }
    ours
}

fn invalid(reason: String) -> minijinja::Error {
    minijinja::Error::new(ErrorKind::InvalidOperation, reason)
}

/// minijinja's own words with the line of the template, in one line.
pub(crate) fn reason(error: minijinja::Error) -> String {
    if error.kind() == ErrorKind::OutOfFuel {
        return format!("it takes more than {STEPS} steps to render");
    }
    let what = error.detail().map_or_else(|| error.kind().to_string(), str::to_string);
    match error.line() {
        Some(line) if line > 1 => format!("{what} (line {line} of the template)"),
        _ => what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str, row: serde_json::Value) -> Result<String> {
        Text::new(&environment(), source)?.render(&Value::from_serialize(row))
    }

    #[test]
    fn python_methods_do_what_python_does() {
        let row = serde_json::json!({ "s": "  él DIJO _ no_ ", "l": ["a", "b"], "eszett": "ßA" });
        for (source, text) in [
            ("{{ s.strip() }}|", "él DIJO _ no_|"),
            ("{{ s.lstrip() }}|{{ s.rstrip() }}|", "él DIJO _ no_ |  él DIJO _ no_|"),
            ("{{ s.strip(' _') }}|", "él DIJO _ no|"),
            ("{{ s.index('_') }} {{ s[:s.index('_')] }}|", "10   él DIJO |"),
            ("{{ s.split(' ')[:-1]|join(' ') }}|", "  él DIJO _ no_|"),
            ("{{ s.split()|join('+') }}", "él+DIJO+_+no_"),
            ("{{ s.strip().capitalize() }}", "Él dijo _ no_"),
            ("{{ eszett.capitalize() }}", "Ssa"),
            ("{{ l.index('b') }}", "1"),
            ("{{ l|length == 2 }}", "True"),
            ("{{ s.strip()|regex_replace('(D)(I)', '\\\\2$\\\\1') }}", "él I$DJO _ no_"),
            ("a\n", "a\n"),
        ] {
            assert_eq!(render(source, row.clone()).as_deref(), Ok(text), "{source}");
        }
    }

    #[test]
    fn a_missing_field_is_named_with_those_that_are_there() {
        let row = serde_json::json!({ "doc": { "query": "q", "none": null }, "id": 1 });
        let error = |source| render(source, row.clone()).unwrap_err();
        assert_eq!(error("{{ question }}"), "no field `question`; the row has doc, id");
        assert_eq!(error("{{ doc.text.strip() }}"), "no field `doc.text`; `doc` has none, query");
        assert_eq!(error("{{ doc.none }}"), "a null or undefined value would be printed");
        assert_eq!(error("{{ doc.query.splat() }}").split(':').next(), Some("string has no method named splat"));
        assert!(error("a\n{{ doc.query.index('z') }}").ends_with("(line 2 of the template)"));
    }

    #[test]
    fn texts_must_be_a_list_of_texts() {
        let row = Value::from_serialize(serde_json::json!({ "a": ["x", "y"], "b": ["x", 1], "c": "xy", "d": {} }));
        let env = environment();
        let texts = |source| Formula::new(&env, source).unwrap().texts(&row);
        assert_eq!(texts("a").unwrap(), ["x", "y"]);
        assert_eq!(texts("a|map('replace', 'x', 'z')").unwrap(), ["z", "y"]);
        for source in ["b", "c", "d"] {
            assert!(texts(source).unwrap_err().ends_with("where a list of texts was expected"), "{source}");
        }
    }
}
