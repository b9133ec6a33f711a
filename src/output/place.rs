//! Where something is to be written: through links, made if it is not there, and on the disk once it says so.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::leftovers::{PREFIX, remove_all};
use crate::error::{Error, Result};

/// The directory that something lies in.
pub(super) fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether a path is no file's or directory's but a device's or a pipe's, also where it leads to a file, as `/dev/stdout` may.
pub(super) fn is_stream(path: &Path) -> bool {
    let there = fs::metadata(path);
    there.is_ok_and(|found| !found.is_dir() && (!found.is_file() || path.starts_with("/dev/")))
}

/// Where a path leads: through links, in a directory that is there afterwards.
///
/// # Errors
/// `Io`; `Invalid` for a link to nothing.
pub(super) fn resolved(path: &Path) -> Result<PathBuf> {
    if is_stream(path) {
        return Ok(path.to_path_buf());
    }
    match fs::canonicalize(path) {
        Ok(found) => return Ok(found),
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(Error::io(path)(error)),
        Err(_) if fs::symlink_metadata(path).is_ok() => {
            return Err(Error::invalid("output", path.display(), "a place, not a link to nothing"));
        }
        Err(_) => {}
    }
    let Some(name) = path.file_name() else {
        return Err(Error::invalid("output", path.display(), "a path that ends in a name"));
    };
    let dir = parent_of(path);
    make_directories(dir)?;
    Ok(fs::canonicalize(dir).map_err(Error::io(dir))?.join(name))
}

/// Makes a directory and those that it lies in, as far as they are not there, and hands each to the disk.
pub(super) fn make_directories(dir: &Path) -> Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    make_directories(parent_of(dir))?;
    match fs::create_dir(dir) {
        // Another process may be making it, too.
        Err(error) if error.kind() != ErrorKind::AlreadyExists || !dir.is_dir() => Err(Error::io(dir)(error)),
        _ => sync_directory(parent_of(dir)),
    }
}

/// Hands the names in a directory to the disk.
pub(super) fn sync_directory(dir: &Path) -> Result<()> {
    let synced = File::open(dir).and_then(|open| open.sync_all());
    match synced {
        // Some file systems have no such thing.
        Err(error) if [ErrorKind::InvalidInput, ErrorKind::Unsupported].contains(&error.kind()) => Ok(()),
        other => other.map_err(Error::io(dir)),
    }
}

/// Hands a directory with all that is in it to the disk.
pub(super) fn sync_tree(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(Error::io(dir))? {
        let path = entry.map_err(Error::io(dir))?.path();
        if path.is_dir() {
            sync_tree(&path)?;
        } else {
            File::open(&path).and_then(|file| file.sync_all()).map_err(Error::io(&path))?;
        }
    }
    sync_directory(dir)
}

/// The names in a directory, sorted, but for what is under way there; none where there is no such directory.
pub(super) fn names_in(dir: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io(dir)(error)),
    };
    let names = entries.map(|entry| Ok(entry.map_err(Error::io(dir))?.file_name().to_string_lossy().into_owned()));
    let mut names = names.collect::<Result<Vec<String>>>()?;
    names.retain(|name| !name.starts_with(PREFIX));
    names.sort();
    Ok(names)
}

/// Puts a directory where another one may be, which has the first one's name afterwards.
///
/// Where the file system cannot exchange two names, there is a moment in which the place is empty; [`recover`] ends it.
pub(super) fn swap(made: &Path, place: &Path) -> Result<()> {
    // Over nothing, or over an empty directory.
    match fs::rename(made, place) {
        Err(error) if [ErrorKind::DirectoryNotEmpty, ErrorKind::AlreadyExists].contains(&error.kind()) => {}
        other => return other.map_err(Error::io(place)),
    }
    if renameat_with(CWD, made, CWD, place, RenameFlags::EXCHANGE).is_ok() {
        return Ok(());
    }
    let aside = aside(place);
    fs::rename(place, &aside).map_err(Error::io(place))?;
    if let Err(error) = fs::rename(made, place) {
        fs::rename(&aside, place).map_err(Error::io(place))?;
        return Err(Error::io(place)(error));
    }
    remove_all(&aside);
    Ok(())
}

/// Ends a [`swap`] that was killed in its middle: what was there is there again, or is gone for good.
pub(super) fn recover(place: &Path) -> Result<()> {
    let aside = aside(place);
    if !aside.exists() {
        return Ok(());
    }
    if place.exists() {
        remove_all(&aside);
        return Ok(());
    }
    fs::rename(&aside, place).map_err(Error::io(place))
}

/// Where a directory waits for the one that takes its place. No leftover: it may be all there is.
fn aside(place: &Path) -> PathBuf {
    let name = place.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    parent_of(place).join(format!(".{name}.criadero-replaced"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_takes_the_place_of_another() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for (name, old) in [("nothing", None), ("empty", Some("")), ("full", Some("old"))] {
            fs::create_dir(at("made")).unwrap();
            fs::write(at("made").join("new"), "").unwrap();
            if let Some(file) = old {
                fs::create_dir(at(name)).unwrap();
                (!file.is_empty()).then(|| fs::write(at(name).join(file), "").unwrap());
            }
            swap(&at("made"), &at(name)).unwrap();
            assert_eq!(names_in(&at(name)).unwrap(), ["new"], "{name}");
            remove_all(&at("made"));
        }
    }

    #[test]
    fn a_swap_that_was_killed_in_its_middle_ends() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("out");
        for (there, expected) in [(false, "old"), (true, "new")] {
            fs::create_dir_all(aside(&place)).unwrap();
            fs::write(aside(&place).join("old"), "").unwrap();
            if there {
                remove_all(&place);
                fs::create_dir_all(&place).unwrap();
                fs::write(place.join("new"), "").unwrap();
            }
            recover(&place).unwrap();
            assert_eq!(names_in(&place).unwrap(), [expected]);
            assert!(!aside(&place).exists());
        }
    }

    #[test]
    fn a_place_is_found_through_links() {
        let dir = tempfile::tempdir().unwrap();
        let real = fs::canonicalize(dir.path()).unwrap();
        std::os::unix::fs::symlink(&real, dir.path().join("link")).unwrap();
        assert_eq!(resolved(&dir.path().join("link/new/out")).unwrap(), real.join("new/out"));
        assert!(real.join("new").is_dir() && !real.join("new/out").exists());
        std::os::unix::fs::symlink(real.join("nowhere"), dir.path().join("dangling")).unwrap();
        let error = resolved(&dir.path().join("dangling")).unwrap_err().to_string();
        assert!(error.contains("not a link to nothing"), "{error}");
    }
}
