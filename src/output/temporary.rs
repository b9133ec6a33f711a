//! A file or a directory under a name of its own: locked while its maker lives, gone with it.

use std::fs::{self, File, Permissions, TryLockError};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::leftovers::{PREFIX, live, remove_all};
use crate::error::{Error, Result};

/// Something under way beside its place. Whatever has its name when this is dropped is removed.
pub struct Temporary {
    path: PathBuf,
    /// Locked, so that others see that its maker lives.
    file: File,
}

impl Temporary {
    /// A directory for what is of no use once this is dropped, where the system has such things.
    ///
    /// # Errors
    /// `Io`.
    pub fn scratch() -> Result<Temporary> {
        Temporary::directory(&std::env::temp_dir())
    }

    /// A new directory in `dir`, with the permissions of any new directory.
    pub(super) fn directory(dir: &Path) -> Result<Temporary> {
        Temporary::create(dir, |name| {
            let made = name.permissions(Permissions::from_mode(0o777)).tempdir_in(dir)?.keep();
            Ok((File::open(&made)?, made))
        })
    }

    /// A new file in `dir`, with the permissions of any new file.
    pub(super) fn file(dir: &Path) -> Result<Temporary> {
        Temporary::create(dir, |name| {
            let file = name.permissions(Permissions::from_mode(0o666)).tempfile_in(dir)?;
            file.keep().map_err(|error| error.error)
        })
    }

    fn create(
        dir: &Path,
        make: impl Fn(&mut tempfile::Builder) -> std::io::Result<(File, PathBuf)>,
    ) -> Result<Temporary> {
        let mut live = live();
        loop {
            let mut name = tempfile::Builder::new();
            let (file, path) = make(name.prefix(PREFIX)).map_err(Error::io(dir))?;
            // Another process may take it for a leftover before it is locked. Where locks are not known, nothing is swept either.
            let swept = matches!(file.try_lock(), Err(TryLockError::WouldBlock)) || !is_at(&file, &path);
            if !swept {
                live.insert(path.clone());
                return Ok(Temporary { path, file });
            }
        }
    }

    /// Where it is until it is published.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open file.
    pub(super) fn open(&self) -> &File {
        &self.file
    }

    /// Puts it where it belongs. A process that is told to stop does so before or after `put`.
    pub(super) fn publish(self, put: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let live = live();
        let put = put(&self.path);
        drop(live);
        put
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        remove_all(&self.path);
        live().remove(&self.path);
    }
}

/// Whether an open file is what has this name.
pub(super) fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::leftovers::sweep;

    #[test]
    fn is_left_alone_while_its_maker_lives_and_gone_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let (file, folder) = (Temporary::file(dir.path()).unwrap(), Temporary::directory(dir.path()).unwrap());
        fs::write(folder.path().join("inside"), "x").unwrap();
        sweep(dir.path());
        assert!(file.path().is_file() && folder.path().join("inside").is_file());
        drop((file, folder));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_a_killed_process_left_is_swept_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(".criadero-abc")).unwrap();
        fs::write(dir.path().join(".criadero-abc/model.safetensors"), "half").unwrap();
        fs::write(dir.path().join(".criadero-xyz"), "half").unwrap();
        fs::write(dir.path().join("criadero.json"), "{}").unwrap();
        fs::write(dir.path().join(".hidden"), "").unwrap();
        std::os::unix::fs::symlink(dir.path().join("criadero.json"), dir.path().join(".criadero-link")).unwrap();
        sweep(dir.path());
        let mut names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, [".criadero-link", ".hidden", "criadero.json"]);
    }
}
