//! Tasks: from a name or a file to rendered items, as lm-evaluation-harness 0.4.13 renders them.

use std::fs;
use std::path::{Path, PathBuf};

use minijinja::value::Value;

use super::dataset::{Dataset, Row};
use super::item::{Item, Scoring};
use super::question::{Compiled, Examples, Question};
use super::shipped::{SHIPPED, shipped_yaml};
use super::task_file::{List, Prompt, TaskFile};
use super::template::{Text, environment};
use crate::error::{Error, Result};

/// A task that is ready to read its data.
#[derive(Clone, Debug)]
pub struct Task {
    file: TaskFile,
    source: Source,
    shots: usize,
}

/// Where the rows are from.
#[derive(Clone, Debug)]
enum Source {
    /// The files that the task names, under the first of these directories that has them.
    Named(Vec<PathBuf>),
    /// The user's own file of rows.
    Rows(PathBuf),
    /// The user's own text, one document.
    Text(PathBuf),
}

/// Words and bytes of a document as it was written, the denominators of word and byte perplexity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextSize {
    /// Pieces between runs of white space, as Python's `re.split(r"\s+", text)` counts them.
    pub words: usize,
    /// Bytes in UTF-8.
    pub bytes: usize,
}

impl TextSize {
    /// The size of `text`.
    pub fn of(text: &str) -> TextSize {
        let starts = text.chars().zip(std::iter::once('x').chain(text.chars()));
        let runs = starts.filter(|(here, before)| here.is_whitespace() && !before.is_whitespace()).count();
        TextSize { words: runs + 1, bytes: text.len() }
    }
}

