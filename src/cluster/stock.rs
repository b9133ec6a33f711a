//! A model that is kept at a server for workers who do not have it: files in parts, named by their content.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::string_slice, clippy::cast_possible_truncation, clippy::cast_sign_loss)
)]

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use async_nats::jetstream::object_store::{Config, InfoErrorKind, ObjectStore};
use tokio::io::AsyncReadExt;

use super::connection::Connection;
use super::shared_model::{SharedFile, SharedModel};
use crate::cache_dir::cache_dir;
use crate::error::{Error, Result};
use crate::output::{self, Output};

/// Bytes of a part: what a download that breaks off has to do again.
const PART: usize = 8 << 20;

/// Where a server keeps them.
pub(super) struct Stock<'a> {
    connection: &'a Connection,
    store: ObjectStore,
}

impl<'a> Stock<'a> {
    /// The server's, made where there is none.
    ///
    /// # Errors
    /// [`Error::Server`].
    pub(super) fn open(connection: &'a Connection) -> Result<Stock<'a>> {
        let bucket = connection.names.models();
        let store = connection.wait(async {
            match connection.jetstream.get_object_store(&bucket).await {
                Ok(store) => Ok(store),
                Err(_) => {
                    connection
                        .jetstream
                        .create_object_store(Config { bucket: bucket.clone(), ..Config::default() })
                        .await
                }
            }
        });
        let store = store.map_err(|error| connection.failed(&format!("bucket {bucket}"), error))?;
        Ok(Stock { connection, store })
    }

    /// Puts a model there; what is there already stays.
    ///
    /// # Errors
    /// `Io`, `Interrupted`, [`Error::Server`] where it has no room.
    pub(super) fn share(
        &self,
        files: &[PathBuf],
        is_directory: bool,
        stop: &AtomicBool,
        note: &mut dyn FnMut(String),
    ) -> Result<SharedModel> {
        let mut shared = Vec::new();
        for path in files {
            let mut reader = BufReader::new(File::open(path).map_err(Error::io(path))?);
            let mut parts = Vec::new();
            loop {
                let mut part = Vec::new();
                reader.by_ref().take(PART as u64).read_to_end(&mut part).map_err(Error::io(path))?;
                if part.is_empty() {
                    break;
                }
                let name = blake3::hash(&part).to_hex().to_string();
                self.put(&name, &part, stop, note)?;
                parts.push(name);
            }
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            shared.push(SharedFile { name, parts });
        }
        Ok(SharedModel { files: shared, is_directory })
    }

    fn put(&self, name: &str, part: &[u8], stop: &AtomicBool, note: &mut dyn FnMut(String)) -> Result<()> {
        self.connection.persist("part of the model", stop, note, || async {
            match self.store.info(name).await {
                Ok(info) if info.size == part.len() && !info.deleted => Ok(()),
                _ => self.store.put(name, &mut &*part).await.map(drop).map_err(|error| error.to_string()),
            }
        })
    }

    /// Brings a model into the cache, as far as it is not there, and says where it is.
    ///
    /// # Errors
    /// [`Error::Server`] where the server does not have it; `Io`, `Interrupted`.
    pub(super) fn fetch(
        &self,
        shared: &SharedModel,
        stop: &AtomicBool,
        note: &mut dyn FnMut(String),
    ) -> Result<PathBuf> {
        let name = blake3::hash(&serde_json::to_vec(shared).expect("names are plain data")).to_hex().to_string();
        let (dir, parts) = (cache_dir().join("models").join(&name), cache_dir().join("models").join("parts"));
        let place = match shared.files.first() {
            Some(only) if !shared.is_directory => dir.join(&only.name),
            _ => dir.clone(),
        };
        if dir.is_dir() {
            return Ok(place);
        }
        let staged = Output::of("worker").directory(&dir, |_| true)?;
        for part in shared.parts() {
            let path = parts.join(part);
            let there = std::fs::read(&path).is_ok_and(|bytes| is_of(&bytes, part));
            if !there {
                output::write(&path, self.get(part, stop, note)?)?;
            }
        }
        for file in &shared.files {
            output::write_with(&staged.path().join(&file.name), |writer| {
                for part in &file.parts {
                    let path = parts.join(part);
                    let bytes = std::fs::read(&path).map_err(Error::io(&path))?;
                    writer.write_all(&bytes).map_err(Error::io(&path))?;
                }
                Ok(())
            })?;
        }
        staged.publish()?;
        shared.parts().into_iter().try_for_each(|part| output::remove(&parts.join(part)))?;
        Ok(place)
    }

    fn get(&self, part: &str, stop: &AtomicBool, note: &mut dyn FnMut(String)) -> Result<Vec<u8>> {
        let got = self.connection.persist("part of the model", stop, note, || async {
            let mut object = match self.store.get(part).await {
                Ok(object) => object,
                Err(error) => {
                    // Asking again does not bring what is not there.
                    let info = self.store.info(part).await;
                    let gone = info.is_err_and(|error| error.kind() == InfoErrorKind::NotFound);
                    return if gone { Ok(None) } else { Err(error.to_string()) };
                }
            };
            let mut bytes = Vec::new();
            let read = (&mut object).take(PART as u64 + 1).read_to_end(&mut bytes).await;
            match read {
                Ok(_) if is_of(&bytes, part) => Ok(Some(bytes)),
                Ok(_) => Err(format!("part {part} is not what its name says")),
                Err(error) => Err(error.to_string()),
            }
        })?;
        got.ok_or_else(|| {
            self.connection.failed("model", format!("part {part} is not there; search again with --nats-share"))
        })
    }

    /// Takes parts away; what is not there any more is fine.
    pub(super) fn remove<'p>(&self, parts: impl IntoIterator<Item = &'p String>) {
        for part in parts {
            let _ = self.connection.wait(self.store.delete(part));
        }
    }
}

fn is_of(bytes: &[u8], part: &str) -> bool {
    blake3::hash(bytes).to_hex().as_str() == part
}

/// The files that a model is read from, and whether they are those of a directory.
///
/// # Errors
/// `Io`.
pub(super) fn files_of(model: &Path) -> Result<(Vec<PathBuf>, bool)> {
    if model.is_file() {
        return Ok((vec![model.to_path_buf()], false));
    }
    Ok((crate::checkpoint::files_in(model)?, true))
}
