//! The command line: one file a subcommand, the only place with clap, anyhow and printing.

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use criadero::run::cores;
use criadero::versions::versions;

use phase::Phase;

/// As the standard ones, where an output that takes no more is an error and no panic.
macro_rules! println {
    () => { $crate::cli::said::out(format_args!("\n")) };
    ($($text:tt)*) => { $crate::cli::said::out(format_args!("{}\n", format_args!($($text)*))) };
}
macro_rules! print {
    ($($text:tt)*) => { $crate::cli::said::out(format_args!($($text)*)) };
}
/// What is no result and no error.
macro_rules! eprintln {
    ($($text:tt)*) => { $crate::cli::said::beside(format_args!($($text)*)) };
}
/// What only `--verbose` says; nothing is looked up for it otherwise.
macro_rules! detail {
    ($($text:tt)*) => {
        if $crate::cli::verbosity::Verbosity::is_verbose() {
            $crate::cli::said::detail(format_args!($($text)*))
        }
    };
}

mod arguments;
mod calibration;
mod cascade;
mod completions;
mod distill;
mod eval;
mod export;
mod fault;
mod fetch;
mod generate;
mod gpu_check;
mod inspect;
mod interrupt;
mod measure;
mod merge;
mod model;
mod nats;
mod next;
mod pace;
mod phase;
mod picked;
mod plan;
mod plot;
mod progress;
mod quantize;
mod rank;
mod route;
mod router;
pub mod said;
mod search;
mod seconds;
mod serve;
mod show;
mod shrink;
mod space;
mod synthesize;
mod tasks;
mod train;
mod training_text;
mod tune;
mod verbosity;
mod worker;
mod workers;

pub use interrupt::handle_signals;

/// Breed small LLaMAs from a large one: rank, tune, search, plot, export.
#[derive(Parser)]
#[command(name = "criadero", version, about)]
pub struct Cli {
    #[command(flatten)]
    verbosity: verbosity::VerbosityArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Shrink(shrink::Shrink),
    Space(space::Space),
    Tasks(tasks::Tasks),
    Inspect(inspect::Inspect),
    Plan(plan::Plan),
    Rank(rank::Rank),
    Tune(tune::Tune),
    Route(route::Route),
    Eval(eval::Eval),
    Measure(measure::Measure),
    Search(Box<search::Search>),
    Worker(worker::Worker),
    Workers(workers::Workers),
    Cascade(cascade::Cascade),
    Show(show::Show),
    Plot(plot::Plot),
    Quantize(quantize::Quantize),
    Distill(distill::Distill),
    Merge(merge::Merge),
    Export(export::Export),
    Generate(generate::Generate),
    Serve(serve::Serve),
    Synthesize(synthesize::Synthesize),
    Fetch(fetch::Fetch),
    GpuCheck(gpu_check::GpuCheck),
    Completions(completions::Completions),
}

impl Cli {
    /// Runs the subcommand.
    ///
    /// # Errors
    /// Whatever it could not do, panics included.
    pub fn run(self) -> anyhow::Result<()> {
        if let Err(words) = self.verbosity.set() {
            Cli::command().error(ErrorKind::ArgumentConflict, words).exit();
        }
        fault::guarded(|| {
            let versions = versions().into_iter().map(|(name, version)| format!("{name} {version}"));
            detail!("{}, {} cores", versions.collect::<Vec<_>>().join(", "), cores());
            let _all = Phase::begin("all");
            self.command.run()
        })
    }
}

