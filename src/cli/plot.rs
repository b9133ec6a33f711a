//! `criadero plot`: the pictures and the page of a finished run.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use criadero::output::{self, Output};
use criadero::report::hypervolume::Run;
use criadero::report::quantized::pictures;
use criadero::report::{Album, Answering, Picture, html, table::Table};
use criadero::run::{Evaluations, Front, QuantizedFront, RunSettings};
use serde_json::json;

/// What every page of a run has in it.
const OURS: &str = "criadero";

/// Draw a run's front, heat map, probabilities and hypervolume, and write its page
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  criadero plot results/mine\n  \
                  criadero plot results/mine results/other --out results/both")]
pub struct Plot {
    /// Results directory of the run; further ones add their curves to the hypervolume. Or one that `quantize` wrote
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Where to write plots/ and report.html [default: the first RUN]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Replace a report.html that is there and is none of a run
    #[arg(long)]
    force: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Plot {
    /// Reads the runs, draws, writes, and lists what was written.
    pub fn run(self) -> anyhow::Result<()> {
        let (first, others) = self.runs.split_first().context("no RUN was given")?;
        if first.join("quantized.json").is_file() {
            let written = write_pictures(&QuantizedFront::read(first)?, self.out.as_deref().unwrap_or(first))?;
            match self.json {
                true => println!("{:#}", json!({ "written": written })),
                false => written.iter().for_each(|path| println!("{}", path.display())),
            }
            return Ok(());
        }
        let settings = self.runs.iter().map(|run| RunSettings::read(run)).collect::<Result<Vec<_>, _>>()?;
        let mocks: Vec<bool> = settings.iter().map(|run| run.as_ref().is_some_and(RunSettings::is_mock)).collect();
        if let Some(other) = mocks.iter().position(|mock| *mock != mocks[0]) {
            let [mock, real] = if mocks[0] { [0, other] } else { [other, 0] }.map(|place| self.runs[place].display());
            bail!("{mock} has mock scores, {real} has a model's; they do not belong into one picture");
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
        for page in &album.pages {
            written.extend(write_picture(&out.join("plots"), &page.stem, &page.picture)?);
        }
        let page = page_of(first, &front, &album, None)?;
        let html = out.join("report.html");
        let read = self.runs.iter().map(|run| run.join("run.json"));
        let output = Output::of("plot").reading_all(read).forced(self.force);
        let mut file = output.file(&html, &|path| fs::read_to_string(path).is_ok_and(|page| page.contains(OURS)))?;
        file.write(page.as_bytes())?;
        file.publish()?;
        written.push(html);

        if self.json {
            println!("{:#}", json!({ "front": front, "written": written }));
            return Ok(());
        }
        print!("{}", Table::new(&front).text());
        println!();
        for path in written {
            println!("{}", path.display());
        }
        Ok(())
    }
}

/// The page of one run, before a server where there is one.
pub fn report_of(run: &Path, front: &Front, answering: Option<&Answering>) -> criadero::Result<String> {
    let evaluations = Evaluations::read_csv(&run.join("evaluations.csv"))?;
    let album = Album::new(front, Run { name: &name(run), evaluations: &evaluations }, &[])?;
    page_of(run, front, &album, answering)
}

fn page_of(run: &Path, front: &Front, album: &Album, answering: Option<&Answering>) -> criadero::Result<String> {
    let settings = fs::read_to_string(run.join("run.json")).ok();
    let command = RunSettings::read(run)?.and_then(|settings| settings.command_line());
    let texts = [command.as_deref(), settings.as_deref()];
    Ok(html::page(front, album, &run.display().to_string(), texts, answering))
}

/// Writes a picture in both of its forms; returns the files.
pub fn write_picture(dir: &Path, stem: &str, picture: &Picture) -> anyhow::Result<[PathBuf; 2]> {
    let [svg, png] = ["svg", "png"].map(|ending| dir.join(format!("{stem}.{ending}")));
    output::write(&svg, picture.svg.as_bytes())?;
    output::write(&png, &picture.png)?;
    Ok([svg, png])
}

/// Writes the pictures of a quantized front; returns their files.
pub fn write_pictures(front: &QuantizedFront, out: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut written = Vec::new();
    for (stem, picture) in pictures(front)? {
        written.extend(write_picture(out, &stem, &picture)?);
    }
    Ok(written)
}

/// What a legend calls a run: its directory's name.
fn name(run: &Path) -> String {
    let run = fs::canonicalize(run).unwrap_or_else(|_| run.to_path_buf());
    run.file_name().map_or_else(|| run.display().to_string(), |name| name.to_string_lossy().into_owned())
}
