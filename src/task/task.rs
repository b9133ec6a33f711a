//! Tasks: from a name or a file to rendered items, as lm-evaluation-harness 0.4.13 renders them.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::dataset::Dataset;
use super::exact_match::ExactMatch;
use super::item::{Item, Scoring};
use super::left_out::LeftOut;
use super::question::{Delimiter, Question};
use super::rendered::{Rendered, Renderer};
use super::row::{Place, RowNumber};
use super::shipped::{SHIPPED, shipped_yaml};
use super::task_file::{List, Prompt, TaskFile};
use super::text_size::TextSize;
use crate::error::{Error, Result};
use crate::sandbox::{Inside, Limits, Sandbox, Subject, Work};

/// A task that is ready to read its data.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Task {
    file: TaskFile,
    source: Source,
    shots: usize,
}

/// Where the rows are from.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Source {
    /// The files that the task names, under the first of these directories that has them.
    Named(Vec<PathBuf>),
    /// The user's own file of rows.
    Rows(PathBuf),
    /// The user's own text, one document.
    Text(PathBuf),
}

impl Task {
    /// Opens a task: a shipped name, a task file (`.yaml`), a file of rows (`{context, choices, gold}` or
    /// `{contexts, continuation, gold}`, `{context, answers}` where the answer is written, or `{text}` for a rolling task: JSON, JSON lines, Parquet or Arrow), or a text (`.txt`, `.md`),
    /// which is a rolling task of one document.
    ///
    /// A task's data is looked for in `data_dir`, and for the user's own task file beside that file first. Reading it is
    /// left to [`Task::items`].
    ///
    /// # Errors
    /// [`Error::Unknown`] lists the shipped names; [`Error::Missing`] for a path that is not there; and what
    /// `Format` for a task file that says what cannot be.
    pub fn open(name_or_path: &str, data_dir: Option<&Path>) -> Result<Task> {
        let named = |file: TaskFile, roots| Task { shots: file.shots(), file, source: Source::Named(roots) };
        let data_dir = data_dir.map(Path::to_path_buf);
        if let Some(yaml) = shipped_yaml(name_or_path) {
            let file = TaskFile::parse(Path::new(&format!("tasks/{name_or_path}.yaml")), yaml)?;
            return Ok(named(file, Vec::from_iter(data_dir)));
        }
        let path = Path::new(name_or_path);
        let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
        if !Error::look(path)?.is_some_and(|found| found.is_file()) {
            return Err(match extension {
                None if !name_or_path.contains('/') => Error::unknown("task", name_or_path, SHIPPED),
                _ => Error::Missing {
                    what: "task file".to_string(),
                    path: path.to_path_buf(),
                    remedy: format!("a task is a .yaml or .jsonl file, or one of {}", SHIPPED.join(", ")),
                },
            });
        }
        match extension.as_deref() {
            Some("yaml" | "yml") => {
                let beside = path.parent().unwrap_or(Path::new("")).to_path_buf();
                Ok(named(TaskFile::read(path)?, [beside].into_iter().chain(data_dir).collect()))
            }
            Some("txt" | "md") => Task::text(path),
            _ => Task::rows(path),
        }
    }

    /// The text in `path`, whatever the file is called, as a rolling task of one document.
    pub fn text(path: &Path) -> Result<Task> {
        fs::metadata(path).map_err(Error::io(path))?;
        let prompt = Prompt::Rolling { document: String::new(), counted: None };
        let file = TaskFile::of_user(path, Scoring::Rolling, prompt);
        Ok(Task { file, source: Source::Text(path.to_path_buf()), shots: 0 })
    }

    /// The user's own rows.
    fn rows(path: &Path) -> Result<Task> {
        let scoring = Sandbox::<FirstRow>::once(Subject::new(path, FORMAT), &Dataset::file(path))?;
        let file = TaskFile::of_user(path, scoring, prompt_of_user(scoring));
        Ok(Task { file, source: Source::Rows(path.to_path_buf()), shots: 0 })
    }

    /// The same task with `count` worked examples before each question.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the task names no examples.
    pub fn with_shots(mut self, count: usize) -> Result<Task> {
        if count > 0 && self.file.fewshot.is_none() {
            return Err(Error::invalid(
                format!("few-shot examples of task `{}`", self.file.name),
                count,
                "0: this task has no `fewshot` data",
            ));
        }
        self.shots = count;
        Ok(self)
    }

    /// Worked examples before each question.
    pub fn shots(&self) -> usize {
        self.shots
    }

    /// The name: a shipped task's, a task file's `name`, or a data file's stem.
    pub fn name(&self) -> &str {
        &self.file.name
    }

    /// How its items are scored.
    pub fn scoring(&self) -> Scoring {
        self.file.scoring
    }

