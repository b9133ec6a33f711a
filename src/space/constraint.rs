//! A hard constraint on one objective: `params <= 1e8`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// On which side of its value a constraint holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// `<=`
    AtMost,
    /// `>=`
    AtLeast,
}

/// A hard constraint. Its objective is a name only: which names there are is not this module's to know.
///
/// The text form is `NAME<=VALUE` or `NAME>=VALUE`, blanks allowed; the value is a decimal number, with
/// `k`, `M`, `G` or `B` behind it for thousands, millions and (both) billions, for bytes also `kB`, `MB` or `GB`.
///
/// ```
/// use criadero::space::{Bound, Constraint};
/// let constraint: Constraint = "params <= 100M".parse()?;
/// assert_eq!(constraint.objective, "params");
/// assert_eq!((constraint.bound, constraint.value), (Bound::AtMost, 1e8));
/// assert_eq!(constraint.violation(1.5e8), 0.5);
/// # Ok::<(), criadero::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Constraint {
    /// The objective's name, such as `params` or `accuracy:arc_easy`.
    pub objective: String,
    /// Which side of the value is allowed.
    pub bound: Bound,
    /// The limit, in the objective's unit.
    pub value: f64,
}

impl Constraint {
    /// A constraint from its two written halves, such as `params` and `<= 5.0e9`.
    ///
    /// # Errors
    /// [`Error::Invalid`] when either half cannot be read.
    pub fn new(objective: &str, limit: &str) -> Result<Constraint> {
        let (objective, limit) = (objective.trim(), limit.trim());
        let wrong = |expected: &str| Error::invalid("constraint", format!("`{objective} {limit}`"), expected);
        if objective.is_empty() || objective.chars().any(char::is_whitespace) {
            return Err(wrong("an objective's name, such as `params`, before the bound"));
        }
        let bounds = [("<=", Bound::AtMost), (">=", Bound::AtLeast)];
        let (bound, number) = bounds
            .iter()
            .find_map(|(sign, bound)| Some((*bound, limit.strip_prefix(sign)?.trim())))
            .ok_or_else(|| wrong("`<=` or `>=` and a number, such as `<= 5.0e9`"))?;
        let value =
            number_of(number).ok_or_else(|| wrong("a finite number behind the bound, such as `5.0e9` or `100M`"))?;
        Ok(Constraint { objective: objective.to_string(), bound, value })
    }

    /// How far a measured value is on the wrong side, as a share of the limit (in the objective's own
    /// unit when the limit is 0); 0 when the constraint holds, infinite for a value that is not a number.
    pub fn violation(&self, measured: f64) -> f64 {
        let excess = match self.bound {
            Bound::AtMost => measured - self.value,
            Bound::AtLeast => self.value - measured,
        };
        match excess {
            excess if excess.is_nan() => f64::INFINITY,
            excess if self.value == 0.0 => excess.max(0.0),
            excess => (excess / self.value.abs()).max(0.0),
        }
    }
}

/// A finite number with an optional unit; `None` for anything else.
fn number_of(text: &str) -> Option<f64> {
    let units = [("kB", 1e3), ("MB", 1e6), ("GB", 1e9), ("k", 1e3), ("M", 1e6), ("G", 1e9), ("B", 1e9)];
    let unit = units.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?.trim_end(), *factor)));
    let (digits, factor) = unit.unwrap_or((text, 1.0));
    let value = digits.parse::<f64>().ok()? * factor;
    value.is_finite().then_some(value)
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.bound {
            Bound::AtMost => "<=",
            Bound::AtLeast => ">=",
        };
        write!(f, "{} {sign} {}", self.objective, self.value)
    }
}

impl FromStr for Constraint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Constraint> {
        let limit = text.find(['<', '>', '=']).unwrap_or(text.len());
        Constraint::new(&text[..limit], &text[limit..])
    }
}

impl TryFrom<String> for Constraint {
    type Error = Error;

    fn try_from(text: String) -> Result<Constraint> {
        text.parse()
    }
}

impl From<Constraint> for String {
    fn from(constraint: Constraint) -> String {
        constraint.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (String, Bound, f64) {
        let Constraint { objective, bound, value } = text.parse().unwrap();
        (objective, bound, value)
    }

    #[test]
    fn reads_the_command_lines_text() {
        assert_eq!(parsed("params<=1e8"), ("params".into(), Bound::AtMost, 1e8));
        assert_eq!(parsed(" decode_tps >= 120 "), ("decode_tps".into(), Bound::AtLeast, 120.0));
        assert_eq!(parsed("accuracy:arc_easy+piqa>=0.5").0, "accuracy:arc_easy+piqa");
        assert_eq!(parsed("params<=100M").2, 1e8);
        assert_eq!(parsed("params <= 5 B").2, 5e9);
        assert_eq!(parsed("weight_bytes<=900MB").2, 9e8);
        assert_eq!(parsed("kv_bytes <= 1.5 kB").2, 1500.0);
        assert_eq!(parsed("weight_bytes<=1GB").2, 1e9);
        assert_eq!(parsed("kl:novels>=-1.5k").2, -1500.0);
    }

    #[test]
    fn rejects_what_is_no_constraint() {
        for text in [
            "",
            "params",
            "params<1e8",
            "params=1e8",
            "<=3",
            "params<=",
            "params<=x",
            "params<=inf",
            "a b<=1",
            "params<=1e999",
            "params<=NaN",
            "params<=>1",
            "é≤3",
        ] {
            let error = text.parse::<Constraint>().unwrap_err().to_string();
            assert!(error.starts_with("constraint: found"), "{text}: {error}");
        }
    }

    #[test]
    fn reads_its_own_text() {
        for text in ["params <= 100000000", "accuracy:arc_easy >= 0.1", "macs >= -0.30000000000000004"] {
            assert_eq!(text.parse::<Constraint>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn measures_violation_as_a_share_of_the_limit() {
        let violation = |text: &str, measured| text.parse::<Constraint>().unwrap().violation(measured);
        assert_eq!(violation("params<=100", 100.0), 0.0);
        assert_eq!(violation("params<=100", 150.0), 0.5);
        assert_eq!(violation("tps>=100", 75.0), 0.25);
        assert_eq!(violation("tps>=100", 1000.0), 0.0);
        assert_eq!(violation("delta>=0", -2.0), 2.0);
        assert_eq!(violation("loss<=-2", -1.0), 0.5);
        assert_eq!(violation("params<=100", f64::NAN), f64::INFINITY);
    }
}
