//! A file that is made beside its place, and takes it whole.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::place::{is_stream, make_directories, parent_of, sync_directory};
use super::temporary::Temporary;
use crate::error::{Error, Result};

/// Bytes that are gathered before they are written.
const BUFFER: usize = 1 << 20;

/// A file under way; dropped unpublished it leaves nothing, and what was at its place stays.
pub struct StagedFile {
    place: PathBuf,
    writer: BufWriter<File>,
    /// Nothing where the place is no file but a device or a pipe, into which is written as it comes.
    made: Option<Temporary>,
}

impl StagedFile {
    /// For a place, in a directory that is made where it is not there.
    pub(super) fn at(place: &Path) -> Result<StagedFile> {
        let (file, made) = if is_stream(place) {
            (OpenOptions::new().write(true).open(place).map_err(Error::io(place))?, None)
        } else {
            make_directories(parent_of(place))?;
            let made = Temporary::file(parent_of(place))?;
            (made.open().try_clone().map_err(Error::io(place))?, Some(made))
        };
        Ok(StagedFile { place: place.to_path_buf(), writer: BufWriter::with_capacity(BUFFER, file), made })
    }

    /// What it is written with.
    pub fn writer(&mut self) -> &mut BufWriter<File> {
        &mut self.writer
    }

    /// Writes all of these bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.writer.write_all(bytes).map_err(Error::io(&self.place))
    }

    /// Hands it to the disk and puts it at its place. A file that was there lends it its permissions.
    pub fn publish(self) -> Result<()> {
        let StagedFile { place, writer, made } = self;
        let file = writer.into_inner().map_err(|error| Error::io(&place)(error.into_error()))?;
        let Some(made) = made else { return Ok(()) };
        if let Ok(there) = fs::metadata(&place) {
            file.set_permissions(there.permissions()).map_err(Error::io(&place))?;
        }
        file.sync_all().map_err(Error::io(&place))?;
        made.publish(|made| fs::rename(made, &place).map_err(Error::io(&place)))?;
        sync_directory(parent_of(&place))
    }
}
