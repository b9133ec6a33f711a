//! Lines over the socket: a letter that says what, and JSON.

use std::io::{self, BufRead, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use rustix::net::{SendFlags, send};
use serde::Serialize;

/// What begins a line.
pub(super) const SETUP: u8 = b's';
pub(super) const QUESTION: u8 = b'q';
pub(super) const ANSWER: u8 = b'a';
pub(super) const ERROR: u8 = b'e';
/// The last line: how the work ended.
pub(super) const END: u8 = b'!';

/// The longest line.
pub(super) const MAX_LINE: u64 = 2 << 30;

/// A socket to write to: one that the other side has closed is an error and no signal.
pub(super) struct Socket(pub(super) UnixStream);

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(send(self.0.as_fd(), bytes, SendFlags::NOSIGNAL)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes one line.
pub(super) fn write_line(to: &mut impl Write, letter: u8, value: &impl Serialize) -> io::Result<()> {
    to.write_all(&[letter])?;
    serde_json::to_writer(&mut *to, value)?;
    to.write_all(b"\n")
}

/// Reads one line without its end into `line`; false where there are no more. Empty lines are none.
pub(super) fn read_line(from: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    loop {
        line.clear();
        let read = from.by_ref().take(MAX_LINE).read_until(b'\n', line)?;
        if line.last() == Some(&b'\n') {
            line.pop();
        } else if read as u64 == MAX_LINE {
            return Err(io::Error::other(format!("more than {MAX_LINE} bytes at once")));
        }
        match (read, line.is_empty()) {
            (0, _) => return Ok(false),
            (_, true) => {}
            _ => return Ok(true),
        }
    }
}
