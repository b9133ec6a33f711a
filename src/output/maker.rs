//! Which command made a directory: what may be replaced by the same command again, and by no other.
//!
//! A checkpoint says it in the header of its weights, under `made_by` of safetensors' `__metadata__`: every loader skips it, no
//! file is added to what others load, and it is gone once another program has written the weights anew. Directories that are
//! filled over time are known by the file that says what they are. Versions that did not write `made_by` left only such files.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;

use super::place::names_in;

/// The word of a header.
pub const MADE_BY: &str = "made_by";
/// Longest header that is read; those of the largest models take some megabytes.
const LONGEST_HEADER: u64 = 100 << 20;
/// What says of a directory which command filled it: the first that is there.
const MARKERS: [(&str, &str); 4] =
    [("run.json", "search"), ("tune.json", "tune"), ("quantized.json", "quantize"), ("criadero.json", "rank")];

/// The command that made a directory, where it can be told.
pub(super) fn made_by(dir: &Path) -> Option<String> {
    let names = names_in(dir).ok()?;
    let weights = names.iter().filter(|name| name.starts_with("model") && name.ends_with(".safetensors"));
    let marker = |&(file, command): &(&str, &str)| names.iter().any(|name| name == file).then(|| command.to_string());
    weights.take(1).find_map(|name| in_header(&dir.join(name))).or_else(|| MARKERS.iter().find_map(marker))
}

/// What the header of a safetensors file says.
fn in_header(path: &Path) -> Option<String> {
    #[derive(Deserialize)]
    struct Header {
        #[serde(rename = "__metadata__")]
        words: Words,
    }
    #[derive(Deserialize)]
    struct Words {
        made_by: String,
    }
    let mut file = File::open(path).ok()?;
    let mut length = [0; 8];
    file.read_exact(&mut length).ok()?;
    let length = u64::from_le_bytes(length);
    let mut header = Vec::new();
    (length <= LONGEST_HEADER).then(|| file.take(length).read_to_end(&mut header))?.ok()?;
    let Header { words } = serde_json::from_slice(&header).ok()?;
    words.made_by.strip_prefix("criadero ").map(String::from)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_header_counts_before_the_files_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(made_by(dir.path()), None);
        fs::write(dir.path().join("config.json"), "{}").unwrap();
        assert_eq!(made_by(dir.path()), None);
        fs::write(dir.path().join("criadero.json"), "{}").unwrap();
        assert_eq!(made_by(dir.path()).as_deref(), Some("rank"));
        fs::write(dir.path().join("tune.json"), "{}").unwrap();
        assert_eq!(made_by(dir.path()).as_deref(), Some("tune"));
        let write = |words: &str| {
            let header = format!("{{\"__metadata__\":{words}}}");
            let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat();
            fs::write(dir.path().join("model.safetensors"), bytes).unwrap();
        };
        write(r#"{"format":"pt","made_by":"criadero merge"}"#);
        assert_eq!(made_by(dir.path()).as_deref(), Some("merge"));
        write(r#"{"format":"pt"}"#);
        assert_eq!(made_by(dir.path()).as_deref(), Some("tune"));
        fs::write(dir.path().join("model.safetensors"), u64::MAX.to_le_bytes()).unwrap();
        assert_eq!(made_by(dir.path()).as_deref(), Some("tune"));
    }
}
