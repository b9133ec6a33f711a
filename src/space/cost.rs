//! Sizes of a network in closed form, and the layers of the GGUF it exports to.

use serde::{Deserialize, Serialize};

use super::layer_tensor::{LAYER, Size, TensorKind};
use super::{Bits, Ends, Extra, Gene, Genome, ModelShape};

/// Context length at which [`Cost::macs`] counts attention.
pub const MACS_CONTEXT: u64 = 1024;

/// Width of the all-zero MLP that stands in for an absent one beside attention: llama.cpp would drop
/// such a layer's attention, and 32 is one ggml block.
pub const FILLER_MLP: u32 = 32;

/// Sizes of one network.
///
/// A half that a layer does not have (no heads, or MLP width 0) has no norm either. For a shape without
/// [problems](ModelShape::problems) no genome that [fits](super::genome_problems) overflows, and on any other genome the sizes
/// saturate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Parameters of the mathematical network: embedding, layers, norms, and the output matrix
    /// unless it is the embedding.
    pub params: u64,
    /// Bytes of the tensors of the GGUF it exports to, fillers included: norms and biases F32, matrices in blocks of
    /// their [`Bits`] with scales, where a row holds no whole ones as llama.cpp falls back ([`Bits::stored`]).
    /// The header, padding and a table of rope factors are not counted.
    pub weight_bytes: u64,
    /// Bytes of keys and values per token of context, 16 bits each.
    pub kv_bytes: u64,
    /// Multiply-accumulates per token at a context of [`MACS_CONTEXT`] tokens: one for each weight of
    /// the layers' matrices and of the output matrix, and in each layer `2 · heads · head_dim · context`
    /// for query·key and weights·value. Looking up the embedding, norms and softmax count nothing.
    pub macs: u64,
}

impl Cost {
    /// The sizes of the network that `genome` cuts from a parent of this shape.
    pub fn of(shape: &ModelShape, genome: &Genome) -> Cost {
        let [hidden, vocab] = [shape.hidden, shape.vocab].map(|size| size as u128);
        let (mut values, mut weights, mut kv_width, mut attention) = (hidden, 0, 0, 0);
        for (_, gene) in genome.kept() {
            for row in LAYER.iter().filter(|row| row.is_in(shape, gene)) {
                let of_row = row.values(shape, gene);
                values += of_row;
                weights += if row.kind == TensorKind::Matrix { of_row } else { 0 };
            }
            if gene.heads > 0 {
                let [queries, keys] = [Size::Queries, Size::Keys].map(|size| size.of(shape, gene) as u128);
                kv_width += 2 * keys;
                attention += 2 * queries * u128::from(MACS_CONTEXT);
            }
        }
        let embedding = hidden * vocab;
        let output = if shape.tied { 0 } else { embedding };
        Cost {
            params: saturate(embedding + output + values),
            weight_bytes: saturate(ends_bytes(shape, genome.ends()) + gguf_layer_bytes(shape, genome)),
            kv_bytes: saturate(2 * kv_width),
            macs: saturate(weights + attention + embedding),
        }
    }
}

/// The layers of the GGUF a network exports to, in order: the layer's number in the parent, and its sizes *as the file holds
/// them*. This is the one place for llama.cpp's needs. Layers that are alike need nothing; of architecture deci, which holds those
/// that differ,
///
/// * dropped layers are gone, so that the file numbers layers by their place in this list;
/// * the first layer must have attention: one KV group, to be written as zeros, stands in for none;
/// * attention must have an MLP beside it: width [`FILLER_MLP`], to be written as zeros, stands in for none;
/// * a later layer without attention keeps `heads: 0` and has neither attention tensors nor their norm.
///
/// Of architecture openelm, which holds layers that differ and have norms of heads, every layer must have both halves.
///
/// Heads come in whole KV groups, so that a layer's `n_head` is a multiple of its `n_head_kv`
/// ([`ModelShape::kv_heads_of`]).
pub fn gguf_layers(shape: &ModelShape, genome: &Genome) -> Vec<(usize, Gene)> {
    let mut layers: Vec<(usize, Gene)> = genome.kept().collect();
    let every = shape.extras.has(Extra::HeadNorms);
    for (place, (_, gene)) in layers.iter_mut().enumerate() {
        if gene.heads == 0 && (place == 0 || every) {
            gene.heads = shape.group() as u32;
        }
        if gene.heads > 0 && gene.mlp == 0 {
            gene.mlp = FILLER_MLP;
        }
    }
    layers
}

