//! A directory that is made beside its place, and takes it as a whole.

use std::fs;
use std::path::{Path, PathBuf};

use super::claim::Claim;
use super::lock::Lock;
use super::place::{names_in, parent_of, swap, sync_directory, sync_tree};
use super::temporary::Temporary;
use crate::error::{Error, Result};

/// A directory under way; dropped unpublished it leaves nothing, and what was at its place stays.
pub struct StagedDirectory {
    command: &'static str,
    made: Temporary,
    place: Place,
}

/// Where a directory goes.
enum Place {
    /// There, in place of what is there; nobody else makes it meanwhile.
    Whole { claim: Claim, own: fn(&Path) -> bool, _lock: Lock },
    /// There, in place of what is there, inside a directory that is held.
    Inside(PathBuf),
    /// What is in it, into a directory that is held, this file last.
    Spread { into: PathBuf, last: &'static str },
}

impl StagedDirectory {
    pub(super) fn beside(
        command: &'static str,
        claim: Claim,
        own: fn(&Path) -> bool,
        lock: Lock,
    ) -> Result<StagedDirectory> {
        let made = Temporary::directory(parent_of(&claim.place))?;
        Ok(StagedDirectory { command, made, place: Place::Whole { claim, own, _lock: lock } })
    }

    pub(super) fn inside(command: &'static str, place: PathBuf) -> Result<StagedDirectory> {
        Ok(StagedDirectory { command, made: Temporary::directory(parent_of(&place))?, place: Place::Inside(place) })
    }

    pub(super) fn spread(command: &'static str, into: PathBuf, last: &'static str) -> Result<StagedDirectory> {
        Ok(StagedDirectory { command, made: Temporary::directory(&into)?, place: Place::Spread { into, last } })
    }

    /// Where it is made: whatever is written goes there.
    pub fn path(&self) -> &Path {
        self.made.path()
    }

    /// Which command makes it.
    pub fn command(&self) -> &'static str {
        self.command
    }

    /// Hands it to the disk and puts it at its place; what was there is removed.
    ///
    /// # Errors
    /// `Io`; `Taken` where something else is there by now.
    pub fn publish(self) -> Result<()> {
        let StagedDirectory { made, place, .. } = self;
        sync_tree(made.path())?;
        match place {
            Place::Whole { claim, own, _lock } => {
                claim.check_replaceable(own)?;
                put(made, &claim.place)
            }
            Place::Inside(place) => put(made, &place),
            Place::Spread { into, last } => {
                made.publish(|made| {
                    let mut names = names_in(made)?;
                    names.sort_by_key(|name| name == last);
                    for name in names {
                        let (from, to) = (made.join(&name), into.join(&name));
                        if from.is_dir() {
                            swap(&from, &to)?;
                        } else {
                            // Whoever finds the last file finds the others on the disk.
                            (name == last).then(|| sync_directory(&into)).transpose()?;
                            fs::rename(&from, &to).map_err(Error::io(&to))?;
                        }
                    }
                    Ok(())
                })?;
                sync_directory(&into)
            }
        }
    }
}

/// Puts a directory in place of what is there, which goes with the name that it then has.
fn put(made: Temporary, place: &Path) -> Result<()> {
    if let Ok(there) = fs::metadata(place) {
        fs::set_permissions(made.path(), there.permissions()).map_err(Error::io(place))?;
    }
    made.publish(|made| {
        swap(made, place)?;
        // Before what was there is removed.
        sync_directory(parent_of(place))
    })
}
