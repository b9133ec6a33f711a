//! A task's rows in JSON Lines, as users write them.
#![no_main]

use criadero::task::Task;
use criadero_fuzz::{Model, keep};
use libfuzzer_sys::fuzz_target;

/// Rows that are rendered.
const ROWS: usize = 1000;

thread_local!(static PLACE: Model = Model::copy());

fuzz_target!(init: keep(), |data: &[u8]| PLACE.with(|place| {
    let path = place.put("rows.jsonl", data);
    let Ok(task) = Task::open(&path.display().to_string(), None) else { return };
    if let Ok(rendered) = task.render(Some(ROWS)) {
        task.digest(&rendered.items);
    }
}));
