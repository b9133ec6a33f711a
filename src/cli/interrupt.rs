//! Ctrl-C and SIGTERM: what is being written is taken away, and the process ends; where work can stop so that nothing is lost, the
//! first one asks for that.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use criadero::output;

/// Where work can be asked to stop: the flag, and what is said then.
static ASKED: OnceLock<(Arc<AtomicBool>, &'static str)> = OnceLock::new();

/// Handles both signals, and a closed terminal unless that is ignored, as under nohup.
pub fn handle_signals() {
    // SAFETY: asks for what the process began with, and puts it back; nothing else handles signals.
    let hang_up = unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
    let handled = ctrlc::set_handler(|| match ASKED.get() {
        Some((flag, words)) if !flag.swap(true, Ordering::Relaxed) => eprintln!("{words}"),
        _ => {
            output::abandon_all();
            end();
        }
    });
    // Without a handler the signals end the process as they always do, and the next one sweeps.
    if handled.is_err() || hang_up == libc::SIG_IGN {
        // SAFETY: as above.
        unsafe { libc::signal(libc::SIGHUP, hang_up) };
    }
}

/// The first signal sets the flag, a second one ends the process at once.
pub fn stop_on_ctrl_c(words: &'static str) -> Arc<AtomicBool> {
    ASKED.get_or_init(|| (Arc::default(), words)).0.clone()
}

/// Ends the process as the signal would have done, so that shells and scripts see that it was one.
fn end() -> ! {
    // SAFETY: no code of this process runs afterwards.
    unsafe {
        libc::signal(libc::SIGINT, libc::SIG_DFL);
        libc::raise(libc::SIGINT);
        libc::_exit(130)
    }
}
