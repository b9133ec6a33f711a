//! `criadero completions`: what a shell needs to complete commands, and the manual's pages.

use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use clap_complete::Shell;
use criadero::output::Output;

use super::Cli;

/// Print what a shell needs to complete commands and flags, or write man pages
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  criadero completions bash > ~/.local/share/bash-completion/completions/criadero\n  \
                        criadero completions --man ~/.local/share/man/man1"
)]
pub struct Completions {
    /// The shell
    #[arg(required_unless_present = "man")]
    shell: Option<Shell>,
    /// Write one page a subcommand into this directory instead
    #[arg(long, value_name = "DIR", conflicts_with = "shell")]
    man: Option<PathBuf>,
}

impl Completions {
    /// Prints the script, or writes the pages.
    ///
    /// # Errors
    /// `Io`.
    pub fn run(self) -> anyhow::Result<()> {
        let mut command = Cli::command();
        let name = command.get_name().to_string();
        if let Some(shell) = self.shell {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command, name.clone(), &mut script);
            print!("{}", String::from_utf8_lossy(&script));
        }
        let Some(dir) = self.man else { return Ok(()) };
        command.build();
        let output = Output::of("completions");
        let subcommands = command.get_subcommands().filter(|subcommand| subcommand.get_name() != "help");
        let pages: Vec<_> = std::iter::once(&command).chain(subcommands).cloned().collect();
        for page in pages {
            let page_name = page.get_display_name().unwrap_or(&name).to_string();
            let mut page_text = Vec::new();
            clap_mangen::Man::new(page).render(&mut page_text)?;
            let mut file = output.file(&dir.join(format!("{page_name}.1")), &is_page)?;
            file.write(&page_text)?;
            file.publish()?;
        }
        Ok(())
    }
}

/// Whether a file is a page of this program.
fn is_page(path: &Path) -> bool {
    fs::read_to_string(path).is_ok_and(|text| text.contains("\n.TH criadero"))
}
