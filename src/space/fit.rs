//! Whether a network can be cut from a model.

use super::{Gene, Genome, ModelShape};
use crate::error::{Error, Result};

/// Everything that speaks against cutting `genome` from a model of this shape whose layers are those of `whole`: another number
/// of layers, layers wider than the model's, heads in broken KV groups, bits that weights cannot have. One line each; layers in a
/// row with the same problem share it.
pub fn genome_problems(shape: &ModelShape, whole: &Genome, genome: &Genome) -> Vec<String> {
    let (found, expected) = (genome.genes().len(), whole.genes().len());
    if found != expected {
        return vec![format!("{found} layers, expected {expected}, one a layer of the model")];
    }
    let genes = genome.genes().iter().zip(whole.genes());
    let layers: Vec<Vec<String>> = genes.map(|(&gene, &whole)| layer_problems(shape, whole, gene)).collect();
    let (mut problems, mut first) = (Vec::new(), 0);
    for alike in layers.chunk_by(|one, next| one == next) {
        let place = match alike {
            [_] => format!("layer {first}"),
            _ => format!("layers {first} to {}", first + alike.len() - 1),
        };
        problems.extend(alike.iter().take(1).flatten().map(|problem| format!("{place}: {problem}")));
        first += alike.len();
    }
    problems.extend(shape.ends_problem(genome.ends()));
    problems
}

/// Everything that speaks against cutting a layer of this gene from one of `whole`.
fn layer_problems(shape: &ModelShape, whole: Gene, gene: Gene) -> Vec<String> {
    let group = shape.group() as u32;
    let mut problems = Vec::new();
    if gene.heads > whole.heads || !gene.heads.is_multiple_of(group) {
        problems.push(format!("{} heads, expected a multiple of {group} up to {}", gene.heads, whole.heads));
    }
    if gene.mlp > whole.mlp {
        problems.push(format!("mlp width {}, expected up to {}", gene.mlp, whole.mlp));
    }
    problems.extend(shape.blocks_problem(gene));
    problems
}

/// Refuses a genome that cannot be cut from such a model.
///
/// # Errors
/// `Mismatch` with every problem.
pub fn check_genome(shape: &ModelShape, whole: &Genome, genome: &Genome) -> Result<()> {
    misfit(genome, genome_problems(shape, whole, genome))
}

/// The error of a genome that has problems.
///
/// # Errors
/// `Mismatch`, unless there are none.
pub fn misfit(genome: &Genome, problems: Vec<String>) -> Result<()> {
    if problems.is_empty() {
        return Ok(());
    }
    let what = "the genome does not fit the model".to_string();
    Err(Error::Mismatch { path: genome.to_string().into(), what, problems })
}

#[cfg(test)]
mod tests {
    use super::super::shape::tests::SMOLLM2;
    use super::*;
    use crate::space::Extras;

    #[test]
    fn lists_every_problem() {
        let shape = ModelShape {
            layers: 3,
            hidden: 64,
            heads: 4,
            kv_heads: 2,
            head_dim: 16,
            mlp: 128,
            vocab: 9,
            tied: true,
            extras: Extras::NONE,
        };
        let whole: Genome = "4x128:2x64:4x128".parse().unwrap();
        let problems = |text: &str| genome_problems(&shape, &whole, &text.parse().unwrap());
        assert!(problems("4x128:2x64:-").is_empty());
        assert_eq!(problems("4x128*2"), ["2 layers, expected 3, one a layer of the model"]);
        let all = problems("3x128:4x64:4x129@8:H@8");
        assert_eq!(all[0], "layer 0: 3 heads, expected a multiple of 2 up to 4");
        assert_eq!(all[1], "layer 1: 4 heads, expected a multiple of 2 up to 2");
        assert_eq!(all[2], "layer 2: mlp width 129, expected up to 128");
        assert!(all[3].starts_with("layer 2: mlp width 129, for Q8_0"), "{all:?}");
        assert!(all[4].contains("for the output matrix, which is the embedding"), "{all:?}");
        let error = check_genome(&shape, &whole, &"4x128*2".parse().unwrap()).unwrap_err().to_string();
        assert!(error.starts_with("4x128*2: the genome does not fit the model:\n  2 layers"), "{error}");
    }

    #[test]
    fn takes_only_genomes_that_can_be_cut_from_the_parent() {
        let whole = SMOLLM2.parent();
        for text in ["9x1536*30", "9x1536*28:-:0x17", "3x0:6x1536@8*28:-", "E@8:9x1536@q4_k*30"] {
            check_genome(&SMOLLM2, &whole, &text.parse().unwrap()).unwrap();
        }
        for (text, complaint) in [
            ("9x1536*29", "29 layers, expected 30"),
            ("9x1536*29:7x1536", "layer 29: 7 heads, expected a multiple of 3 up to 9"),
            ("12x1536*30", "layers 0 to 29: 12 heads, expected a multiple of 3 up to 9"),
            ("9x1536*4:9x1537*2:9x1536*24", "layers 4 to 5: mlp width 1537, expected up to 1536"),
            (
                "9x1536*29:9x1000@8",
                "layer 29: mlp width 1000, for Q8_0, which stores rows of a multiple of 32; the nearest are 992 and 1024",
            ),
            ("9x1536@q3_k*30", "layers 0 to 29: hidden size 576, for Q3_K, which stores rows of a multiple of 256"),
            ("9x1536*30:H@8", "8 bits for the output matrix, which is the embedding"),
            ("9x1536*29:4294967295x4294967295", "layer 29: 4294967295 heads"),
        ] {
            let problems = genome_problems(&SMOLLM2, &whole, &text.parse().unwrap());
            assert!(problems[0].starts_with(complaint), "{text}: {problems:?}");
        }
    }
}
