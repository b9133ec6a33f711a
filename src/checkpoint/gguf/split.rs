//! Models that are split into several GGUF files, as llama.cpp's `llama-gguf-split` does: the first one's keys are the model's, and
//! tensors lie in all of them.

use std::path::{Path, PathBuf};

use super::metadata::Metadata;
use crate::error::{Error, Result};

/// Files of a model, at most: a count beyond it is no model's.
const MOST: u32 = 10_000;

/// The files beside the one at `path` that belong to the same model.
///
/// # Errors
/// When the file is not the first one, or another is not there.
pub(super) fn others(path: &Path, metadata: &Metadata) -> Result<Vec<PathBuf>> {
    let Some(count) = metadata.count("split.count")?.filter(|&count| count > 1) else { return Ok(vec![]) };
    let wrong = |reason: String| metadata.wrong("split.count", reason);
    if count > MOST {
        return Err(wrong(format!("found {count} files, expected {MOST} at most")));
    }
    let number = metadata.count("split.no")?.unwrap_or(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let end = |number: u32| format!("-{number:05}-of-{count:05}.gguf");
    let Some(stem) = name.strip_suffix(&end(number + 1)) else {
        let expected = format!("a name that ends in {}", end(number + 1));
        return Err(wrong(format!("found the name {name} of file {} of {count}, expected {expected}", number + 1)));
    };
    let file = |number: u32| path.with_file_name(format!("{stem}{}", end(number)));
    if number != 0 {
        return Err(wrong(format!("found file {} of {count}, expected the first, {}", number + 1, file(1).display())));
    }
    let others: Vec<PathBuf> = (2..=count).map(file).collect();
    let missing: Vec<String> =
        others.iter().filter(|other| !other.is_file()).map(|other| other.display().to_string()).collect();
    if !missing.is_empty() {
        let what = format!("a model of {count} files of which some are not there");
        let problems = missing.into_iter().map(|file| format!("{file}: missing")).collect();
        return Err(Error::Mismatch { path: path.into(), what, problems });
    }
    Ok(others)
}
