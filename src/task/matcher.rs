//! A rule of exact match, compiled.

use regex::Regex;

use super::exact_match::{ExactMatch, Take};

/// Takes answers out of texts, and compares them.
pub struct Matcher<'a> {
    rule: &'a ExactMatch,
    regex: Option<Regex>,
    ignore: Vec<Regex>,
}

/// What a text answers that the expression does not match anywhere.
const NO_MATCH: &str = "[invalid]";

impl<'a> Matcher<'a> {
    /// Compiles the rule's expressions.
    ///
    /// # Errors
    /// One line for each that does not compile.
    pub fn new(rule: &'a ExactMatch) -> Result<Matcher<'a>, Vec<String>> {
        let (mut problems, mut ignore) = (Vec::new(), Vec::new());
        let mut compiled = |field: &str, source: &String| {
            let found = Regex::new(source);
            let regex = found.map_err(|error| {
                // The error shows the expression and, in its last line, what is wrong there.
                let text = error.to_string();
                let last = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_string();
                problems.push(format!("`exact_match.{field}`: `{source}`: {last}"));
            });
            regex.ok()
        };
        let regex = rule.regex.as_ref().and_then(|source| compiled("regex", source));
        ignore.extend(rule.ignore.iter().filter_map(|source| compiled("ignore", source)));
        if problems.is_empty() { Ok(Matcher { rule, regex, ignore }) } else { Err(problems) }
    }

    /// Where a text ends: before the first of the rule's stops that it has.
    pub fn end(&self, text: &str) -> Option<usize> {
        let stops = self.rule.until.iter().filter(|stop| !stop.is_empty());
        stops.filter_map(|stop| text.find(stop.as_str())).min()
    }

    /// The answer that a text gives.
    pub fn answer<'t>(&self, text: &'t str) -> &'t str {
        let Some(regex) = &self.regex else { return text.trim() };
        let mut matches = regex.captures_iter(text);
        let taken = match self.rule.take {
            Take::First => matches.next(),
            Take::Last => matches.last(),
        };
        let whole = taken.and_then(|captures| match captures.len() {
            1 => captures.get(0),
            groups => (1..groups).filter_map(|group| captures.get(group)).find(|group| !group.is_empty()),
        });
        whole.map_or(NO_MATCH, |found| found.as_str().trim())
    }

    /// Whether an answer is one of `answers`.
    pub fn is_right(&self, answer: &str, answers: &[String]) -> bool {
        let answer = self.plain(answer);
        answers.iter().any(|expected| self.plain(expected) == answer)
    }

    /// A text without what does not count.
    fn plain(&self, text: &str) -> String {
        let mut text = text.to_string();
        for ignored in &self.ignore {
            text = ignored.replace_all(&text, "").into_owned();
        }
        if self.rule.ignore_case {
            text = text.to_lowercase();
        }
        if self.rule.ignore_punctuation {
            text.retain(|c| !c.is_ascii_punctuation());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// GSM8K's rule.
    fn gsm8k(regex: &str, take: Take) -> ExactMatch {
        ExactMatch {
            regex: Some(regex.to_string()),
            take,
            ignore: [",", r"\$", "(?s).*#### ", r"\.$"].map(String::from).to_vec(),
            ignore_case: true,
            ..ExactMatch::of_a_line()
        }
    }

    // Expected values are those of `RegexFilter` and `exact_match` of lm-evaluation-harness 0.4.13.
    #[test]
    fn takes_the_number_that_gsm8k_takes() {
        let strict = gsm8k(r"#### (\-?[0-9\.\,]+)", Take::First);
        let strict = Matcher::new(&strict).unwrap();
        assert_eq!(strict.answer("9 * 2 = 18.\n#### 18"), "18");
        assert_eq!(strict.answer("#### 1,018.\n#### 3"), "1,018.");
        assert_eq!(strict.answer("It is 18."), "[invalid]");
        let flexible = gsm8k(r"(-?[$0-9.,]{2,})|(-?[0-9]+)", Take::Last);
        let flexible = Matcher::new(&flexible).unwrap();
        assert_eq!(flexible.answer("16 - 3 = 13, so $1,300.50 it is"), "$1,300.50");
        assert_eq!(flexible.answer("so it is 9"), "9");
        assert_eq!(flexible.answer("nothing"), "[invalid]");
        let gold = ["She makes 9 * 2 = $<<9*2=18>>18 every day.\n#### 18".to_string()];
        for (answer, right) in [("18", true), ("$18.", true), ("18.0", false), ("", false), ("[invalid]", false)] {
            assert_eq!(strict.is_right(answer, &gold), right, "{answer}");
        }
    }

    #[test]
    fn a_text_ends_before_its_first_stop() {
        let rule = ExactMatch { until: vec!["\n\n".into(), ".".into(), String::new()], ..ExactMatch::of_a_line() };
        let matcher = Matcher::new(&rule).unwrap();
        assert_eq!(matcher.end("a. b\n\n"), Some(1));
        assert_eq!(matcher.end("a\nb"), None);
    }

    #[test]
    fn case_and_punctuation_count_unless_the_rule_says_not() {
        let plain = ExactMatch::of_a_line();
        let loose = ExactMatch { ignore_case: true, ignore_punctuation: true, ..ExactMatch::of_a_line() };
        let answers = ["Sunset Blvd.".to_string(), "West End".to_string()];
        for (answer, strictly, loosely) in [
            ("Sunset Blvd.", true, true),
            ("sunset blvd", false, true),
            ("west end!", false, true),
            ("end", false, false),
        ] {
            assert_eq!(Matcher::new(&plain).unwrap().is_right(answer, &answers), strictly, "{answer}");
            assert_eq!(Matcher::new(&loose).unwrap().is_right(answer, &answers), loosely, "{answer}");
        }
    }

    #[test]
    fn what_does_not_compile_is_said_with_its_field() {
        let rule = ExactMatch { regex: Some("(".into()), ignore: vec!["(?<=a)b".into()], ..ExactMatch::of_a_line() };
        let Err(problems) = Matcher::new(&rule) else { panic!("it compiled") };
        assert_eq!(problems[0], "`exact_match.regex`: `(`: unclosed group");
        assert!(problems[1].starts_with("`exact_match.ignore`: `(?<=a)b`: look-around"), "{}", problems[1]);
    }
}
