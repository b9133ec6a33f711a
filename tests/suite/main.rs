//! What only whole pieces show: the binary as users run it, the model against goldens, the layout of the source.
//!
//! One program, because each links libtorch. Tests that need the packaged model or data are `#[cfg_attr(not(assets), ignore)]`:
//! the build script looks whether they are there, and `CRIADERO_ASSETS=required`, which `make test` sets, takes them for granted.

mod arithmetic;
mod arrows;
mod cascade;
mod checkpoint;
mod checkpoint_hostile;
mod checkpoint_memory;
mod closed_form;
mod cluster;
mod command;
mod corrections;
mod damage;
mod devices;
mod docs;
mod eval;
mod eval_tasks;
mod families;
mod field;
mod generate;
mod goldens;
mod gpu_check;
mod gradients;
mod hostile;
mod hub;
mod inspect;
mod json;
mod kernels;
mod lineage;
mod measure;
mod messages;
mod model;
mod nats;
mod next;
mod output;
mod own_algorithm;
mod pinned;
mod plots;
mod progress;
mod pymoo_golden;
mod quantize;
mod rank;
mod route;
mod said;
mod search;
mod serve;
mod shrink;
mod synthesize;
mod tasks;
mod terminal;
mod tune;
