//! `criadero inspect`: what a search space holds.

use std::path::PathBuf;

use super::model;
use anyhow::Context;
use criadero::model::supernet::SupernetCard;
use criadero::run::size_range;
use criadero::space::{Cost, DropRule, EndChoices, Ends, Genome, LayerChoices, ModelShape, SearchSpace};
use serde::Serialize;

/// Print a search space: its genes, how many networks it holds, the smallest and the largest.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  criadero inspect smollm2-135m\n  \
                  criadero inspect SPACE.yaml --model MODEL")]
pub struct Inspect {
    /// A shipped space's name, such as `smollm2-135m`, or a YAML file
    space: String,
    /// Check that the space fits this checkpoint, and drop layers in its ranking's order
    #[arg(long, value_name = "MODEL")]
    model: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Inspect {
    /// Reads the space and prints it.
    pub fn run(self) -> anyhow::Result<()> {
        let mut ranked = false;
        let mut space = SearchSpace::open(&self.space)?;
        if let Some(model) = &self.model {
            let checkpoint = model::open(model)?;
            space.check_fits(&checkpoint.config().shape).with_context(|| self.space.clone())?;
            if let Some(card) = SupernetCard::of(&checkpoint)? {
                ranked = true;
                space = space.with_drop_order(&card.order.drop)?;
            }
        }
        let limits = limits(&space)?;
        if self.json {
            println!("{}", serde_json::to_string_pretty(&Inspection::of(&space))?);
        } else {
            print!("{}", table(&space, ranked, &limits));
        }
        Ok(())
    }
}

/// What `--json` prints. Counts are text, because they do not fit a JSON reader's numbers.
#[derive(Serialize)]
struct Inspection<'a> {
    space: &'a SearchSpace,
    genomes: String,
    distinct_networks: String,
    smallest: Sized,
    largest: Sized,
}

/// A network and its sizes.
#[derive(Serialize)]
struct Sized {
    genome: Genome,
    depth: usize,
    #[serde(flatten)]
    cost: Cost,
}

impl Sized {
    fn of(shape: &ModelShape, genome: Genome) -> Sized {
        Sized { cost: Cost::of(shape, &genome), depth: genome.depth(), genome }
    }
}

impl Inspection<'_> {
    fn of(space: &SearchSpace) -> Inspection<'_> {
        Inspection {
            space,
            genomes: space.genomes().to_string(),
            distinct_networks: space.distinct_networks().to_string(),
            smallest: Sized::of(space.shape(), space.smallest()),
            largest: Sized::of(space.shape(), space.largest()),
        }
    }
}

/// The space's limits, a line each, beside what its networks have: those that no network can meet are marked.
///
/// # Errors
/// Unknown names.
fn limits(space: &SearchSpace) -> anyhow::Result<String> {
    let mut text = String::new();
    for limit in space.constraints() {
        let range = size_range(space, &limit.objective).with_context(|| format!("constraint `{limit}`"))?;
        let found = range.map_or("measured in a search".to_string(), |(least, most)| {
            let effect = match [least, most].map(|value| limit.violation(value) == 0.0) {
                [true, true] => "all can meet it",
                [false, false] => "NONE can meet it",
                _ => "some meet it",
            };
            format!("networks have {} to {}: {effect}", grouped(&least.to_string()), grouped(&most.to_string()))
        });
        text += &format!("constraint   {limit}  ({found})\n");
    }
    Ok(text)
}

