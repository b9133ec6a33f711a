//! The binary, as users run it.

use std::process::Command;

/// The binary with these arguments.
pub fn criadero(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_criadero"));
    command.args(arguments);
    command
}

/// What it printed; it must succeed.
pub fn succeed(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What it complained of; it must fail as a program fails, not as one that was used wrongly.
pub fn fail(mut command: Command) -> String {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{command:?}: {stderr}");
    assert!(stderr.contains("error: "), "{stderr}");
    stderr
}
