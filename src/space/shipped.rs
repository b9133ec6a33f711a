//! The spaces that come with the program, by name.

use std::fs;
use std::path::Path;

use super::{ModelShape, SearchSpace};
use crate::error::{Error, Result};

/// The shipped spaces: name and YAML text. The first is the default.
pub const SHIPPED: [(&str, &str); 12] = [
    ("smollm2-135m", include_str!("../../search-spaces/smollm2-135m.yaml")),
    ("smollm2-135m-mixed", include_str!("../../search-spaces/smollm2-135m-mixed.yaml")),
    ("llama2-7b", include_str!("../../search-spaces/llama2-7b.yaml")),
    ("llama2-7b-llama-nas", include_str!("../../search-spaces/llama2-7b-llama-nas.yaml")),
    ("tinyllama-1.1b", include_str!("../../search-spaces/tinyllama-1.1b.yaml")),
    ("llama-3.2-1b", include_str!("../../search-spaces/llama-3.2-1b.yaml")),
    ("llama-3.1-8b", include_str!("../../search-spaces/llama-3.1-8b.yaml")),
    ("mistral-7b", include_str!("../../search-spaces/mistral-7b.yaml")),
    ("qwen2.5-0.5b", include_str!("../../search-spaces/qwen2.5-0.5b.yaml")),
    ("qwen2.5-7b", include_str!("../../search-spaces/qwen2.5-7b.yaml")),
    ("qwen3-0.6b", include_str!("../../search-spaces/qwen3-0.6b.yaml")),
    ("tiny", include_str!("../../search-spaces/tiny.yaml")),
];

impl SearchSpace {
    /// The shipped space of this name.
    ///
    /// # Errors
    /// [`Error::Unknown`] with the names there are.
    pub fn shipped(name: &str) -> Result<SearchSpace> {
        SearchSpace::from_yaml(shipped_text(name)?)
    }

    /// The name of the first shipped space that was written for models of this shape.
    pub fn shipped_for(shape: &ModelShape) -> Option<&'static str> {
        let fits = |name: &str| SearchSpace::shipped(name).is_ok_and(|space| space.shape() == shape);
        SHIPPED.iter().map(|(name, _)| *name).find(|name| fits(name))
    }

    /// A shipped space by name, or the space in a file. A file in the working directory that is called like
    /// a shipped space is opened as `./NAME`.
    ///
    /// # Errors
    /// [`Error::Unknown`] for what is neither a shipped name nor a path, [`Error::Missing`] for a path
    /// without a file, and those of [`SearchSpace::from_yaml`].
    pub fn open(name_or_path: &str) -> Result<SearchSpace> {
        let named = |mut error| {
            if let Error::Space { space, .. } = &mut error {
                *space = format!("{space} {name_or_path}");
            }
            error
        };
        SearchSpace::from_yaml(&SearchSpace::yaml_of(name_or_path)?).map_err(named)
    }

    /// The YAML that [`SearchSpace::open`] reads.
    ///
    /// # Errors
    /// As there, but for what the text says.
    pub fn yaml_of(name_or_path: &str) -> Result<String> {
        let path = Path::new(name_or_path);
        let is_path = path.components().count() > 1 || path.extension().is_some() || name_or_path.starts_with('.');
        let is_shipped = SHIPPED.iter().any(|(shipped, _)| *shipped == name_or_path);
        if is_shipped || !(is_path || path.is_file()) {
            return shipped_text(name_or_path).map(str::to_string);
        }
        match fs::read_to_string(path) {
            Ok(text) => Ok(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(Error::Missing {
                what: "search space".into(),
                path: path.to_path_buf(),
                remedy: format!(
                    "give a YAML file, or a shipped space: {}",
                    SHIPPED.map(|(shipped, _)| shipped).join(", ")
                ),
            }),
            Err(error) => Err(Error::io(path)(error)),
        }
    }
}

