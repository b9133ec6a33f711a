//! Matrices that write to the residual stream, corrected for narrower widths: `corrections.safetensors` beside a supernet's
//! weights, bound to them by their digest. The supernet without it is an ordinary checkpoint of its parent's function.

use std::collections::BTreeMap;
use std::path::Path;

use tch::Tensor;

use crate::checkpoint::config::{Dtype, LlamaConfig};
use crate::checkpoint::hf::CORRECTIONS_FILE;
use crate::checkpoint::names::TensorName;
use crate::checkpoint::tensor_file::{self, StoredTensor};
use crate::error::{Error, Result};
use crate::space::{Genome, LayerTensor, misfit};

/// What the file says of the weights that it belongs to.
const WEIGHTS: &str = "weights";

/// A matrix at a narrower width: the checkpoint's tensor, and how many of its columns are kept.
pub type Narrowed = (TensorName, usize);

/// The corrected matrices of a supernet, as they lie in their file; none of a checkpoint that has no such file.
#[derive(Clone, Default)]
pub struct Corrections(BTreeMap<Narrowed, StoredTensor>);

impl Corrections {
    /// Opens the file of a directory, where there is one, for the weights with this digest.
    ///
    /// # Errors
    /// `Mismatch` for the file of other weights, and for matrices that the model cannot have.
    pub(super) fn open(dir: &Path, config: &LlamaConfig, weights: &dyn Fn() -> Result<String>) -> Result<Corrections> {
        let path = dir.join(CORRECTIONS_FILE);
        if Error::is_absent(&path)? {
            return Ok(Corrections::default());
        }
        let (words, found) = tensor_file::open(&path)?;
        let mismatch =
            |what: &str, problems| Err(Error::Mismatch { path: path.clone(), what: what.to_string(), problems });
        let (theirs, ours) = (words.get(WEIGHTS), weights()?);
        if theirs != Some(&ours) {
            let theirs = theirs.map_or("none", String::as_str);
            let remedy = "rank the model again, or remove the file: narrow networks are less accurate without it";
            return mismatch(
                "the corrections are of other weights",
                vec![format!("digest of the weights: found {theirs}, expected {ours}; {remedy}")],
            );
        }
        let (mut matrices, mut problems) = (BTreeMap::new(), Vec::new());
        for (name, raw) in found {
            match narrowed(config, &name) {
                Some(of) if shape_of(config, of) == raw.shape() => {
                    matrices.insert(of, raw);
                }
                Some(of) => {
                    problems.push(format!("{name}: found shape {:?}, expected {:?}", raw.shape(), shape_of(config, of)))
                }
                None => problems.push(format!("{name}: found, but the model has no such matrix")),
            }
        }
        if problems.is_empty() { Ok(Corrections(matrices)) } else { mismatch("corrections that do not fit", problems) }
    }

    /// Writes the matrices beside weights that are there, rounded to the type that those have.
    ///
    /// # Errors
    /// `Io`; `Invalid` for a weight that is not finite.
    pub fn write(dir: &Path, weights: &str, dtype: Dtype, matrices: &BTreeMap<Narrowed, Tensor>) -> Result<()> {
        let named = matrices.iter().map(|(&(name, columns), tensor)| {
            (format!("{}@{columns}", name.hf()), tensor.to_kind(dtype.unquantized().kind()))
        });
        let words = BTreeMap::from([(WEIGHTS.to_string(), weights.to_string())]);
        tensor_file::write(&dir.join(CORRECTIONS_FILE), &named.collect(), &words)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many weights they have together.
    pub fn weights(&self) -> u64 {
        self.0.values().map(|raw| raw.shape().iter().product::<usize>() as u64).sum()
    }

    /// The matrices.
    pub fn matrices(&self) -> impl Iterator<Item = Narrowed> {
        self.0.keys().copied()
    }

    /// A matrix on the CPU, where it is corrected.
    pub(super) fn get(&self, of: Narrowed) -> Option<&StoredTensor> {
        self.0.get(&of)
    }

    /// A matrix on the CPU.
    ///
    /// # Errors
    /// `Invalid` where there is none at this width.
    pub fn read(&self, of: Narrowed, kind: tch::Kind) -> Result<Tensor> {
        let missing = || Error::invalid(of.0.hf(), format!("{} columns", of.1), "a width that is corrected");
        self.get(of).ok_or_else(missing)?.read(kind)
    }

    /// Refuses a network with a width that others of this supernet are corrected for and it is not: its scores would not compare
    /// with theirs.
    ///
    /// # Errors
    /// `Mismatch` with every such matrix.
    pub fn check(&self, config: &LlamaConfig, genome: &Genome) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let mut problems = Vec::new();
        for (layer, gene) in genome.kept() {
            for tensor in LayerTensor::writers() {
                let name = TensorName::Layer(layer, tensor);
                let columns = |gene| name.shape(&config.shape, gene)[1];
                let (found, whole) = (columns(gene), columns(config.gene(layer)));
                if found > 0 && found < whole && self.get((name, found)).is_none() {
                    let own = self.0.keys().filter(|(other, _)| *other == name).map(|(_, columns)| columns.to_string());
                    let own: Vec<String> = own.collect();
                    let own = if own.is_empty() { "none".to_string() } else { own.join(", ") };
                    problems.push(format!(
                        "{}: no correction for {found} columns, but for {own}; rank the parent again with `--space` of this network",
                        name.hf()
                    ));
                }
            }
        }
        misfit(genome, problems)
    }

    /// BLAKE3 of all of them.
    pub(super) fn digest(&self, hasher: &mut blake3::Hasher) -> Result<()> {
        self.0.iter().try_for_each(|(&(name, columns), raw)| {
            hasher.update(format!("\n{}@{columns} {}", name.hf(), raw.digest()?).as_bytes());
            Ok(())
        })
    }
}

/// The matrix that a name in the file means.
fn narrowed(config: &LlamaConfig, name: &str) -> Option<Narrowed> {
    let (name, columns) = name.rsplit_once('@')?;
    let columns = columns.parse().ok().filter(|&columns: &usize| columns > 0)?;
    let own = (0..config.shape.layers)
        .flat_map(|layer| LayerTensor::writers().map(move |tensor| TensorName::Layer(layer, tensor)))
        .find(|own| own.hf() == name)?;
    (columns < *config.tensor_shape(own)?.get(1)?).then_some((own, columns))
}

fn shape_of(config: &LlamaConfig, (_, columns): Narrowed) -> Vec<usize> {
    vec![config.shape.hidden, columns]
}