impl Task {
    /// Opens a task: a shipped name, a task file (`.yaml`), a file of rows (`{context, choices, gold}` or
    /// `{contexts, continuation, gold}`: JSON lines, Parquet or Arrow), or a text (`.txt`, `.md`), which is a rolling task.
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
        if !path.is_file() {
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
                let yaml = fs::read_to_string(path).map_err(Error::io(path))?;
                let beside = path.parent().unwrap_or(Path::new("")).to_path_buf();
                Ok(named(TaskFile::parse(path, &yaml)?, [beside].into_iter().chain(data_dir).collect()))
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

    /// The user's own rows. The first one says which of the two kinds they are.
    fn rows(path: &Path) -> Result<Task> {
        let Some(first) = Dataset::file(path).rows().next().transpose()? else {
            return Err(Error::format(path, "task data", "it has no rows"));
        };
        let texts = |field: &str| field.to_string();
        let (scoring, prompt) = if first.value.get("choices").is_some() {
            let (context, choices) = ("{{context}}".to_string(), List::Formula(texts("choices")));
            (Scoring::Choices, Prompt::Choices { context, choices, gold: texts("gold") })
        } else if first.value.get("contexts").is_some() {
            let (contexts, continuation) = (List::Formula(texts("contexts")), "{{continuation}}".to_string());
            (Scoring::Contexts, Prompt::Contexts { contexts, continuation, gold: texts("gold") })
        } else {
            return Err(first.error(
                "expected {\"context\", \"choices\", \"gold\"} or {\"contexts\", \"continuation\", \"gold\"}, \
                 found neither `choices` nor `contexts`",
            ));
        };
        let file = TaskFile::of_user(path, scoring, prompt);
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

    /// The name: a shipped task's, a task file's `name`, or a data file's stem.
    pub fn name(&self) -> &str {
        &self.file.name
    }

    /// How its items are scored.
    pub fn scoring(&self) -> Scoring {
        self.file.scoring
    }

    /// The task file: description, split, source.
    pub fn file(&self) -> &TaskFile {
        &self.file
    }

    /// The names of the shipped tasks.
    pub fn shipped() -> &'static [&'static str] {
        SHIPPED
    }

    /// The first `limit` items, or all, in the order of the files.
    ///
    /// # Errors
    /// [`Error::Missing`] says where to get data that is not there; [`Error::Format`] names file and line of a row that
    /// cannot be used: a field that is missing, an empty choice, no choices, a gold out of range; or no rows at all.
    pub fn items(&self, limit: Option<usize>) -> Result<Vec<Item>> {
        if limit == Some(0) {
            return Err(Error::invalid("the number of items", 0, "1 or more"));
        }
        if let Source::Text(path) = &self.source {
            let document = read_text(path)?;
            let question = Question { contexts: vec![String::new()], continuations: vec![document], gold: vec![0] };
            question.check().map_err(|reason| Error::format(path, "text", reason))?;
            return Ok(vec![question.item(0, "", "")]);
        }
        let env = environment();
        let prompt = Compiled::new(&env, &self.file).map_err(|reason| self.wrong(reason))?;
        let examples = self.examples(&prompt)?;
        let mut items = Vec::new();
        self.each_row(&prompt, limit, |row, value| {
            let in_row = |reason: String| row.error(reason);
            let question = prompt.question(value).map_err(in_row)?;
            let preamble = prompt.preamble(value).map_err(in_row)?;
            let before = preamble + &examples.before(row, self.shots).map_err(in_row)?;
            items.push(question.item(items.len(), &before, prompt.delimiter));
            Ok(())
        })?;
        Ok(items)
    }

    /// All items, ready for [`Selection`](super::Selection): a single text is cut into its passages, so that both sides have some.
    pub fn divisible_items(&self) -> Result<Vec<Item>> {
        let items = self.items(None)?;
        match (self.scoring(), items.as_slice()) {
            (Scoring::Rolling, [text]) => Ok(text.passages()),
            _ => Ok(items),
        }
    }

    /// Words and bytes of a rolling task's documents as they were written, one for each item of [`Task::items`];
    /// empty for other tasks.
    pub fn text_sizes(&self, limit: Option<usize>) -> Result<Vec<TextSize>> {
        let Prompt::Rolling { document, counted } = &self.file.prompt else { return Ok(Vec::new()) };
        if let Source::Text(path) = &self.source {
            return Ok(vec![TextSize::of(&read_text(path)?)]);
        }
        let env = environment();
        let prompt = Compiled::new(&env, &self.file).map_err(|reason| self.wrong(reason))?;
        let counted = Text::new(&env, counted.as_ref().unwrap_or(document)).map_err(|reason| self.wrong(reason))?;
        let mut sizes = Vec::new();
        self.each_row(&prompt, limit, |row, value| {
            sizes.push(TextSize::of(&counted.render(value).map_err(|reason| row.error(reason))?));
            Ok(())
        })?;
        Ok(sizes)
    }

    /// The accuracy of guessing: the mean of true choices over choices; 0 where there is nothing to choose from.
    pub fn chance(&self, items: &[Item]) -> f64 {
        if items.is_empty() || matches!(self.file.scoring, Scoring::LastWord | Scoring::Rolling) {
            return 0.0;
        }
        let share = |item: &Item| item.gold.len() as f64 / item.requests.len() as f64;
        items.iter().map(share).sum::<f64>() / items.len() as f64
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
            add(b"item");
        }
        hasher.finalize().to_hex().to_string()
    }

    /// Calls `use_row` with the first `limit` kept rows.
    fn each_row(
        &self,
        prompt: &Compiled,
        limit: Option<usize>,
        mut use_row: impl FnMut(&Row, &Value) -> Result<()>,
    ) -> Result<()> {
        let (mut read, mut kept) = (0, 0);
        let dataset = self.dataset()?;
        for row in dataset.rows() {
            if limit.is_some_and(|limit| kept >= limit) {
                break;
            }
            let row = row?;
            read += 1;
            self.same_kind(&row)?;
            let value = Value::from_serialize(&row.value);
            if prompt.keeps(&value).map_err(|reason| row.error(format!("`where`: {reason}")))? {
                kept += 1;
                use_row(&row, &value)?;
            }
        }
        if kept == 0 {
            let kept = if read > 0 { format!("`where` keeps none of {read} rows") } else { "no rows".to_string() };
            return Err(Error::invalid(format!("task `{}`", self.file.name), kept, "one item or more"));
        }
        Ok(())
    }