    /// What is written, and how it is compared, where the task is scored so.
    pub fn exact_match(&self) -> Option<&ExactMatch> {
        match &self.file.prompt {
            Prompt::Generate { rule, .. } => Some(rule),
            _ => None,
        }
    }

    /// The task file: description, split, source.
    pub fn file(&self) -> &TaskFile {
        &self.file
    }

    /// The names of the shipped tasks.
    pub fn shipped() -> &'static [&'static str] {
        SHIPPED
    }

    /// The first `limit` items, or all, in the order of the files, and the rows that make none.
    ///
    /// # Errors
    /// [`Error::Missing`] says where to get data that is not there. [`Error::Mismatch`] when more than half of the rows cannot be
    /// used, with the first reasons: a field that is missing, an empty choice, no choices, a gold out of range. And no rows at all.
    pub fn render(&self, limit: Option<usize>) -> Result<Rendered> {
        Sandbox::<Rendering>::once(Subject::new(self.data()?.path(), FORMAT), &(self.clone(), limit))
    }

    /// The same for work that is in a sandbox already.
    fn render_here(&self, limit: Option<usize>) -> Result<Rendered> {
        if limit == Some(0) {
            return Err(Error::invalid("the number of items", 0, "1 or more"));
        }
        let (rows, roots) = match &self.source {
            Source::Text(path) => return text_of(path),
            Source::Rows(path) => (Dataset::file(path), &Vec::new()),
            Source::Named(roots) => (Dataset::find(&self.file.data, roots, &self.remedy())?, roots),
        };
        let shots = match &self.file.fewshot {
            Some(fewshot) if self.shots > 0 => {
                Some((self.shots, fewshot, Dataset::find(&fewshot.data.to_vec(), roots, &self.remedy())?))
            }
            _ => None,
        };
        let of_user = matches!(self.source, Source::Rows(_));
        Renderer { file: &self.file, rows, of_user, shots }.render(limit)
    }

    /// The data files, without reading them.
    ///
    /// # Errors
    /// `Missing` with where to get them.
    pub fn data(&self) -> Result<Dataset> {
        match &self.source {
            Source::Text(path) | Source::Rows(path) => Ok(Dataset::file(path)),
            Source::Named(roots) => Dataset::find(&self.file.data, roots, &self.remedy()),
        }
    }

    /// The items alone: [`Task::render`] says which rows are not among them.
    ///
    /// # Errors
    /// As [`Task::render`].
    pub fn items(&self, limit: Option<usize>) -> Result<Vec<Item>> {
        self.render(limit).map(|rendered| rendered.items)
    }

    /// All items, ready for [`Selection`](super::Selection): a single text is cut into its passages, so that both sides have
    /// some. Several have no sizes: the text's own is none of theirs.
    pub fn divisible(&self) -> Result<Rendered> {
        let mut rendered = self.render(None)?;
        if let (Scoring::Rolling, [text]) = (self.scoring(), rendered.items.as_slice()) {
            rendered.items = text.passages();
            rendered.sizes.truncate(if rendered.items.len() == 1 { 1 } else { 0 });
        }
        Ok(rendered)
    }

    /// BLAKE3 of how the task scores and of its rendered items, in hexadecimal: two equal digests ask the same.
    pub fn digest(&self, items: &[Item]) -> String {
        let mut hasher = blake3::Hasher::new();
        let mut add = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
        };
        add(format!("{:?}", self.file).as_bytes());
        for item in items {
            for request in &item.requests {
                add(request.context.as_bytes());
                add(request.continuation.as_bytes());
            }
            item.gold.iter().chain(&item.choice_chars).for_each(|number| add(&number.to_le_bytes()));
            item.answers.iter().for_each(|answer| add(answer.as_bytes()));
            add(b"item");
        }
        hasher.finalize().to_hex().to_string()
    }

    fn remedy(&self) -> String {
        let source = &self.file.source;
        let get = if source.is_empty() { String::new() } else { format!("get it from {}; ", source.trim_end()) };
        format!("{get}or name the directory that holds it with --data DIR")
    }
}

/// What messages call a file of rows.
const FORMAT: &str = "task data";

/// The work of rendering a task's items.
struct Rendering;

impl Work for Rendering {
    type Setup = (Task, Option<usize>);
    type Question = ();
    type Answer = Rendered;
    const LIMITS: Limits = Limits::DATA;

    fn work((task, limit): Self::Setup, inside: &mut Inside<Rendering>) -> Result<()> {
        inside.answer(&task.render_here(limit)?)
    }
}

/// The work of finding what a user's rows are. The first one that can be read and is of a known kind says of which they all are.
struct FirstRow;

impl FirstRow {
    /// Rows that are looked at.
    const MOST: usize = 10_000;
}

impl Work for FirstRow {
    type Setup = Dataset;
    type Question = ();
    type Answer = Scoring;
    const LIMITS: Limits = Limits::DATA;

