//! Rows of data that cannot be used: left out one by one, counted and named, and refused when they are too many.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Characters of a reason that are kept: a hostile row cannot flood a file or a terminal.
const REASON: usize = 300;
/// Reasons that are kept apart. With the next number it keeps files small where a million rows are empty or broken.
const KEPT_REASONS: usize = 100;
/// Places that are kept for each reason.
const KEPT_ROWS: usize = 1000;
/// The reason of all that come after those that are kept apart.
const OTHERS: &str = "other reasons";
/// Reasons that a message names.
const SHOWN_REASONS: usize = 3;
/// Places that a message names for each reason.
const SHOWN_ROWS: usize = 8;

/// The rows of some data that were left out, and why.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LeftOut {
    /// How many were left out.
    pub count: usize,
    /// Of how many, those left out included.
    pub of: usize,
    /// Why, in the order in which the reasons came up.
    pub reasons: Vec<Reason>,
}

/// The rows of one file that were left out for one reason.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reason {
    /// The file's name.
    pub file: String,
    /// What was found there.
    pub reason: String,
    /// How many rows.
    pub count: usize,
    /// Where in the file the first thousand are, such as `line 7`.
    pub rows: Vec<String>,
}

impl LeftOut {
    /// Whether every row was used.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// What came of one row; nothing where the row cannot be used, which is noted.
    ///
    /// # Errors
    /// What is not about this row alone: every error but [`Error::Row`].
    pub fn keep<T>(&mut self, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(Error::Row { path, place, reason, .. }) => {
                self.add(&path, place, &reason);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn add(&mut self, path: &Path, place: String, reason: &str) {
        self.count += 1;
        let file = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let mut reason = reason.to_string();
        if let Some((end, _)) = reason.char_indices().nth(REASON) {
            reason.truncate(end);
            reason.push('…');
        }
        let same = |known: &Reason, reason: &str| known.reason == reason && known.file == file;
        if self.reasons.len() >= KEPT_REASONS && !self.reasons.iter().any(|known| same(known, &reason)) {
            reason = OTHERS.to_string();
        }
        let known = match self.reasons.iter().position(|known| same(known, &reason)) {
            Some(known) => known,
            None => {
                self.reasons.push(Reason { file: file.clone(), reason, count: 0, rows: Vec::new() });
                self.reasons.len() - 1
            }
        };
        let known = &mut self.reasons[known];
        known.count += 1;
        if known.rows.len() < KEPT_ROWS {
            known.rows.push(place);
        }
    }

    /// These rows and those that `later` left out of what remained.
    pub fn and(&self, later: &LeftOut) -> LeftOut {
        let reasons = [self.reasons.as_slice(), &later.reasons].concat();
        LeftOut { count: self.count + later.count, of: self.of.max(later.of), reasons }
    }

    /// These rows and those of other data.
    pub fn beside(&self, other: &LeftOut) -> LeftOut {
        LeftOut { of: self.of + other.of, ..self.and(other) }
    }

    /// These rows, out of `of`; `what` and `path` are for the message.
    ///
    /// # Errors
    /// More than half of them: data of which so much cannot be used is not what it is taken for.
    pub fn out_of(mut self, of: usize, what: &str, path: &Path) -> Result<LeftOut> {
        self.of = of;
        if 2 * self.count <= of {
            return Ok(self);
        }
        Err(Error::Mismatch {
            path: path.to_path_buf(),
            what: format!(
                "{what}: {} of {of} rows cannot be used; up to half are left out, more must be mended",
                self.count
            ),
            problems: self.lines(),
        })
    }

    /// One line for each of the first reasons.
    fn lines(&self) -> Vec<String> {
        let several = self.reasons.iter().any(|reason| reason.file != self.reasons[0].file);
        let line = |reason: &Reason| {
            let file = if several { format!("{}, ", reason.file) } else { String::new() };
            let mut rows = reason.rows[..reason.rows.len().min(SHOWN_ROWS)].join("; ");
            if reason.count > SHOWN_ROWS {
                rows += &format!(" and {} more", reason.count - SHOWN_ROWS);
            }
            format!("{file}{rows}: {}", reason.reason)
        };
        let mut lines: Vec<String> = self.reasons.iter().take(SHOWN_REASONS).map(line).collect();
        if self.reasons.len() > SHOWN_REASONS {
            lines.push(format!("and {} more reasons", self.reasons.len() - SHOWN_REASONS));
        }
        lines
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let were = if self.count == 1 { "was" } else { "were" };
        write!(f, "{} of {} rows {were} left out", self.count, self.of)?;
        self.lines().iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bad(file: &str, line: usize, reason: &str) -> Result<usize> {
        Err(Error::Row { path: file.into(), format: "task data", place: format!("line {line}"), reason: reason.into() })
    }

    #[test]
    fn rows_are_counted_by_reason_and_other_errors_pass() {
        let mut left_out = LeftOut::default();
        assert_eq!(left_out.keep(Ok(7)).unwrap(), Some(7));
        assert!(left_out.is_empty());
        for (line, reason) in [(2, "no gold"), (3, "no choices"), (9, "no gold")] {
            assert_eq!(left_out.keep(bad("data/a.jsonl", line, reason)).unwrap(), None);
        }
        assert!(matches!(left_out.keep::<usize>(Err(Error::Interrupted)), Err(Error::Interrupted)));
        let left_out = left_out.out_of(6, "task `a`", Path::new("data/a.jsonl")).unwrap();
        assert_eq!(
            left_out.to_string(),
            "3 of 6 rows were left out\n  line 2; line 9: no gold\n  line 3: no choices",
            "half of them are left out"
        );
        let json = serde_json::to_value(&left_out).unwrap();
        let rows = serde_json::json!(["line 2", "line 9"]);
        assert_eq!(
            json["reasons"][0],
            serde_json::json!({ "file": "a.jsonl", "reason": "no gold", "count": 2, "rows": rows })
        );
        assert_eq!((&json["count"], &json["of"]), (&3.into(), &6.into()));
        assert_eq!(serde_json::from_value::<LeftOut>(json).unwrap(), left_out);
    }

    #[test]
    fn more_than_half_is_refused_with_the_first_reasons() {
        let mut left_out = LeftOut::default();
        for line in 1..=30 {
            left_out.keep(bad("a.jsonl", line, &format!("reason {}", line.min(5)))).unwrap();
        }
        let error = left_out.clone().out_of(59, "task `a`", Path::new("data/a.jsonl")).unwrap_err().to_string();
        let start = "data/a.jsonl: task `a`: 30 of 59 rows cannot be used; up to half are left out, more must be mended:\n  \
                     line 1: reason 1\n";
        assert!(error.starts_with(start), "{error}");
        assert!(error.ends_with("line 3: reason 3\n  and 2 more reasons"), "{error}");
        assert!(left_out.clone().out_of(60, "task `a`", Path::new("a.jsonl")).is_ok());
        assert!(left_out.reasons[4].rows.len() == 26 && left_out.lines().len() == 4);
    }

    #[test]
    fn however_much_is_broken_little_is_kept_and_all_is_counted() {
        let mut left_out = LeftOut::default();
        for line in 1..=5000 {
            left_out.keep(bad("a.jsonl", line, "empty")).unwrap();
            left_out.keep(bad("a.jsonl", line, &format!("column {line}"))).unwrap();
        }
        assert_eq!((left_out.count, left_out.reasons.len()), (10_000, KEPT_REASONS + 1));
        let kept = |place: usize| (left_out.reasons[place].count, left_out.reasons[place].rows.len());
        assert_eq!((kept(0), kept(1), kept(KEPT_REASONS)), ((5000, KEPT_ROWS), (1, 1), (4901, KEPT_ROWS)));
        assert_eq!(left_out.reasons.iter().map(|reason| reason.count).sum::<usize>(), 10_000);
        assert!(left_out.lines()[0].contains("; line 8 and 4992 more: empty"), "{:?}", left_out.lines());
    }

    #[test]
    fn two_steps_add_up_and_files_are_told_apart() {
        let of = |file, reason: &str, of| {
            let mut left_out = LeftOut::default();
            left_out.keep(bad(file, 1, reason)).unwrap();
            left_out.out_of(of, "task", Path::new(file)).unwrap()
        };
        let both = of("a.jsonl", "first", 10).and(&of("b.jsonl", &"é".repeat(1000), 4));
        assert_eq!((both.count, both.of, both.beside(&both).of), (2, 10, 20));
        assert!(both.to_string().contains("\n  b.jsonl, line 1: é"), "{both}");
        assert!(both.reasons[1].reason.chars().count() < 310, "a long reason is cut");
    }
}
