//! A directory that is filled over time by one process alone.

use std::path::{Path, PathBuf};

use super::lock::Lock;
use super::staged_directory::StagedDirectory;
use crate::error::Result;

/// A directory that is this process's until it is dropped.
pub struct HeldDirectory {
    command: &'static str,
    path: PathBuf,
    /// Nothing once it is let go.
    lock: Option<Lock>,
    /// Whether it was not there before.
    made: bool,
}

impl HeldDirectory {
    pub(super) fn new(command: &'static str, path: PathBuf, lock: Lock, made: bool) -> HeldDirectory {
        HeldDirectory { command, path, lock: Some(lock), made }
    }

    /// Where it is, as the user named it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A directory in it, made beside its place.
    ///
    /// # Errors
    /// `Io`.
    pub fn directory(&self, name: &str) -> Result<StagedDirectory> {
        StagedDirectory::inside(self.command, self.path.join(name))
    }

    /// Files that come into it together, `last` as the last one: without that the others are none of a whole.
    ///
    /// # Errors
    /// `Io`.
    pub fn files(&self, last: &'static str) -> Result<StagedDirectory> {
        StagedDirectory::spread(self.command, self.path.clone(), last)
    }
}

impl Drop for HeldDirectory {
    fn drop(&mut self) {
        drop(self.lock.take());
        if self.made {
            // Of a command that was refused before it wrote anything; a directory with something in it stays.
            let _ = std::fs::remove_dir(&self.path);
        }
    }
}