    fn dataset(&self) -> Result<Dataset> {
        match &self.source {
            Source::Named(roots) => Dataset::find(&self.file.data, roots, &self.remedy()),
            Source::Rows(path) | Source::Text(path) => Ok(Dataset::file(path)),
        }
    }

    fn remedy(&self) -> String {
        let source = &self.file.source;
        let get = if source.is_empty() { String::new() } else { format!("get it from {}; ", source.trim_end()) };
        format!("{get}or name the directory that holds it with --data DIR")
    }

    /// A user's file holds rows of one kind.
    fn same_kind(&self, row: &Row) -> Result<()> {
        let (wanted, other) = match (&self.source, self.file.scoring) {
            (Source::Rows(_), Scoring::Choices) => ("choices", "contexts"),
            (Source::Rows(_), Scoring::Contexts) => ("contexts", "choices"),
            _ => return Ok(()),
        };
        match row.value.get(other) {
            Some(_) => Err(row.error(format!("has `{other}`, the first row has `{wanted}`; one file holds one kind"))),
            None => Ok(()),
        }
    }

    /// The worked examples, rendered.
    fn examples(&self, prompt: &Compiled) -> Result<Examples> {
        let mut examples = Examples::default();
        let (Some(fewshot), Source::Named(roots)) = (&self.file.fewshot, &self.source) else { return Ok(examples) };
        if self.shots == 0 {
            return Ok(examples);
        }
        examples.same = fewshot.same.clone();
        examples.from_the_items = fewshot.data.to_vec() == self.file.data;
        for row in Dataset::find(&fewshot.data.to_vec(), roots, &self.remedy())?.rows() {
            let row = row?;
            let in_row = |reason: String| row.error(reason);
            let value = Value::from_serialize(&row.value);
            if !prompt.keeps(&value).map_err(in_row)? {
                continue;
            }
            let question = prompt.question(&value).map_err(in_row)?;
            let text = question.example(prompt.delimiter) + &fewshot.delimiter;
            examples.shots.push((row.value, text));
        }
        Ok(examples)
    }

    fn wrong(&self, reason: String) -> Error {
        Error::invalid(format!("task `{}`", self.file.name), reason, "templates that compile")
    }
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
        assert!(error.contains("`make assets`"), "{error}");
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
        assert!(contexts(&same, 1).unwrap_err().to_string().contains("line 2: 1 few-shot examples"));
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
        assert_eq!((task.name(), task.scoring(), task.chance(&items)), ("novel", Scoring::Rolling, 0.0));
        assert_eq!(
            items[0].requests,
            [Request { context: String::new(), continuation: " Uno dos\n\ntres ".to_string() }]
        );
        assert_eq!(task.text_sizes(None).unwrap(), [TextSize { words: 5, bytes: 15 }]);
        fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(task.items(None).unwrap_err().to_string().contains("not UTF-8"));
        fs::write(&path, " \n").unwrap();
        assert!(task.items(None).unwrap_err().to_string().contains("the text to score is empty"));
    }

    #[test]
    fn chance_and_digest_follow_the_items() {
        let rows = "{\"context\": \"c\", \"choices\": [\"a\", \"b\"], \"gold\": 0}\n\
                    {\"context\": \"d\", \"choices\": [\"a\", \"b\", \"c\", \"d\"], \"gold\": 0}\n";
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mine.jsonl");
        fs::write(&path, rows).unwrap();
        let task = Task::open(path.to_str().unwrap(), None).unwrap();
        let items = task.items(None).unwrap();
        assert_eq!(task.chance(&items), 0.375);
        assert_eq!(task.digest(&items), task.digest(&task.items(None).unwrap()));
        assert_ne!(task.digest(&items), task.digest(&items[..1]));
        let mut other = items.clone();
        other[1].gold = vec![1];
        assert_ne!(task.digest(&items), task.digest(&other));
        assert!(task.items(Some(0)).is_err());
        assert_eq!(task.items(Some(1)).unwrap(), items[..1]);
    }
}