    fn work(file: Dataset, inside: &mut Inside<FirstRow>) -> Result<()> {
        const KINDS: &str = "expected {\"context\", \"choices\", \"gold\"}, {\"contexts\", \"continuation\", \"gold\"}, {\"context\", \
                             \"answers\"} or {\"text\"}, found none of `choices`, `contexts`, `answers` and `text`";
        const FIRST: [(&str, Scoring); 4] = [
            ("choices", Scoring::Choices),
            ("contexts", Scoring::Contexts),
            ("answers", Scoring::Generate),
            ("text", Scoring::Rolling),
        ];
        let (mut left_out, mut read) = (LeftOut::default(), 0);
        for row in file.rows_here().take(FirstRow::MOST) {
            read += 1;
            let scoring = row.and_then(|row| {
                let fits = FIRST.iter().find(|(field, _)| row.value.get(*field).is_some());
                fits.map(|(_, scoring)| *scoring).ok_or_else(|| row.place.error(FORMAT, KINDS))
            });
            if let Some(scoring) = left_out.keep(scoring)? {
                return inside.answer(&scoring);
            }
        }
        match read {
            0 => Err(Error::format(file.path(), FORMAT, "it has no rows")),
            _ => Err(left_out.out_of(read, FORMAT, file.path()).expect_err("every row was left out")),
        }
    }
}

/// How rows without a task file become requests.
fn prompt_of_user(scoring: Scoring) -> Prompt {
    let text = |field: &str| field.to_string();
    match scoring {
        Scoring::Contexts => Prompt::Contexts {
            contexts: List::Formula(text("contexts")),
            continuation: text("{{continuation}}"),
            gold: text("gold"),
        },
        Scoring::Rolling => Prompt::Rolling { document: text("{{text}}"), counted: None },
        Scoring::Generate => Prompt::Generate {
            context: text("{{context}}"),
            answers: List::Formula(text("answers")),
            rule: ExactMatch::of_a_line(),
        },
        _ => Prompt::Choices {
            context: text("{{context}}"),
            choices: List::Formula(text("choices")),
            gold: text("gold"),
        },
    }
}

/// A user's own text as one document.
fn text_of(path: &Path) -> Result<Rendered> {
    let document = read_text(path)?;
    let sizes = vec![TextSize::of(&document)];
    let question =
        Question { contexts: vec![String::new()], continuations: vec![document], gold: vec![0], answers: vec![] };
    question.check().map_err(|reason| Error::format(path, "text", reason))?;
    let place = Place { file: path.into(), row: RowNumber::Line(1) };
    let items = vec![question.item(place, ["", ""], Delimiter::NONE)];
    Ok(Rendered { items, sizes, left_out: LeftOut::default(), notes: Vec::new() })
}

/// A text file, whole.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    let bytes = fs::read(path).map_err(Error::io(path))?;
    String::from_utf8(bytes).map_err(|error| Error::format(path, "text", format!("not UTF-8: {}", error.utf8_error())))
}

#[cfg(test)]
mod tests {
    use super::super::item::Request;
    use super::*;

    const YAML: &str =
        "name: mine\ndata: mine.jsonl\nscoring: choices\ncontext: '{{q}}'\nchoices: options\ngold: answer\n";

