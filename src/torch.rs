//! What libtorch complains of, as our own error.

use tch::TchError;

use crate::error::Error;

impl From<TchError> for Error {
    fn from(error: TchError) -> Error {
        Error::Torch(error.to_string())
    }
}
