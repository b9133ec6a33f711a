//! The spaces of a shrinking: the widths that are ranked and trained, and with bits what is searched.

use std::path::{Path, PathBuf};

use criadero::output;
use criadero::space::{ModelShape, SearchSpace, starting_yaml};

/// What makes bits a gene of every layer, and of what lies before and behind them.
const BITS: &str = "bits: [16, 8, 4]\nembedding_bits: [16, 8, 4]\n";
/// The same of an output matrix that is another than the embedding.
const HEAD_BITS: &str = "head_bits: [16, 8, 4]\n";

/// One space by the name that a command line has for it.
pub struct NamedSpace {
    /// A shipped name or a path.
    pub name: String,
    /// What it holds.
    pub space: SearchSpace,
    /// The file to write it to and its text, where it is made here.
    made: Option<(PathBuf, String)>,
}

/// Both spaces.
pub struct Spaces {
    /// What is ranked and trained.
    pub widths: NamedSpace,
    /// What is searched, where that is another: the same widths in several formats.
    bits: Option<NamedSpace>,
    /// Why there are no bits where they were wanted.
    pub note: Option<String>,
}

impl Spaces {
    /// The given space, else the shipped one of the model's shape, else one to begin with. With `bits` networks may be quantized,
    /// unless the space says itself which bits there are, or has rows that no block fits.
    ///
    /// # Errors
    /// A space that cannot be read or is another model's.
    pub fn of(
        given: Option<&str>,
        model: &str,
        shape: &ModelShape,
        bits: bool,
        out: &Path,
    ) -> criadero::Result<Spaces> {
        let widths = match given.or(SearchSpace::shipped_for(shape)) {
            Some(name) => NamedSpace { name: name.to_string(), space: SearchSpace::open(name)?, made: None },
            None => NamedSpace::made(out.join("space.yaml"), starting_yaml(model, shape))?,
        };
        widths.space.check_fits(shape)?;
        if !bits || widths.space.quantizes() {
            return Ok(Spaces { widths, bits: None, note: None });
        }
        let text = match &widths.made {
            Some((_, text)) => text.clone(),
            None => SearchSpace::yaml_of(&widths.name)?,
        };
        let head = if shape.tied { "" } else { HEAD_BITS };
        let text = format!("{}\n# Formats that networks may be stored in.\n{BITS}{head}", text.trim_end());
        Ok(match NamedSpace::made(out.join("space-bits.yaml"), text) {
            Ok(bits) => Spaces { widths, bits: Some(bits), note: None },
            Err(error) => Spaces { widths, bits: None, note: Some(format!("networks are not quantized: {error}")) },
        })
    }

    /// What is searched.
    pub fn searched(&self) -> &NamedSpace {
        self.bits.as_ref().unwrap_or(&self.widths)
    }

    /// Writes those that are made here.
    ///
    /// # Errors
    /// A directory that cannot be written to.
    pub fn write(&self) -> criadero::Result<()> {
        let made = [Some(&self.widths), self.bits.as_ref()].into_iter().flatten().flat_map(|space| &space.made);
        made.into_iter().try_for_each(|(path, text)| output::write(path, text))
    }
}

impl NamedSpace {
    fn made(path: PathBuf, text: String) -> criadero::Result<NamedSpace> {
        let space = SearchSpace::from_yaml(&text)?;
        Ok(NamedSpace { name: path.display().to_string(), space, made: Some((path, text)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_has_its_shipped_space_or_one_to_begin_with_and_bits_where_blocks_fit() {
        let shape = *SearchSpace::open("tiny").unwrap().shape();
        let other = ModelShape { mlp: 512, ..shape };
        let of = |shape, bits| Spaces::of(None, "m", shape, bits, Path::new("out")).unwrap();
        assert_eq!([of(&shape, false), of(&other, false)].map(|spaces| spaces.widths.name), ["tiny", "out/space.yaml"]);
        for shape in [&shape, &other] {
            let spaces = of(shape, true);
            assert_eq!(spaces.searched().name, "out/space-bits.yaml");
            assert!(spaces.searched().space.quantizes() && !spaces.widths.space.quantizes());
            assert_eq!(spaces.searched().space.largest(), shape.parent(), "16 bits are among them");
        }
        let odd = ModelShape { mlp: 37, ..shape };
        let spaces = of(&odd, true);
        assert_eq!(spaces.searched().name, "out/space.yaml", "rows of 37 hold no blocks");
        let note = spaces.note.unwrap();
        assert!(note.starts_with("networks are not quantized: ") && note.contains("32"), "{note}");
        let given = Spaces::of(Some("smollm2-135m-mixed"), "m", &shape, true, Path::new("out")).err().unwrap();
        assert!(given.to_string().contains("the model has"), "{given}");
    }
}
