//! What errors hold that has no serde form of its own.

use std::collections::HashSet;
use std::sync::{LazyLock, Mutex, PoisonError};

use serde::{Deserialize, Deserializer};

/// A name of the program's own, such as a format's; there are few, and each is kept once.
pub fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<&'static str, D::Error> {
    static NAMES: LazyLock<Mutex<HashSet<&'static str>>> = LazyLock::new(Mutex::default);
    let name = String::deserialize(deserializer)?;
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = names.get(name.as_str()) {
        return Ok(known);
    }
    let known: &'static str = name.leak();
    names.insert(known);
    Ok(known)
}

/// The system's errors: their number, or their words where they have none.
pub mod cause {
    use std::io;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Writes it.
    pub fn serialize<S: Serializer>(cause: &io::Error, serializer: S) -> Result<S::Ok, S::Error> {
        (cause.raw_os_error(), cause.to_string()).serialize(serializer)
    }

    /// Reads it.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<io::Error, D::Error> {
        let (number, words) = <(Option<i32>, String)>::deserialize(deserializer)?;
        Ok(number.map_or_else(|| io::Error::other(words), io::Error::from_raw_os_error))
    }
}
