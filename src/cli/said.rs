//! What is printed. An output that takes no more ends the command with an error; a standard error that takes no more is none. Names out
//! of strangers' files move no cursor and begin no line: control characters are written as escapes, and of what standard error gets at
//! once every line but the first is indented. How much is printed beside results and errors is the command's [`Verbosity`].

use std::borrow::Cow;
use std::fmt::Arguments;
use std::io::{self, Write};

use super::verbosity::Verbosity;

/// Why standard output takes no more: what unwinds to `main` then, so that everything on the way is put away.
pub struct Refused(pub io::Error);

/// Prints to standard output.
pub fn out(text: Arguments) {
    raw(plain(&text.to_string()).as_bytes());
}

/// Prints to standard output what a model wrote, as it is.
pub fn raw(bytes: &[u8]) {
    let mut out = io::stdout().lock();
    if let Err(error) = out.write_all(bytes).and_then(|()| out.flush()) {
        drop(out);
        std::panic::resume_unwind(Box::new(Refused(error)));
    }
}

/// Prints a line that belongs to a result: where that is one JSON object, beside it.
pub fn along(json: bool, text: Arguments) {
    if json { beside(text) } else { out(format_args!("{text}\n")) }
}

/// Prints a note, progress, or what else is no result: a line to standard error.
pub fn beside(text: Arguments) {
    if !Verbosity::is_quiet() {
        err(text);
    }
}

/// Prints what somebody who looks for a fault wants to know: a line to standard error.
pub fn detail(text: Arguments) {
    err(format_args!("detail: {text}"));
}

/// Prints a line to standard error, however little is to be said: errors.
pub fn err(text: Arguments) {
    let text = text.to_string();
    let _ = writeln!(io::stderr().lock(), "{}", indented(&plain(&text)));
}

/// Whether a character moves the cursor or turns the direction of a line.
fn moves(c: char) -> bool {
    c.is_control() && !matches!(c, '\n' | '\t') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn plain(text: &str) -> Cow<'_, str> {
    if !text.chars().any(moves) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if moves(c) { plain.extend(c.escape_default()) } else { plain.push(c) }
    }
    Cow::Owned(plain)
}

fn indented(text: &str) -> String {
    let mut lines = text.split('\n');
    let mut indented = lines.next().unwrap_or_default().to_string();
    for line in lines {
        let indent = if line.is_empty() || line.starts_with(' ') { "" } else { "  " };
        indented += &format!("\n{indent}{line}");
    }
    indented
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_strangers_move_no_cursor_and_begin_no_line() {
        assert_eq!(plain("é\t1\n"), "é\t1\n");
        assert_eq!(plain("a\u{1b}[2Jb\r\u{202e}c"), "a\\u{1b}[2Jb\\r\\u{202e}c");
        assert_eq!(indented("tensor x\nerror: forged\n  listed\n"), "tensor x\n  error: forged\n  listed\n");
    }
}
