//! What a process is making and nobody may find: known while it lives, removed when it is told to stop, and found by its name
//! when it was killed.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What names of things under way begin with.
pub(super) const PREFIX: &str = ".criadero-";
/// Times that a directory is emptied again which another thread still writes into.
const TRIES: usize = 5;

/// Everything of this process. Whoever creates or publishes holds it, so that it is complete when the process stops.
static LIVE: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// The paths of this process, for as long as something is created, published or removed.
pub(super) fn live() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    // A panic elsewhere leaves at worst a path that is gone.
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes everything that this process is making, and lets nothing new begin: for a process that ends at once.
pub fn abandon_all() {
    let live = live();
    live.iter().for_each(|path| remove_all(path));
    // Threads that would publish or begin something wait for the end.
    std::mem::forget(live);
}

/// Removes what processes that are no more left in a directory. Nothing depends on it, so nothing is said where it fails.
pub(super) fn sweep(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    let ours = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX));
    for path in ours.map(|entry| entry.path()) {
        // Without links: what one leads to is not ours.
        let linked = fs::symlink_metadata(&path).is_ok_and(|found| found.is_symlink());
        let Ok(file) = File::open(&path) else { continue };
        match file.try_lock() {
            Ok(()) if !linked => remove_all(&path),
            Err(TryLockError::WouldBlock) | Err(TryLockError::Error(_)) | Ok(()) => {}
        }
    }
}

/// Removes a file or a directory with all that is in it, where it is there.
pub(super) fn remove_all(path: &Path) {
    let Ok(found) = fs::symlink_metadata(path) else { return };
    for _ in 0..TRIES {
        let removed = if found.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        match removed {
            Err(error) if error.kind() != ErrorKind::NotFound => {}
            _ => return,
        }
    }
}
