//! The one error type of the library: every variant carries the facts a reader needs to act.

use std::fs::Metadata;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

mod told;

/// A name of the program's own. Under this one serde does not take it for text of what it reads.
type Name = &'static str;

/// What went wrong, where, what was expected, and what to do. It can be told from process to process.
#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
pub enum Error {
    /// The operating system refused a file operation.
    #[error("{}: {cause}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's own words; they are said with the path, not once more as the source.
        #[serde(with = "told::cause")]
        cause: std::io::Error,
    },
    /// A file is there but is not what its format promises.
    #[error("{}: not a valid {format} file: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The format's name, such as `safetensors` or `GGUF v3`.
        #[serde(deserialize_with = "told::name")]
        format: Name,
        /// What was found and what was expected.
        reason: String,
    },
    /// One row of a data file cannot be used; the others may be.
    #[error("{}: not a valid {format} file: {place}: {reason}", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// The format's name, such as `training data`.
        #[serde(deserialize_with = "told::name")]
        format: Name,
        /// Where in the file, such as `line 7`.
        place: String,
        /// What was found and what was expected.
        reason: String,
    },
    /// Several facts of one input contradict each other; all of them are listed.
    #[error("{}: {}:\n  {}", path.display(), what, problems.join("\n  "))]
    Mismatch {
        /// The file or directory.
        path: PathBuf,
        /// One line that says what does not fit what.
        what: String,
        /// One line a contradiction.
        problems: Vec<String>,
    },
    /// A search space cannot be read or does not fit.
    #[error("{space}, line {line} column {column}: {field}: {reason}")]
    Space {
        /// `search space`, with its file where it is from one.
        space: String,
        /// Line in the YAML text, from 1; 0 when the space was not read from text.
        line: usize,
        /// Column in the YAML text, from 1.
        column: usize,
        /// The field, such as `layers.0-1.heads`.
        field: String,
        /// What was found and what was expected.
        reason: String,
    },
    /// A name that is in no table.
    #[error("unknown {kind} `{name}`; known: {}", known.join(", "))]
    Unknown {
        /// What kind of name, such as `task` or `objective`.
        #[serde(deserialize_with = "told::name")]
        kind: Name,
        /// The name that was given.
        name: String,
        /// All names that would do.
        known: Vec<String>,
    },
    /// Something that must be there is not; the remedy says how to get it.
    #[error("{what} not found: {}; {remedy}", path.display())]
    Missing {
        /// What was looked for.
        what: String,
        /// Where.
        path: PathBuf,
        /// What to do.
        remedy: String,
    },
    /// A value that cannot be used.
    #[error("{what}: found {found}, expected {expected}")]
    Invalid {
        /// What the value is for.
        what: String,
        /// What was given.
        found: String,
        /// What would do.
        expected: String,
    },
    /// A results directory belongs to another run.
    #[error("{} holds another run: {}; give another --out, or repeat the same command to resume it", dir.display(), differences.join("; "))]
    OtherRun {
        /// The directory.
        dir: PathBuf,
        /// One line a setting: what the directory holds and what was asked for.
        differences: Vec<String>,
    },
    /// A place that is not this command's to write to.
    #[error("{} {found}; `criadero {command}` writes to what it made itself, or where nothing is: {remedy}", path.display())]
    Taken {
        /// The place.
        path: PathBuf,
        /// The command that would write there.
        command: String,
        /// What is there, as the end of a sentence about the place.
        found: String,
        /// What to do.
        remedy: String,
    },
    /// A place that another process writes to.
    #[error("{} is in use by {holder}; wait for it, stop it, or give another --out", path.display())]
    InUse {
        /// The place.
        path: PathBuf,
        /// Which process, and since when.
        holder: String,
    },
    /// libtorch reported an error.
    #[error("libtorch: {0}")]
    Torch(String),
    /// A server that processes meet at does not do what it must.
    #[error("{server}: {reason}")]
    Server {
        /// Its address, without secrets.
        server: String,
        /// What was asked of it, what it said, and what to do.
        reason: String,
    },
    /// The user asked to stop; what was finished is on disk.
    #[error("stopped on request; the same command again resumes")]
    Interrupted,
    /// A fine-tuning got worse instead of better.
    #[error("training diverged at step {step}: {found}")]
    Diverged {
        /// Steps taken.
        step: usize,
        /// What was not finite or too large.
        found: String,
    },
    /// An evaluation ended before its work did.
    #[error("evaluating {what}: {reason}")]
    Worker {
        /// What was being evaluated.
        what: String,
        /// Its last words.
        reason: String,
    },
}

/// The library's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Wraps a system error with the path it is about, for `map_err(Error::io(path))`.
    pub fn io(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.as_ref().to_path_buf();
        move |cause| Error::Io { path, cause }
    }

    /// A file that breaks its format's rules.
    pub fn format(path: impl AsRef<Path>, format: &'static str, reason: impl Into<String>) -> Error {
        Error::Format { path: path.as_ref().to_path_buf(), format, reason: reason.into() }
    }

    /// What is at `path`; nothing where nothing is.
    ///
    /// # Errors
    /// When something may be there that this process cannot look at.
    pub fn look(path: &Path) -> Result<Option<Metadata>> {
        match std::fs::metadata(path) {
            Ok(found) => Ok(Some(found)),
            Err(cause) if matches!(cause.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            Err(cause) => Err(Error::Io { path: path.to_path_buf(), cause }),
        }
    }

    /// Whether nothing is at `path`.
    ///
    /// # Errors
    /// As [`Error::look`].
    pub fn is_absent(path: &Path) -> Result<bool> {
        Error::look(path).map(|found| found.is_none())
    }

    /// A value that cannot be used.
    pub fn invalid(what: impl Into<String>, found: impl ToString, expected: impl Into<String>) -> Error {
        Error::Invalid { what: what.into(), found: found.to_string(), expected: expected.into() }
    }

    /// A name that is in no table.
    pub fn unknown<S: ToString>(kind: &'static str, name: impl ToString, known: impl IntoIterator<Item = S>) -> Error {
        let known = known.into_iter().map(|name| name.to_string()).collect();
        Error::Unknown { kind, name: name.to_string(), known }
    }
}
