//! A task's YAML: about ten typed fields, no code. Read into a checked [`TaskFile`].

use std::fs;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::exact_match::ExactMatch;
use super::item::Scoring;
use super::matcher::Matcher;
use super::template::{Formula, Text, environment};
use crate::count::Tokens;
use crate::error::{Error, Result};
use crate::sandbox::{Inside, Limits, Sandbox, Subject, Work};

/// A checked task file.
///
/// Templates (`{{ field }}`) give text, expressions (`choices.text`) give values; both are Jinja over the fields of one
/// row, with Python's string methods.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskFile {
    /// The task's name.
    pub name: String,
    /// What it asks, and how it relates to lm-evaluation-harness's task of that name.
    pub description: String,
    /// Which split of the data set the files hold.
    pub split: String,
    /// Where to get the data: shown when a file is not there.
    pub source: String,
    /// Data files: paths inside the data directory, with `*` for any part of a name.
    pub data: Vec<String>,
    /// An expression that a row must make true to count.
    pub where_: Option<String>,
    /// Text before the examples and the question.
    pub preamble: Option<String>,
    /// What stands between context and continuation.
    pub target_delimiter: String,
    /// Whether that is left out where there is white space already: in rows of the user's own without a task file.
    pub delimiter_yields: bool,
    /// How rows become requests.
    pub prompt: Prompt,
    /// How requests become a score.
    pub scoring: Scoring,
    /// Worked examples before the question.
    pub fewshot: Option<FewShot>,
}

/// How a row becomes requests. All texts are templates, `gold` and lists are expressions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Prompt {
    /// One context and several choices.
    Choices {
        /// The context.
        context: String,
        /// The choices.
        choices: List,
        /// The true choice: its index or its text; a list of indices; for `mc2` a list of ones and zeros.
        gold: String,
    },
    /// Several contexts and one continuation.
    Contexts {
        /// The contexts.
        contexts: List,
        /// The continuation.
        continuation: String,
        /// The true context, as in `Choices`.
        gold: String,
    },
    /// One context and the word that follows.
    LastWord {
        /// The context.
        context: String,
        /// The word.
        continuation: String,
    },
    /// A document.
    Rolling {
        /// The text that is scored.
        document: String,
        /// The text whose words and bytes count, when it is another one.
        counted: Option<String>,
    },
    /// One context, behind which the network writes.
    Generate {
        /// The context.
        context: String,
        /// The answers that are right: a list, or an expression that gives a text or a list. The first stands in worked examples, and
        /// its log-likelihood is scored too.
        answers: List,
        /// What is written, and how it is compared.
        rule: ExactMatch,
    },
}

/// A list of texts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum List {
    /// The same for every row.
    Fixed(Vec<String>),
    /// An expression over the row.
    Formula(String),
}

/// Worked examples: always the first rows of their files, as lm-evaluation-harness's `first_n` sampler takes them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FewShot {
    /// How many, unless the caller asks for another number.
    #[serde(default)]
    pub count: usize,
    /// Their files.
    pub data: Paths,
    /// A field that examples and question must have in common, such as MMLU's subject.
    pub same: Option<String>,
    /// What stands after each example.
    #[serde(default = "blank_line")]
    pub delimiter: String,
}

/// One path or several.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Paths {
    /// One.
    One(String),
    /// Several, in this order.
    Several(Vec<String>),
}

impl Paths {
    /// As a list.
    pub fn to_vec(&self) -> Vec<String> {
        match self {
            Paths::One(path) => vec![path.clone()],
            Paths::Several(paths) => paths.clone(),
        }
    }
}

fn blank_line() -> String {
    "\n\n".to_string()
}

fn space() -> String {
    " ".to_string()
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    split: String,
    #[serde(default)]
    source: String,
    data: Paths,
    #[serde(rename = "where")]
    where_: Option<String>,
    scoring: Scoring,
    preamble: Option<String>,
    context: Option<String>,
    choices: Option<List>,
    contexts: Option<List>,
    continuation: Option<String>,
    counted: Option<String>,
    gold: Option<String>,
    answers: Option<List>,
    exact_match: Option<ExactMatch>,
    #[serde(default = "space")]
    target_delimiter: String,
    fewshot: Option<FewShot>,
}

impl TaskFile {
    /// The task of a user's own file, named after it.
    pub fn of_user(path: &Path, scoring: Scoring, prompt: Prompt) -> TaskFile {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        TaskFile {
            name: name.split('.').next().unwrap_or(&name).to_string(),
            description: String::new(),
            split: String::new(),
            source: String::new(),
            data: Vec::new(),
            where_: None,
            preamble: None,
            target_delimiter: space(),
            delimiter_yields: true,
            prompt,
            scoring,
            fewshot: None,
        }
    }

