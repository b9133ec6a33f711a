//! Low-rank adapters in the layout of Hugging Face's peft: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! An adapter of a supernet belongs to its order of heads and channels: rows and columns of another order are other
//! heads. `supernet.json` beside the two files says which.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tch::Tensor;

use super::hf::pretty;
use super::tensor_file::{self, TensorFile};
use super::{LayerTensor, TensorName};
use crate::error::{Error, Result};
use crate::output::{self, Seal};

const CONFIG_FILE: &str = "adapter_config.json";
const WEIGHTS_FILE: &str = "adapter_model.safetensors";
const BASE_FILE: &str = "supernet.json";
/// What peft puts before a module's name.
const PREFIX: &str = "base_model.model.";

/// One adapted matrix: the network computes with W + (alpha / rank) · B · A (Hu et al. 2021, equation 3).
#[derive(Debug)]
pub struct LowRank {
    /// (rank, in), float32 on the CPU or what the model runs in.
    pub a: Tensor,
    /// (out, rank)
    pub b: Tensor,
}

/// The adapters of a model. That of a narrower network is a prefix of the wide one's, as its weights are.
#[derive(Debug)]
pub struct Adapters {
    /// Rank of every product.
    pub rank: usize,
    /// Its weight is alpha / rank.
    pub alpha: f64,
    /// The adapted matrices by layer.
    pub matrices: BTreeMap<(usize, LayerTensor), LowRank>,
}

/// To which supernet adapters belong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdapterBase {
    /// BLAKE3 of the supernet that they were trained on.
    pub supernet_digest: String,
    /// BLAKE3 of its order of heads and channels; absent for a model that was never ranked.
    pub order_digest: Option<String>,
}

/// The content of `supernet.json`.
#[derive(Serialize, Deserialize)]
struct Base {
    #[serde(flatten)]
    base: AdapterBase,
    /// Rank and alpha, which peft's own file has without a checksum; none of versions that did not write them.
    #[serde(default)]
    scale: Option<(usize, f64)>,
}

#[derive(Deserialize)]
struct PeftConfig {
    peft_type: String,
    r: usize,
    lora_alpha: f64,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    use_dora: bool,
}

impl Adapters {
    /// The factor of B · A.
    pub fn scale(&self) -> f64 {
        self.alpha / self.rank as f64
    }

    /// Handles of the same tensors.
    pub fn share(&self) -> Adapters {
        let copy = |one: &LowRank| LowRank { a: one.a.shallow_clone(), b: one.b.shallow_clone() };
        let matrices = self.matrices.iter().map(|(&place, one)| (place, copy(one))).collect();
        Adapters { matrices, ..*self }
    }

    /// Every matrix with its name in a file.
    pub fn named(&self) -> BTreeMap<String, Tensor> {
        let both = |(&(layer, tensor), one): (&(usize, LayerTensor), &LowRank)| {
            let [a, b] = file_names(layer, tensor);
            [(a, one.a.shallow_clone()), (b, one.b.shallow_clone())]
        };
        self.matrices.iter().flat_map(both).collect()
    }

    /// Writes the directory that peft reads, and beside its files to which supernet they belong.
    pub fn write(&self, dir: &Path, base: &AdapterBase) -> Result<()> {
        let mut targets: Vec<&str> = self.matrices.keys().map(|(_, tensor)| tensor.short_name()).collect();
        targets.sort_unstable();
        targets.dedup();
        let config = json!({
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "r": self.rank,
            "lora_alpha": self.alpha,
            "lora_dropout": 0.0,
            "bias": "none",
            "inference_mode": true,
            "target_modules": targets,
        });
        tensor_file::write(&dir.join(WEIGHTS_FILE), &self.named(), &BTreeMap::from([("format".into(), "pt".into())]))?;
        output::write(
            &dir.join(BASE_FILE),
            Seal::put(&pretty(&json!(Base { base: base.clone(), scale: Some((self.rank, self.alpha)) }))),
        )?;
        output::write(&dir.join(CONFIG_FILE), pretty(&config))
    }

