//! What is wrong with the tensors of a file, told once for those of all layers alike: a model has hundreds.

use std::collections::BTreeMap;

/// Names listed one by one before only their number is told.
const LISTED: usize = 2;

/// Problems by tensor.
#[derive(Default)]
pub(super) struct TensorProblems(Vec<(String, String)>);

impl TensorProblems {
    /// Adds what is wrong with a tensor.
    pub(super) fn push(&mut self, name: impl Into<String>, reason: impl Into<String>) {
        self.0.push((name.into(), reason.into()));
    }

    /// Lines in the order of their first tensors: those with the same reason whose names differ in numbers alone share one.
    pub(super) fn lines(self) -> Vec<String> {
        let mut groups: Vec<(String, String, usize)> = Vec::new();
        let mut places: BTreeMap<(String, String), Vec<usize>> = BTreeMap::new();
        for (name, reason) in self.0 {
            let alike = (pattern(&name), reason.clone());
            let places = places.entry(alike).or_default();
            if places.len() < LISTED {
                places.push(groups.len());
                groups.push((name, reason, 0));
            } else {
                groups[places[LISTED - 1]].2 += 1;
            }
        }
        let line = |(name, reason, more): (String, String, usize)| match more {
            0 => format!("{name}: {reason}"),
            more => format!("{name} and {more} more like it: {reason}"),
        };
        groups.into_iter().map(line).collect()
    }
}

/// A name without its numbers.
fn pattern(name: &str) -> String {
    let digits = |letter: char| if letter.is_ascii_digit() { '#' } else { letter };
    let mut pattern: String = name.chars().map(digits).collect();
    while pattern.contains("##") {
        pattern = pattern.replace("##", "#");
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_with_the_same_problem_share_a_line() {
        let mut problems = TensorProblems::default();
        for layer in 0..12 {
            problems.push(format!("blk.{layer}.attn_q.weight"), "found IQ4_XS");
            problems.push(format!("blk.{layer}.ffn_up.weight"), if layer == 7 { "found F64" } else { "found IQ4_XS" });
        }
        problems.push("output.weight", "found IQ4_XS");
        assert_eq!(
            problems.lines(),
            [
                "blk.0.attn_q.weight: found IQ4_XS",
                "blk.0.ffn_up.weight: found IQ4_XS",
                "blk.1.attn_q.weight and 10 more like it: found IQ4_XS",
                "blk.1.ffn_up.weight and 9 more like it: found IQ4_XS",
                "blk.7.ffn_up.weight: found F64",
                "output.weight: found IQ4_XS",
            ]
        );
    }
}
