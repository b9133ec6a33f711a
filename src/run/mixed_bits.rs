//! The search for the bits of each layer of one network: an experiment in which nothing else differs.

use std::path::Path;

use super::experiment::Experiment;
use crate::error::{Error, Result};
use crate::output;
use crate::space::{Bits, Constraint, Cost, Gene, Genome, ModelShape, SearchSpace};

/// One network, and the bits that its matrices may have.
pub struct MixedBits<'a> {
    /// The model as the user names it.
    pub model: String,
    /// Its sizes.
    pub shape: &'a ModelShape,
    /// The network.
    pub genome: &'a Genome,
    /// Bits of layers.
    pub choices: &'a [Bits],
    /// Bits of the embedding, and of the output matrix where it is another.
    pub ends: &'a [Bits],
    /// The bytes that it may have, as a limit of `weight_bytes`.
    pub budget: Constraint,
}

impl MixedBits<'_> {
    /// The experiment that trades these objectives against bytes. Its space is written to `space.yaml` in `dir` too.
    ///
    /// # Errors
    /// A budget below the network's fewest bits; bits that its rows cannot have.
    pub fn experiment(&self, objectives: Vec<String>, dir: &Path) -> Result<Experiment> {
        let text = self.space();
        let space = SearchSpace::from_yaml(&text)?;
        let smallest = space.smallest();
        let least = Cost::of(self.shape, &smallest).weight_bytes;
        if self.budget.violation(least as f64) > 0.0 {
            let expected = format!("at least {least}: in its fewest bits the network still has them ({smallest})");
            return Err(Error::invalid("budget", &self.budget, expected));
        }
        output::write(&dir.join("space.yaml"), text)?;
        let objectives = objectives.into_iter().chain(["weight_bytes".to_string()]);
        let constraints = vec![self.budget.clone()];
        Ok(Experiment { constraints, ..Experiment::new(&self.model, space, objectives) })
    }

    /// The space of the one network.
    fn space(&self) -> String {
        let mut text = String::from("# One network; its bits are what is searched.\nshape: {");
        text += &self.shape.fields().map(|(name, value)| format!(" {name}: {value}")).join(",");
        let list = |bits: &[Bits]| bits.iter().map(Bits::to_string).collect::<Vec<_>>().join(", ");
        let (heads, mlp) = (self.shape.heads, self.shape.mlp);
        text += &format!(" }}\nheads: [{heads}]\nmlp: [{mlp}]\nbits: [{}]\n", list(self.choices));
        text += &format!("embedding_bits: [{}]\n", list(self.ends));
        if !self.shape.tied {
            text += &format!("head_bits: [{}]\n", list(self.ends));
        }
        text += "layers:\n";
        for (layer, Gene { heads, mlp, .. }) in self.genome.genes().iter().enumerate() {
            text += &format!("  {layer}: {{ heads: [{heads}], mlp: [{mlp}] }}\n");
        }
        text
    }
}