    /// Reads what [`Adapters::write`] wrote: the adapters of a model whose tensors have these shapes.
    ///
    /// # Errors
    /// `Missing` and `Format`; `Mismatch` with every matrix whose shape is wrong or that the model does not have.
    pub fn read(dir: &Path, shape_of: &dyn Fn(TensorName) -> Option<Vec<usize>>) -> Result<(Adapters, AdapterBase)> {
        let config: PeftConfig = read_json(&dir.join(CONFIG_FILE))?;
        let Base { base, scale } = read_json(&dir.join(BASE_FILE))?;
        let path = dir.join(WEIGHTS_FILE);
        let plain = config.peft_type == "LORA"
            && config.r > 0
            && config.lora_alpha.is_finite()
            && !config.use_rslora
            && !config.use_dora;
        if let Some((rank, alpha)) = scale
            && (config.r, config.lora_alpha) != (rank, alpha)
        {
            let problem = format!(
                "rank and alpha: found {} and {}, written were {rank} and {alpha}; put back a copy of it, or tune again",
                config.r, config.lora_alpha
            );
            let what = format!("it was changed since {BASE_FILE} was written beside it");
            return Err(Error::Mismatch { path: dir.join(CONFIG_FILE), what, problems: vec![problem] });
        }
        if !plain {
            let expected = "plain LoRA of a rank from 1 on, without rslora or dora";
            return Err(Error::format(dir.join(CONFIG_FILE), "peft configuration", expected));
        }
        let file = TensorFile::open(&path)?;
        let mut strangers: BTreeSet<&str> = file.names().collect();
        let mut matrices = BTreeMap::new();
        let mut problems = Vec::new();
        let layers = (0..).take_while(|&layer| {
            LayerTensor::matrices().any(|tensor| shape_of(TensorName::Layer(layer, tensor)).is_some())
        });
        for (layer, tensor) in layers.flat_map(|layer| LayerTensor::matrices().map(move |tensor| (layer, tensor))) {
            let [a_name, b_name] = file_names(layer, tensor);
            strangers.remove(a_name.as_str());
            strangers.remove(b_name.as_str());
            match (file.read(&a_name)?, file.read(&b_name)?, shape_of(TensorName::Layer(layer, tensor))) {
                (None, None, _) => {}
                (Some(a), Some(b), Some(shape)) => {
                    for (name, found, expected) in
                        [(a_name, a.size(), [config.r, shape[1]]), (b_name, b.size(), [shape[0], config.r])]
                    {
                        if found != expected.map(|size| size as i64) {
                            problems.push(format!("{name}: found shape {found:?}, expected {expected:?}"));
                        }
                    }
                    matrices.insert((layer, tensor), LowRank { a, b });
                }
                (_, _, None) => problems.push(format!("{a_name}: the model has no such matrix")),
                (None, _, _) => problems.push(format!("{a_name}: missing beside {b_name}")),
                (_, None, _) => problems.push(format!("{b_name}: missing beside {a_name}")),
            }
        }
        problems.extend(strangers.iter().map(|name| format!("{name}: found, but the model has no such matrix")));
        if !problems.is_empty() {
            return Err(Error::Mismatch { path, what: "the adapters do not fit the model".into(), problems });
        }
        Ok((Adapters { rank: config.r, alpha: config.lora_alpha, matrices }, base))
    }
}

fn file_names(layer: usize, tensor: LayerTensor) -> [String; 2] {
    let weight = TensorName::Layer(layer, tensor).hf();
    let module = weight.trim_end_matches(".weight");
    ["A", "B"].map(|side| format!("{PREFIX}{module}.lora_{side}.weight"))
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = std::fs::read(path).map_err(|_| Error::Missing {
        what: "adapter file".into(),
        path: path.into(),
        remedy: "give a directory that `criadero tune --lora` wrote".into(),
    })?;
    let json = Seal::open(path, "adapter", &bytes, "put back a copy of it, or tune again")?;
    serde_json::from_slice(&json).map_err(|error| Error::format(path, "adapter", error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    fn shape_of(name: TensorName) -> Option<Vec<usize>> {
        match name {
            TensorName::Layer(0, LayerTensor::Q) => Some(vec![8, 6]),
            TensorName::Layer(0, LayerTensor::Down) => Some(vec![6, 10]),
            _ => None,
        }
    }

    fn adapters() -> Adapters {
        let ones = |rows, columns| Tensor::ones([rows, columns], (Kind::Float, Device::Cpu));
        let matrices = BTreeMap::from([
            ((0, LayerTensor::Q), LowRank { a: ones(2, 6), b: ones(8, 2) }),
            ((0, LayerTensor::Down), LowRank { a: ones(2, 10), b: ones(6, 2) }),
        ]);
        Adapters { rank: 2, alpha: 4.0, matrices }
    }

    #[test]
    fn reads_what_it_wrote() {
        let dir = tempfile::tempdir().unwrap();
        let base = AdapterBase { supernet_digest: "ab".into(), order_digest: Some("cd".into()) };
        adapters().write(dir.path(), &base).unwrap();
        let (read, read_base) = Adapters::read(dir.path(), &shape_of).unwrap();
        assert_eq!((read.rank, read.scale(), read_base), (2, 2.0, base));
        assert_eq!(read.named(), adapters().named());
        assert!(read.named().contains_key("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"));
    }

    #[test]
    fn lists_everything_that_does_not_fit() {
        let dir = tempfile::tempdir().unwrap();
        let base = AdapterBase { supernet_digest: "ab".into(), order_digest: None };
        adapters().write(dir.path(), &base).unwrap();
        let other = |name| match name {
            TensorName::Layer(0, LayerTensor::Q) => Some(vec![8, 7]),
            _ => None,
        };
        let error = Adapters::read(dir.path(), &other).unwrap_err().to_string();
        assert!(error.contains("found shape [2, 6], expected [2, 7]"), "{error}");
        assert!(error.contains("down_proj.lora_A.weight: the model has no such matrix"), "{error}");
    }
}