impl Command {
    fn run(self) -> anyhow::Result<()> {
        match self {
            Command::Shrink(shrink) => shrink.run(),
            Command::Export(export) => export.run(),
            Command::Generate(generate) => generate.run(),
            Command::Serve(serve) => serve.run(),
            Command::Synthesize(synthesize) => synthesize.run(),
            Command::Fetch(fetch) => fetch.run(),
            Command::GpuCheck(check) => check.run(),
            Command::Completions(completions) => completions.run(),
            Command::Space(space) => space.run(),
            Command::Tasks(tasks) => tasks.run(),
            Command::Inspect(inspect) => inspect.run(),
            Command::Plan(plan) => plan.run(),
            Command::Rank(rank) => rank.run(),
            Command::Tune(tune) => tune.run(),
            Command::Route(route) => route.run(),
            Command::Quantize(quantize) => quantize.run(),
            Command::Distill(distill) => distill.run(),
            Command::Merge(merge) => merge.run(),
            Command::Eval(eval) => eval.run(),
            Command::Measure(measure) => measure.run(),
            Command::Search(search) => search.run(),
            Command::Worker(worker) => worker.run(),
            Command::Workers(workers) => workers.run(),
            Command::Cascade(cascade) => cascade.run(),
            Command::Show(show) => show.run(),
            Command::Plot(plot) => plot.run(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;

    /// Commands whose arguments say all.
    const OBVIOUS: [&str; 3] = ["merge", "synthesize", "gpu-check"];

    /// All pages of a folder and of those in it.
    fn pages_of(folder: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let pages = entries.flat_map(|path| if path.is_dir() { pages_of(&path) } else { vec![path] });
        pages.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
    }

    /// The commands of a page: lines of its `sh` blocks, and what its tables say in code.
    fn commands(text: &str) -> Vec<String> {
        let blocks = text.split("```").skip(1).step_by(2).filter_map(|block| block.strip_prefix("sh\n"));
        let lines: Vec<String> =
            blocks.flat_map(|block| block.replace("\\\n", " ").lines().map(String::from).collect::<Vec<_>>()).collect();
        let lines = lines.iter().filter_map(|line| {
            let (before, _) = line.split_once("criadero ")?;
            (before.is_empty() || before.contains('=')).then(|| line[before.len()..].to_string())
        });
        let rows = text.lines().filter(|line| line.starts_with('|'));
        let spans = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
        let spans = spans.filter(|span| span.starts_with("criadero ") && span.contains(" --")).map(String::from);
        lines.chain(spans).collect()
    }

    /// The words of a line as a shell reads them, up to a comment, a redirection or what lets it run beside.
    pub(super) fn words(line: &str) -> Vec<String> {
        let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None::<char>);
        let mut rest = line.chars();
        while let Some(c) = rest.next() {
            match (quote, c) {
                (None, '\\') => word.get_or_insert_default().extend(rest.next()),
                (Some(end), _) if c == end => quote = None,
                (None, '"' | '\'') => {
                    quote = Some(c);
                    word.get_or_insert_default();
                }
                (None, '#' | '>' | '&') if word.is_none() => break,
                (None, ' ') => words.extend(word.take()),
                _ => word.get_or_insert_default().push(c),
            }
        }
        words.extend(word);
        words
    }

    #[test]
    fn words_are_a_shells() {
        let line = "criadero  export 'a b#knee' --pick \"params<=1M\" r#1 > out.txt # it's a comment";
        assert_eq!(words(line), ["criadero", "export", "a b#knee", "--pick", "params<=1M", "r#1"]);
        assert_eq!(words("'it'\\''s' a\\ b"), ["it's", "a b"]);
    }

    #[test]
    fn every_example_of_a_help_parses_and_commands_that_take_much_have_some() {
        let mut parsed = 0;
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let lines = help.replace("\\\n", " ");
            let lines: Vec<&str> = lines.lines().filter(|line| line.starts_with("  criadero ")).collect();
            let required = command.get_arguments().filter(|argument| argument.is_required_set()).count();
            assert!(
                required < 2 || !lines.is_empty() || OBVIOUS.contains(&command.get_name()),
                "{}",
                command.get_name()
            );
            for line in lines {
                let read = words(line.trim_start());
                assert_eq!(read[1], command.get_name(), "{line}");
                assert!(Cli::try_parse_from(&read).is_ok(), "{line}");
                parsed += 1;
            }
        }
        assert!(parsed > 25, "only {parsed} examples were found");
    }

    #[test]
    fn every_command_of_the_documents_parses() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let first = ["README.md", "ARCHITECTURE.md"].map(|name| root.join(name));
        let (mut parsed, mut refused) = (0, Vec::new());
        for page in first.into_iter().chain(pages_of(&root.join("docs"))) {
            for line in commands(&fs::read_to_string(&page).unwrap()) {
                match Cli::try_parse_from(words(&line)) {
                    // Not so what `--version` and `--help` end with.
                    Err(error) if error.use_stderr() => refused.push(format!("{}: {line}\n{error}", page.display())),
                    _ => parsed += 1,
                }
            }
        }
        assert!(refused.is_empty(), "{}", refused.join("\n"));
        assert!(parsed > 40, "only {parsed} commands were found");
    }
}
