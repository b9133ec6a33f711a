//! The side that asks.

use std::io::{BufReader, Write};
use std::marker::PhantomData;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::end::End;
use super::inside::{Host, Work, enter};
use super::keeper;
use super::wire::{ANSWER, END, ERROR, QUESTION, SETUP, Socket, read_line, write_line};
use crate::error::{Error, Result};
use crate::last_words::last_words;

/// What the work is about, for messages.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The file or directory.
    pub path: PathBuf,
    /// What it should be.
    pub format: &'static str,
}

impl Subject {
    /// The file at `path`, which should be `format`.
    pub fn new(path: impl AsRef<Path>, format: &'static str) -> Subject {
        Subject { path: path.as_ref().to_path_buf(), format }
    }

    fn error(&self, reason: impl Into<String>) -> Error {
        Error::format(&self.path, self.format, reason)
    }
}

/// A piece of work that is done apart. As an iterator it gives the answers as they come; dropped, it ends the work.
pub struct Sandbox<W: Work> {
    subject: Subject,
    socket: Socket,
    lines: BufReader<UnixStream>,
    line: Vec<u8>,
    ended: bool,
    work: PhantomData<W>,
}

impl<W: Work> Sandbox<W> {
    /// Begins the work.
    ///
    /// # Errors
    /// When the system gives no socket.
    pub fn open(subject: Subject, setup: &W::Setup) -> Result<Sandbox<W>> {
        let wrong = |cause| Error::io("a sandbox")(cause);
        let (socket, theirs) = UnixStream::pair().map_err(wrong)?;
        if let Some(theirs) = keeper::begin(enter::<W>, theirs) {
            std::thread::spawn(move || in_thread::<W>(theirs));
        }
        let lines = BufReader::with_capacity(1 << 16, socket.try_clone().map_err(wrong)?);
        let mut sandbox =
            Sandbox { subject, socket: Socket(socket), lines, line: Vec::new(), ended: false, work: PhantomData };
        sandbox.say(SETUP, setup)?;
        Ok(sandbox)
    }

    /// Begins work that gives one answer, and gives it.
    ///
    /// # Errors
    /// What the work could not do, or what it died of.
    pub fn once(subject: Subject, setup: &W::Setup) -> Result<W::Answer> {
        Sandbox::<W>::open(subject, setup)?.answer()
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// As [`Sandbox::once`].
    pub fn ask(&mut self, question: &W::Question) -> Result<W::Answer> {
        self.say(QUESTION, question)?;
        self.answer()
    }

    fn answer(&mut self) -> Result<W::Answer> {
        self.next().unwrap_or_else(|| Err(self.subject.error("what reads it has ended without an answer")))
    }

    fn say(&mut self, letter: u8, value: &impl serde::Serialize) -> Result<()> {
        let mut line = Vec::new();
        write_line(&mut line, letter, value).map_err(|error| self.subject.error(error.to_string()))?;
        // Whoever does not listen any more says why in its last line.
        let _ = self.socket.write_all(&line);
        Ok(())
    }

    /// The next line that is whole, or how the work ended.
    fn read(&mut self) -> Result<Option<W::Answer>> {
        let more = read_line(&mut self.lines, &mut self.line).map_err(|error| self.subject.error(error.to_string()))?;
        let lost = || self.subject.error("what reads it was ended");
        let (letter, json) = self.line.split_first().filter(|_| more).ok_or_else(lost)?;
        let torn = match *letter {
            ANSWER => match serde_json::from_slice(json) {
                Ok(answer) => return Ok(Some(answer)),
                Err(_) => true,
            },
            ERROR => match serde_json::from_slice::<Error>(json) {
                Ok(error) => return Err(error),
                Err(_) => true,
            },
            END => false,
            _ => true,
        };
        // What stands before the last line was cut where the work died.
        if torn {
            let more = read_line(&mut self.lines, &mut self.line);
            more.ok().filter(|&more| more).ok_or_else(lost)?;
        }
        let end: End =
            self.line.strip_prefix(&[END]).and_then(|json| serde_json::from_slice(json).ok()).ok_or_else(lost)?;
        match end.reason(W::LIMITS) {
            Some(reason) => Err(self.subject.error(reason)),
            None => Ok(None),
        }
    }
}

impl<W: Work> Iterator for Sandbox<W> {
    type Item = Result<W::Answer>;

    fn next(&mut self) -> Option<Result<W::Answer>> {
        if self.ended {
            return None;
        }
        let answer = self.read().transpose();
        self.ended = !matches!(answer, Some(Ok(_)));
        answer
    }
}

/// The work without a keeper.
fn in_thread<W: Work>(socket: UnixStream) {
    let Ok(mut last) = socket.try_clone().map(Socket) else { return };
    let work = std::panic::AssertUnwindSafe(|| enter::<W>(socket, Host::Thread));
    let end = match std::panic::catch_unwind(work) {
        Ok(_) => End::well(),
        Err(panic) => End::panicked(last_words(&*panic).unwrap_or_default().to_string()),
    };
    // Nobody may be listening.
    let _ = last.write_all(b"\n").and_then(|()| write_line(&mut last, END, &end));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::{Inside, Limits};

    /// Counts from its setup, says a word of each question, and panics at 3.
    struct Counting;

    impl Work for Counting {
        type Setup = usize;
        type Question = String;
        type Answer = String;
        const LIMITS: Limits = Limits::TEXT;

        fn work(start: usize, inside: &mut Inside<Self>) -> Result<()> {
            let mut count = start;
            while let Some(question) = inside.question()? {
                assert!(count < 3, "three is too many");
                if question.is_empty() {
                    return Err(Error::invalid("the question", "nothing", "a word"));
                }
                inside.answer(&format!("{count} {question}"))?;
                count += 1;
            }
            Ok(())
        }
    }

    fn counting(start: usize) -> Sandbox<Counting> {
        Sandbox::open(Subject::new("a.txt", "count"), &start).unwrap()
    }

    #[test]
    fn questions_are_answered_until_one_cannot_be() {
        let mut sandbox = counting(1);
        assert_eq!(sandbox.ask(&"é\n".to_string()).unwrap(), "1 é\n");
        assert_eq!(sandbox.ask(&"b".to_string()).unwrap(), "2 b");
        let error = sandbox.ask(&"c".to_string()).unwrap_err().to_string();
        assert_eq!(error, "a.txt: not a valid count file: it is damaged: three is too many");
        let error = sandbox.ask(&"d".to_string()).unwrap_err().to_string();
        assert!(error.ends_with("has ended without an answer"), "{error}");
        let error = counting(0).ask(&String::new()).unwrap_err().to_string();
        assert_eq!(error, "the question: found nothing, expected a word");
    }
}
