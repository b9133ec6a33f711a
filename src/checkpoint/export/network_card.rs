//! The model card of an exported network.

use super::account::Account;
use super::exporter::Network;
use crate::checkpoint::hf::ModelCard;
use crate::error::Result;
use crate::markdown::{code, code_block, table};
use crate::space::{Cost, Genome};

/// The model card of a network; `stored` says what is not plain about how its weights lie there.
///
/// # Errors
/// What [`Checkpoint::lineage`](crate::checkpoint::Checkpoint::lineage) refuses.
pub(super) fn model_card(network: Network, stored: Option<&str>) -> Result<ModelCard> {
    let Network { parent, genome, account, .. } = network;
    let lineage = parent.lineage()?.of_network(parent.config(), genome);
    let of = lineage.parents().into_iter().next().unwrap_or_else(|| parent.name());
    let [params, of_parent] = [genome, &parent.config().genome].map(|genome| params_of(network, genome));
    let title = match genome == &parent.config().genome {
        true => code(&of),
        false => format!("{}, {} of {} parameters", code(&of), millions(params), millions(of_parent)),
    };
    let Account { search, export, results, pictures } = account.cloned().unwrap_or_default();
    let about = [what_it_is(network, [params, of_parent], stored), how_it_was_made(search, export)].concat();
    Ok(ModelCard { lineage, title, about, results, pictures })
}

fn params_of(network: Network, genome: &Genome) -> u64 {
    Cost::of(&network.parent.config().shape, genome).params
}

/// The network, in a table and a sentence or two.
fn what_it_is(network: Network, [params, of_parent]: [u64; 2], stored: Option<&str>) -> String {
    let Network { parent, genome, .. } = network;
    let share = 100.0 * params as f64 / of_parent.max(1) as f64;
    let layers = [genome, &parent.config().genome].map(Genome::depth);
    let rows = [
        ("genome", code(&genome.to_string())),
        ("parameters", format!("{params}, {share:.1}% of the parent's {of_parent}")),
        ("layers", format!("{} of the parent's {}", layers[0], layers[1])),
    ];
    let rows = rows.map(|(name, value)| vec![name.to_string(), value]);
    let legend = "The genome has the query heads and the MLP width of each layer of the parent: `*N` for N layers alike, `-` for one that \
                  is dropped, `@` before the bits of quantized weights.";
    let stored = stored.map_or(String::new(), |stored| format!(" {stored}"));
    format!("## The network\n\n{}\n{legend}{stored}\n\n", table(&["", ""], &rows))
}

/// The commands that make it again.
fn how_it_was_made(search: Option<String>, export: Option<String>) -> String {
    let exported = concat!("Exported by criadero ", env!("CARGO_PKG_VERSION"));
    let known: Vec<String> = [("Searched for", search), (exported, export)]
        .into_iter()
        .filter_map(|(what, command)| Some(format!("{what} with\n\n{}", code_block("sh", &command?))))
        .collect();
    match known.is_empty() {
        true => format!("## How it was made\n\n{exported}.\n"),
        false => format!("## How it was made\n\n{}", known.join("\n")),
    }
}

/// Parameters as titles have them.
fn millions(params: u64) -> String {
    match params {
        1_000_000_000.. => format!("{:.2}B", params as f64 / 1e9),
        1_000_000.. => format!("{:.1}M", params as f64 / 1e6),
        _ => params.to_string(),
    }
}
