//! Who uses a directory: a file in it or beside it that is locked (`flock`) and says which process since when.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::leftovers::{live, remove_all};
use super::temporary::is_at;
use crate::error::{Error, Result};

/// Times that a held lock is tried before it counts as held, and the time between them.
const TRIES: usize = 5;
const PAUSE: Duration = Duration::from_millis(10);

/// A lock that this process holds; the system takes it back when the process ends, however it ends.
pub(super) struct Lock {
    path: PathBuf,
    /// Holds the lock for as long as it is open.
    _file: File,
}

impl Lock {
    /// Takes the lock `path` of a place.
    ///
    /// # Errors
    /// `InUse` where another process holds it, `Io`.
    pub(super) fn take(path: PathBuf, place: &Path, command: &str) -> Result<Lock> {
        let mut live = live();
        let mut tries = 0..TRIES;
        loop {
            let mut options = OpenOptions::new();
            let mut file =
                options.read(true).write(true).create(true).truncate(false).open(&path).map_err(Error::io(&path))?;
            match file.try_lock() {
                Ok(()) => {}
                // Who looks whether it is a leftover holds it for a moment, too.
                Err(TryLockError::WouldBlock) if tries.next().is_some() => {
                    std::thread::sleep(PAUSE);
                    continue;
                }
                Err(TryLockError::WouldBlock) => {
                    let mut holder = String::new();
                    // What it says is for people; a lock without words is one all the same.
                    let _ = file.read_to_string(&mut holder);
                    let holder = match holder.trim() {
                        "" => "another process".to_string(),
                        words => words.to_string(),
                    };
                    return Err(Error::InUse { path: place.to_path_buf(), holder });
                }
                // A file system without locks: as good as it was before there were any.
                Err(TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Unsupported => {}
                Err(TryLockError::Error(error)) => return Err(Error::io(&path)(error)),
            }
            // Whoever held it may have removed it between opening and locking.
            if !is_at(&file, &path) {
                continue;
            }
            let words = format!("process {} (criadero {command}) since {}", std::process::id(), now());
            let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{words}"));
            written.map_err(Error::io(&path))?;
            live.insert(path.clone());
            return Ok(Lock { path, _file: file });
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let mut live = live();
        // Still locked: nobody else can have taken it by then.
        remove_all(&self.path);
        live.remove(&self.path);
    }
}

/// The time, in UTC to the second.
fn now() -> String {
    utc(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

/// Seconds since 1970 as a date and a time (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days).
fn utc(seconds: u64) -> String {
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let date = of_year - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
    let (hours, minutes, seconds) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{}-{month:02}-{date:02} {hours:02}:{minutes:02}:{seconds:02} UTC", year + 400 * era)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_one_is_refused_with_who_and_since_when() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".criadero-lock");
        let first = Lock::take(path.clone(), dir.path(), "search").unwrap();
        let error = Lock::take(path.clone(), dir.path(), "tune").err().unwrap().to_string();
        assert!(
            error.contains(&format!("in use by process {} (criadero search) since 2", std::process::id())),
            "{error}"
        );
        drop(first);
        assert!(!path.exists());
        Lock::take(path, dir.path(), "tune").unwrap();
    }

    #[test]
    fn a_lock_of_a_process_that_is_no_more_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".criadero-lock");
        std::fs::write(&path, "process 1 (criadero search) since 1970-01-01 00:00:00 UTC and some more words\n")
            .unwrap();
        let lock = Lock::take(path.clone(), dir.path(), "search").unwrap();
        let words = std::fs::read_to_string(&path).unwrap();
        assert!(words.starts_with(&format!("process {}", std::process::id())) && words.ends_with("UTC\n"), "{words}");
        drop(lock);
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_767_225_599, "2025-12-31 23:59:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(utc(seconds), expected);
        }
    }
}
