//! The binary, as users run it.

use std::process::Command;

/// The binary with these arguments. A search is in float32 unless they say otherwise: what `auto` takes depends on the machine.
pub fn criadero(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_criadero"));
    command.args(arguments);
    if let [subcommand, _, ..] = arguments
        && *subcommand == "search"
        && !arguments.contains(&"--arithmetic")
    {
        command.args(["--arithmetic", "f32"]);
    }
    command
}

/// What it printed; it must succeed.
pub fn succeed(command: Command) -> String {
    said(command).0
}

/// What it printed, and what it said beside that; it must succeed.
pub fn said(mut command: Command) -> (String, String) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

/// What it complained of; it must fail as a program fails, not as one that was used wrongly.
pub fn fail(command: Command) -> String {
    fail_with(command, 1)
}

/// What it complained of; it must end with this exit code.
pub fn fail_with(mut command: Command, code: i32) -> String {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{command:?}: {stderr}");
    assert!(stderr.contains("error: "), "{stderr}");
    stderr
}
