//! The side that does the work.

use std::io::{self, BufReader, BufWriter, Write};
use std::marker::PhantomData;
use std::os::unix::net::UnixStream;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::limits::Limits;
use super::wire::{ANSWER, ERROR, QUESTION, SETUP, Socket, read_line, write_line};
use crate::error::{Error, Result};

/// A kind of work that is done apart.
pub trait Work: Sized + 'static {
    /// What it begins with.
    type Setup: Serialize + DeserializeOwned;
    /// What it is asked; `()` where it only answers.
    type Question: Serialize + DeserializeOwned;
    /// What it answers.
    type Answer: Serialize + DeserializeOwned;
    /// What an answer may take.
    const LIMITS: Limits;

    /// Does it, answer by answer.
    ///
    /// # Errors
    /// Whatever cannot be done, in the words that the caller will have.
    fn work(setup: Self::Setup, inside: &mut Inside<Self>) -> Result<()>;
}

/// What the work is asked, and where its answers go.
pub struct Inside<W> {
    questions: BufReader<UnixStream>,
    answers: BufWriter<Socket>,
    line: Vec<u8>,
    host: Host,
    work: PhantomData<W>,
}

/// Where work is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Host {
    /// In a process of its own, under the work's limits.
    Process,
    /// In a thread of a process that others share, without limits.
    Thread,
}

impl<W: Work> Inside<W> {
    /// The next question, or none where nobody will ask.
    pub fn question(&mut self) -> Result<Option<W::Question>> {
        self.answers.flush().map_err(closed)?;
        self.renew_time();
        self.read(QUESTION)
    }

    /// Gives an answer.
    ///
    /// # Errors
    /// When nobody wants it any more.
    pub fn answer(&mut self, answer: &W::Answer) -> Result<()> {
        let buffered = self.answers.buffer().len();
        write_line(&mut self.answers, ANSWER, answer).map_err(closed)?;
        if self.answers.buffer().len() < buffered {
            self.renew_time();
        }
        Ok(())
    }

    fn renew_time(&self) {
        if self.host == Host::Process {
            W::LIMITS.renew_time();
        }
    }

    fn read<T: DeserializeOwned>(&mut self, letter: u8) -> Result<Option<T>> {
        if !read_line(&mut self.questions, &mut self.line).map_err(closed)? {
            return Ok(None);
        }
        let json = self.line.strip_prefix(&[letter]).unwrap_or_default();
        serde_json::from_slice(json).map(Some).map_err(|error| closed(error.into()))
    }
}

fn closed(cause: io::Error) -> Error {
    Error::io("the other side of a sandbox")(cause)
}

/// Does the work of kind `W` over `socket`. Its error goes there too.
///
/// # Errors
/// When the limits cannot be set, or nobody listens.
pub(super) fn enter<W: Work>(socket: UnixStream, host: Host) -> io::Result<()> {
    if host == Host::Process {
        W::LIMITS.bind()?;
    }
    let mut inside = Inside::<W> {
        questions: BufReader::new(socket.try_clone()?),
        answers: BufWriter::with_capacity(1 << 16, Socket(socket)),
        line: Vec::new(),
        host,
        work: PhantomData,
    };
    let done = match inside.read(SETUP) {
        Ok(Some(setup)) => W::work(setup, &mut inside),
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = done {
        write_line(&mut inside.answers, ERROR, &error)?;
    }
    inside.answers.flush()
}
