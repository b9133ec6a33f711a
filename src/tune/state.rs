//! `state.safetensors`: where a fine-tuning is, whole or not there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tch::no_grad;

use super::adamw::Parameter;
use super::metrics::{Metrics, Sums};
use crate::checkpoint::tensor_file::{self, TensorFile};
use crate::error::{Error, Result};
use crate::output;

/// The file's name.
const FILE: &str = "state.safetensors";
/// The state of the last measurement that was no worse than allowed.
const GOOD_FILE: &str = "good.safetensors";

/// The word that has `metrics.csv` as it was then.
const METRICS: &str = "metrics";

/// What changes from step to step besides the parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Place {
    /// Steps taken.
    pub step: usize,
    /// Tokens seen by them.
    pub tokens: u64,
    /// Since the last measurement.
    pub sums: Sums,
}

/// Where the state of a directory lies.
pub fn path(dir: &Path) -> PathBuf {
    dir.join(FILE)
}

/// Where the state of the last good measurement lies.
pub fn good_path(dir: &Path) -> PathBuf {
    dir.join(GOOD_FILE)
}

/// Keeps the state that was written last as the good one; the good one before is there until then.
pub fn keep(dir: &Path) -> Result<()> {
    output::keep_as(&path(dir), &good_path(dir))
}

/// Takes away both states.
pub fn forget(dir: &Path) -> Result<()> {
    output::remove(&path(dir))?;
    output::remove(&good_path(dir))
}

/// What a state says of its fine-tuning.
pub struct Found {
    /// Where it is.
    pub place: Place,
    /// What was measured by then; nothing in states of versions that kept it beside them only.
    pub metrics: Option<Metrics>,
}

/// What a state is read for: its fine-tuning's steps, and the networks that it follows.
#[derive(Clone, Copy)]
pub struct Expected<'a> {
    /// All steps.
    pub steps: usize,
    /// Names of the followed networks.
    pub networks: &'a [String],
}

/// Writes everything that the next step depends on; on an error the state before it stays.
pub fn write(dir: &Path, place: &Place, metrics: &Metrics, parameters: &[Parameter]) -> Result<()> {
    let tensors = parameters.iter().flat_map(|one| {
        let named = [("master", &one.master), ("first", &one.first), ("second", &one.second)];
        named.map(|(kind, tensor)| (format!("{kind}/{}", one.name), tensor.shallow_clone()))
    });
    let sums = serde_json::to_string(&place.sums).expect("sums are numbers");
    let words = [
        ("step", place.step.to_string()),
        ("tokens", place.tokens.to_string()),
        ("sums", sums),
        (METRICS, metrics.to_csv()),
    ];
    let words = words.map(|(name, value)| (name.to_string(), value)).into();
    tensor_file::write(&path(dir), &tensors.collect(), &words)
}

/// Puts the parameters where a directory's state has them, or where its last good state does if that is damaged, which is then said;
/// `None` where there is no state.
///
/// # Errors
/// As [`read_file`].
pub fn read(dir: &Path, parameters: &mut [Parameter], expected: Expected) -> Result<Option<(Found, Option<String>)>> {
    let path = path(dir);
    if Error::is_absent(&path)? {
        return Ok(None);
    }
    match read_file(&path, parameters, expected) {
        Ok(found) => Ok(Some((found, None))),
        Err(error @ (Error::Format { .. } | Error::Mismatch { .. })) => {
            let Ok(found) = read_file(&good_path(dir), parameters, expected) else { return Err(error) };
            Ok(Some((found, Some(format!("{error}; goes on from {GOOD_FILE}")))))
        }
        Err(error) => Err(error),
    }
}

/// Puts the parameters where a state has them, one tensor after the other.
///
/// # Errors
/// `Format` when the state is damaged, or of other parameters or another fine-tuning.
pub fn read_file(path: &Path, parameters: &mut [Parameter], expected: Expected) -> Result<Found> {
    let file = TensorFile::open(path)?;
    let wrong = |reason: String| Error::format(path, "state of a fine-tuning", reason);
    for Parameter { name, tensor, master, first, second } in parameters {
        for (kind, own) in [("master", &mut *master), ("first", first), ("second", second)] {
            let key = format!("{kind}/{name}");
            let stored = file.read(&key)?.ok_or_else(|| wrong(format!("no tensor {key}")))?;
            if stored.size() != own.size() {
                return Err(wrong(format!("{key} is {:?}, expected {:?}", stored.size(), own.size())));
            }
            no_grad(|| own.f_copy_(&stored))?;
        }
        no_grad(|| tensor.f_copy_(master))?;
    }
    let words = &file.words;
    let place = Place {
        step: word(words, "step", &wrong)?,
        tokens: word(words, "tokens", &wrong)?,
        sums: word(words, "sums", &wrong)?,
    };
    if place.step > expected.steps || place.sums.steps > place.step {
        let found = format!("`step` {}, {} of them in `sums`", place.step, place.sums.steps);
        return Err(wrong(format!("{found}, expected {} at most", expected.steps)));
    }
    let metrics = words.get(METRICS).map(|text| Metrics::parse(text, path, expected.networks)).transpose()?;
    Ok(Found { place, metrics })
}

fn word<T: serde::de::DeserializeOwned>(
    words: &BTreeMap<String, String>,
    name: &str,
    wrong: &dyn Fn(String) -> Error,
) -> Result<T> {
    let text = words.get(name).ok_or_else(|| wrong(format!("no word `{name}`")))?;
    serde_json::from_str(text).map_err(|error| wrong(format!("`{name}`: {error}")))
}
