//! What a model is called on the Hugging Face hub: `ORG/NAME`.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::string_slice, clippy::cast_possible_truncation, clippy::cast_sign_loss)
)]

use std::path::Path;

/// What the page of a model on the hub begins with.
const PAGES: &str = "https://huggingface.co/";
/// The longest name.
const LONGEST: usize = 96;

/// A name on the hub, of letters, digits and `-_.` around one `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HubId(String);

impl HubId {
    /// Reads a name, as `validate_repo_id` of huggingface_hub has it.
    pub(crate) fn parse(text: &str) -> Option<HubId> {
        let part = |part: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            let ends = part.starts_with(['-', '.']) || part.ends_with(['-', '.']);
            !part.is_empty() && part.chars().all(plain) && !ends && !part.contains("--") && !part.contains("..")
        };
        let is_name = text.len() <= LONGEST && text.split('/').count() == 2 && text.split('/').all(part);
        is_name.then(|| HubId(text.into()))
    }

    /// The model whose page this is.
    pub(crate) fn of_page(url: &str) -> Option<HubId> {
        HubId::parse(url.strip_prefix(PAGES)?.trim_end_matches('/'))
    }

    /// The model whose snapshot in the hub's cache lies at a path.
    pub(crate) fn of_snapshot(path: &Path) -> Option<HubId> {
        HubId::parse(&in_cache(path)?.replacen("--", "/", 1))
    }

    /// All of it.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whose it is, and what they call it.
    pub(crate) fn parts(&self) -> (&str, &str) {
        self.0.split_once('/').unwrap_or_default()
    }

    /// Its page.
    pub(crate) fn page(&self) -> String {
        format!("{PAGES}{}", self.0)
    }
}

/// The name without its owner of a model whose snapshot in the hub's cache lies at a path; some old ones have no owner.
pub(crate) fn name_in_cache(path: &Path) -> Option<String> {
    let repo = in_cache(path)?;
    Some(repo.rsplit("--").next().unwrap_or(repo).into())
}

/// What the cache calls the model of a snapshot: its name with `--` for `/`.
fn in_cache(path: &Path) -> Option<&str> {
    let snapshots = path.parent().filter(|parent| parent.ends_with("snapshots"))?;
    snapshots.parent()?.file_name()?.to_str()?.strip_prefix("models--")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_called_by_its_name_on_the_hub() {
        let name = |path: &str| name_in_cache(Path::new(path));
        assert_eq!(name("/c/hub/models--org--Tiny-1b/snapshots/0123"), Some("Tiny-1b".into()));
        assert_eq!(name("/c/models--org--tiny"), None);
        assert_eq!(name("/c/snapshots/0123"), None);
        let id = |path: &str| HubId::of_snapshot(Path::new(path));
        assert_eq!(id("/c/hub/models--org--Tiny-1b/snapshots/0123"), HubId::parse("org/Tiny-1b"));
        assert_eq!(id("/c/hub/models--old/snapshots/0123"), None);
    }

    #[test]
    fn a_name_and_its_page_are_one() {
        let id = HubId::parse("org/Tiny-1b").unwrap();
        assert_eq!((id.parts(), id.page()), (("org", "Tiny-1b"), "https://huggingface.co/org/Tiny-1b".to_string()));
        assert_eq!(HubId::of_page(&id.page()), Some(id.clone()));
        assert_eq!(HubId::of_page("https://huggingface.co/org/Tiny-1b/"), Some(id));
        for wrong in ["https://huggingface.co/org", "https://example.org/org/tiny", "https://huggingface.co/a/b](x)"] {
            assert_eq!(HubId::of_page(wrong), None, "{wrong}");
        }
    }
}
