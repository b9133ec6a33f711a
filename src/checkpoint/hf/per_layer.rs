//! Sizes of single layers in `config.json`: `per_layer_config`, as transformers from 5.14 on defines it, and the three lists of our
//! remote code, which older ones read as well.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::checkpoint::config::LlamaConfig;
use crate::space::{Gene, ModelShape};

/// What `skip` calls the halves of a layer.
const HALVES: [&str; 2] = ["attention", "mlp"];

/// A layer's entry: what differs from the model's own sizes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLayer {
    num_attention_heads: Option<u32>,
    num_key_value_heads: Option<u32>,
    intermediate_size: Option<u32>,
    #[serde(default)]
    skip: Vec<String>,
}

/// Each layer's query heads, key/value heads and MLP width; 0 for a half that is skipped.
pub(super) fn lists(
    entries: &BTreeMap<String, RawLayer>,
    shape: &ModelShape,
    problems: &mut Vec<String>,
) -> [Vec<u32>; 3] {
    let all = |size: usize| vec![size as u32; shape.layers];
    let [mut heads, mut kv_heads, mut mlp] = [shape.heads, shape.kv_heads, shape.mlp].map(all);
    for (key, entry) in entries {
        let Some(layer) = key.parse::<usize>().ok().filter(|&layer| layer < shape.layers) else {
            problems.push(format!("per_layer_config: found layer `{key}`, expected 0 to {}", shape.layers - 1));
            continue;
        };
        let said = [entry.num_attention_heads, entry.num_key_value_heads, entry.intermediate_size];
        for (list, said) in [&mut heads, &mut kv_heads, &mut mlp].into_iter().zip(said) {
            list[layer] = said.unwrap_or(list[layer]);
        }
        for half in &entry.skip {
            match half.as_str() {
                "attention" => (heads[layer], kv_heads[layer]) = (0, 0),
                "mlp" => mlp[layer] = 0,
                other => {
                    problems.push(format!("per_layer_config, layer {layer}: found skip `{other}`, expected {HALVES:?}"))
                }
            }
        }
    }
    [heads, kv_heads, mlp]
}

/// Both, for a network whose layers differ.
pub(super) fn keys(config: &LlamaConfig) -> Map<String, Value> {
    let (genes, group) = (config.genome.genes(), config.shape.group() as u32);
    let list = |of: &dyn Fn(&Gene) -> u32| genes.iter().map(of).collect::<Vec<_>>();
    let entries = genes.iter().enumerate().map(|(layer, gene)| (layer.to_string(), entry(&config.shape, *gene)));
    let differing: Map<String, Value> = entries.filter(|(_, entry)| entry != &json!({})).collect();
    Map::from_iter([
        ("layer_num_attention_heads".to_string(), json!(list(&|gene| gene.heads))),
        ("layer_num_key_value_heads".to_string(), json!(list(&|gene| gene.heads / group))),
        ("layer_intermediate_size".to_string(), json!(list(&|gene| gene.mlp))),
        ("per_layer_config".to_string(), Value::Object(differing)),
    ])
}

/// What a layer differs in.
fn entry(shape: &ModelShape, gene: Gene) -> Value {
    let (heads, group) = (gene.heads as usize, shape.group());
    let sizes = [
        ("num_attention_heads", heads, shape.heads),
        ("num_key_value_heads", heads / group, shape.kv_heads),
        ("intermediate_size", gene.mlp as usize, shape.mlp),
    ];
    let mut entry = Map::new();
    for (key, own, all) in sizes.into_iter().filter(|(_, own, all)| *own != 0 && own != all) {
        debug_assert!(own < all);
        entry.insert(key.into(), json!(own));
    }
    let skipped: Vec<&str> =
        HALVES.into_iter().zip([gene.heads, gene.mlp]).filter(|(_, size)| *size == 0).map(|(half, _)| half).collect();
    if !skipped.is_empty() {
        entry.insert("skip".into(), json!(skipped));
    }
    Value::Object(entry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::config::tests::small;

    #[test]
    fn says_what_differs_and_reads_it_back() {
        let config = small().with_genome("6x64:3x64:0x16:6x0".parse().unwrap());
        let keys = keys(&config);
        let expected = json!({
            "1": { "num_attention_heads": 3, "num_key_value_heads": 1 },
            "2": { "intermediate_size": 16, "skip": ["attention"] },
            "3": { "skip": ["mlp"] },
        });
        assert_eq!(keys["per_layer_config"], expected);
        let entries = serde_json::from_value(expected).unwrap();
        let mut problems = vec![];
        let lists = lists(&entries, &config.shape, &mut problems);
        assert_eq!(problems, [""; 0]);
        assert_eq!(json!(lists[0]), keys["layer_num_attention_heads"]);
        assert_eq!(json!(lists[1]), keys["layer_num_key_value_heads"]);
        assert_eq!(json!(lists[2]), keys["layer_intermediate_size"]);
    }

    #[test]
    fn names_the_layer_and_the_half_that_are_not_there() {
        let entries = serde_json::from_value(json!({ "9": {}, "x": {}, "0": { "skip": ["router"] } })).unwrap();
        let mut problems = vec![];
        lists(&entries, &small().shape, &mut problems);
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(problems[0].contains("found skip `router`"), "{problems:?}");
        assert!(serde_json::from_value::<RawLayer>(json!({ "head_dim": 4 })).is_err());
    }
}
