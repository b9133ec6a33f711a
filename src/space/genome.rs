//! A network as a plain value: one gene a layer, in canonical form.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::string_slice, clippy::cast_possible_truncation, clippy::cast_sign_loss)
)]

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Bits;
use crate::error::{Error, Result};

/// One layer's choice. `{heads: 0, mlp: 0}` is a dropped layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Gene {
    /// Query heads kept: the first ones of the supernet.
    pub heads: u32,
    /// MLP channels kept: the first ones of the supernet.
    pub mlp: u32,
    /// How the layer's matrices are stored.
    pub bits: Bits,
}

/// One half of a layer's gene: what its attention or its MLP depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HalfGene {
    /// Query heads or MLP channels kept.
    pub width: u32,
    /// How its matrices are stored; unquantized where there are none.
    pub bits: Bits,
}

/// How what lies before and behind the layers is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ends {
    /// The embedding, and the output matrix where it is the same.
    pub embedding: Bits,
    /// The output matrix; unquantized where it is the embedding.
    pub head: Bits,
}

impl Default for Ends {
    /// Unquantized.
    fn default() -> Ends {
        Ends::both(Bits::F16)
    }
}

impl Ends {
    /// Both alike.
    pub fn both(bits: Bits) -> Ends {
        Ends { embedding: bits, head: bits }
    }
}

impl Gene {
    /// A layer that is not there. Its bits say nothing, so they are fixed.
    pub const DROPPED: Gene = Gene { heads: 0, mlp: 0, bits: Bits::F16 };

    /// An unquantized layer.
    pub fn new(heads: u32, mlp: u32) -> Gene {
        Gene { heads, mlp, bits: Bits::F16 }
    }

    /// Attention and MLP.
    pub fn halves(&self) -> [HalfGene; 2] {
        [self.heads, self.mlp].map(|width| HalfGene { width, bits: if width == 0 { Bits::F16 } else { self.bits } })
    }

    /// Whether the layer is gone.
    pub fn is_dropped(&self) -> bool {
        self.heads == 0 && self.mlp == 0
    }
}

/// One gene a layer of the parent, in canonical form: a dropped layer is [`Gene::DROPPED`], whatever
/// dropped it. Two genomes are equal exactly when they are the same network.
///
/// Its text form is one line: layers from the input on, joined by `:`, each `HEADSxMLP`, with `@BITS`
/// when quantized, `-` for a dropped layer, and `*N` for N equal layers in a row. A quantized embedding is `E@BITS`
/// before them, a quantized output matrix `H@BITS` behind them.
///
/// ```
/// use criadero::space::{Gene, Genome};
/// let genome: Genome = "9x1536*2:-:6x768@8".parse()?;
/// assert_eq!(genome.genes().len(), 4);
/// assert_eq!(genome.depth(), 3);
/// assert_eq!(genome.to_string(), "9x1536*2:-:6x768@8");
/// assert_eq!("E@8:9x1536@q4_1*30".parse::<Genome>()?.depth(), 30);
/// # Ok::<(), criadero::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Genome {
    genes: Vec<Gene>,
    ends: Ends,
}

impl Genome {
    /// The canonical genome of these genes, its ends unquantized.
    pub fn new(genes: impl IntoIterator<Item = Gene>) -> Genome {
        let canonical = |gene: Gene| if gene.is_dropped() { Gene::DROPPED } else { gene };
        Genome { genes: genes.into_iter().map(canonical).collect(), ends: Ends::default() }
    }

    /// The same layers between these ends.
    pub fn with_ends(self, ends: Ends) -> Genome {
        Genome { ends, ..self }
    }

    /// How what lies before and behind the layers is stored.
    pub fn ends(&self) -> Ends {
        self.ends
    }

    /// The same widths with everything unquantized.
    pub fn unquantized(&self) -> Genome {
        Genome::new(self.genes.iter().map(|gene| Gene { bits: Bits::F16, ..*gene }))
    }

    /// The same widths with every layer in these bits.
    pub fn in_bits(&self, bits: Bits) -> Genome {
        Genome::new(self.genes.iter().map(|gene| Gene { bits, ..*gene })).with_ends(self.ends)
    }

    /// Whether any matrix is quantized.
    pub fn is_quantized(&self) -> bool {
        self.ends != Ends::default() || self.genes.iter().any(|gene| !gene.bits.is_full())
    }

    /// Every layer alike.
    pub fn uniform(layers: usize, gene: Gene) -> Genome {
        Genome::new(std::iter::repeat_n(gene, layers))
    }

    /// One gene a layer of the parent, dropped ones included.
    pub fn genes(&self) -> &[Gene] {
        &self.genes
    }

    /// The layers that are there, with their number in the parent.
    pub fn kept(&self) -> impl Iterator<Item = (usize, Gene)> + '_ {
        self.genes.iter().copied().enumerate().filter(|(_, gene)| !gene.is_dropped())
    }

    /// How many layers are there.
    pub fn depth(&self) -> usize {
        self.kept().count()
    }
}

