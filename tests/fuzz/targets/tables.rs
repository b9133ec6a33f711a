//! Files of a task's or a tuning text's rows; the first byte chooses the format.
#![no_main]

use criadero::task::Dataset;
use criadero_fuzz::{Model, keep};
use libfuzzer_sys::fuzz_target;

/// Formats by the ends of their files' names.
const ENDS: [&str; 6] = ["parquet", "arrow", "jsonl", "jsonl.gz", "json", "csv"];
/// Rows that are looked at.
const ROWS: usize = 1000;

thread_local!(static PLACE: Model = Model::copy());

fuzz_target!(init: keep(), |data: &[u8]| PLACE.with(|place| {
    let Some((&kind, data)) = data.split_first() else { return };
    let path = place.put(&format!("rows.{}", ENDS[usize::from(kind) % ENDS.len()]), data);
    Dataset::file(path).rows().take(ROWS).for_each(drop);
}));
