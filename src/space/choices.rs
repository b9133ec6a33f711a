//! What one layer may be.

use serde::{Deserialize, Serialize};

use super::place::At;
use super::{Bits, Ends, Gene, ModelShape};
use crate::error::Result;

/// What one layer may be. Lists are ascending and without repeats; 0 loses that half of the layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerChoices {
    /// Query heads.
    pub heads: Vec<u32>,
    /// MLP channels.
    pub mlp: Vec<u32>,
    /// How the weights are stored.
    pub bits: Vec<Bits>,
}

impl LayerChoices {
    /// Whether the layer's own genes can drop it.
    pub fn can_drop(&self) -> bool {
        self.heads.contains(&0) && self.mlp.contains(&0)
    }

    /// The layer's distinct genes, ascending; [`Gene::DROPPED`] stands once, whatever its bits.
    pub fn genes(&self) -> Vec<Gene> {
        let mut genes = Vec::with_capacity(self.heads.len() * self.mlp.len() * self.bits.len());
        for &heads in &self.heads {
            for &mlp in &self.mlp {
                match (heads, mlp) {
                    (0, 0) => genes.push(Gene::DROPPED),
                    _ => genes.extend(self.bits.iter().map(|&bits| Gene { heads, mlp, bits })),
                }
            }
        }
        genes
    }

    /// Whether this gene is a choice of the layer.
    pub fn contains(&self, gene: Gene) -> bool {
        match gene {
            Gene::DROPPED => self.can_drop(),
            Gene { heads, mlp, bits } => {
                self.heads.contains(&heads) && self.mlp.contains(&mlp) && self.bits.contains(&bits)
            }
        }
    }

    /// The choice nearest to a gene: heads, width and bits each by themselves, ties to the larger.
    pub fn nearest(&self, gene: Gene) -> Gene {
        Gene {
            heads: nearest(&self.heads, gene.heads),
            mlp: nearest(&self.mlp, gene.mlp),
            bits: nearest(&self.bits, gene.bits),
        }
    }

    /// The widest choice.
    pub fn largest(&self) -> Gene {
        self.nearest(Gene { heads: u32::MAX, mlp: u32::MAX, bits: Bits::F16 })
    }

    /// The narrowest choice.
    pub fn smallest(&self) -> Gene {
        self.nearest(Gene { heads: 0, mlp: 0, bits: Bits::Q2K })
    }
}

/// How what lies before and behind the layers may be stored. Lists are ascending and without repeats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndChoices {
    /// The embedding.
    pub embedding: Vec<Bits>,
    /// The output matrix; unquantized alone where it is the embedding.
    pub head: Vec<Bits>,
}

impl EndChoices {
    /// Every choice, ascending.
    pub fn all(&self) -> Vec<Ends> {
        let with = |&embedding: &Bits| self.head.iter().map(move |&head| Ends { embedding, head });
        self.embedding.iter().flat_map(with).collect()
    }

    /// Whether these are a choice.
    pub fn contains(&self, ends: Ends) -> bool {
        self.embedding.contains(&ends.embedding) && self.head.contains(&ends.head)
    }

    /// The choice nearest to any ends: embedding and output matrix each by themselves, ties to the larger.
    pub fn nearest(&self, Ends { embedding, head }: Ends) -> Ends {
        Ends { embedding: nearest(&self.embedding, embedding), head: nearest(&self.head, head) }
    }

    /// The one with the most bits.
    pub fn largest(&self) -> Ends {
        self.nearest(Ends::both(Bits::F16))
    }

    /// The one with the fewest bits.
    pub fn smallest(&self) -> Ends {
        self.nearest(Ends::both(Bits::Q2K))
    }
}

/// The value of an ascending, non-empty list nearest to `wanted`, ties to the larger.
fn nearest<T: Copy + Into<u32>>(ascending: &[T], wanted: T) -> T {
    let distance = |value: &T| (*value).into().abs_diff(wanted.into());
    *ascending.iter().rev().min_by_key(|value| distance(value)).expect("lists of choices are not empty")
}

/// A checked list of head counts: whole KV groups, no more than the parent has.
pub(super) fn heads(shape: &ModelShape, field: &str, list: At<Vec<At<u32>>>) -> Result<Vec<u32>> {
    let (most, group) = (shape.heads, shape.group());
    list.ascending(field, |heads| match heads as usize {
        heads if heads > most => Some(format!("{heads} heads are more than the parent's {most}")),
        heads if !heads.is_multiple_of(group) => {
            Some(format!("{heads} heads are no multiple of {group} (heads / kv_heads), the step of whole KV groups"))
        }
        _ => None,
    })
}

/// A checked list of MLP widths: none wider than the parent.
pub(super) fn mlp(shape: &ModelShape, field: &str, list: At<Vec<At<u32>>>) -> Result<Vec<u32>> {
    let most = shape.mlp;
    list.ascending(field, |mlp| (mlp as usize > most).then(|| format!("width {mlp} is more than the parent's {most}")))
}

/// A list of bits.
pub(super) fn bits(field: &str, list: At<Vec<At<Bits>>>) -> Result<Vec<Bits>> {
    list.ascending(field, |_| None)
}

/// A checked list of depths: at least one layer, no more than the parent has.
pub(super) fn depths(shape: &ModelShape, field: &str, list: At<Vec<At<usize>>>) -> Result<Vec<usize>> {
    let most = shape.layers;
    list.ascending(field, |depth| {
        (depth == 0 || depth > most).then(|| format!("depth {depth} is not between 1 and the parent's {most} layers"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choices() -> LayerChoices {
        LayerChoices { heads: vec![0, 6, 9], mlp: vec![0, 64], bits: vec![Bits::Q4_0, Bits::F16] }
    }

    #[test]
    fn lists_each_gene_once() {
        let genes: Vec<String> =
            choices().genes().iter().map(|gene| format!("{}x{}@{}", gene.heads, gene.mlp, gene.bits)).collect();
        assert_eq!(
            genes,
            [
                "0x0@16", "0x64@4", "0x64@16", "6x0@4", "6x0@16", "6x64@4", "6x64@16", "9x0@4", "9x0@16", "9x64@4",
                "9x64@16"
            ]
        );
        assert!(choices().genes().iter().all(|&gene| choices().contains(gene)));
        assert!(!choices().contains(Gene::new(3, 64)));
        assert!(!LayerChoices { heads: vec![0], mlp: vec![64], bits: vec![Bits::F16] }.contains(Gene::DROPPED));
    }

    #[test]
    fn takes_the_nearest_choice_and_the_larger_of_two() {
        assert_eq!(
            choices().nearest(Gene { heads: 3, mlp: 31, bits: Bits::F16 }),
            Gene { heads: 6, mlp: 0, bits: Bits::F16 }
        );
        assert_eq!(
            choices().nearest(Gene { heads: 2, mlp: 32, bits: Bits::Q8_0 }),
            Gene { heads: 0, mlp: 64, bits: Bits::Q4_0 }
        );
        assert_eq!(choices().largest(), Gene::new(9, 64));
        assert_eq!(choices().smallest(), Gene { heads: 0, mlp: 0, bits: Bits::Q4_0 });
    }
}
