//! Files that are either whole or not there: written beside their place, synced, then renamed.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use crate::error::{Error, Result};

/// Writes `path` atomically: `fill` writes a temporary file in the same directory, which is synced
/// and renamed over `path`. On any error the old file stays as it was and the temporary one is removed.
pub fn write_with(path: &Path, fill: impl FnOnce(&mut BufWriter<&File>) -> Result<()>) -> Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(dir).map_err(Error::io(dir))?;
    let file = tempfile::Builder::new().prefix(".criadero-").tempfile_in(dir).map_err(Error::io(dir))?;
    let mut writer = BufWriter::with_capacity(1 << 20, file.as_file());
    fill(&mut writer)?;
    writer.flush().map_err(Error::io(path))?;
    drop(writer);
    file.as_file().sync_all().map_err(Error::io(path))?;
    // A temporary file is private to its owner; the finished one follows the directory's customs.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).map_err(Error::io(path))?;
    }
    file.persist(path).map_err(|error| Error::Io { path: path.to_path_buf(), cause: error.error })?;
    Ok(())
}

/// Writes `bytes` to `path` atomically, as [`write_with`] does.
pub fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Result<()> {
    write_with(path, |writer| writer.write_all(bytes.as_ref()).map_err(Error::io(path)))
}

#[cfg(test)]
mod tests {
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
}
