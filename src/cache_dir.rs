//! Where downloads and build products are kept.

use std::path::PathBuf;

/// `$CRIADERO_CACHE`, else `$XDG_CACHE_HOME/criadero`, else `~/.cache/criadero`.
pub fn cache_dir() -> PathBuf {
    cache_dir_from(|name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from))
}

fn cache_dir_from(variable: impl Fn(&str) -> Option<PathBuf>) -> PathBuf {
    variable("CRIADERO_CACHE").unwrap_or_else(|| {
        let caches = variable("XDG_CACHE_HOME").unwrap_or_else(|| variable("HOME").unwrap_or_default().join(".cache"));
        caches.join("criadero")
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn is_where_the_variables_say() {
        let among = |set: &[(&str, &str)]| {
            cache_dir_from(|name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| PathBuf::from(value)))
        };
        assert_eq!(among(&[("CRIADERO_CACHE", "/c"), ("XDG_CACHE_HOME", "/x")]), Path::new("/c"));
        assert_eq!(among(&[("XDG_CACHE_HOME", "/x"), ("HOME", "/h")]), Path::new("/x/criadero"));
        assert_eq!(among(&[("HOME", "/h")]), Path::new("/h/.cache/criadero"));
    }
}
