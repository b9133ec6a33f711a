//! llama.cpp's architectures that compute the same function as the families read here (`general.architecture`), as one table.

use crate::checkpoint::config::LlamaConfig;
use crate::checkpoint::family::Family;
use crate::checkpoint::rope::RopeScaling;
use crate::error::{Error, Result};
use crate::space::{Extra, Extras, ModelShape, Size};

/// An architecture of llama.cpp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Architecture {
    /// LLaMA and Mistral.
    Llama,
    /// Qwen 2 and 2.5.
    Qwen2,
    /// Qwen 3.
    Qwen3,
    /// Of Nvidia's pruned LLaMAs: LLaMA with sizes per layer.
    Deci,
    /// Of Apple's OpenELM: sizes per layer and norms of heads, tied ends, one matrix for queries, keys and values.
    OpenElm,
}

/// A row of the table.
pub(crate) struct ArchitectureRow {
    pub(crate) architecture: Architecture,
    /// `general.architecture`, and what its keys begin with.
    pub(crate) name: &'static str,
    /// The family that a file of it is read as.
    pub(crate) family: Family,
    /// Whether rotation turns neighbours (2i, 2i + 1) of a head, so that query and key rows are moved; else halves, as in
    /// transformers.
    pub(crate) neighbours: bool,
    /// Whether layers may differ.
    pub(crate) per_layer: bool,
    /// Whether each frequency may have a divisor (`rope_freqs.weight` and its relatives).
    pub(crate) divisors: bool,
    /// What llama.cpp reads of a layer beyond LLaMA's tensors.
    pub(crate) extras: Extras,
}

const BIASES: Extras = Extras::NONE.with(Extra::QkvBias).with(Extra::OBias).with(Extra::MlpBias);

/// All of them, in the order of [`Architecture`].
static ARCHITECTURES: [ArchitectureRow; 5] = {
    use Architecture::{Deci, Llama, OpenElm, Qwen2, Qwen3};
    [
        row(Llama, "llama", Family::Llama, true, [false, true], BIASES),
        row(Qwen2, "qwen2", Family::Qwen2, false, [false, false], Extras::NONE.with(Extra::QkvBias)),
        row(Qwen3, "qwen3", Family::Qwen3, false, [false, false], Extras::NONE.with(Extra::HeadNorms)),
        row(Deci, "deci", Family::Llama, true, [true, true], BIASES),
        row(OpenElm, "openelm", Family::Qwen3, false, [true, false], Extras::NONE.with(Extra::HeadNorms)),
    ]
};

const fn row(
    architecture: Architecture,
    name: &'static str,
    family: Family,
    neighbours: bool,
    [per_layer, divisors]: [bool; 2],
    extras: Extras,
) -> ArchitectureRow {
    ArchitectureRow { architecture, name, family, neighbours, per_layer, divisors, extras }
}

impl Architecture {
    /// Its row of the table.
    pub(crate) fn row(self) -> &'static ArchitectureRow {
        &ARCHITECTURES[self as usize]
    }

    /// The one of this name.
    pub(crate) fn named(name: &str) -> Result<Architecture> {
        let found = ARCHITECTURES.iter().find(|row| row.name == name);
        let known = || Error::unknown("GGUF architecture", name, ARCHITECTURES.each_ref().map(|row| row.name));
        found.map(|row| row.architecture).ok_or_else(known)
    }

    /// The one that holds a network: its family's own where all layers are alike, else one with sizes per layer.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn holding(config: &LlamaConfig) -> Result<Architecture, String> {
        let own = ARCHITECTURES.iter().filter(|row| !row.per_layer && row.family == config.class_family());
        let order = own.chain(&ARCHITECTURES).map(|row| row.architecture);
        order.into_iter().find(|one| one.holds(config)).ok_or_else(|| {
            let of = match config.shape.extras.names().join(" and ") {
                none if none.is_empty() => String::new(),
                some => format!(" with {some}"),
            };
            let alike = config.uniform().is_some();
            let layers = if alike { "layers" } else { "layers that differ" };
            let or = if alike { "" } else { ", and gguf may hold networks whose layers are alike" };
            let untied = if config.shape.tied { "" } else { " and an output matrix of its own" };
            format!("one that llama.cpp holds: none of its architectures has {layers}{of}{untied}; formats hf and hf-padded hold it{or}")
        })
    }

    /// Whether llama.cpp reads a network's sizes and tensors under this name, and computes the same function. Found by trying
    /// and in `src/models/*.cpp` of its 2026 releases.
    fn holds(self, config: &LlamaConfig) -> bool {
        let ModelShape { hidden, tied, extras, .. } = config.shape;
        let rope = config.rope_scaling.as_ref().is_none_or(|scaling| self.row().divisors || is_in_keys(scaling));
        let layers = self.row().per_layer || config.uniform().is_some();
        let read = self.row().extras;
        let parts = match self {
            // These read what is there; the others want all that they read.
            Architecture::Llama | Architecture::Deci => extras.without(read).is_none(),
            Architecture::Qwen2 => {
                let queries = config.uniform().map(|gene| Size::Queries.of(&config.shape, gene));
                extras == read && queries == Some(hidden)
            }
            Architecture::Qwen3 => extras == read,
            Architecture::OpenElm => extras == read && tied,
        };
        rope && layers && parts
    }
}

/// Whether a stretching is said by keys alone, without a table of divisors.
pub(super) fn is_in_keys(scaling: &RopeScaling) -> bool {
    match scaling {
        RopeScaling::Linear { .. } | RopeScaling::Dynamic { .. } => true,
        RopeScaling::Yarn(yarn) => yarn.truncate,
        RopeScaling::Llama3(_) | RopeScaling::LongRope(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::config::tests::small;

    #[test]
    fn rows_stand_in_the_order_of_the_enum() {
        for (index, row) in ARCHITECTURES.iter().enumerate() {
            assert_eq!(row.architecture as usize, index);
            assert_eq!(Architecture::named(row.name).unwrap(), row.architecture);
        }
        let error = Architecture::named("mixtral").unwrap_err().to_string();
        assert!(error.contains("mixtral") && error.contains("qwen3"), "{error}");
    }

    #[test]
    fn layers_alike_go_under_their_own_name_and_others_where_there_is_room() {
        let of = |family: Family, genome: &str, tied: bool| {
            let mut config = LlamaConfig { family, ..small() }.with_genome(genome.parse().unwrap());
            config.shape = ModelShape { tied, extras: family.row().extras, ..config.shape };
            Architecture::holding(&config).map(|one| one.row().name)
        };
        for (family, uniform, fewer, mixed) in [
            (Family::Llama, "llama", "llama", "deci"),
            (Family::Mistral, "llama", "llama", "deci"),
            (Family::Qwen2, "qwen2", "llama", "deci"),
            (Family::Qwen3, "qwen3", "qwen3", "openelm"),
        ] {
            assert_eq!(of(family, "6x64*3", true), Ok(uniform));
            assert_eq!(of(family, "3x64*3", true), Ok(fewer), "fewer heads than the hidden size has room for");
            assert_eq!(of(family, "6x64:3x32:6x64", true), Ok(mixed));
        }
        let error = of(Family::Qwen3, "6x64:3x32:6x64", false).unwrap_err();
        assert!(error.contains("head_norms and an output matrix of its own") && error.contains("hf-padded"), "{error}");
    }
}