    /// How many worked examples the file asks for.
    pub fn shots(&self) -> usize {
        self.fewshot.as_ref().map_or(0, |fewshot| fewshot.count)
    }

    /// Reads a stranger's task file, in a [sandbox](crate::sandbox).
    ///
    /// # Errors
    /// As [`TaskFile::parse`].
    pub fn read(path: &Path) -> Result<TaskFile> {
        Sandbox::<Parsing>::once(Subject::new(path, FORMAT), &path.to_path_buf())
    }

    /// Reads a task file's text; `path` is for messages.
    ///
    /// # Errors
    /// [`Error::Format`] with line and column for what is no YAML of a task; [`Error::Mismatch`] with every field that is
    /// missing or does not go with the scoring rule, and every template that does not compile.
    pub fn parse(path: &Path, yaml: &str) -> Result<TaskFile> {
        let raw: Raw = serde_saphyr::from_str(yaml).map_err(|error| {
            let place =
                error.location().map_or(String::new(), |at| format!("line {} column {}: ", at.line(), at.column()));
            Error::format(path, FORMAT, format!("{place}{}", first_line(&error)))
        })?;
        let mut problems = Vec::new();
        let file = raw.checked(&mut problems);
        match file {
            Some(file) if problems.is_empty() => Ok(file),
            _ => Err(Error::Mismatch { path: path.into(), what: "this task cannot be run".to_string(), problems }),
        }
    }
}

const FORMAT: &str = "task YAML";

/// The work of reading a task file.
struct Parsing;

impl Work for Parsing {
    type Setup = PathBuf;
    type Question = ();
    type Answer = TaskFile;
    const LIMITS: Limits = Limits::TEXT;

    fn work(path: PathBuf, inside: &mut Inside<Parsing>) -> Result<()> {
        let yaml = fs::read_to_string(&path).map_err(Error::io(&path))?;
        inside.answer(&TaskFile::parse(&path, &yaml)?)
    }
}

impl Raw {
    /// The checked file, or nothing when a field is missing; everything wrong goes to `problems`.
    fn checked(self, problems: &mut Vec<String>) -> Option<TaskFile> {
        self.check_fields(problems);
        if self.name.is_empty() || self.name.contains(['/', ':', '+', ',', ' ']) {
            problems.push(format!("`name` is `{}`: a name has no spaces and none of / : + ,", self.name));
        }
        let outside = |path: &String| {
            Path::new(path).components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir))
        };
        if let Some(path) = self.data.to_vec().into_iter().find(outside) {
            problems.push(format!(
                "`data` is `{path}`: expected a path inside the task's folder; name a directory elsewhere with --data DIR"
            ));
        }
        if self.scoring == Scoring::Rolling && (self.preamble.is_some() || self.fewshot.is_some()) {
            problems.push("`preamble` and `fewshot` do not go with `scoring: rolling`".to_string());
        }
        for (name, list) in [("choices", &self.choices), ("answers", &self.answers)] {
            if matches!(list, Some(List::Fixed(texts)) if texts.is_empty()) {
                problems.push(format!("`{name}` is an empty list"));
            }
        }
        if let Some(rule) = &self.exact_match {
            problems.extend(Matcher::new(rule).err().into_iter().flatten());
            if let Err(error) = Tokens::check("`exact_match.max_tokens`", rule.max_tokens) {
                problems.push(error.to_string());
            }
        }
        self.compile(problems);
        let prompt = match self.scoring {
            Scoring::Choices | Scoring::Mc1 | Scoring::Mc2 => {
                Prompt::Choices { context: self.context?, choices: self.choices?, gold: self.gold? }
            }
            Scoring::Contexts => {
                Prompt::Contexts { contexts: self.contexts?, continuation: self.continuation?, gold: self.gold? }
            }
            Scoring::LastWord => Prompt::LastWord { context: self.context?, continuation: self.continuation? },
            Scoring::Rolling => Prompt::Rolling { document: self.continuation?, counted: self.counted },
            Scoring::Generate => {
                Prompt::Generate { context: self.context?, answers: self.answers?, rule: self.exact_match? }
            }
        };
        Some(TaskFile {
            name: self.name,
            description: self.description,
            split: self.split,
            source: self.source,
            data: self.data.to_vec(),
            where_: self.where_,
            preamble: self.preamble,
            target_delimiter: self.target_delimiter,
            delimiter_yields: false,
            prompt,
            scoring: self.scoring,
            fewshot: self.fewshot,
        })
    }

    /// Whether the fields that say what is scored are those of its kind of scoring.
    fn check_fields(&self, problems: &mut Vec<String>) {
        let scoring = serde_json::to_value(self.scoring).expect("a kind of scoring is a word");
        let scoring = scoring.as_str().unwrap_or_default();
        let mut given: Vec<(&str, bool)> = vec![
            ("context", self.context.is_some()),
            ("choices", self.choices.is_some()),
            ("contexts", self.contexts.is_some()),
            ("continuation", self.continuation.is_some()),
            ("counted", self.counted.is_some()),
            ("gold", self.gold.is_some()),
            ("answers", self.answers.is_some()),
            ("exact_match", self.exact_match.is_some()),
        ];
        let (needed, allowed): (&[&str], &[&str]) = match self.scoring {
            Scoring::Choices | Scoring::Mc1 | Scoring::Mc2 => (&["context", "choices", "gold"], &[]),
            Scoring::Contexts => (&["contexts", "continuation", "gold"], &[]),
            Scoring::LastWord => (&["context", "continuation"], &[]),
            Scoring::Rolling => (&["continuation"], &["counted"]),
            Scoring::Generate => (&["context", "answers", "exact_match"], &[]),
        };
        given.retain(|(_, there)| *there);
        for (name, _) in given.iter().filter(|(name, _)| !needed.contains(name) && !allowed.contains(name)) {
            problems.push(format!("`{name}` does not go with `scoring: {scoring}`"));
        }
        for name in needed.iter().filter(|name| !given.iter().any(|(given, _)| given == *name)) {
            problems.push(format!("`scoring: {scoring}` needs `{name}`"));
        }
    }

    /// Compiles every template and expression once, for its errors.
    fn compile(&self, problems: &mut Vec<String>) {
        fn formula(list: &Option<List>) -> Option<&String> {
            list.as_ref().and_then(|list| if let List::Formula(source) = list { Some(source) } else { None })
        }
        let env = environment();
        let templates = [
            ("preamble", &self.preamble),
            ("context", &self.context),
            ("continuation", &self.continuation),
            ("counted", &self.counted),
        ];
        for (name, source) in templates {
            let compiled = source.as_ref().map(|source| Text::new(&env, source));
            problems.extend(compiled.and_then(Result::err).map(|error| format!("`{name}`: {error}")));
        }
        let formulas = [
            ("where", self.where_.as_ref()),
            ("choices", formula(&self.choices)),
            ("contexts", formula(&self.contexts)),
            ("answers", formula(&self.answers)),
            ("gold", self.gold.as_ref()),
        ];
        for (name, source) in formulas {
            let compiled = source.map(|source| Formula::new(&env, source));
            problems.extend(compiled.and_then(Result::err).map(|error| format!("`{name}`: {error}")));
        }
    }
}

