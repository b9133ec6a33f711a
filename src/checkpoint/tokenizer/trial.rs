//! Tokenizers that strangers made, tried where they can do no harm.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use crate::checkpoint::tokenizer::TOKENIZER_FILE;
use crate::error::{Error, Result};
use crate::sandbox::{Inside, Limits, Sandbox, Subject, Work};

/// Texts that go through every step of a tokenizer.
const PROBES: [&str; 5] =
    ["", " Hello, world!  It's 12345.67\n\n\tdef f(x):", "ÀÉ naïve 你好 🙂\u{200d}", "<s>▁Ġa</s>", "\0\u{feff}"];

/// Loads a `tokenizer.json` in a [sandbox](crate::sandbox), and cuts some text with it and joins it again.
///
/// # Errors
/// `Format` for one that cannot be read, or that makes its reader panic, abort or take more than is sensible.
pub(super) fn try_tokenizer(path: &Path, json: &str) -> Result<()> {
    Sandbox::<Trial>::once(Subject::new(path, TOKENIZER_FILE), &(path.to_path_buf(), json.to_string()))
}

/// The work of trying a tokenizer.
struct Trial;

impl Work for Trial {
    type Setup = (PathBuf, String);
    type Question = ();
    type Answer = ();
    const LIMITS: Limits = Limits::TEXT;

    fn work((path, json): Self::Setup, inside: &mut Inside<Trial>) -> Result<()> {
        let wrong = |error: tokenizers::Error| Error::format(&path, TOKENIZER_FILE, error.to_string());
        let tokenizer = tokenizers::Tokenizer::from_bytes(json).map_err(wrong)?;
        for text in PROBES {
            // What it refuses of these it may refuse; a text that is scored says so then.
            if let Ok(encoded) = tokenizer.encode_fast(text, true) {
                let _ = tokenizer.decode(encoded.get_ids(), false);
            }
        }
        inside.answer(&())
    }
}

/// What a tokenizer does; where it panics, an error about `what`.
pub(super) fn caught<T>(what: &str, of: impl FnOnce() -> T) -> Result<T> {
    catch_unwind(AssertUnwindSafe(of))
        .map_err(|_| Error::invalid(what, "one that its tokenizer fails on", "another tokenizer"))
}
