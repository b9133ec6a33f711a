//! Work on what strangers made, in a process of its own: under limits of memory and time, and whatever it dies of is an error here.
//!
//! Decoders of tables, template engines and tokenizers can be made to abort, to overflow the stack or to ask for any amount of memory by
//! files of a few hundred bytes, and no caller inside the same process can stop them. So `main` calls [`keep`] before anything else: it
//! forks a *keeper*, a process of one thread that waits. For each [`Sandbox`] the keeper forks once more, and the new process does the
//! [`Work`]. As all are forks of one program, a piece of work is named by the address of its function. Setup, questions and answers are
//! lines of JSON over a socket. A program that does not call [`keep`], such as a test, does the work in a thread, by the same
//! lines, without the limits. This is Chromium's and Android's zygote.

mod end;
mod inside;
mod keeper;
mod limits;
mod open;
mod wire;

pub use inside::{Inside, Work};
pub use keeper::keep;
pub use limits::Limits;
pub use open::{Sandbox, Subject};
