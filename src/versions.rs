//! Versions that results depend on.

use std::collections::BTreeMap;

/// The only version of libtorch that tch 0.24 builds against; its build script checks.
const LIBTORCH: &str = "2.11.0";

/// Versions of criadero and libtorch, by name.
pub fn versions() -> BTreeMap<String, String> {
    let named = [("criadero", env!("CARGO_PKG_VERSION")), ("libtorch", LIBTORCH)];
    named.map(|(name, version)| (name.to_string(), version.to_string())).into()
}
