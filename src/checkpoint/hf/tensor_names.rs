//! Names that other tools give to a model's tensors: wrappers' prefixes before them, or none where transformers has `model.`.

use std::path::Path;

use crate::checkpoint::names::TensorName;
use crate::checkpoint::raw_tensor::FoundTensors;
use crate::error::{Error, Result};

/// What wrappers put before a name: torch.compile, data parallel training, PEFT.
const WRAPPERS: [&str; 4] = ["_orig_mod.", "module.", "base_model.model.", "_fsdp_wrapped_module."];
/// What wrappers of single modules put inside a name: PEFT beside adapters, torch.compile, FSDP, recomputation.
const INNER: [&str; 4] = [".base_layer.", "._orig_mod.", "._fsdp_wrapped_module.", "._checkpoint_wrapped_module."];
/// What transformers puts before all names but the output matrix's.
const PREFIX: &str = "model.";

/// The same tensors under transformers' names; a note says what was taken away or added.
///
/// # Errors
/// `Mismatch` for adapters that are not merged, or where two tensors come to the same name.
pub(super) fn renamed(dir: &Path, found: FoundTensors, notes: &mut Vec<String>) -> Result<FoundTensors> {
    let adapters = found.keys().filter(|name| name.contains(".lora_")).count();
    if adapters > 0 {
        let what = "adapters stand beside the weights".into();
        let problems =
            vec![format!("found {adapters} tensors of LoRA, expected none: merge them into the model first")];
        return Err(Error::Mismatch { path: dir.into(), what, problems });
    }
    let mut seen: Vec<&'static str> = Vec::new();
    let mut out = FoundTensors::new();
    let mut twice = Vec::new();
    let embedding = TensorName::Embedding.hf();
    let bare = |name: &str| {
        let mut rest = name;
        let mut taken = Vec::new();
        while let Some((wrapper, inner)) =
            WRAPPERS.iter().find_map(|wrapper| Some((*wrapper, rest.strip_prefix(wrapper)?)))
        {
            taken.push(wrapper);
            rest = inner;
        }
        taken.extend(INNER.into_iter().filter(|inner| rest.contains(inner)));
        (INNER.iter().fold(rest.to_string(), |name, inner| name.replace(inner, ".")), taken)
    };
    let without_prefix = {
        let names: Vec<String> = found.keys().map(|name| bare(name).0).collect();
        let has = |wanted: &str| names.iter().any(|name| name == wanted);
        !has(&embedding) && embedding.strip_prefix(PREFIX).is_some_and(has)
    };
    for (name, tensor) in found {
        let (mut rest, taken) = bare(&name);
        seen.extend(taken);
        if without_prefix && rest != TensorName::Head.hf() {
            rest = format!("{PREFIX}{rest}");
        }
        if out.insert(rest.clone(), tensor).is_some() {
            twice.push(format!("{rest}: found twice, once as {name}"));
        }
    }
    if !twice.is_empty() {
        let what = "tensors come to the same name without their wrappers' prefixes".into();
        return Err(Error::Mismatch { path: dir.into(), what, problems: twice });
    }
    seen.sort_unstable();
    seen.dedup();
    if !seen.is_empty() {
        let quoted: Vec<String> = seen.iter().map(|part| format!("`{part}`")).collect();
        notes.push(format!("names of tensors are read without {}", quoted.join(" and ")));
    }
    if without_prefix {
        notes.push(format!("names of tensors are read with `{PREFIX}` before them, as transformers has them"));
    }
    Ok(out)
}
