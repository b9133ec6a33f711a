//! A space to begin with, for any model: YAML with what each line means.

use super::ModelShape;

/// Choices that a range is cut into.
const CHOICES: usize = 5;
/// Rows of wide matrices in whole blocks of llama.cpp's K-quants, of narrow ones in blocks of its other formats.
const WIDTH_STEPS: [usize; 2] = [256, 32];
/// Models of fewer layers have no layers to spare at their ends.
const DEEP: usize = 16;

/// The YAML of a space of half to all heads and channels of each layer, a quarter of the layers droppable; of deep models the first two
/// layers and the last stay whole, as in LLaMA-NAS's own and the shipped spaces.
pub fn starting_yaml(name: &str, shape: &ModelShape) -> String {
    let ModelShape { layers, hidden, heads, kv_heads, head_dim, mlp, vocab, tied, extras } = *shape;
    let list = |values: &[usize]| values.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    let groups = spread(kv_heads.div_ceil(2), kv_heads, 1);
    let kept: Vec<usize> = groups.iter().map(|groups| groups * shape.group()).collect();
    let step = WIDTH_STEPS.into_iter().find(|step| mlp.is_multiple_of(*step) && mlp / step >= 2 * CHOICES).unwrap_or(1);
    let widths = spread(mlp.div_ceil(2), mlp, step);
    let depths: Vec<usize> = (layers - layers / 4..=layers).collect();
    let more = if extras.is_none() { String::new() } else { format!(", extras: [{}]", extras.names().join(", ")) };
    let mut yaml = format!(
        "# {name}: half to all of each layer, three quarters to all of the layers. Cut it down to what you would ship: `criadero inspect FILE`\n\
         # says how many networks it has and from which size to which.\n\
         shape: {{ layers: {layers}, hidden: {hidden}, heads: {heads}, kv_heads: {kv_heads}, head_dim: {head_dim}, mlp: {mlp}, \
         vocab: {vocab}, tied: {tied}{more} }}\n\
         # Layers that stay; the ranking says which go first.\n\
         depth: [{}]\n\
         # Attention heads of a layer, whole KV groups of {}; 0 drops its attention.\n\
         heads: [{}]\n\
         # Channels of its MLP{}; 0 drops it.\n\
         mlp: [{}]\n",
        list(&depths),
        shape.group(),
        list(&kept),
        if step > 1 {
            format!(", in steps of {step}, which quantized formats store in whole blocks")
        } else {
            String::new()
        },
        list(&widths),
    );
    if layers >= DEEP {
        yaml += &format!(
            "# The ends of a deep model are worth most.\nlayers:\n  0-1: {{ heads: [{heads}], mlp: [{mlp}] }}\n  {}: {{ heads: [{heads}], mlp: [{mlp}] }}\n",
            layers - 1
        );
    }
    yaml + "# Formats of a layer's weights (16: as they are, 8: Q8_0, 4: Q4_0), where networks shall be quantized:\n\
            # bits: [16, 8, 4]\n\
            # Limits that every network keeps to:\n\
            # constraints: { weight_bytes: \"<= 1G\" }\n"
}

/// At most [`CHOICES`] multiples of `step` from `least` to `most`, evenly apart, the ends among them.
fn spread(least: usize, most: usize, step: usize) -> Vec<usize> {
    let (first, last) = (least.div_ceil(step).max(1), most / step);
    let count = CHOICES.min(last - first + 1);
    let mut steps: Vec<usize> = (0..count).map(|place| first + (last - first) * place / (count - 1).max(1)).collect();
    *steps.last_mut().expect("there is one") = last;
    steps.dedup();
    steps.into_iter().map(|steps| steps * step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::SearchSpace;
    use crate::space::shape::tests::TINY;
    use crate::space::shipped::SHIPPED;

    #[test]
    fn every_shipped_models_starting_space_is_a_space_of_it() {
        let shapes = SHIPPED.iter().map(|(name, text)| (*name, *SearchSpace::from_yaml(text).unwrap().shape()));
        for (name, shape) in shapes.chain([("odd", ModelShape { heads: 3, kv_heads: 3, mlp: 37, layers: 1, ..TINY })]) {
            let yaml = starting_yaml(name, &shape);
            let space = SearchSpace::from_yaml(&yaml).unwrap_or_else(|error| panic!("{name}: {error}\n{yaml}"));
            assert_eq!((space.shape(), space.largest()), (&shape, shape.parent()), "{name}");
            let [small, large] = [space.smallest(), space.largest()].map(|genome| space.size(&genome));
            assert!(small < large && yaml.starts_with(&format!("# {name}: ")), "{name}");
            let commented = yaml.replace("# bits:", "bits:").replace("# constraints:", "constraints:");
            let quantized = SearchSpace::from_yaml(&commented);
            assert!(
                quantized.is_ok() || shape.mlp == 37 || shape.head_dim < 32,
                "{name}: what is commented out is right, too"
            );
        }
    }

    #[test]
    fn choices_are_spread_from_half_to_all() {
        assert_eq!(spread(5504, 11008, 256), [5632, 6912, 8192, 9472, 11008]);
        assert_eq!(spread(1, 1, 1), [1]);
        assert_eq!(spread(2, 3, 1), [2, 3]);
        assert_eq!(spread(16, 32, 1), [16, 20, 24, 28, 32]);
    }
}
