//! A task's rows, rendered: the items that they make, and those of which none can be made.

use minijinja::Environment;
use minijinja::value::Value;
use serde::{Deserialize, Serialize};

use super::dataset::Dataset;
use super::gold::Golds;
use super::item::{Item, Scoring};
use super::left_out::LeftOut;
use super::question::{Compiled, Examples};
use super::row::Row;
use super::task_file::{FewShot, Prompt, TaskFile};
use super::template::{Text, environment};
use super::text_size::TextSize;
use crate::error::{Error, Result};

/// What messages call a file of rows.
const FORMAT: &str = "task data";

/// What came of a task's rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rendered {
    /// The items, in the order of the files.
    pub items: Vec<Item>,
    /// Words and bytes of a rolling task's documents as they were written, one for each item; empty for other tasks.
    pub sizes: Vec<TextSize>,
    /// The rows that cannot be used.
    pub left_out: LeftOut,
    /// How rows were understood, where there was a choice: one line each.
    pub notes: Vec<String>,
}

/// What rendering takes: a task file and where its rows are.
pub struct Renderer<'a> {
    /// The templates.
    pub file: &'a TaskFile,
    /// The rows.
    pub rows: Dataset,
    /// Whether the rows are a user's own, without a task file: they are of one kind.
    pub of_user: bool,
    /// How many worked examples stand before each question, and the rows they are from.
    pub shots: Option<(usize, &'a FewShot, Dataset)>,
}

/// A row's item, and its size where sizes count.
type Made = (Item, Option<TextSize>);

/// A task's templates, compiled.
struct Templates<'a> {
    prompt: Compiled<'a>,
    counted: Option<Text<'a>>,
    examples: Examples,
}

impl Renderer<'_> {
    /// The first `limit` items, or all. Rows of which no item can be made are left out.
    ///
    /// # Errors
    /// What ends the reading of a file; more than half of the rows left out; no item at all.
    pub fn render(&self, limit: Option<usize>) -> Result<Rendered> {
        let env = environment();
        let mut left_out = LeftOut::default();
        let templates = self.templates(&env, &mut left_out)?;
        let of_examples = std::mem::take(&mut left_out);
        let (mut items, mut sizes, mut golds, mut filtered) = (Vec::new(), Vec::new(), Golds::default(), 0);
        for row in self.rows.rows_here() {
            if limit.is_some_and(|limit| items.len() >= limit) {
                break;
            }
            let made = row.and_then(|row| self.item(&templates, &row, &mut golds));
            match left_out.keep(made)? {
                None => {}
                Some(None) => filtered += 1,
                Some(Some((mut item, size))) => {
                    item.index = items.len() + left_out.count;
                    items.push(item);
                    sizes.extend(size);
                }
            }
        }
        let what = format!("task `{}`", self.file.name);
        if items.is_empty() && left_out.is_empty() {
            let found = if filtered > 0 { format!("`where` keeps none of {filtered} rows") } else { "no rows".into() };
            return Err(Error::invalid(what, found, "one item or more"));
        }
        let of = items.len() + left_out.count;
        let mut left_out = left_out.out_of(of, &what, self.rows.path())?;
        golds.check(&self.file.name)?;
        if !of_examples.is_empty() {
            left_out = left_out.beside(&of_examples);
        }
        Ok(Rendered { items, sizes, left_out, notes: golds.notes() })
    }

    fn templates<'a>(&'a self, env: &'a Environment<'a>, left_out: &mut LeftOut) -> Result<Templates<'a>> {
        let wrong = |reason| Error::invalid(format!("task `{}`", self.file.name), reason, "templates that compile");
        let prompt = Compiled::new(env, self.file).map_err(wrong)?;
        let counted = match &self.file.prompt {
            Prompt::Rolling { document, counted } => Some(counted.as_ref().unwrap_or(document)),
            _ => None,
        };
        let counted = counted.map(|source| Text::new(env, source)).transpose().map_err(wrong)?;
        let examples = self.examples(&prompt, left_out)?;
        Ok(Templates { prompt, counted, examples })
    }

    /// What a row makes: nothing where `where` does not keep it.
    fn item(&self, templates: &Templates, row: &Row, golds: &mut Golds) -> Result<Option<Made>> {
        let in_row = |reason: String| row.place.error(FORMAT, reason);
        self.same_kind(row).map_err(in_row)?;
        let value = Value::from_serialize(&row.value);
        let Templates { prompt, counted, examples } = templates;
        if !prompt.keeps(&value).map_err(|reason| in_row(format!("`where`: {reason}")))? {
            return Ok(None);
        }
        let mut make = || {
            let question = prompt.question(&value, golds)?;
            let shots = self.shots.as_ref().map_or(0, |(count, ..)| *count);
            let (preamble, before) = (prompt.preamble(&value)?, examples.before(row, shots)?);
            let size = counted.as_ref().map(|counted| counted.render(&value)).transpose()?;
            let item = question.item(row.place.clone(), [&preamble, &before], prompt.delimiter);
            Ok((item, size.as_deref().map(TextSize::of)))
        };
        make().map(Some).map_err(in_row)
    }

    /// A user's file holds rows of one kind.
    fn same_kind(&self, row: &Row) -> Result<(), String> {
        let (wanted, other) = match self.file.scoring {
            Scoring::Choices if self.of_user => ("choices", "contexts"),
            Scoring::Contexts if self.of_user => ("contexts", "choices"),
            _ => return Ok(()),
        };
        match row.value.get(other) {
            Some(_) => Err(format!("has `{other}`, the first row has `{wanted}`; one file holds one kind")),
            None => Ok(()),
        }
    }

    /// The worked examples, rendered.
    fn examples(&self, prompt: &Compiled, left_out: &mut LeftOut) -> Result<Examples> {
        let mut examples = Examples::default();
        let Some((_, fewshot, rows)) = &self.shots else { return Ok(examples) };
        examples.same = fewshot.same.clone();
        examples.from_the_items = fewshot.data.to_vec() == self.file.data;
        let example = |row: Row| {
            let value = Value::from_serialize(&row.value);
            let text = || match prompt.keeps(&value)? {
                true => prompt.question(&value, &mut Golds::default()).map(Some),
                false => Ok(None),
            };
            let question = text().map_err(|reason| row.place.error(FORMAT, reason))?;
            let text = question.map(|question| question.example(prompt.delimiter) + &fewshot.delimiter);
            Ok(text.map(|text| (row.value, text)))
        };
        let mut own = LeftOut::default();
        for row in rows.rows_here() {
            examples.shots.extend(own.keep(row.and_then(example))?.flatten());
        }
        // The rows of the items are told once, as such.
        if !examples.from_the_items {
            let what = format!("few-shot examples of task `{}`", self.file.name);
            let of = examples.shots.len() + own.count;
            *left_out = own.out_of(of, &what, rows.path())?;
        }
        Ok(examples)
    }
}
