//! Versions that results depend on.

use std::collections::BTreeMap;

/// The only version of libtorch that tch 0.24 builds against; its build script checks. Nothing without it.
const LIBTORCH: Option<&str> = if cfg!(feature = "torch") { Some("2.11.0") } else { None };

/// Versions of criadero and libtorch, by name.
pub fn versions() -> BTreeMap<String, String> {
    let named = [("criadero", Some(env!("CARGO_PKG_VERSION"))), ("libtorch", LIBTORCH)];
    named.into_iter().filter_map(|(name, version)| Some((name.to_string(), version?.to_string()))).collect()
}
