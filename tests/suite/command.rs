//! The binary, as users run it.

use std::process::Command;

/// The binary with these arguments. Unless they say otherwise a ranking and a search are in float32, since what they take by themselves
/// depends on the machine, and a search is NSGA-II's: LINAS breeds thousands of networks between populations, which takes a while without
/// optimisation.
pub fn criadero(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_criadero"));
    let given = |flag: &str| arguments.contains(&flag);
    match arguments {
        ["search", _, ..] => {
            command.args(arguments);
            command.args(["--arithmetic", "f32"].iter().filter(|_| !given("--arithmetic")));
            command.args(["--algorithm", "nsga2"].iter().filter(|_| !given("--algorithm")));
        }
        // In front, since some tests end with a flag whose value follows.
        ["rank", others @ ..] if !given("--arithmetic") && !given("--device") => {
            command.args(["rank", "--arithmetic", "f32"]).args(others);
        }
        _ => _ = command.args(arguments),
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
