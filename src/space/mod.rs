//! Search spaces and genomes: pure values, no tensors, no input or output but YAML text.

mod bits;
mod block_weights;
mod choices;
mod constraint;
mod cost;
mod count;
mod extras;
mod fit;
mod genome;
mod layer_tensor;
mod matrix;
mod nearest;
mod place;
mod search_space;
pub(crate) mod shape;
mod shipped;
mod starting;
mod yaml;

pub use bits::Bits;
pub use block_weights::{BlockTypes, BlockWeights};
pub use constraint::{Bound, Constraint};
pub use cost::{Cost, FILLER_MLP, MACS_CONTEXT, gguf_layers};
pub use extras::{Extra, Extras};
pub use fit::{check_genome, genome_problems, misfit};
pub use genome::{Ends, Gene, Genome, HalfGene, MAX_LAYERS};
pub use layer_tensor::{Half, Joint, LAYER, LayerRow, LayerTensor, Size, TensorKind};
pub use matrix::Matrix;
pub use search_space::{DropRule, EndChoices, LayerChoices, SearchSpace};
pub use shape::{MAX_SIZE, ModelShape};
pub use starting::starting_yaml;
