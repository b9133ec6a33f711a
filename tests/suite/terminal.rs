//! A terminal of 24 lines and 80 columns, as a program sees one, and what stands on it.

use std::fs::File;
use std::io::Read;
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::{Command, ExitStatus, Stdio};

/// What a command wrote to its terminal, as it came.
pub struct Written {
    pub status: ExitStatus,
    pub text: String,
}

/// Runs a command with a terminal for both of its outputs.
pub fn on_a_terminal(mut command: Command) -> Written {
    let size = libc::winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    let (mut ours, mut theirs) = (0, 0);
    // SAFETY: both are places for a number, the others are as the manual has them; the numbers are this process's own then.
    let [mut ours, theirs] = unsafe {
        let opened = libc::openpty(
            &mut ours,
            &mut theirs,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            &size as *const _ as *mut _,
        );
        assert_eq!(opened, 0, "no terminal");
        [File::from_raw_fd(ours), File::from_raw_fd(theirs)]
    };
    let end = |file: &File| Stdio::from(OwnedFd::from(file.try_clone().unwrap()));
    command.env("TERM", "xterm").stdin(Stdio::null()).stdout(end(&theirs)).stderr(end(&theirs));
    let mut child = command.spawn().unwrap();
    // What is spawned keeps copies of both ends.
    drop((command, theirs));
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // Where all other ends are closed, reading is an error.
        let _ = ours.read_to_end(&mut bytes);
        bytes
    });
    let status = child.wait().unwrap();
    Written { status, text: String::from_utf8(reader.join().unwrap()).unwrap() }
}

/// What a terminal of any height shows once it was written all of this, line by line.
pub fn screen(text: &str) -> Vec<String> {
    let (mut lines, mut row, mut column) = (vec![Vec::new()], 0_usize, 0);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\r' => column = 0,
            '\n' => row += 1,
            '\u{1b}' => {
                let sequence: String = std::iter::from_fn(|| rest.next_if(|c| !c.is_ascii_alphabetic())).collect();
                let count = sequence.trim_start_matches('[').parse().unwrap_or(1);
                match rest.next() {
                    Some('A') => row = row.saturating_sub(count),
                    Some('B') => row += count,
                    Some('K') => lines[row].clear(),
                    _ => {}
                }
            }
            _ => {
                let line: &mut Vec<char> = &mut lines[row];
                line.resize(line.len().max(column + 1), ' ');
                line[column] = c;
                column += 1;
            }
        }
        if lines.len() <= row {
            lines.resize(row + 1, Vec::new());
        }
    }
    lines.into_iter().map(|line| line.into_iter().collect::<String>().trim_end().to_string()).collect()
}
