//! How a piece of work ended.

use serde::{Deserialize, Serialize};

use super::limits::Limits;

/// How the process or thread that did the work ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct End {
    /// Its exit status, where it had one.
    pub(super) code: Option<i32>,
    /// The signal that ended it.
    pub(super) signal: Option<i32>,
    /// What it wrote as its last words.
    pub(super) words: String,
}

impl End {
    /// Of a thread that returned.
    pub(super) fn well() -> End {
        End { code: Some(0), ..End::default() }
    }

    /// Of one that panicked, or is said to have.
    pub(super) fn panicked(words: String) -> End {
        End { code: Some(101), signal: None, words }
    }

    /// Why there is no answer; nothing where the work was done.
    pub(super) fn reason(&self, limits: Limits) -> Option<String> {
        if self.code == Some(0) {
            return None;
        }
        let gigabytes = limits.memory as f64 / f64::from(1 << 30);
        let said = |part: &str| self.words.contains(part);
        Some(if said("memory allocation of") || said("bad_alloc") || said("capacity overflow") {
            format!("it takes more than {gigabytes} GiB of memory to read")
        } else if said("overflowed its stack") {
            "it is nested too deeply to be read".to_string()
        } else if self.signal == Some(libc::SIGXCPU) {
            format!("it takes more than {} s of processor time to read", limits.seconds)
        } else if self.code == Some(101) {
            format!("it is damaged: {}", last_words(&self.words))
        } else {
            let signal = self.signal.map_or("an exit".to_string(), |signal| format!("signal {signal}"));
            format!("what reads it was ended by {signal}; {gigabytes} GiB of memory are the most it may take")
        })
    }
}

/// The message of a panic, in one line.
fn last_words(words: &str) -> String {
    let words = words.split("stack backtrace:").next().unwrap_or_default();
    let message = words.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("note: "));
    let lines: Vec<&str> = message.filter(|line| !line.contains("panicked at")).collect();
    let text: String = lines.join(" ").chars().take(300).collect();
    if text.is_empty() { "its reader failed".to_string() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_told_as_reasons() {
        let reason = |code, signal, words: &str| End { code, signal, words: words.into() }.reason(Limits::DATA);
        assert_eq!(reason(Some(0), None, "anything"), None);
        let words = "memory allocation of 17179869176 bytes failed\n";
        assert_eq!(reason(None, Some(6), words).unwrap(), "it takes more than 4 GiB of memory to read");
        let words = "\nthread 'main' (7) has overflowed its stack\nfatal runtime error: stack overflow, aborting\n";
        assert_eq!(reason(None, Some(6), words).unwrap(), "it is nested too deeply to be read");
        assert_eq!(reason(None, Some(24), "").unwrap(), "it takes more than 600 s of processor time to read");
        let words = "thread 'main' (7) panicked at a.rs:1:2:\nindex out of bounds\nnote: run with `RUST_BACKTRACE=1`\n";
        assert_eq!(reason(Some(101), None, words).unwrap(), "it is damaged: index out of bounds");
        assert!(reason(None, Some(9), "").unwrap().starts_with("what reads it was ended by signal 9; 4 GiB"));
    }
}
