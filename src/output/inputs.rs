//! What a command reads: nothing of it may be written to, under whatever name.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What the system knows a file by: device and number.
type Identity = (u64, u64);

/// Files and directories that a command reads.
#[derive(Clone, Debug, Default)]
pub(super) struct Inputs(Vec<PathBuf>);

impl Inputs {
    /// One more.
    pub(super) fn push(&mut self, path: &Path) {
        self.0.push(path.to_path_buf());
    }

    /// The input that a place is, through links of both kinds.
    pub(super) fn at(&self, place: &Path) -> Option<&Path> {
        let place = identity(place)?;
        self.0.iter().find(|input| identity(input) == Some(place)).map(PathBuf::as_path)
    }

    /// The input in which a place is a file, through links of both kinds.
    pub(super) fn with(&self, place: &Path) -> Option<&Path> {
        let place = identity(place)?;
        self.0.iter().find(|input| files_of(input).any(|file| file == place)).map(PathBuf::as_path)
    }

    /// The input that would go if a directory were replaced as a whole.
    pub(super) fn within(&self, directory: &Path) -> Option<&Path> {
        let lies = |input: &&PathBuf| fs::canonicalize(input).is_ok_and(|input| input.starts_with(directory));
        self.0.iter().find(lies).map(PathBuf::as_path)
    }
}

fn identity(path: &Path) -> Option<Identity> {
    fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

/// The files of a directory.
fn files_of(dir: &Path) -> impl Iterator<Item = Identity> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.is_file()).filter_map(|path| identity(&path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_found_under_every_name_it_has() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("model")).unwrap();
        for name in ["model/model.safetensors", "text.txt", "other"] {
            fs::write(at(name), name).unwrap();
        }
        std::os::unix::fs::symlink(at("model"), at("link")).unwrap();
        fs::hard_link(at("model/model.safetensors"), at("hard")).unwrap();
        fs::hard_link(at("text.txt"), at("text-too")).unwrap();
        let mut inputs = Inputs::default();
        [at("model"), at("text.txt"), at("absent")].iter().for_each(|input| inputs.push(input));
        for name in ["model", "link", "text.txt", "text-too"] {
            assert!(inputs.at(&at(name)).is_some() && inputs.with(&at(name)).is_none(), "{name}");
        }
        for name in ["model/model.safetensors", "link/model.safetensors", "hard"] {
            assert!(inputs.at(&at(name)).is_none() && inputs.with(&at(name)).is_some(), "{name}");
        }
        for name in ["other", "absent", "model/new"] {
            assert!(inputs.at(&at(name)).is_none() && inputs.with(&at(name)).is_none(), "{name}");
        }
        let real = fs::canonicalize(dir.path()).unwrap();
        assert!(inputs.within(&real).is_some() && inputs.within(&real.join("other")).is_none());
    }
}
