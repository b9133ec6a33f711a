//! The files of a model that a server has, as parts by content.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::string_slice, clippy::cast_possible_truncation, clippy::cast_sign_loss)
)]

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// Files of a model, and parts of all of them, at most.
const MOST_FILES: usize = 10_000;
const MOST_PARTS: usize = 1 << 20;

/// A file of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SharedFile {
    /// Its name in the model's directory.
    pub name: String,
    /// BLAKE3 of each part, in order.
    pub parts: Vec<String>,
}

/// A model as a server has it: a directory's files, or one file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SharedModel {
    /// Its files.
    pub files: Vec<SharedFile>,
    /// Whether it is a directory.
    pub is_directory: bool,
}

impl SharedModel {
    /// The parts, each once.
    pub(super) fn parts(&self) -> BTreeSet<&String> {
        self.files.iter().flat_map(|file| &file.parts).collect()
    }

    /// Why it can be no model.
    pub(super) fn problem(&self) -> Option<String> {
        let plain = |name: &str| {
            !name.is_empty() && name.len() < 256 && !name.starts_with('.') && !name.contains(['/', '\\', '\0'])
        };
        let digest = |part: &String| part.len() == 64 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        let names: BTreeSet<&String> = self.files.iter().map(|file| &file.name).collect();
        let parts = self.files.iter().map(|file| file.parts.len()).sum::<usize>();
        if names.len() != self.files.len() || !self.files.iter().all(|file| plain(&file.name)) {
            return Some("names that no model's files have".to_string());
        }
        if self.files.is_empty() || self.files.len() > MOST_FILES || parts > MOST_PARTS {
            return Some(format!("{} files in {parts} parts", self.files.len()));
        }
        if self.files.len() > 1 && !self.is_directory {
            return Some("several files that are no directory".to_string());
        }
        let strange = self.files.iter().flat_map(|file| &file.parts).find(|part| !digest(part));
        strange.map(|part| format!("a part called {part:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        let part = "0".repeat(64);
        let model = |names: &[&str]| SharedModel {
            files: names.iter().map(|name| SharedFile { name: name.to_string(), parts: vec![part.clone()] }).collect(),
            is_directory: true,
        };
        assert_eq!(model(&["config.json", "model.safetensors"]).problem(), None);
        for wrong in ["../x", "a/b", "", ".hidden", "/etc/passwd"] {
            assert!(model(&["config.json", wrong]).problem().is_some(), "{wrong}");
        }
        assert!(model(&["a", "a"]).problem().is_some());
        assert!(model(&[]).problem().is_some());
        let mut strange = model(&["a"]);
        strange.files[0].parts[0] = "../../x".into();
        assert!(strange.problem().unwrap().contains("../../x"));
    }
}
