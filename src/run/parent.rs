//! The model that a run searched.

use std::path::Path;

use super::settings::RunSettings;
use crate::checkpoint::{Checkpoint, open_model};
use crate::error::{Error, Result};

/// The model that a run searched, unchanged since; `None` where `dir` is no run.
///
/// # Errors
/// `Invalid` where no model scored the networks, `Missing` and what else [`open_model`] refuses, `Mismatch` where the model is another by now.
pub fn searched_model(dir: &Path) -> Result<Option<Checkpoint>> {
    let Some(settings) = RunSettings::read(dir)? else { return Ok(None) };
    if settings.model_digest.is_empty() {
        let found = format!("networks scored by `{}`, which has no model", settings.evaluator);
        return Err(Error::invalid(format!("run {}", dir.display()), found, "a search on a model"));
    }
    let parent = open_model(Path::new(&settings.model))?;
    let digest = parent.digest()?;
    if digest == settings.model_digest {
        return Ok(Some(parent));
    }
    Err(Error::Mismatch {
        path: settings.model.into(),
        what: format!("the model has changed since {} was searched on it", dir.display()),
        problems: vec![format!("digest {digest}, expected {}", settings.model_digest)],
    })
}
