//! What one command writes, and the only way to it.

use std::fs;
use std::path::Path;

use super::claim::{Claim, REPLACE};
use super::held_directory::HeldDirectory;
use super::inputs::Inputs;
use super::leftovers::sweep;
use super::lock::Lock;
use super::place::{is_stream, make_directories, parent_of, recover, resolved};
use super::staged_directory::StagedDirectory;
use super::staged_file::StagedFile;
use crate::error::{Error, Result};

/// What a command is about to write: it knows what the command reads, and may replace what the same command made before.
#[derive(Clone, Debug)]
pub struct Output {
    command: &'static str,
    inputs: Inputs,
    forced: bool,
}

impl Output {
    /// Of a command, such as `export`.
    pub fn of(command: &'static str) -> Output {
        Output { command, inputs: Inputs::default(), forced: false }
    }

    /// It reads this file or directory, too; what is not there is no input.
    pub fn reading(mut self, path: impl AsRef<Path>) -> Output {
        self.inputs.push(path.as_ref());
        self
    }

    /// It reads all of these, too.
    pub fn reading_all<P: AsRef<Path>>(self, paths: impl IntoIterator<Item = P>) -> Output {
        paths.into_iter().fold(self, Output::reading)
    }

    /// Whether it may replace what something else made. What it reads it never replaces.
    pub fn forced(self, forced: bool) -> Output {
        Output { forced, ..self }
    }

    /// A file, made beside its place. `ours` says whether a file that is there is one of this command's.
    ///
    /// # Errors
    /// `Invalid` for a file that is read, `Taken` for one of others, `Io`.
    pub fn file(&self, path: &Path, ours: &dyn Fn(&Path) -> bool) -> Result<StagedFile> {
        let place = resolved(path)?;
        self.check_inputs(path, self.inputs.at(&place))?;
        // What this command wrote beside a model or into a run is no part of that.
        let ours = !fs::metadata(&place).is_ok_and(|found| found.is_file() && found.len() > 0) || ours(&place);
        self.check_inputs(path, self.inputs.with(&place).filter(|_| !ours))?;
        if place.is_dir() {
            return Err(self.claim(path, &place).taken("is a directory, not a file", "give the name of a file"));
        }
        if !ours && !is_stream(&place) && !self.forced {
            return Err(self.claim(path, &place).taken("was not written by this command", REPLACE));
        }
        if !is_stream(&place) {
            sweep(parent_of(&place));
        }
        StagedFile::at(&place)
    }

    /// A directory, made beside its place, which it takes as a whole. `own` says which files and directories such a one may have in
    /// it.
    ///
    /// # Errors
    /// `Invalid` for a directory that is read or has in it what is read, `Taken` for one of others, `InUse`, `Io`.
    pub fn directory(&self, path: &Path, own: fn(&Path) -> bool) -> Result<StagedDirectory> {
        let place = resolved(path)?;
        self.check_inputs(path, self.inputs.at(&place))?;
        if let Some(input) = self.inputs.within(&place) {
            let found = format!("{}, with {} in it, which is read", path.display(), input.display());
            return Err(Error::invalid("place of the result", found, "a directory of its own"));
        }
        let dir = parent_of(&place);
        let lock = dir.join(format!(".criadero-lock-{}", name_of(&place)));
        let lock = Lock::take(lock, path, self.command)?;
        sweep(dir);
        recover(&place)?;
        let claim = self.claim(path, &place);
        claim.check_replaceable(own)?;
        StagedDirectory::beside(self.command, claim, own, lock)
    }

    /// A directory that is filled over time, and nobody else's meanwhile. One that is not empty must have the file `marker`, or
    /// nothing but what `begun` names, which is written before it.
    ///
    /// # Errors
    /// `Invalid` for a directory that is read, `Taken` for one of others, `InUse`, `Io`.
    pub fn hold(&self, path: &Path, marker: &str, begun: &[&str]) -> Result<HeldDirectory> {
        let place = resolved(path)?;
        self.check_inputs(path, self.inputs.at(&place))?;
        self.claim(path, &place).check_fillable(marker, begun)?;
        let made = !place.exists();
        make_directories(&place)?;
        let lock = Lock::take(place.join(".criadero-lock"), path, self.command)?;
        sweep(&place);
        Ok(HeldDirectory::new(self.command, path.to_path_buf(), lock, made))
    }

    fn check_inputs(&self, path: &Path, input: Option<&Path>) -> Result<()> {
        let Some(input) = input else { return Ok(()) };
        let input = input.display();
        let found = format!("{}, which is read (as {input})", path.display());
        Err(Error::invalid("place of the result", found, "another than what is read"))
    }

    fn claim(&self, path: &Path, place: &Path) -> Claim {
        Claim { command: self.command, forced: self.forced, path: path.to_path_buf(), place: place.to_path_buf() }
    }
}

fn name_of(place: &Path) -> String {
    place.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
