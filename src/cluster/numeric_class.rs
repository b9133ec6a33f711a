//! What the bits of a score depend on besides network and items.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::string_slice, clippy::cast_possible_truncation, clippy::cast_sign_loss)
)]

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use super::word::is_hexadecimal;
use crate::arithmetic::Arithmetic;
use crate::differences::differences;
use crate::run::RunSettings;

/// Letters of a class's name.
const LETTERS: usize = 12;

/// Machines that compute the same bits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NumericClass {
    /// Versions of criadero and libtorch.
    pub versions: BTreeMap<String, String>,
    /// Kind of device, and of the weights on it.
    pub device: String,
    /// The card, or the CPU's instructions that products are chosen by.
    pub machine: String,
    /// The numbers of the search.
    pub arithmetic: Arithmetic,
    /// libtorch threads that a chunk is computed with.
    pub threads: usize,
}

/// A class's name among those of a run, made of what it is: a word of a subject.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct ClassId(String);

impl<'de> Deserialize<'de> for ClassId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ClassId, D::Error> {
        let text = String::deserialize(deserializer)?;
        match is_hexadecimal(&text, LETTERS) {
            true => Ok(ClassId(text)),
            false => {
                Err(serde::de::Error::custom(format!("{text:?} is no class: expected {LETTERS} hexadecimal digits")))
            }
        }
    }
}

impl fmt::Display for ClassId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for NumericClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NumericClass { device, machine, arithmetic, threads, .. } = self;
        let threads = if *threads == 1 { "1 thread".to_string() } else { format!("{threads} threads") };
        let parts = [device.clone(), machine.clone(), arithmetic.to_string(), threads];
        f.write_str(&parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", "))
    }
}

impl NumericClass {
    /// That of a run.
    pub fn of(settings: &RunSettings) -> NumericClass {
        let (frozen, device) = (&settings.frozen, settings.device.as_str());
        // Which of several cards it is changes nothing.
        let numbered = device.split_once('(').and_then(|(name, rest)| Some((name, rest.split_once(')')?.1)));
        NumericClass {
            versions: settings.versions.clone(),
            device: numbered.map_or(device.to_string(), |(name, kind)| format!("{name}{kind}")),
            machine: frozen.machine.clone(),
            arithmetic: frozen.arithmetic,
            threads: frozen.threads,
        }
    }

    /// Its name.
    pub fn id(&self) -> ClassId {
        let json = serde_json::to_vec(self).expect("a class is plain data");
        ClassId(blake3::hash(&json).to_hex().chars().take(LETTERS).collect())
    }

    /// Why machines of another class cannot score for a run of this one: one line a difference. With `mixed`, another device is none.
    pub fn refusal(&self, here: &NumericClass, mixed: bool) -> Vec<String> {
        let NumericClass { device, machine, threads, .. } = if mixed { self } else { here }.clone();
        differences(self, &NumericClass { device, machine, threads, ..here.clone() })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn class(machine: &str) -> NumericClass {
        NumericClass {
            versions: BTreeMap::from([("libtorch".to_string(), "2.11".to_string())]),
            device: "cpu".into(),
            machine: machine.into(),
            arithmetic: Arithmetic::F32,
            threads: 1,
        }
    }

    #[test]
    fn another_device_is_refused_unless_they_are_mixed_and_other_numbers_always() {
        let (one, other) = (class("avx2"), class("avx512f"));
        assert_eq!(one.refusal(&other, false), ["machine is \"avx2\" there, \"avx512f\" here"]);
        assert!(one.refusal(&one, false).is_empty() && one.refusal(&other, true).is_empty());
        let bf16 = NumericClass { arithmetic: Arithmetic::Bf16, ..other.clone() };
        assert_eq!(one.refusal(&bf16, true), ["arithmetic is \"f32\" there, \"bf16\" here"]);
        let newer = NumericClass { versions: BTreeMap::from([("libtorch".into(), "3".into())]), ..other.clone() };
        assert_eq!(one.refusal(&newer, true).len(), 1);
        assert_eq!(one.id(), class("avx2").id());
        assert!(one.id() != other.id() && one.id().to_string().len() == LETTERS);
    }
}