/// The YAML text of a shipped space.
fn shipped_text(name: &str) -> Result<&'static str> {
    let found = SHIPPED.iter().find(|(shipped, _)| *shipped == name);
    let (_, text) = found.ok_or_else(|| Error::unknown("search space", name, SHIPPED.map(|(shipped, _)| shipped)))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::Cost;
    use crate::space::shape::tests::{LLAMA2_7B, SMOLLM2};

    #[test]
    fn a_model_has_the_first_space_of_its_shape() {
        assert_eq!(SearchSpace::shipped_for(&SMOLLM2), Some("smollm2-135m"));
        assert_eq!(SearchSpace::shipped_for(&LLAMA2_7B), Some("llama2-7b"));
        assert_eq!(SearchSpace::shipped_for(&ModelShape { vocab: 7, ..SMOLLM2 }), None);
    }

    #[test]
    fn ships_spaces_of_the_models_they_name() {
        SearchSpace::shipped("smollm2-135m").unwrap().check_fits(&SMOLLM2).unwrap();
        SearchSpace::shipped("llama2-7b").unwrap().check_fits(&LLAMA2_7B).unwrap();
        SearchSpace::shipped("llama2-7b-llama-nas").unwrap().check_fits(&LLAMA2_7B).unwrap();
        for (name, _) in SHIPPED {
            let space = SearchSpace::open(name).unwrap();
            assert_eq!(space.largest().unquantized(), space.shape().parent(), "{name}: the parent is a member");
            assert!(
                Cost::of(space.shape(), &space.smallest()).params < Cost::of(space.shape(), &space.largest()).params
            );
        }
    }

    #[test]
    fn counts_the_parameters_that_are_published() {
        // Of each model's safetensors files on the Hugging Face hub.
        for (name, params) in [
            ("smollm2-135m", 134_515_008),
            ("llama2-7b", 6_738_415_616),
            ("tinyllama-1.1b", 1_100_048_384),
            ("llama-3.2-1b", 1_235_814_400),
            ("llama-3.1-8b", 8_030_261_248),
            ("mistral-7b", 7_248_023_552),
            ("qwen2.5-0.5b", 494_032_768),
            ("qwen2.5-7b", 7_615_616_512),
            ("qwen3-0.6b", 596_049_920),
        ] {
            let shape = *SearchSpace::shipped(name).unwrap().shape();
            assert_eq!(Cost::of(&shape, &shape.parent()).params, params, "{name}");
        }
    }

    #[test]
    fn counts_the_llama_nas_space_exactly() {
        let space = SearchSpace::shipped("llama2-7b-llama-nas").unwrap();
        assert_eq!(space.genomes().to_string(), (3u64 << 32).to_string());
        assert_eq!(space.distinct_networks().to_string(), ((1u64 << 32) + (1 << 28) + (1 << 24)).to_string());
    }

    #[test]
    fn lists_the_names_it_knows() {
        let error = SearchSpace::open("smollm").unwrap_err().to_string();
        assert_eq!(
            error,
            "unknown search space `smollm`; known: smollm2-135m, smollm2-135m-mixed, llama2-7b, llama2-7b-llama-nas, \
             tinyllama-1.1b, llama-3.2-1b, llama-3.1-8b, mistral-7b, qwen2.5-0.5b, qwen2.5-7b, qwen3-0.6b, tiny"
        );
        let error = SearchSpace::open("no/such.yaml").unwrap_err().to_string();
        assert!(error.starts_with("search space not found: no/such.yaml; give a YAML file"), "{error}");
    }

    #[test]
    fn opens_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mine.yaml");
        fs::write(&path, SHIPPED[SHIPPED.len() - 1].1).unwrap();
        assert_eq!(SearchSpace::open(path.to_str().unwrap()).unwrap(), SearchSpace::shipped("tiny").unwrap());
        assert!(SearchSpace::open(dir.path().to_str().unwrap()).is_err());
        fs::write(&path, "depth: [9]").unwrap();
        let error = SearchSpace::open(path.to_str().unwrap()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("search space {}, line 1 column ", path.display())), "{error}");
    }
}