/// Bytes of the embedding, and of the output matrix where it is another. Rows without a type of blocks stay F16.
fn ends_bytes(shape: &ModelShape, ends: Ends) -> u128 {
    let values = shape.vocab as u128 * shape.hidden as u128;
    let bytes = |bits: Bits| bits.stored(shape.hidden as u64).unwrap_or(Bits::F16).bytes(values);
    bytes(ends.embedding) + if shape.tied { 0 } else { bytes(ends.head) }
}

/// Bytes of all tensors between the embedding and the output, the final norm included.
fn gguf_layer_bytes(shape: &ModelShape, genome: &Genome) -> u128 {
    let of_layer =
        |gene: Gene| LAYER.iter().filter(move |row| row.is_in(shape, gene)).map(move |row| row.bytes(shape, gene));
    let layers = gguf_layers(shape, genome);
    4 * shape.hidden as u128 + layers.into_iter().flat_map(|(_, gene)| of_layer(gene)).sum::<u128>()
}

fn saturate(size: u128) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::Extras;
    use crate::space::shape::tests::{LLAMA2_7B, SMOLLM2};

    fn cost(shape: &ModelShape, genome: &str) -> Cost {
        Cost::of(shape, &genome.parse().unwrap())
    }

    #[test]
    fn counts_the_parents_parameters() {
        assert_eq!(Cost::of(&SMOLLM2, &SMOLLM2.parent()).params, 134_515_008);
        assert_eq!(Cost::of(&LLAMA2_7B, &LLAMA2_7B.parent()).params, 6_738_415_616);
    }

    #[test]
    fn agrees_with_the_published_llama_nas_sizes() {
        // LLaMA-NAS: all MLPs halved 4.574B, and 24 layers of that 3.496B.
        assert_eq!(cost(&LLAMA2_7B, "32x5504*32").params / 1_000_000, 4_574);
        assert_eq!(cost(&LLAMA2_7B, "32x5504*24:-*8").params / 1_000_000, 3_496);
    }

    /// Hidden 4, heads of width 2 in groups of 2, so that every number can be followed by hand.
    const SMALL: ModelShape = ModelShape {
        layers: 3,
        hidden: 4,
        heads: 4,
        kv_heads: 2,
        head_dim: 2,
        mlp: 8,
        vocab: 10,
        tied: false,
        extras: Extras::NONE,
    };

    #[test]
    fn counts_a_small_network_by_hand() {
        // Attention with 4 heads: q and o 4·8 each, k and v 4·4 each: 96; with 2 heads: half, 48. MLP of width 5: 3·4·5 = 60.
        let Cost { params, kv_bytes, macs, .. } = cost(&SMALL, "4x0:2x5:-");
        assert_eq!(params, 40 + 40 + 4 + (4 + 96) + (4 + 48 + 4 + 60));
        assert_eq!(kv_bytes, 2 * 2 * (4 + 2));
        assert_eq!(macs, 96 + 48 + 60 + 2 * (8 + 4) * 1024 + 40);
    }

    #[test]
    fn counts_a_tied_output_once_but_multiplies_by_it() {
        let tied = ModelShape { tied: true, ..SMALL };
        let (apart, together) = (cost(&SMALL, "4x8*3"), cost(&tied, "4x8*3"));
        assert_eq!(apart.params - together.params, 40);
        assert_eq!(apart.weight_bytes - together.weight_bytes, 80);
        assert_eq!(apart.macs, together.macs);
    }

    #[test]
    fn counts_the_bytes_of_the_file_and_its_fillers() {
        // F16 embedding and output, F32 norms, F16 matrices.
        let fixed = 2 * (40 + 40) + 4 * 4;
        assert_eq!(cost(&SMALL, "4x8:-*2").weight_bytes, fixed + (16 + 2 * 96) + (16 + 2 * 96));
        // The second layer's zero MLP of width 32: a norm and 3·4·32 weights.
        assert_eq!(cost(&SMALL, "-:4x0:-").weight_bytes, fixed + (16 + 2 * 96) + (16 + 2 * 384));
        // The first layer's zero KV group: a norm and 48 weights; the later attention-free layer has none.
        assert_eq!(cost(&SMALL, "0x8:0x8:-").weight_bytes, fixed + (16 + 2 * 48) + 2 * (16 + 2 * 96));
        assert_eq!(cost(&SMALL, "0x8:0x8:-").params, 84 + 2 * (4 + 96), "fillers are no parameters");
    }

    #[test]
    fn counts_quantized_blocks_where_rows_hold_whole_ones() {
        let parent = cost(&SMOLLM2, "9x1536*30").weight_bytes;
        let layer = 884_736 + 2_654_208;
        assert_eq!(parent - cost(&SMOLLM2, "9x1536*29:9x1536@8").weight_bytes, 2 * layer - layer / 32 * 34);
        assert_eq!(parent - cost(&SMOLLM2, "9x1536*29:9x1536@4").weight_bytes, 2 * layer - layer / 32 * 18);
        assert_eq!(parent - cost(&SMOLLM2, "9x1536*29:9x1536@q4_1").weight_bytes, 2 * layer - layer / 32 * 20);
        // Rows of 576 are no blocks of 256, those of 1536 are: gate, up and attention fall back to Q8_0, down does not.
        let down = 576 * 1536;
        let q6_k = cost(&SMOLLM2, "9x1536*29:9x1536@q6_k").weight_bytes;
        assert_eq!(parent - q6_k, 2 * layer - (layer - down) / 32 * 34 - down / 256 * 210);
        let embedding = 576 * 49_152;
        assert_eq!(parent - cost(&SMOLLM2, "E@8:9x1536*30").weight_bytes, 2 * embedding - embedding / 32 * 34);
        let apart = ModelShape { tied: false, ..SMOLLM2 };
        assert_eq!(cost(&apart, "9x1536*30:H@8").weight_bytes, parent + embedding / 32 * 34);
        assert_eq!(cost(&SMOLLM2, "E@4:9x1536@4*30").params, 134_515_008, "bits are no parameters");
    }

    #[test]
    fn fills_what_llama_cpp_cannot_do_without() {
        let layers = |text: &str| {
            let layers = gguf_layers(&SMOLLM2, &text.parse().unwrap());
            layers.iter().map(|(layer, gene)| format!("{layer}:{}x{}", gene.heads, gene.mlp)).collect::<Vec<_>>()
        };
        assert_eq!(layers("-:0x64:-:0x64:6x0:9x1536"), ["1:3x64", "3:0x64", "4:6x32", "5:9x1536"]);
        assert_eq!(layers("3x0:-"), ["0:3x32"]);
        assert_eq!(layers("-"), [""; 0]);
    }

    #[test]
    fn saturates_on_absurd_genomes() {
        let absurd = Cost::of(&LLAMA2_7B, &Genome::uniform(65_536, Gene::new(u32::MAX, u32::MAX)));
        assert_eq!(absurd.params, u64::MAX);
    }

    #[test]
    fn counts_biases_and_norms_of_heads() {
        let with = |extra| ModelShape { extras: Extras::NONE.with(extra), ..SMALL };
        let genome: Genome = "4x8:2x8:0x8".parse().unwrap();
        let plain = Cost::of(&SMALL, &genome);
        // Queries, keys and values of 4 heads are 8 + 4 + 4 wide, of 2 heads half of it; gate and up 8, down and o as hidden, 4.
        for (extra, values) in [
            (Extra::QkvBias, 16 + 8),
            (Extra::OBias, 4 + 4),
            (Extra::MlpBias, 3 * (8 + 8 + 4)),
            (Extra::HeadNorms, 4 + 4),
        ] {
            let cost = Cost::of(&with(extra), &genome);
            assert_eq!(cost.params - plain.params, values, "{extra:?}");
            assert_eq!((cost.kv_bytes, cost.macs), (plain.kv_bytes, plain.macs), "additions are no products");
            // With norms of heads the layer without attention is filled: norms of hidden size and of heads, 48 weights.
            let filled = if extra == Extra::HeadNorms { 4 * (4 + 4) + 2 * 48 } else { 0 };
            assert_eq!(cost.weight_bytes - plain.weight_bytes, 4 * values + filled, "{extra:?}");
        }
    }
}
