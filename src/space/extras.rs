//! What the layers of some models have beyond LLaMA's nine tensors.

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Tensors that a model's layers have or do not have, all layers alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Extra {
    /// Biases of queries, keys and values.
    QkvBias,
    /// The bias of attention's output projection.
    OBias,
    /// Biases of gate, up and down projection.
    MlpBias,
    /// Norms of each query and each key head, before positions are applied.
    HeadNorms,
}

/// Every one with its name in search spaces and runs.
const NAMES: [(Extra, &str); 4] = [
    (Extra::QkvBias, "qkv_bias"),
    (Extra::OBias, "o_bias"),
    (Extra::MlpBias, "mlp_bias"),
    (Extra::HeadNorms, "head_norms"),
];

/// A set of them; in files a list of names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<&'static str>")]
pub struct Extras(u8);

impl Extras {
    /// A LLaMA's: none.
    pub const NONE: Extras = Extras(0);

    /// These and one more.
    pub const fn with(self, extra: Extra) -> Extras {
        Extras(self.0 | 1 << extra as u8)
    }

    /// Whether it is one of them.
    pub const fn has(self, extra: Extra) -> bool {
        self.0 >> extra as u8 & 1 == 1
    }

    /// These without the others.
    pub const fn without(self, others: Extras) -> Extras {
        Extras(self.0 & !others.0)
    }

    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        *self == Extras::NONE
    }

    /// Their names, in order.
    pub fn names(self) -> Vec<&'static str> {
        NAMES.into_iter().filter(|(extra, _)| self.has(*extra)).map(|(_, name)| name).collect()
    }
}

impl FromIterator<Extra> for Extras {
    fn from_iter<I: IntoIterator<Item = Extra>>(extras: I) -> Extras {
        extras.into_iter().fold(Extras::NONE, Extras::with)
    }
}

impl From<Extras> for Vec<&'static str> {
    fn from(extras: Extras) -> Vec<&'static str> {
        extras.names()
    }
}

impl TryFrom<Vec<String>> for Extras {
    type Error = Error;

    fn try_from(names: Vec<String>) -> Result<Extras, Error> {
        let known = |name: String| match NAMES.iter().find(|(_, known)| *known == name) {
            Some((extra, _)) => Ok(*extra),
            None => Err(Error::unknown("extra tensor", name, NAMES.map(|(_, name)| name))),
        };
        names.into_iter().map(known).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_a_list_of_names_in_files() {
        let qwen = Extras::NONE.with(Extra::HeadNorms).with(Extra::QkvBias);
        let text = serde_json::to_string(&qwen).unwrap();
        assert_eq!(text, r#"["qkv_bias","head_norms"]"#);
        assert_eq!(serde_json::from_str::<Extras>(&text).unwrap(), qwen);
        assert!(qwen.has(Extra::QkvBias) && !qwen.has(Extra::OBias) && Extras::NONE.is_none());
        let error = serde_json::from_str::<Extras>(r#"["alibi"]"#).unwrap_err().to_string();
        assert!(error.contains("alibi") && error.contains("head_norms"), "{error}");
    }
}
