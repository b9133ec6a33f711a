//! Where a directory's model comes from: its name in the hub's cache, its model card, and the licences beside it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use super::directory::{MODEL_CARD_FILE, NOTICE_FILES};
use super::front_matter;
use crate::checkpoint::hub_id::HubId;
use crate::checkpoint::lineage::{BaseModel, Lineage};
use crate::error::{Error, Result};

/// Bytes of a model card in which its front matter ends.
const START: u64 = 1 << 20;

/// What is known of a directory. A model card that cannot be read says nothing, with a note.
///
/// # Errors
/// `Io`.
pub(in crate::checkpoint) fn lineage(dir: &Path) -> Result<Lineage> {
    let mut lineage = match front_matter::read(&start_of(&dir.join(MODEL_CARD_FILE))?) {
        Ok(lineage) => lineage,
        Err(reason) => {
            let note = format!(
                "{MODEL_CARD_FILE}: its front matter cannot be read ({reason}): licence and base model are not known"
            );
            Lineage { notes: vec![note], ..Lineage::default() }
        }
    };
    if let Some(id) = HubId::of_snapshot(dir) {
        lineage = Lineage { bases: vec![BaseModel::of_hub(&id)], relation: None, ..lineage };
    }
    lineage.notices = notices(dir)?;
    Ok(lineage)
}

/// The licences and notices of a directory, byte for byte.
fn notices(dir: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let there = NOTICE_FILES.iter().map(|name| (name.to_string(), dir.join(name))).filter(|(_, path)| path.is_file());
    there.map(|(name, path)| Ok((name, fs::read(&path).map_err(Error::io(&path))?))).collect()
}

/// The beginning of a file as text; nothing where there is none.
fn start_of(path: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    if path.is_file() {
        let file = File::open(path).map_err(Error::io(path))?;
        file.take(START).read_to_end(&mut bytes).map_err(Error::io(path))?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, card: &str) -> Lineage {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join(name);
        fs::create_dir_all(dir.join("NOTICE.txt")).unwrap();
        fs::write(dir.join(MODEL_CARD_FILE), card).unwrap();
        fs::write(dir.join("LICENSE.txt"), "all of it").unwrap();
        lineage(&dir).unwrap()
    }

    #[test]
    fn a_model_of_the_hub_is_its_own_networks_base() {
        let card = "---\nlicense: mit\nbase_model: org/first\nbase_model_relation: quantized\n---\n";
        let here = of("model", card);
        assert_eq!((here.parents(), here.relation.is_some()), (vec!["org/first".to_string()], true));
        let snapshot = of("models--org--second/snapshots/0123", card);
        assert_eq!((snapshot.parents(), snapshot.relation), (vec!["org/second".to_string()], None));
        assert_eq!(snapshot.license, here.license);
        assert!(here.license.is_some() && here.notes.is_empty());
        assert_eq!(here.notices, BTreeMap::from([("LICENSE.txt".to_string(), b"all of it".to_vec())]));
    }

    #[test]
    fn a_card_that_cannot_be_read_is_noted() {
        let broken = of("model", "---\nlicense: [\n---\n");
        assert_eq!(broken.license, None);
        assert!(broken.notes.len() == 1 && broken.notes[0].contains("licence and base model are not known"));
        assert_eq!(broken.notices.len(), 1);
    }
}
