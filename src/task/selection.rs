//! Which items of a task are scored, and in which order.

use std::collections::HashMap;

use super::item::{Item, Split, split_items};
use super::left_out::LeftOut;
use super::rendered::Rendered;
use super::task::Task;
use super::text_size::TextSize;
use crate::error::Result;

/// Items of a task in the order in which they are scored.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    /// The items.
    pub items: Vec<Item>,
    /// The sizes of their documents, where the task counts words and bytes of its own; else none.
    pub sizes: Vec<TextSize>,
    /// How many items there are to select from.
    pub available: usize,
    /// The rows of the task that make no item; they are on no side.
    pub left_out: LeftOut,
    /// How rows were understood, where there was a choice: one line each.
    pub notes: Vec<String>,
}

impl Selection {
    /// The first `limit` items of a task, or all, in the order of its files.
    ///
    /// # Errors
    /// As [`Task::render`].
    pub fn in_order(task: &Task, limit: Option<usize>) -> Result<Selection> {
        let Rendered { items, sizes, left_out, notes } = task.render(limit)?;
        Ok(Selection { available: items.len(), items, sizes, left_out, notes })
    }

    /// The first items of each side of a task's split, or all, in hash order: any prefix is a random sample.
    ///
    /// # Errors
    /// As [`Task::render`].
    pub fn sides<const N: usize>(task: &Task, sides: [(Split, Option<usize>); N]) -> Result<[Selection; N]> {
        let Rendered { items, sizes, left_out, notes } = task.divisible()?;
        let size_of: HashMap<usize, TextSize> = items.iter().map(|item| item.index).zip(sizes).collect();
        Ok(sides.map(|(side, limit)| {
            let side = split_items(&items, side);
            let chosen = &side[..limit.unwrap_or(side.len()).min(side.len())];
            Selection {
                items: chosen.iter().map(|item| (*item).clone()).collect(),
                sizes: chosen.iter().filter_map(|item| size_of.get(&item.index).copied()).collect(),
                available: side.len(),
                left_out: left_out.clone(),
                notes: notes.clone(),
            }
        }))
    }

    /// The same of one side.
    ///
    /// # Errors
    /// As [`Task::render`].
    pub fn side(task: &Task, side: Split, limit: Option<usize>) -> Result<Selection> {
        let [selection] = Selection::sides(task, [(side, limit)])?;
        Ok(selection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_first_of_a_side_and_says_how_many_there_are() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.jsonl");
        let row = |n: usize| format!("{{\"context\":\"question {n}\",\"choices\":[\"a\",\"b\"],\"gold\":0}}\n");
        std::fs::write(&path, (0..20).map(row).collect::<String>()).unwrap();
        let task = Task::open(path.to_str().unwrap(), None).unwrap();
        let [search, held_out] =
            Selection::sides(&task, [(Split::Search, Some(3)), (Split::HeldOut, Some(99))]).unwrap();
        assert_eq!(search.items.len(), 3);
        assert_eq!(search.available + held_out.available, 20);
        assert_eq!(held_out.items.len(), held_out.available, "no more than there are");
        assert!(search.items.iter().all(|item| !held_out.items.contains(item)));
        assert_eq!(Selection::side(&task, Split::Search, Some(2)).unwrap().items[..], search.items[..2]);
        assert_eq!(Selection::in_order(&task, Some(5)).unwrap().items[4].index, 4);
    }
}
