//! A file that grows at its end: what was appended stays when the process is killed.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::place::{parent_of, sync_directory};
use crate::error::{Error, Result};

/// An open log.
pub struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    /// Opens or creates a log in a directory that this process holds; also what it says so far.
    ///
    /// # Errors
    /// `Io`.
    pub fn open(path: &Path) -> Result<(Log, Vec<u8>)> {
        let mut options = OpenOptions::new();
        let mut file =
            options.read(true).write(true).create(true).truncate(false).open(path).map_err(Error::io(path))?;
        let mut bytes = Vec::new();
        // Which leaves the place at its end.
        file.read_to_end(&mut bytes).map_err(Error::io(path))?;
        sync_directory(parent_of(path))?;
        Ok((Log { path: path.to_path_buf(), file }, bytes))
    }

    /// Cuts it behind so many bytes: what a crash tore is gone.
    pub fn cut(&mut self, bytes: u64) -> Result<()> {
        let cut = self.file.set_len(bytes).and_then(|()| self.file.seek(SeekFrom::End(0)));
        cut.map(drop).map_err(Error::io(&self.path))
    }

    /// Appends; once this returns, a killed process keeps it.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(Error::io(&self.path))
    }

    /// Hands everything appended so far to the disk.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(Error::io(&self.path))
    }
}
