//! The model that a run searched.

use std::path::Path;

use super::settings::RunSettings;
use crate::checkpoint::{Checkpoint, open_model};
use crate::error::{Error, Result};

/// The model that a run searched, unchanged since, where the run says that it lies or at `moved`; `None` where `dir` is no run.
///
/// # Errors
/// `Invalid` where no model scored the networks, `Missing` and what else [`open_model`] refuses, `Mismatch` where the model is another by now.
pub fn searched_model(dir: &Path, moved: Option<&Path>) -> Result<Option<Checkpoint>> {
    let Some(settings) = RunSettings::read(dir)? else { return Ok(None) };
    if settings.model_digest.is_empty() {
        let found = format!("networks scored by `{}`, which has no model", settings.evaluator);
        return Err(Error::invalid(format!("run {}", dir.display()), found, "a search on a model"));
    }
    let path = moved.unwrap_or(Path::new(&settings.model));
    let parent = match open_model(path) {
        Err(Error::Missing { what, path, remedy }) if moved.is_none() => {
            let remedy =
                format!("{remedy}; if the model that {} searched was moved, say where to with --model", dir.display());
            return Err(Error::Missing { what, path, remedy });
        }
        opened => opened?,
    };
    let digest = parent.digest()?;
    if digest == settings.model_digest {
        return Ok(Some(parent));
    }
    Err(Error::Mismatch {
        path: path.into(),
        what: format!("it is not the model that {} was searched on, or has changed since", dir.display()),
        problems: vec![format!("digest {digest}, expected {}", settings.model_digest)],
    })
}