impl fmt::Display for Genome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ends { embedding, head } = self.ends;
        if !embedding.is_full() {
            write!(f, "{EMBEDDING}{embedding}:")?;
        }
        for (run, genes) in self.genes.chunk_by(|a, b| a == b).enumerate() {
            if run > 0 {
                f.write_str(":")?;
            }
            let Some(&gene) = genes.first() else { continue };
            match gene {
                Gene::DROPPED => f.write_str("-")?,
                Gene { heads, mlp, bits: Bits::F16 } => write!(f, "{heads}x{mlp}")?,
                Gene { heads, mlp, bits } => write!(f, "{heads}x{mlp}@{bits}")?,
            }
            if genes.len() > 1 {
                write!(f, "*{}", genes.len())?;
            }
        }
        if !head.is_full() {
            write!(f, ":{HEAD}{head}")?;
        }
        Ok(())
    }
}

/// Before the bits of the embedding.
const EMBEDDING: &str = "E@";
/// Before the bits of the output matrix.
const HEAD: &str = "H@";

/// Layers that a model or a genome has, at most. With [`MAX_SIZE`](super::MAX_SIZE) it keeps every closed form of [`super::Cost`] inside 64 bits.
pub const MAX_LAYERS: usize = 1 << 12;

impl FromStr for Genome {
    type Err = Error;

    fn from_str(text: &str) -> Result<Genome> {
        let wrong = |run: &str| {
            Error::invalid(
                "genome",
                format!("`{run}` in `{text}`"),
                "layers such as `9x1536`, `6x768@8*4` or `-`, joined by `:`",
            )
        };
        let bits_of = |run: &str, bits: &str| bits.parse::<Bits>().map_err(|_| wrong(run));
        let (mut genes, mut ends) = (Vec::new(), Ends::default());
        let runs: Vec<&str> = text.trim().split(':').collect();
        for (place, &run) in runs.iter().enumerate() {
            let wrong = || wrong(run);
            match (run.strip_prefix(EMBEDDING), run.strip_prefix(HEAD)) {
                (Some(bits), _) if place == 0 && runs.len() > 1 => {
                    ends.embedding = bits_of(run, bits)?;
                    continue;
                }
                (_, Some(bits)) if place > 0 && place + 1 == runs.len() => {
                    ends.head = bits_of(run, bits)?;
                    continue;
                }
                _ => {}
            }
            let (gene, count) = run.split_once('*').unwrap_or((run, "1"));
            let count: usize = count.parse().map_err(|_| wrong())?;
            if count == 0 || count > MAX_LAYERS || genes.len() + count > MAX_LAYERS {
                return Err(wrong());
            }
            let gene = match gene {
                "-" => Gene::DROPPED,
                _ => {
                    let (sizes, bits) = gene.split_once('@').unwrap_or((gene, "16"));
                    let (heads, mlp) = sizes.split_once('x').ok_or_else(wrong)?;
                    let number = |digits: &str| digits.parse::<u32>().map_err(|_| wrong());
                    Gene { heads: number(heads)?, mlp: number(mlp)?, bits: bits_of(run, bits)? }
                }
            };
            genes.extend(std::iter::repeat_n(gene, count));
        }
        if genes.is_empty() { Err(wrong(text)) } else { Ok(Genome::new(genes).with_ends(ends)) }
    }
}

impl TryFrom<String> for Genome {
    type Error = Error;

    fn try_from(text: String) -> Result<Genome> {
        text.parse()
    }
}

impl From<Genome> for String {
    fn from(genome: Genome) -> String {
        genome.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_whatever_dropped_a_layer() {
        let by_zero = Genome::new([Gene::new(3, 64), Gene { heads: 0, mlp: 0, bits: Bits::Q4_0 }]);
        let by_depth = Genome::new([Gene::new(3, 64), Gene::DROPPED]);
        assert_eq!(by_zero, by_depth);
        assert_eq!(by_zero.to_string(), "3x64:-");
    }

    #[test]
    fn reads_its_own_text() {
        for text in ["9x1536*30", "0x64:3x0:-*2:3x64@4", "-", "E@8:3x64@q4_1*2:-:H@q6_k", "E@4:3x64"] {
            assert_eq!(text.parse::<Genome>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn rejects_text_that_is_no_genome() {
        for text in [
            "",
            "9",
            "9x",
            "x9",
            "9x1536*0",
            "9x1536@",
            "9x1536@5",
            "9x1536*99999999999",
            "9x1536::9x1536",
            "-1x4",
            "1x1*70000",
            "E@8",
            "E@8:H@8",
            "E@5:1x1",
            "1x1:E@8",
            "H@8:1x1",
            "1x1:H@",
        ] {
            let error = text.parse::<Genome>().unwrap_err().to_string();
            assert!(error.starts_with("genome: found"), "{text}: {error}");
        }
    }
}
