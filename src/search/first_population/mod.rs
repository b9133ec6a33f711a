//! First populations: networks worth trying first, topped up with a sample that covers the range of sizes.

mod given;
mod ladders;
mod stratified;

pub use given::given_networks;
pub use ladders::worthiest;
pub use stratified::{first_population, stratified};
