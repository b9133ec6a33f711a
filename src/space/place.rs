//! Where a value stands in a space's text, so that every complaint can point at it.

use std::collections::BTreeSet;

use crate::error::Error;

/// A line and a column from 1, or zeros for a value that was not read from text.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    pub line: usize,
    pub column: usize,
}

impl Place {
    /// The complaint about the field that stands here.
    pub fn wrong(self, field: impl Into<String>, reason: impl Into<String>) -> Error {
        Error::Space {
            space: "search space".into(),
            line: self.line,
            column: self.column,
            field: field.into(),
            reason: reason.into(),
        }
    }
}

/// A value and its place.
#[derive(Clone, Copy, Debug)]
pub(super) struct At<T> {
    pub value: T,
    pub place: Place,
}

impl<T> At<T> {
    /// A list that was not read from text.
    pub fn unplaced(list: impl IntoIterator<Item = T>) -> At<Vec<At<T>>> {
        let place = Place::default();
        At { value: list.into_iter().map(|value| At { value, place }).collect(), place }
    }
}

impl<T: Ord + Copy + ToString> At<Vec<At<T>>> {
    /// The list in ascending order, once each value was checked.
    ///
    /// # Errors
    /// An empty list, a repeat, or the first value that `problem` objects to.
    pub fn ascending(self, field: &str, problem: impl Fn(T) -> Option<String>) -> Result<Vec<T>, Error> {
        if self.value.is_empty() {
            return Err(self.place.wrong(field, "the list is empty; give at least one value"));
        }
        let mut list = BTreeSet::new();
        for At { value, place } in self.value {
            if let Some(reason) = problem(value) {
                return Err(place.wrong(field, reason));
            }
            if !list.insert(value) {
                return Err(place.wrong(field, format!("{} stands twice in the list", value.to_string())));
            }
        }
        Ok(list.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ascending(list: &[u32]) -> Result<Vec<u32>, String> {
        let odd = |value: u32| (value % 2 == 1).then(|| format!("{value} is odd"));
        At::unplaced(list.iter().copied()).ascending("heads", odd).map_err(|error| error.to_string())
    }

    #[test]
    fn sorts_a_list_and_objects_to_what_is_wrong_in_it() {
        assert_eq!(ascending(&[6, 0, 4]).unwrap(), [0, 4, 6]);
        assert!(ascending(&[]).unwrap_err().ends_with("heads: the list is empty; give at least one value"));
        assert!(ascending(&[4, 6, 4]).unwrap_err().ends_with("heads: 4 stands twice in the list"));
        assert!(ascending(&[4, 5, 4]).unwrap_err().ends_with("heads: 5 is odd"));
    }
}
