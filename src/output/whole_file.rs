//! Files that are either whole or not there, inside a directory that is staged, held, or a cache.

use std::fs::{self, File};
use std::io::{BufWriter, ErrorKind};
use std::path::Path;

use super::place::{parent_of, sync_directory};
use super::staged_file::StagedFile;
use super::temporary::Temporary;
use crate::error::{Error, Result};

/// Writes `path` atomically: `fill` writes a temporary file in the same directory, which is synced
/// and renamed over `path`. On any error the old file stays as it was and the temporary one is removed.
pub fn write_with(path: &Path, fill: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<()> {
    let mut file = StagedFile::at(path)?;
    fill(file.writer())?;
    file.publish()
}

/// Writes `bytes` to `path` atomically, as [`write_with`] does.
pub fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Result<()> {
    let mut file = StagedFile::at(path)?;
    file.write(bytes.as_ref())?;
    file.publish()
}

/// Keeps a file under a second name, whatever becomes of the first: a second link to it, or a copy where there are no links. The
/// file that had that name is there until then.
pub fn keep_as(path: &Path, second: &Path) -> Result<()> {
    // A name of its own, for a link cannot take one that is there.
    let beside = Temporary::directory(parent_of(second))?;
    let made = beside.path().join("kept");
    if fs::hard_link(path, &made).is_err() {
        fs::copy(path, &made).map_err(Error::io(path))?;
        File::open(&made).and_then(|copy| copy.sync_all()).map_err(Error::io(path))?;
    }
    fs::rename(&made, second).map_err(Error::io(second))?;
    sync_directory(parent_of(second))
}

/// Removes a file, where it is there.
pub fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Ok(()) => sync_directory(parent_of(path)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io(path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn keeps_the_old_file_when_writing_fails() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("front.csv");
        write(&path, "old").unwrap();
        let failed = write_with(&path, |writer| {
            writer.write_all(b"half").unwrap();
            Err(Error::Interrupted)
        });
        assert!(failed.is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "the temporary file is gone");
    }

    #[test]
    fn a_second_name_keeps_what_the_first_one_had() {
        let dir = tempfile::tempdir().unwrap();
        let [state, good] = ["state", "good"].map(|name| dir.path().join(name));
        write(&state, "1").unwrap();
        keep_as(&state, &good).unwrap();
        keep_as(&state, &good).unwrap();
        write(&state, "2").unwrap();
        assert_eq!(fs::read_to_string(&good).unwrap(), "1");
        keep_as(&state, &good).unwrap();
        assert_eq!(fs::read_to_string(&good).unwrap(), "2");
        remove(&state).unwrap();
        remove(&state).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(keep_as(&state, &good).is_err());
        assert_eq!(fs::read_to_string(&good).unwrap(), "2", "it stays when there is nothing to keep");
    }

    #[test]
    fn writes_into_a_pipe_or_a_device_and_leaves_it_there() {
        write(Path::new("/dev/null"), "nothing").unwrap();
        let found = fs::metadata("/dev/null").unwrap();
        assert!(!found.is_file() && found.len() == 0);
    }
}
