//! Which choices are true, as data sets write it: a place, a choice's text, digits, or a letter.

use minijinja::value::{Value, ValueKind};

use super::template::Result;
use crate::error::Error;

/// How the golds of a task were written: what was not taken at its word is told, and places counted from 1 are noticed.
#[derive(Debug, Default)]
pub struct Golds {
    /// Texts of digits that were read as a place.
    digits: usize,
    /// Letters that were read as a place.
    letters: usize,
    /// Texts of digits that were read as a choice's text, which stands at another place.
    digit_choices: usize,
    /// Places, numbers and digits alike.
    places: usize,
    /// Those that are 0.
    zeros: usize,
    /// Places beyond the last one by one.
    beyond: usize,
}

impl Golds {
    /// The true choices that a gold value stands for, ascending: a place, a text, or a list of those.
    pub fn places(&mut self, gold: &Value, options: &[String]) -> Result<Vec<usize>> {
        let golds =
            if gold.kind() == ValueKind::Seq { gold.try_iter() } else { Value::from(vec![gold.clone()]).try_iter() };
        let mut places = Vec::new();
        for gold in golds.map_err(|error| error.to_string())? {
            let place = match gold.as_str() {
                Some(text) => self.of_text(text, options),
                None if gold.is_number() => gold.as_usize().and_then(|place| self.of_number(place, options.len())),
                None => None,
            };
            places.push(place.ok_or_else(|| {
                let last = options.len().saturating_sub(1);
                let found = if gold.is_none() { "null".to_string() } else { format!("{gold:?}") };
                format!("gold is {found}, expected 0 to {last}, a choice's text, or its letter from A on")
            })?);
        }
        places.sort_unstable();
        places.dedup();
        if places.is_empty() {
            return Err("gold is an empty list".to_string());
        }
        Ok(places)
    }

    /// The choice of exactly this text, else the one at the place that its digits or its letter name.
    ///
    /// lm-evaluation-harness 0.4.13 looks a column's text up among the choices, and takes digits that a template wrote for a
    /// place (`ConfigurableTask.doc_to_target`, `process_results`); a text that is no choice it counts as always wrong.
    fn of_text(&mut self, text: &str, options: &[String]) -> Option<usize> {
        let number = text.trim().parse().ok().filter(|_| text.trim().bytes().all(|byte| byte.is_ascii_digit()));
        if let Some(place) = options.iter().position(|option| option == text) {
            self.digit_choices += usize::from(number.is_some_and(|number: usize| number != place));
            return Some(place);
        }
        if let Some(number) = number {
            let place = self.of_number(number, options.len())?;
            self.digits += 1;
            return Some(place);
        }
        let place = letter(text.trim()).filter(|place| *place < options.len())?;
        self.letters += 1;
        Some(place)
    }

    fn of_number(&mut self, number: usize, count: usize) -> Option<usize> {
        self.places += 1;
        self.zeros += usize::from(number == 0);
        self.beyond += usize::from(number == count);
        (number < count).then_some(number)
    }

