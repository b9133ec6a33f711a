//! Limits that a space's networks cannot meet: known from sizes alone, before anything is measured.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::eval::Objective;
use crate::space::{Bound, Constraint, Cost, SearchSpace};

/// The least and the most that a space's networks have of what sizes decide; `None` for what must be measured. Every size grows with every
/// gene, so that the ends are those of the smallest and the largest network.
///
/// # Errors
/// Unknown objectives.
pub fn size_range(space: &SearchSpace, objective: &str) -> Result<Option<(f64, f64)>> {
    let objective = Objective::parse(objective)?;
    let size = |genome| objective.size(&Cost::of(space.shape(), &genome));
    Ok(size(space.smallest()).zip(size(space.largest())))
}

/// Refuses limits that no network of the space can meet, each alone or two of one quantity together.
///
/// # Errors
/// `Invalid` with the range that there is; unknown objectives.
pub(super) fn check<'a>(space: &SearchSpace, limits: impl Iterator<Item = &'a Constraint>) -> Result<()> {
    let mut left: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for limit in limits {
        let Some((least, most)) = size_range(space, &limit.objective)? else { continue };
        let (from, to) = left.entry(&limit.objective).or_insert((least, most));
        match limit.bound {
            Bound::AtMost => *to = to.min(limit.value),
            Bound::AtLeast => *from = from.max(limit.value),
        }
        if from > to {
            let expected = format!("a limit that a network of the space can meet; they have {least} to {most}");
            let others = if limit.violation(least) == 0.0 || limit.violation(most) == 0.0 {
                ", with the other limits"
            } else {
                ""
            };
            return Err(Error::invalid("constraint", format!("{limit}{others}"), expected));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(limits: &[&str]) -> Option<String> {
        let limits: Vec<Constraint> = limits.iter().map(|limit| limit.parse().unwrap()).collect();
        check(&SearchSpace::open("tiny").unwrap(), limits.iter()).err().map(|error| error.to_string())
    }

    #[test]
    fn what_no_network_can_meet_is_refused_with_the_range() {
        let (least, most) = size_range(&SearchSpace::open("tiny").unwrap(), "params").unwrap().unwrap();
        assert!(0.0 < least && least < most);
        let error = refused(&["params<=10k"]).unwrap();
        assert!(
            error.starts_with("constraint: found params <= 10000, expected")
                && error.contains(&format!("{least} to {most}")),
            "{error}"
        );
        assert!(refused(&["params>=1e9"]).is_some());
        assert!(refused(&["weight_bytes<=1"]).is_some());
        let both = refused(&[&format!("params<={least}"), &format!("params>={most}")]).unwrap();
        assert!(both.contains("with the other limits"), "{both}");
        assert!(refused(&["parms<=1e9"]).unwrap().contains("unknown objective `parms`"));
        assert_eq!(refused(&[&format!("params<={least}")]), None);
        assert_eq!(refused(&["params<=150k", "params>=100k", "latency_ms<=0.001", "accuracy:arc_easy>=2"]), None);
    }
}
