//! `criadero export`: a network as files that transformers or llama.cpp load.

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::builder::{PossibleValue, PossibleValuesParser};
use criadero::Error;
use criadero::checkpoint::export::{Account, Network};
use criadero::checkpoint::{Checkpoint, Dtype, EXPORTERS, export_to, exporter_named};
use criadero::output::Output;
use criadero::report::{front_stems, standing};
use criadero::run::{Front, Pick, RunSettings, best_by_ranking, command_line, placeless};
use criadero::space::{Bits, Cost, Gene, Genome, SearchSpace};
use serde_json::json;

use super::model::{self, ends_in, note_fallback, note_quantized_twice};
use super::next::Done;
use super::phase::Phase;
use super::picked::{MovedArgs, first_task, network_of, picked};
use super::said;

/// Write a network as a checkpoint that other runtimes load.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  criadero export results/mine --pick knee --format gguf --out small.gguf\n  \
                  criadero export results/mine --pick \"params<=100M\" --format hf --out small-100m\n  \
                  criadero export SUPERNET --space SPACE.yaml --pick \"params<=100M\" --format gguf --out quick.gguf")]
pub struct Export {
    /// A finished run, or the checkpoint that the network is cut from.
    #[arg(value_name = "RUN|MODEL")]
    from: PathBuf,
    #[command(flatten)]
    moved: MovedArgs,
    /// Which network of a run's front: an id, `knee`, or the best within a limit such as "params<=100M". Of a supernet, with `--space`,
    /// the one within the limit that its ranking says is best: in seconds, and a search finds better ones.
    #[arg(long, conflicts_with = "genome")]
    pick: Option<Pick>,
    /// The space that `--pick` chooses from in a supernet, shipped or a YAML file.
    #[arg(long, requires = "pick")]
    space: Option<String>,
    /// The network itself, by default all of a model, such as `9x1536*29:6x768`; see `criadero inspect`.
    #[arg(long, allow_hyphen_values = true)]
    genome: Option<Genome>,
    /// Quantize all of its matrices: `8` (Q8_0), `4` (Q4_0), `q4_1`, ...; by default as the network says.
    #[arg(long)]
    bits: Option<Bits>,
    /// Quantize each of its layers as those of this network are, which it was recovered from: `RUN#PICK`.
    #[arg(long, value_name = "RUN#PICK", conflicts_with_all = ["bits", "pick"])]
    bits_of: Option<String>,
    /// Own sizes (hf), zero-padded to the parent's (hf-padded), or for llama.cpp (gguf).
    #[arg(long, value_name = "FORMAT", value_parser = PossibleValuesParser::new(EXPORTERS.map(|exporter| {
        let (name, about) = exporter.name();
        PossibleValue::new(name).help(about)
    })))]
    format: String,
    /// Directory to write; with gguf also a file that ends in .gguf.
    #[arg(long)]
    out: PathBuf,
    /// Replace what is there and was not written by this command.
    #[arg(long)]
    force: bool,
    /// Type of the weights: f32, f16 or bf16. By default the model's own; f32 if that is quantized; f16 with gguf.
    #[arg(long)]
    dtype: Option<Dtype>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

impl Export {
    /// Writes the network and says what was written.
    pub fn run(self) -> anyhow::Result<()> {
        let searched = self.moved.parent_of(&self.from)?;
        let run = self.from.display();
        let whole = searched.is_none();
        let parent = match searched {
            Some(parent) => parent,
            None => model::open(&self.from)?,
        };
        let genome = match (&self.pick, self.genome.clone()) {
            (Some(pick), _) if whole => self.by_ranking(&parent, pick)?,
            _ if self.space.is_some() => bail!("{run} is a run, which has its space; --space is for a supernet"),
            (Some(pick), _) => picked(&self.from, pick, self.json)?,
            (None, Some(genome)) => genome,
            (None, None) if whole => parent.config().genome.clone(),
            (None, None) => {
                bail!("say which network of {run} with --pick ID, `knee` or a limit; `criadero show {run}` lists them")
            }
        };
        let shape = parent.config().shape;
        let scored = genome.clone();
        let genome = match self.bits {
            None => genome,
            Some(bits) => {
                let genome = genome.in_bits(bits).with_ends(ends_in(&shape, bits));
                note_fallback(&shape, std::slice::from_ref(&genome), bits, bits);
                genome
            }
        };
        let genome = match &self.bits_of {
            None => genome,
            Some(other) => in_bits_of(&genome, &network_of(other)?)?,
        };
        if genome.is_quantized() {
            note_quantized_twice(&parent);
        }
        let exporter = exporter_named(&self.format)?;
        let network = Network { parent: &parent, genome: &genome, dtype: self.dtype, account: None };
        exporter.notes(network).iter().for_each(|note| eprintln!("note: {note}"));
        exporter.check(network)?;
        let output = Output::of("export").reading(&self.from).forced(self.force);
        model::lineage_of(&parent)?;
        let bits = if self.bits.is_some() { "--bits" } else { "--bits-of" };
        let changes = [(bits, genome != scored), ("--dtype", self.dtype.is_some())];
        let changes: Vec<&str> = changes.into_iter().filter_map(|(flag, changed)| changed.then_some(flag)).collect();
        let account = self.account(&scored, &changes)?;
        let network = Network { parent: &parent, genome: &genome, dtype: self.dtype, account: Some(&account) };
        let writing = Phase::begin("writing the network");
        let written = export_to(network, exporter, &self.out, &output)?;
        drop(writing);
        let params = Cost::of(&shape, &genome).params;
        let bytes = bytes_of(&written)?;
        let tensors = Checkpoint::open(&written)?.weight_bytes();
        if self.json {
            let exported = json!({
                "written": written,
                "format": self.format,
                "genome": genome,
                "params": params,
                "tensor_bytes": tensors,
                "file_bytes": bytes,
                "from": parent.path(),
            });
            println!("{exported:#}");
            return Ok(());
        }
        println!(
            "{}: {params} parameters, {tensors} bytes of tensors, {:.1} MB, from {}",
            written.display(),
            bytes as f64 / 1e6,
            parent.path().display()
        );
        Done::Exported { written: &written, task: first_task(&self.from)?.as_deref() }.say_next();
        Ok(())
    }
}

