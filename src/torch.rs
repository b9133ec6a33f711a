//! What libtorch complains of, as our own error.

use tch::TchError;

use crate::error::Error;

/// What stands behind the words, also as tch's panics quote them: where in its own code libtorch was.
const FRAMES: [&str; 4] = ["Exception raised from", "\nC++ CapturedTraceback", "\nframe #", "\\nframe #"];

/// Libtorch's words without the frames behind them.
pub fn words(message: &str) -> String {
    let end = FRAMES.iter().filter_map(|mark| message.find(mark)).min().unwrap_or(message.len());
    message[..end].trim().to_string()
}

impl From<TchError> for Error {
    fn from(error: TchError) -> Error {
        Error::Torch(words(&error.to_string()))
    }
}
