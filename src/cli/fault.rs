//! What ends a command that should not have: a panic, told as an error.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::{Mutex, PoisonError};

use criadero::last_words::last_words;
use criadero::torch;

use super::said::Refused;

/// The last panic's words and place.
static LAST: Mutex<Option<String>> = Mutex::new(None);

/// Runs a command. What panics on the way is no output but an error, and what is caught on the way is neither.
///
/// # Errors
/// The command's own, a standard output that takes no more, and faults of the program.
pub fn guarded(command: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    if std::env::var_os("RUST_BACKTRACE").is_none() {
        panic::set_hook(Box::new(|panic: &PanicHookInfo| {
            *LAST.lock().unwrap_or_else(PoisonError::into_inner) = Some(described(panic));
        }));
    }
    panic::catch_unwind(AssertUnwindSafe(command)).unwrap_or_else(|payload| Err(told(payload)))
}

fn told(payload: Box<dyn Any + Send>) -> anyhow::Error {
    if let Some(Refused(error)) = payload.downcast_ref::<Refused>() {
        return anyhow::anyhow!("standard output: {error}");
    }
    let last = LAST.lock().unwrap_or_else(PoisonError::into_inner).take();
    let last = last.unwrap_or_else(|| "it panicked".to_string());
    anyhow::anyhow!(
        "criadero has a fault here: {last}\n  please report it with the command and, if you can, its files; what was finished is on disk. \
         RUST_BACKTRACE=1 prints where it happened"
    )
}

/// The words of a panic, without the frames that libtorch puts behind its own, and where it was.
fn described(panic: &PanicHookInfo) -> String {
    let words = torch::words(last_words(panic.payload()).unwrap_or("it panicked"));
    let words: String = words.chars().take(500).collect();
    let place = panic.location().map_or(String::new(), |place| format!(" ({}:{})", place.file(), place.line()));
    words.trim().trim_end_matches("\\n").to_string() + &place
}
