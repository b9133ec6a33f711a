//! Whether a place is a command's to write to: nothing is there, or what the same command made.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::maker::made_by;
use super::place::{names_in, parent_of};
use crate::error::{Error, Result};

/// Strangers that are named when a directory is refused.
const NAMED: usize = 3;
/// What helps where a place is another's, and may be replaced.
pub(super) const REPLACE: &str = "give another --out, or --force to replace it";
/// What helps where it may not.
const ANOTHER: &str = "give another --out";

/// A place that a command wants.
pub(super) struct Claim {
    pub command: &'static str,
    /// Whether it may replace what others made.
    pub forced: bool,
    /// As the user named it.
    pub path: PathBuf,
    /// Where that is.
    pub place: PathBuf,
}

impl Claim {
    /// Refuses a directory that cannot be replaced as a whole, or may not: of another command, or with files in it that are not
    /// `own` ones.
    pub fn check_replaceable(&self, own: fn(&Path) -> bool) -> Result<()> {
        let Ok(there) = fs::metadata(&self.place) else { return Ok(()) };
        if !there.is_dir() {
            return Err(self.taken("is a file, not a directory", ANOTHER));
        }
        let beside = fs::metadata(parent_of(&self.place)).map_err(Error::io(&self.place))?;
        let whole = "give a directory in it: it cannot be replaced as a whole";
        if beside.dev() != there.dev() || self.place.parent().is_none() {
            return Err(self.taken("is where another file system begins", whole));
        }
        if std::env::current_dir().is_ok_and(|here| here == self.place) {
            return Err(self.taken("is the working directory", whole));
        }
        let names = names_in(&self.place)?;
        if names.is_empty() || self.forced {
            return Ok(());
        }
        match made_by(&self.place) {
            Some(maker) if maker != self.command => {
                Err(self.taken(&format!("was made by `criadero {maker}`"), REPLACE))
            }
            None => Err(self.taken(&format!("holds {}", listed(&names)), REPLACE)),
            Some(_) => {
                let strangers: Vec<String> = names.into_iter().filter(|name| !own(&self.place.join(name))).collect();
                if strangers.is_empty() {
                    return Ok(());
                }
                Err(self.taken(&format!("also holds {}", listed(&strangers)), REPLACE))
            }
        }
    }

    /// Refuses a directory to be filled over time that has neither this file nor nothing but what is `begun`.
    pub fn check_fillable(&self, marker: &str, begun: &[&str]) -> Result<()> {
        if self.place.exists() && !self.place.is_dir() {
            return Err(self.taken("is a file, not a directory", ANOTHER));
        }
        let mut strangers = names_in(&self.place)?;
        strangers.retain(|name| !begun.contains(&name.as_str()));
        if strangers.is_empty() || self.place.join(marker).is_file() {
            return Ok(());
        }
        let maker = made_by(&self.place).map_or(String::new(), |command| format!(", of `criadero {command}`"));
        Err(self.taken(&format!("holds {}{maker}, and no {marker}", listed(&strangers)), ANOTHER))
    }

    /// The place is another's.
    pub fn taken(&self, found: &str, remedy: &str) -> Error {
        Error::Taken {
            path: self.path.clone(),
            command: self.command.to_string(),
            found: found.to_string(),
            remedy: remedy.to_string(),
        }
    }
}

/// The first names, and how many more there are.
fn listed(names: &[String]) -> String {
    let shown = names[..names.len().min(NAMED)].join(", ");
    if names.len() > NAMED { format!("{shown} and {} more", names.len() - NAMED) } else { shown }
}
