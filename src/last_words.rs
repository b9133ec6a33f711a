//! What a panic says.

use std::any::Any;

/// The message of a panic, where it has one.
pub fn last_words(panic: &(dyn Any + Send)) -> Option<&str> {
    panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied())
}
