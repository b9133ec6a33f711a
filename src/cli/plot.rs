//! `criadero plot`: the pictures and the page of a finished run.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use criadero::atomic_file;
use criadero::report::hypervolume::Run;
use criadero::report::{Album, html, table::Table};
use criadero::search::record::{Evaluations, Front, QuantizedFront};

use super::quantize::write_pictures;

/// Draw a run's front, heat map, probabilities and hypervolume, and write its page
#[derive(clap::Args)]
pub struct Plot {
    /// Results directory of the run; further ones add their curves to the hypervolume. Or one that `quantize` wrote
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Where to write plots/ and report.html [default: the first RUN]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl Plot {
    /// Reads the runs, draws, writes, and lists what was written.
    pub fn run(self) -> anyhow::Result<()> {
        let (first, others) = self.runs.split_first().context("no RUN was given")?;
        if first.join("quantized.json").is_file() {
            let written = write_pictures(&QuantizedFront::read(first)?, self.out.as_deref().unwrap_or(first))?;
            written.iter().for_each(|path| println!("{}", path.display()));
            return Ok(());
        }
        let front = Front::read_json(&first.join("front.json"))?;
        let names: Vec<String> = self.runs.iter().map(|run| name(run)).collect();
        let read = |run: &PathBuf| Evaluations::read_csv(&run.join("evaluations.csv"));
        let evaluations = read(first)?;
        let other_evaluations = others.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let others: Vec<Run> =
            names[1..].iter().zip(&other_evaluations).map(|(name, evaluations)| Run { name, evaluations }).collect();
        let album = Album::new(&front, Run { name: &names[0], evaluations: &evaluations }, &others)?;

        let out = self.out.as_deref().unwrap_or(first);
        let mut written = Vec::new();
        let mut write = |path: PathBuf, bytes: &[u8]| -> anyhow::Result<()> {
            atomic_file::write(&path, bytes)?;
            written.push(path);
            Ok(())
        };
        for page in &album.pages {
            write(out.join("plots").join(format!("{}.svg", page.stem)), page.picture.svg.as_bytes())?;
            write(out.join("plots").join(format!("{}.png", page.stem)), &page.picture.png)?;
        }
        let settings = fs::read_to_string(first.join("run.json")).ok();
        let page = html::page(&front, &album, &first.display().to_string(), settings.as_deref());
        write(out.join("report.html"), page.as_bytes())?;

        print!("{}", Table::new(&front).text());
        println!();
        for path in written {
            println!("{}", path.display());
        }
        Ok(())
    }
}

/// What a legend calls a run: its directory's name.
fn name(run: &Path) -> String {
    let run = fs::canonicalize(run).unwrap_or_else(|_| run.to_path_buf());
    run.file_name().map_or_else(|| run.display().to_string(), |name| name.to_string_lossy().into_owned())
}
