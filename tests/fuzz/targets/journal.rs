//! `chunks.log` of a search that goes on: raw, and with each line's checksum behind a `!`.
#![no_main]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use criadero::Result;
use criadero::run::{Experiment, Front, Progress, mock_scorer};
use criadero_fuzz::space;
use libfuzzer_sys::fuzz_target;

/// The files of a search that stopped, but the journal.
struct Stopped {
    dir: tempfile::TempDir,
    files: BTreeMap<std::ffi::OsString, Vec<u8>>,
}

impl Stopped {
    fn new() -> Stopped {
        let dir = tempfile::tempdir().expect("a directory of one's own");
        search(dir.path(), 4).expect_err("it stops");
        let names =
            fs::read_dir(dir.path()).expect("it is there").map(|entry| entry.expect("it has a name").file_name());
        let file = |name: std::ffi::OsString| Some((name.clone(), fs::read(dir.path().join(name)).ok()?));
        let files = names.filter(|name| name != "chunks.log").filter_map(file).collect();
        Stopped { dir, files }
    }
}

/// A search that stops once so many networks are measured.
fn search(dir: &Path, stop_after: usize) -> Result<Front> {
    let experiment =
        Experiment { evals: 8, population: 4, ..Experiment::new("none", space(), ["choice_nll:t", "params"]) };
    let stop = Arc::new(AtomicBool::new(false));
    let scorer = mock_scorer(&experiment, [16, 16], Duration::ZERO, stop.clone())?;
    experiment.run(scorer, dir, &mut |progress| match progress {
        Progress::Population { evaluations, .. } if evaluations >= stop_after => stop.store(true, Ordering::Relaxed),
        _ => {}
    })
}

thread_local!(static STOPPED: Stopped = Stopped::new());

fuzz_target!(|data: &[u8]| STOPPED.with(|Stopped { dir, files }| {
    let journal = match data.split_first() {
        Some((b'!', lines)) => {
            let line = |line: &[u8]| [format!("{:08x} ", crc32fast::hash(line)).as_bytes(), line, b"\n"].concat();
            lines.split(|&byte| byte == b'\n').flat_map(line).collect()
        }
        _ => data.to_vec(),
    };
    for entry in fs::read_dir(dir.path()).expect("it is there").flatten() {
        let _ = fs::remove_file(entry.path());
    }
    files.iter().for_each(|(name, bytes)| fs::write(dir.path().join(name), bytes).expect("there is room"));
    fs::write(dir.path().join("chunks.log"), journal).expect("there is room");
    let _ = search(dir.path(), usize::MAX);
}));