impl Export {
    /// The network of a supernet that a limit means.
    fn by_ranking(&self, supernet: &Checkpoint, pick: &Pick) -> anyhow::Result<Genome> {
        let (Some(space), Pick::Within(limit)) = (&self.space, pick) else {
            bail!(
                "{} is no run, so that `--pick {pick}` has no front to choose from; give a supernet a limit and --space, such as \
                 --pick \"params<=100M\" --space smollm2-135m, or --genome; without both all of the model is exported",
                self.from.display()
            )
        };
        let genome = best_by_ranking(supernet, SearchSpace::open(space)?, limit)?;
        said::along(self.json, format_args!("network: {genome}"));
        Ok(genome)
    }

    /// What is told of a network: the commands that made it, and of one that a run scored what it scored.
    fn account(&self, scored: &Genome, changes: &[&str]) -> anyhow::Result<Account> {
        let mut account = Account { export: Some(own_command_line()), ..Account::default() };
        let Some(run) = RunSettings::read(&self.from)?.filter(|run| !run.is_mock()) else { return Ok(account) };
        account.search = (!run.command.is_empty()).then(|| command_line(&placeless_all(&run.command)));
        let path = self.from.join("front.json");
        if !path.is_file() {
            return Ok(account);
        }
        let front = Front::read_json(&path)?;
        let Some(point) = front.points.iter().find(|point| point.genome == *scored) else { return Ok(account) };
        let stems = front_stems(&front);
        for (number, stem) in stems.iter().enumerate() {
            let picture = self.from.join("plots").join(format!("{stem}.png"));
            // The names of several have those of tasks in them, which may be paths.
            let file = if stems.len() == 1 { "front.png".into() } else { format!("front-{}.png", number + 1) };
            if picture.is_file() {
                account.pictures.insert(file, std::fs::read(&picture).map_err(Error::io(&picture))?);
            }
        }
        let files: Vec<String> = account.pictures.keys().cloned().collect();
        account.results = standing(&front, point, changes, &files);
        Ok(account)
    }
}

/// The command that this process was started with, without what differs between two that make the same: where the result goes.
fn own_command_line() -> String {
    let words: Vec<String> = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    command_line(&repeatable(&placeless_all(&words)))
}

fn placeless_all(words: &[String]) -> Vec<String> {
    words.iter().map(|word| placeless(word)).collect()
}

/// The words behind `criadero` of an export, to any directory.
fn repeatable(words: &[String]) -> Vec<String> {
    let mut told = vec!["criadero".to_string()];
    let silent = ["--force", "--json", "-q", "--quiet", "-v", "--verbose"];
    for word in words.iter().filter(|word| !silent.contains(&word.as_str())) {
        let behind_out = told.last().is_some_and(|last| last == "--out");
        told.push(match word.strip_prefix("--out=") {
            Some(_) => "--out=DIR".to_string(),
            None if behind_out => "DIR".to_string(),
            None => word.clone(),
        });
    }
    told
}

/// A network in another's bits: layer by layer of those that are left, and at both ends.
fn in_bits_of(genome: &Genome, other: &Genome) -> anyhow::Result<Genome> {
    let sizes = |genome: &Genome| genome.kept().map(|(_, gene)| (gene.heads, gene.mlp)).collect::<Vec<_>>();
    if sizes(genome) != sizes(other) {
        bail!("--bits-of: expected a network of the same sizes, {}; found {other}", genome.unquantized());
    }
    let mut bits = other.kept().map(|(_, gene)| gene.bits);
    let gene = |gene: &Gene| {
        if gene.is_dropped() { *gene } else { Gene { bits: bits.next().expect("they have as many layers"), ..*gene } }
    };
    Ok(Genome::new(genome.genes().iter().map(gene).collect::<Vec<_>>()).with_ends(other.ends()))
}

/// The size of a file, or of a directory's files.
fn bytes_of(path: &Path) -> std::io::Result<u64> {
    if path.is_file() {
        return Ok(path.metadata()?.len());
    }
    std::fs::read_dir(path)?.map(|entry| Ok(entry?.metadata()?.len())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_export_to_another_place_is_told_alike() {
        let told = |line: &str| repeatable(&line.split(' ').map(String::from).collect::<Vec<_>>()).join(" ");
        let expected = "criadero export results/mine --pick knee --out DIR --format hf";
        assert_eq!(told("export results/mine --pick knee --out a/b --force --format hf"), expected);
        assert_eq!(told("export results/mine --pick knee --out c --format hf"), expected);
        assert_eq!(told("export m --out=a"), "criadero export m --out=DIR");
    }
}
