//! The `criadero` binary: parse, run, print the error, exit code (0 done, 1 failed, 2 wrong usage).

use std::process::ExitCode;

use clap::Parser;

mod cli;

/// What libtorch asks for.
const NO_CUDNN_ATTENTION: &str = "TORCH_CUDNN_SDPA_DEPRIORITIZED";

fn main() -> ExitCode {
    // On new cards libtorch prefers cuDNN's attention, which plans anew for every shape: ours are as many as there are blocks.
    if std::env::var_os(NO_CUDNN_ATTENTION).is_none() {
        // SAFETY: nothing else runs yet.
        unsafe { std::env::set_var(NO_CUDNN_ATTENTION, "1") };
    }
    // Whoever reads the output may have enough of it, as `head` does; Rust ignores the signal and panics at the next line.
    // SAFETY: restores what every process begins with.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    let cli = cli::Cli::parse();
    criadero::sandbox::keep();
    cli::handle_signals();
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            cli::said::err(format_args!("error: {error:#}"));
            ExitCode::from(1)
        }
    }
}