    /// The items of a task file beside its rows, or the error.
    fn of_yaml(yaml: &str, rows: &str, shots: usize) -> Result<Vec<Item>> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("mine.yaml"), yaml).unwrap();
        fs::write(dir.path().join("mine.jsonl"), rows).unwrap();
        Task::open(dir.path().join("mine.yaml").to_str().unwrap(), None)?.with_shots(shots)?.items(None)
    }

    #[test]
    fn the_table_lists_every_file_of_the_tasks_folder() {
        let mut names: Vec<String> = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tasks"))
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_string())
            .collect();
        names.sort();
        assert_eq!(names, Task::shipped());
        for name in names {
            let task = Task::open(&name, None).unwrap();
            assert_eq!(task.name(), name);
            let file = task.file();
            assert!(!file.description.is_empty() && !file.source.is_empty() && !file.split.is_empty(), "{name}");
        }
    }

    #[test]
    fn missing_data_says_where_to_get_it() {
        let dir = tempfile::tempdir().unwrap();
        let error = Task::open("truthfulqa_mc1", Some(dir.path())).unwrap().items(None).unwrap_err().to_string();
        for part in ["task data not found: ", "truthfulqa/truthful_qa/multiple_choice", "huggingface.co", "--data DIR"]
        {
            assert!(error.contains(part), "{part} not in {error}");
        }
        let error = Task::open("arc_easy", None).unwrap().items(None).unwrap_err().to_string();
        assert!(error.contains("`criadero fetch demo`"), "{error}");
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let error = Task::open("arc_hard", None).unwrap_err().to_string();
        assert!(error.starts_with("unknown task `arc_hard`; known: arc_challenge, arc_easy, "), "{error}");
        let error = Task::open("no/such.yaml", None).unwrap_err().to_string();
        assert!(error.starts_with("task file not found: no/such.yaml; "), "{error}");
    }

    #[test]
    fn where_filters_and_an_empty_rest_is_an_error() {
        let rows = "{\"q\": \"x\", \"options\": [\"1\", \"2\"], \"answer\": \"2\", \"n\": 1}\n\
                    {\"q\": \"y\", \"options\": [\"1\", \"2\"], \"answer\": 0, \"n\": 2}\n";
        let items = of_yaml(&format!("{YAML}where: n == 2\n"), rows, 0).unwrap();
        assert_eq!((items.len(), items[0].index, items[0].requests[0].context.as_str()), (1, 0, "y"));
        assert_eq!(of_yaml(YAML, rows, 0).unwrap()[0].gold, [1], "gold may be a choice's text");
        let error = of_yaml(&format!("{YAML}where: n > 2\n"), rows, 0).unwrap_err().to_string();
        assert_eq!(error, "task `mine`: found `where` keeps none of 2 rows, expected one item or more");
    }

    #[test]
    fn examples_are_the_first_rows_but_never_the_question_itself() {
        let row = |q: &str, group: &str| {
            format!("{{\"q\": \"{q}\", \"options\": [\"no\", \"yes\"], \"answer\": 1, \"g\": \"{group}\"}}\n")
        };
        let rows = [row("a?", "x"), row("b?", "y"), row("c?", "x")].concat();
        let contexts = |yaml: &str, shots| {
            of_yaml(yaml, &rows, shots)
                .map(|items| items.iter().map(|item| item.requests[0].context.clone()).collect::<Vec<_>>())
        };
        let with = format!("{YAML}preamble: \"Say:\\n\"\nfewshot: {{ data: mine.jsonl, delimiter: ' | ' }}\n");
        assert_eq!(contexts(&with, 0).unwrap(), ["Say:\na?", "Say:\nb?", "Say:\nc?"]);
        assert_eq!(contexts(&with, 1).unwrap(), ["Say:\nb? yes | a?", "Say:\na? yes | b?", "Say:\na? yes | c?"]);
        assert!(
            contexts(&with, 3).unwrap_err().to_string().contains("3 few-shot examples were asked for, 2 are there")
        );
        let same = format!("{YAML}fewshot: {{ data: mine.jsonl, same: g }}\n");
        assert_eq!(contexts(&same, 1).unwrap(), ["c? yes\n\na?", "a? yes\n\nc?"], "line 2 has no example of its group");
        assert!(contexts(YAML, 1).unwrap_err().to_string().contains("this task has no `fewshot` data"));
        let keys = |shots| of_yaml(&with, &rows, shots).unwrap().iter().map(|item| item.key).collect::<Vec<_>>();
        assert_eq!(keys(0), keys(2), "examples never move a question to the other side");
    }

    #[test]
    fn a_text_is_one_document() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("novel.txt");
        fs::write(&path, " Uno dos\n\ntres ").unwrap();
        let task = Task::open(path.to_str().unwrap(), None).unwrap();
        let items = task.items(None).unwrap();
        assert_eq!((task.name(), task.scoring()), ("novel", Scoring::Rolling));
        assert_eq!(
            items[0].requests,
            [Request { context: String::new(), continuation: " Uno dos\n\ntres ".to_string() }]
        );
        assert_eq!(task.render(None).unwrap().sizes, [TextSize { words: 5, bytes: 15 }]);
        fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(task.items(None).unwrap_err().to_string().contains("not UTF-8"));
        fs::write(&path, " \n").unwrap();
        assert!(task.items(None).unwrap_err().to_string().contains("the text to score is empty"));
    }

    #[test]
    fn the_digest_follows_the_items() {
        let rows = "{\"context\": \"c\", \"choices\": [\"a\", \"b\"], \"gold\": 0}\n\
                    {\"context\": \"d\", \"choices\": [\"a\", \"b\", \"c\", \"d\"], \"gold\": 0}\n";
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mine.jsonl");
        fs::write(&path, rows).unwrap();
        let task = Task::open(path.to_str().unwrap(), None).unwrap();
        let items = task.items(None).unwrap();
        assert_eq!(task.digest(&items), task.digest(&task.items(None).unwrap()));
        assert_ne!(task.digest(&items), task.digest(&items[..1]));
        let mut other = items.clone();
        other[1].gold = vec![1];
        assert_ne!(task.digest(&items), task.digest(&other));
        assert!(task.items(Some(0)).is_err());
        assert_eq!(task.items(Some(1)).unwrap(), items[..1]);
    }
}
