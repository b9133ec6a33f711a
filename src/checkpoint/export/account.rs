//! What is told of an exported network beside itself.

use std::collections::BTreeMap;

/// What only whoever exports a network knows: how it was made and what it scored.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// The command that searched for it.
    pub search: Option<String>,
    /// The command that exports it.
    pub export: Option<String>,
    /// What it scored, in Markdown; may be nothing.
    pub results: String,
    /// The pictures in that, by the names of their files.
    pub pictures: BTreeMap<String, Vec<u8>>,
}