/// The inspection as people read it; `ranked` says whether a model's ranking was given.
fn table(space: &SearchSpace, ranked: bool, limits: &str) -> String {
    let ModelShape { layers, hidden, heads, kv_heads, head_dim, mlp, vocab, tied, extras } = *space.shape();
    let output = if tied { "tied" } else { "not tied" };
    let with = if extras.is_none() { String::new() } else { format!(", with {}", extras.names().join(" and ")) };
    let mut text = format!(
        "parent       {layers} layers, hidden {hidden}, {heads} heads over {kv_heads} KV heads of width {head_dim}, \
         MLP {mlp}, vocabulary {vocab} ({output}){with}\n"
    );
    let first_to_go = match space.drop_rule() {
        DropRule::Ranking if !ranked => {
            "the ranking's least important layers go first (below: as if the last did)".to_string()
        }
        DropRule::Ranking => format!("the ranking's least important layers go first: {}", list(space.drop_order())),
        DropRule::Last => "the last layers go first".to_string(),
    };
    text += &format!("depth        {}; {first_to_go}\n", list(space.depths()));
    for (range, choices) in ranges(space.layers()) {
        let LayerChoices { heads, mlp, bits } = choices;
        text += &format!("layers {range:<5} heads {}; mlp {}; bits {}\n", list(heads), list(mlp), list(bits));
    }
    if space.ends().all() != [Ends::default()] {
        let EndChoices { embedding, head } = space.ends();
        text += &format!("embedding    bits {}", list(embedding));
        let head = if tied { ", also as the output matrix".into() } else { format!("; output matrix {}", list(head)) };
        text += &format!("{head}\n");
    }
    text += limits;
    let Inspection { genomes, distinct_networks, smallest, largest, .. } = Inspection::of(space);
    text += &format!("\ngenomes            {}\ndistinct networks  {}\n", count(&genomes), count(&distinct_networks));
    for (name, Sized { genome, depth, cost }) in [("smallest", smallest), ("largest", largest)] {
        let Cost { params, weight_bytes, kv_bytes, macs } = cost;
        text += &format!(
            "\n{name}, {depth} layers: {genome}\n\
             \x20 parameters       {:>8}  {}\n\
             \x20 GGUF weights     {:>8}  {} bytes\n\
             \x20 KV, each token   {:>8}  {} bytes\n\
             \x20 MACs, each token {:>8}  {}\n",
            short(params, ["", "k", "M", "B"]),
            grouped(&params.to_string()),
            short(weight_bytes, ["B", "kB", "MB", "GB"]),
            grouped(&weight_bytes.to_string()),
            short(kv_bytes, ["B", "kB", "MB", "GB"]),
            grouped(&kv_bytes.to_string()),
            short(macs, ["", "k", "M", "G"]),
            grouped(&macs.to_string()),
        );
    }
    text
}

/// Neighbouring layers with equal choices, as `first-last` or a single number.
fn ranges(layers: &[LayerChoices]) -> Vec<(String, &LayerChoices)> {
    let mut ranges = Vec::new();
    let mut first = 0;
    for run in layers.chunk_by(|a, b| a == b) {
        let last = first + run.len() - 1;
        let range = if first == last { first.to_string() } else { format!("{first}-{last}") };
        ranges.push((range, &run[0]));
        first = last + 1;
    }
    ranges
}

fn list<T: ToString>(values: &[T]) -> String {
    values.iter().map(T::to_string).collect::<Vec<_>>().join(" ")
}

/// An exact count in groups of three digits, with its order of magnitude; beyond 40 digits that alone.
fn count(digits: &str) -> String {
    if digits.len() < 8 {
        return grouped(digits);
    }
    let magnitude = format!("{}.{}e{}", &digits[..1], &digits[1..3], digits.len() - 1);
    match digits.len() {
        ..=40 => format!("{} ({magnitude})", grouped(digits)),
        _ => format!("{magnitude} ({} digits; --json prints them all)", digits.len()),
    }
}

fn grouped(digits: &str) -> String {
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Three or four digits and a decimal unit.
fn short(size: u64, units: [&str; 4]) -> String {
    let mut scaled = size as f64;
    let mut unit = 0;
    while scaled >= 999.95 && unit + 1 < units.len() {
        scaled /= 1000.0;
        unit += 1;
    }
    let gap = if units[0].is_empty() { "" } else { " " };
    if unit == 0 { format!("{size}{gap}{}", units[0]) } else { format!("{scaled:.1}{gap}{}", units[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_digits_and_shortens_sizes() {
        assert_eq!(["1", "999", "1000", "134515008"].map(grouped), ["1", "999", "1,000", "134,515,008"]);
        assert_eq!(short(134_515_008, ["", "k", "M", "B"]), "134.5M");
        assert_eq!(short(999_999, ["B", "kB", "MB", "GB"]), "1.0 MB");
        assert_eq!(short(512, ["B", "kB", "MB", "GB"]), "512 B");
        assert_eq!(count("12884901888"), "12,884,901,888 (1.28e10)");
        assert_eq!(count(&"7".repeat(50)), "7.77e49 (50 digits; --json prints them all)");
    }
}
