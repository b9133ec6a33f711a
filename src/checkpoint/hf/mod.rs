//! Hugging Face directories: `config.json`, safetensors, tokenizer files, model cards.

mod config;
mod config_keys;
mod config_writer;
mod directory;
mod front_matter;
mod lineage;
mod model_card;
mod per_layer;
mod rope_parameters;
mod safetensors_file;
mod sliding_window;
mod tensor_names;
mod writer;

pub(super) use config::{OneOrMany, layer_genes};
pub use directory::ADAPTER_DIR;
pub(crate) use directory::CARD_FILE;
pub(super) use directory::{
    CONFIG_FILE, CORRECTIONS_FILE, DirectoryContent, INDEX_FILE, MODEL_CARD_FILE, NOTICE_FILES, SINGLE_FILE, open,
    shard_names,
};
pub(super) use lineage::lineage;
pub use model_card::ModelCard;
pub(super) use safetensors_file::open_safetensors;
pub use writer::{TokenizerFiles, stage, write, write_into};
pub(super) use writer::{pretty, safetensors_header};
