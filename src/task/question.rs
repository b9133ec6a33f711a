//! One row of a task's data, rendered: contexts, continuations and which of them are true.

use minijinja::Environment;
use minijinja::value::Value;

use super::gold::{Golds, flags};
use super::item::{Item, Request, Scoring, key};
use super::row::{Place, Row};
use super::task_file::{List, Prompt, TaskFile};
use super::template::{Formula, Result, Text};

/// A task file's templates, compiled.
pub struct Compiled<'a> {
    keep: Option<Formula<'a>>,
    preamble: Option<Text<'a>>,
    /// What stands between context and continuation.
    pub delimiter: Delimiter<'a>,
    contexts: Texts<'a>,
    continuations: Texts<'a>,
    gold: Option<Formula<'a>>,
    flags: bool,
    /// Whether the continuations are answers to one question, of which any will do.
    answers: bool,
}

/// One template, a fixed list, or an expression that gives a list.
enum Texts<'a> {
    One(Text<'a>),
    Fixed(&'a [String]),
    Formula(Formula<'a>),
    /// One that gives a text or a list of texts.
    Either(Formula<'a>),
}

impl<'a> Texts<'a> {
    fn list(env: &'a Environment<'a>, list: &'a List) -> Result<Texts<'a>> {
        match list {
            List::Fixed(texts) => Ok(Texts::Fixed(texts)),
            List::Formula(source) => Formula::new(env, source).map(Texts::Formula),
        }
    }

    fn render(&self, row: &Value) -> Result<Vec<String>> {
        match self {
            Texts::One(text) => Ok(vec![text.render(row)?]),
            Texts::Fixed(texts) => Ok(texts.to_vec()),
            Texts::Formula(formula) => formula.texts(row),
            Texts::Either(formula) => formula.text_or_texts(row),
        }
    }
}

impl<'a> Compiled<'a> {
    /// Compiles the templates of `file`.
    pub fn new(env: &'a Environment<'a>, file: &'a TaskFile) -> Result<Compiled<'a>> {
        let text = |source: &'a String| Text::new(env, source).map(Texts::One);
        let formula = |source: &'a String| Formula::new(env, source);
        let (contexts, continuations, gold) = match &file.prompt {
            Prompt::Choices { context, choices, gold } => (text(context)?, Texts::list(env, choices)?, Some(gold)),
            Prompt::Contexts { contexts, continuation, gold } => {
                (Texts::list(env, contexts)?, text(continuation)?, Some(gold))
            }
            Prompt::LastWord { context, continuation } => (text(context)?, text(continuation)?, None),
            Prompt::Rolling { document, .. } => (Texts::One(Text::new(env, "")?), text(document)?, None),
            Prompt::Generate { context, answers: List::Fixed(texts), .. } => {
                (text(context)?, Texts::Fixed(texts), None)
            }
            Prompt::Generate { context, answers: List::Formula(source), .. } => {
                (text(context)?, Texts::Either(formula(source)?), None)
            }
        };
        Ok(Compiled {
            keep: file.where_.as_ref().map(formula).transpose()?,
            preamble: file.preamble.as_ref().map(|source| Text::new(env, source)).transpose()?,
            contexts,
            continuations,
            gold: gold.map(formula).transpose()?,
            flags: file.scoring == Scoring::Mc2,
            answers: file.scoring == Scoring::Generate,
            delimiter: match file.scoring {
                Scoring::Rolling => Delimiter::NONE,
                _ => Delimiter { text: &file.target_delimiter, yields: file.delimiter_yields },
            },
        })
    }

    /// Whether the row counts.
    pub fn keeps(&self, row: &Value) -> Result<bool> {
        self.keep.as_ref().map_or(Ok(true), |keep| keep.value(row).map(|value| value.is_true()))
    }

    /// The preamble for one row.
    pub fn preamble(&self, row: &Value) -> Result<String> {
        self.preamble.as_ref().map_or(Ok(String::new()), |text| text.render(row))
    }

    /// The question of one row, checked; `golds` learns how its gold was written.
    pub fn question(&self, row: &Value, golds: &mut Golds) -> Result<Question> {
        let (contexts, mut continuations) = (self.contexts.render(row)?, self.continuations.render(row)?);
        if contexts.is_empty() || continuations.is_empty() {
            return Err(format!("it has no {}", if self.answers { "answers" } else { "choices" }));
        }
        let mut answers = Vec::new();
        if self.answers {
            answers.clone_from(&continuations);
            continuations.truncate(1);
        }
        let options = if matches!(self.contexts, Texts::One(_)) { &continuations } else { &contexts };
        let gold = match &self.gold {
            None => vec![0],
            Some(gold) if self.flags => flags(&gold.value(row)?, options.len())?,
            Some(gold) => golds.places(&gold.value(row)?, options)?,
        };
        let question = Question { contexts, continuations, gold, answers };
        question.check()?;
        Ok(question)
    }
}

/// What stands between a context and the text behind it that is scored.
#[derive(Clone, Copy, Debug)]
pub struct Delimiter<'a> {
    /// Itself.
    pub text: &'a str,
    /// Whether it is left out where the context ends or the text begins with white space, as lm-evaluation-harness' `maybe_delimit` joins
    /// texts. The `target_delimiter` of a task file never yields, there as here.
    pub yields: bool,
}

impl Delimiter<'_> {
    /// Nothing.
    pub const NONE: Delimiter<'static> = Delimiter { text: "", yields: false };

    fn between(&self, context: &str, text: &str) -> &str {
        let spaced = context.ends_with(char::is_whitespace) || text.starts_with(char::is_whitespace);
        if self.yields && spaced { "" } else { self.text }
    }
}

/// One row's texts: several contexts and one continuation, or the other way round, or one of each.
pub struct Question {
    /// Contexts, one or one a choice.
    pub contexts: Vec<String>,
    /// Continuations, one or one a choice.
    pub continuations: Vec<String>,
    /// The true choices, ascending.
    pub gold: Vec<usize>,
    /// What is right where an answer is written: the continuation and others.
    pub answers: Vec<String>,
}

impl Question {
    /// Fails when there is nothing to score.
    pub fn check(&self) -> Result<()> {
        let many = self.continuations.len() > 1;
        match self.continuations.iter().position(|text| text.trim().is_empty()) {
            Some(place) if many => Err(format!("choice {place} is empty")),
            Some(_) => Err("the text to score is empty".to_string()),
            None => Ok(()),
        }
    }

    /// Context and continuation of one choice.
    fn pair(&self, choice: usize) -> (&str, &str) {
        let of = |texts: &'_ Vec<String>| if texts.len() == 1 { 0 } else { choice };
        (&self.contexts[of(&self.contexts)], &self.continuations[of(&self.continuations)])
    }

    /// The question with its answer.
    pub fn example(&self, delimiter: Delimiter) -> String {
        let (context, continuation) = self.pair(self.gold[0]);
        format!("{context}{}{continuation}", delimiter.between(context, continuation))
    }

    /// The question as an item without an index, with the preamble and the examples in front of every context.
    pub fn item(self, place: Place, [preamble, examples]: [&str; 2], delimiter: Delimiter) -> Item {
        let pairs = || (0..self.contexts.len().max(self.continuations.len())).map(|choice| self.pair(choice));
        let request = |(context, continuation): (&str, &str)| Request {
            context: format!("{preamble}{examples}{context}"),
            continuation: format!("{}{continuation}", delimiter.between(context, continuation)),
        };
        Item {
            place,
            preamble: preamble.len(),
            index: 0,
            requests: pairs().map(request).collect(),
            choice_chars: pairs().map(|(_, continuation)| continuation.chars().count()).collect(),
            key: key(self.contexts.iter().map(String::as_str), self.continuations.iter().map(String::as_str)),
            gold: self.gold,
            answers: self.answers,
        }
    }
}

/// Rendered examples with the rows they are from.
#[derive(Default)]
pub struct Examples {
    /// Each example's row and text, its delimiter included.
    pub shots: Vec<(serde_json::Value, String)>,
    /// A field that example and question must have in common.
    pub same: Option<String>,
    /// Whether the examples are the items themselves, so that a question must not be its own example.
    pub from_the_items: bool,
}

impl Examples {
    /// The first `count` examples that may stand before `row`.
    pub fn before(&self, row: &Row, count: usize) -> Result<String> {
        let same =
            |shot: &serde_json::Value| self.same.as_ref().is_none_or(|field| shot.get(field) == row.value.get(field));
        let fits = |shot: &serde_json::Value| same(shot) && !(self.from_the_items && *shot == row.value);
        let texts: Vec<&str> =
            self.shots.iter().filter(|(shot, _)| fits(shot)).take(count).map(|(_, text)| text.as_str()).collect();
        if texts.len() < count {
            return Err(format!("{count} few-shot examples were asked for, {} are there", texts.len()));
        }
        Ok(texts.concat())
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::RowNumber;
    use super::*;

    const BLANK: Delimiter = Delimiter { text: " ", yields: false };

    #[test]
    fn a_delimiter_of_the_users_own_rows_yields_to_white_space() {
        let yields = Delimiter { yields: true, ..BLANK };
        for (context, text, expected) in
            [("sky is", "blue", " "), ("sky is", " blue", ""), ("sky is\n", "blue", ""), ("", "blue", " ")]
        {
            assert_eq!(yields.between(context, text), expected, "{context:?} {text:?}");
            assert_eq!(BLANK.between(context, text), " ", "a task file's is always there");
        }
    }

    #[test]
    fn several_contexts_share_the_continuation_and_one_context_its_choices() {
        let place = || Place { file: std::sync::Arc::from(std::path::Path::new("a.jsonl")), row: RowNumber::Line(7) };
        let texts = |texts: &[&str]| texts.iter().map(|text| text.to_string()).collect::<Vec<_>>();
        let choices =
            Question { contexts: texts(&["q"]), continuations: texts(&["a", "bé"]), gold: vec![1], answers: vec![] };
        assert_eq!(choices.example(BLANK), "q bé");
        let item = choices.item(place(), ["Before. ", ""], BLANK);
        assert_eq!(item.requests[1], Request { context: "Before. q".to_string(), continuation: " bé".to_string() });
        assert_eq!((item.place, item.choice_chars), (place(), vec![1, 2]));
        let contexts = Question {
            contexts: texts(&["Ana", "Eva"]),
            continuations: texts(&["ran."]),
            gold: vec![1],
            answers: vec![],
        };
        assert_eq!(contexts.example(BLANK), "Eva ran.");
        let item = contexts.item(place(), ["", ""], BLANK);
        assert_eq!(item.requests[0], Request { context: "Ana".to_string(), continuation: " ran.".to_string() });
        assert_eq!(item.choice_chars, [4, 4]);
    }
}