/// What a YAML error says, without the place, which the message names already.
fn first_line(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let line = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
    line.split(" at line ").next().unwrap_or(line).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(yaml: &str) -> Result<TaskFile> {
        TaskFile::parse(Path::new("mine.yaml"), yaml)
    }

    #[test]
    fn reads_a_task_with_its_defaults() {
        let file = parse(
            "name: mine\ndata: a/*.jsonl\nscoring: choices\ncontext: 'Q: {{q}}'\nchoices: options\ngold: 0\n\
             fewshot: { data: [b.jsonl] }\n",
        )
        .unwrap();
        assert_eq!(file.data, ["a/*.jsonl"]);
        assert_eq!(file.target_delimiter, " ");
        let prompt = Prompt::Choices {
            context: "Q: {{q}}".to_string(),
            choices: List::Formula("options".to_string()),
            gold: "0".to_string(),
        };
        assert_eq!(file.prompt, prompt);
        let fewshot = file.fewshot.unwrap();
        assert_eq!((fewshot.count, fewshot.delimiter.as_str(), fewshot.data.to_vec().len()), (0, "\n\n", 1));
    }

    #[test]
    fn rejects_what_is_no_task_with_line_and_column() {
        for (yaml, part) in [
            ("name: mine\nscoring: best\n", "line 2 column 10"),
            ("name: mine\nprompt: x\n", "line 2 column 1"),
            ("name: [\n", "line 1 column 7: expected string scalar"),
            ("", "unexpected end of input"),
        ] {
            let error = parse(yaml).unwrap_err().to_string();
            assert!(error.starts_with("mine.yaml: not a valid task YAML file: "), "{error}");
            assert!(error.contains(part) && !error.contains('\n'), "{yaml}: {error}");
        }
    }

    #[test]
    fn lists_everything_that_does_not_go_together() {
        let error = parse(
            "name: 'a b'\ndata: x\nscoring: contexts\ncontext: '{{'\ncontinuation: '{{ a | nothing }}'\nwhere: 'a +'\n",
        )
        .unwrap_err()
        .to_string();
        for part in [
            "`context` does not go with `scoring: contexts`",
            "`scoring: contexts` needs `contexts`",
            "`scoring: contexts` needs `gold`",
            "`name` is `a b`",
            "`context`: ",
            "`where`: ",
        ] {
            assert!(error.contains(part), "{part} not in {error}");
        }
    }
}
