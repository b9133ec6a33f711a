//! A network as a plain value: one gene a layer, in canonical form.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Bits of a weight that was not quantized.
pub const FULL_BITS: u8 = 16;

/// One layer's choice. `{heads: 0, mlp: 0}` is a dropped layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Gene {
    /// Query heads kept: the first ones of the supernet.
    pub heads: u32,
    /// MLP channels kept: the first ones of the supernet.
    pub mlp: u32,
    /// Bits of the layer's weights; 16 is unquantized.
    pub bits: u8,
}

impl Gene {
    /// A layer that is not there. Its bits say nothing, so they are fixed.
    pub const DROPPED: Gene = Gene { heads: 0, mlp: 0, bits: FULL_BITS };

    /// An unquantized layer.
    pub fn new(heads: u32, mlp: u32) -> Gene {
        Gene { heads, mlp, bits: FULL_BITS }
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
/// when quantized, `-` for a dropped layer, and `*N` for N equal layers in a row.
///
/// ```
/// use criadero::space::{Gene, Genome};
/// let genome: Genome = "9x1536*2:-:6x768@8".parse()?;
/// assert_eq!(genome.genes().len(), 4);
/// assert_eq!(genome.depth(), 3);
/// assert_eq!(genome.to_string(), "9x1536*2:-:6x768@8");
/// # Ok::<(), criadero::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Genome {
    genes: Vec<Gene>,
}

impl Genome {
    /// The canonical genome of these genes.
    pub fn new(genes: impl IntoIterator<Item = Gene>) -> Genome {
        let canonical = |gene: Gene| if gene.is_dropped() { Gene::DROPPED } else { gene };
        Genome { genes: genes.into_iter().map(canonical).collect() }
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
        for (run, genes) in self.genes.chunk_by(|a, b| a == b).enumerate() {
            if run > 0 {
                f.write_str(":")?;
            }
            let gene = genes[0];
            match gene {
                Gene::DROPPED => f.write_str("-")?,
                Gene { heads, mlp, bits: FULL_BITS } => write!(f, "{heads}x{mlp}")?,
                Gene { heads, mlp, bits } => write!(f, "{heads}x{mlp}@{bits}")?,
            }
            if genes.len() > 1 {
                write!(f, "*{}", genes.len())?;
            }
        }
        Ok(())
    }
}

/// More layers than any model has: a guard against `1x1*4000000000`.
const MAX_LAYERS: usize = 65_536;

impl FromStr for Genome {
    type Err = Error;

    fn from_str(text: &str) -> Result<Genome> {
        let mut genes = Vec::new();
        for run in text.trim().split(':') {
            let wrong = || {
                Error::invalid(
                    "genome",
                    format!("`{run}` in `{text}`"),
                    "layers such as `9x1536`, `6x768@8*4` or `-`, joined by `:`",
                )
            };
            let (gene, count) = run.split_once('*').unwrap_or((run, "1"));
            let count: usize = count.parse().map_err(|_| wrong())?;
            if count == 0 || genes.len() + count > MAX_LAYERS {
                return Err(wrong());
            }
            let gene = match gene {
                "-" => Gene::DROPPED,
                _ => {
                    let (sizes, bits) =
                        gene.split_once('@').map_or((gene, Ok(FULL_BITS)), |(sizes, bits)| (sizes, bits.parse()));
                    let (heads, mlp) = sizes.split_once('x').ok_or_else(wrong)?;
                    let number = |digits: &str| digits.parse::<u32>().map_err(|_| wrong());
                    Gene { heads: number(heads)?, mlp: number(mlp)?, bits: bits.map_err(|_| wrong())? }
                }
            };
            genes.extend(std::iter::repeat_n(gene, count));
        }
        Ok(Genome::new(genes))
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
        let by_zero = Genome::new([Gene::new(3, 64), Gene { heads: 0, mlp: 0, bits: 4 }]);
        let by_depth = Genome::new([Gene::new(3, 64), Gene::DROPPED]);
        assert_eq!(by_zero, by_depth);
        assert_eq!(by_zero.to_string(), "3x64:-");
    }

    #[test]
    fn reads_its_own_text() {
        for text in ["9x1536*30", "0x64:3x0:-*2:3x64@4", "-"] {
            assert_eq!(text.parse::<Genome>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn rejects_text_that_is_no_genome() {
        for text in
            ["", "9", "9x", "x9", "9x1536*0", "9x1536@", "9x1536*99999999999", "9x1536::9x1536", "-1x4", "1x1*70000"]
        {
            let error = text.parse::<Genome>().unwrap_err().to_string();
            assert!(error.starts_with("genome: found"), "{text}: {error}");
        }
    }
}