    /// One line for each way of writing that was interpreted.
    pub fn notes(&self) -> Vec<String> {
        let note = |count: usize, how: &str| {
            let rows = if count == 1 { "row" } else { "rows" };
            (count > 0).then(|| format!("gold {how} in {count} {rows}"))
        };
        [
            note(self.digits, "is text of digits, read as the choice's place from 0,"),
            note(self.letters, "is a letter, read as the choice's place from A,"),
            note(self.digit_choices, "is the text of a choice that digits would place elsewhere, read as that text,"),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Refuses golds that were counted from 1: none is 0, and in more than a tenth of the rows they are one too large.
    pub fn check(&self, task: &str) -> std::result::Result<(), Error> {
        if self.zeros > 0 || self.beyond * 10 <= self.places {
            return Ok(());
        }
        let found = format!("places without a 0, of which {} of {} are one too large", self.beyond, self.places);
        let expected = "places from 0; where the data count from 1, a task file says `gold: FIELD|int - 1`";
        Err(Error::invalid(format!("gold of task `{task}`"), found, expected))
    }
}

/// The place of a single letter, perhaps written `(B)`, `B)`, `B.` or `B:`.
fn letter(text: &str) -> Option<usize> {
    let bare = match text.strip_prefix('(') {
        Some(rest) => rest.strip_suffix(')')?,
        None => text.strip_suffix([')', '.', ':']).unwrap_or(text),
    };
    match bare.as_bytes() {
        [letter] if letter.is_ascii_alphabetic() => Some(usize::from(letter.to_ascii_uppercase() - b'A')),
        _ => None,
    }
}

/// The places of the ones in `mc2`'s labels.
pub fn flags(labels: &Value, count: usize) -> Result<Vec<usize>> {
    let wrong = || format!("gold is {labels}, expected a list of 0 and 1, one for each of {count} choices");
    let flag = |label: Value| label.as_usize().filter(|flag| *flag <= 1 && label.is_number()).ok_or_else(wrong);
    let items = labels.try_iter().map_err(|_| wrong())?;
    let flags: Vec<usize> = items.map(flag).collect::<Result<_, _>>()?;
    if flags.len() != count || !flags.contains(&1) {
        return Err(wrong());
    }
    Ok((0..count).filter(|place| flags[*place] == 1).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(golds: &mut Golds, gold: serde_json::Value, options: &[&str]) -> Result<Vec<usize>> {
        let options: Vec<String> = options.iter().map(|option| option.to_string()).collect();
        golds.places(&Value::from_serialize(gold), &options)
    }

    #[test]
    fn gold_is_a_place_a_text_digits_or_a_letter_in_this_order() {
        let options = ["no", "yes", "7", "no", "a"];
        for (gold, places) in [
            (json!(3), vec![3]),
            (json!(3.0), vec![3]),
            (json!("no"), vec![0]),
            (json!("7"), vec![2]),
            (json!([2, "yes", 2]), vec![1, 2]),
            (json!("1"), vec![1]),
            (json!(" 0\n"), vec![0]),
            (json!("a"), vec![4]),
            (json!("A"), vec![0]),
            (json!("b"), vec![1]),
            (json!("(C)"), vec![2]),
            (json!("D."), vec![3]),
            (json!("d)"), vec![3]),
        ] {
            assert_eq!(read(&mut Golds::default(), gold.clone(), &options), Ok(places), "{gold}");
        }
        for gold in [
            "5",
            "-1",
            "0.5",
            "\"5\"",
            "\"-1\"",
            "\"+1\"",
            "null",
            "false",
            "[]",
            "{}",
            "[[0]]",
            "\"F\"",
            "\"(B\"",
            "\"BC\"",
            "\"\"",
            "\"é\"",
            "\"99999999999999999999999\"",
        ] {
            assert!(read(&mut Golds::default(), serde_json::from_str(gold).unwrap(), &options).is_err(), "{gold}");
        }
    }

    #[test]
    fn what_was_interpreted_is_told() {
        let mut golds = Golds::default();
        for (gold, options) in [
            (json!("0"), ["x", "y"]),
            (json!("B"), ["x", "y"]),
            (json!("b"), ["x", "y"]),
            (json!("1"), ["1", "2"]),
            (json!("1"), ["0", "1"]),
            (json!("x"), ["x", "y"]),
            (json!(1), ["x", "y"]),
        ] {
            read(&mut golds, gold, &options).unwrap();
        }
        assert_eq!(
            golds.notes(),
            [
                "gold is text of digits, read as the choice's place from 0, in 1 row",
                "gold is a letter, read as the choice's place from A, in 2 rows",
                "gold is the text of a choice that digits would place elsewhere, read as that text, in 1 row",
            ]
        );
        assert!(golds.check("t").is_ok());
        assert_eq!(Golds::default().notes(), Vec::<String>::new());
    }

    #[test]
    fn places_that_count_from_one_are_refused() {
        let of = |golds: &[u32]| {
            let mut read_golds = Golds::default();
            golds.iter().for_each(|gold| drop(read(&mut read_golds, json!(gold), &["x", "y", "z", "w"])));
            read_golds.check("t").map_err(|error| error.to_string())
        };
        let error = of(&[1, 2, 3, 4, 2]).unwrap_err();
        assert!(
            error.starts_with("gold of task `t`: found places without a 0, of which 1 of 5 are one too"),
            "{error}"
        );
        assert!(error.contains("`gold: FIELD|int - 1`"), "{error}");
        assert_eq!(of(&[1, 2, 3, 4, 0]), Ok(()), "a 0 shows that they count from 0");
        assert_eq!(of(&[1, 2, 3, 3, 3, 3, 3, 3, 3, 4]), Ok(()), "one wrong row of ten");
        assert_eq!(of(&[1, 2, 3]), Ok(()));
    }

    #[test]
    fn labels_of_mc2_are_one_flag_a_choice_with_a_true_one() {
        let places = |json: serde_json::Value| flags(&Value::from_serialize(json), 3);
        assert_eq!(places(json!([1, 0, 1])), Ok(vec![0, 2]));
        for labels in ["[1, 0]", "[0, 0, 0]", "[1, 2, 0]", "[true, false, false]", "1", "\"101\""] {
            assert!(places(serde_json::from_str(labels).unwrap()).is_err(), "{labels}");
        }
    }
}
