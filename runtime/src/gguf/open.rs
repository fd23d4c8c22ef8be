//! Opens a file once, for us and for llama.cpp: what was checked is what is loaded, even when the path is
//! renamed over in between.

use std::fs::{File, OpenOptions};
use std::io::BufReader;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::libc::O_NONBLOCK;

use super::{GgufError, Header};

/// A file whose header was read. Keep it alive while llama.cpp opens [`OpenFile::alias`].
#[derive(Debug)]
pub struct OpenFile {
    file: File,
    /// What the file says about itself.
    pub header: Header,
}

impl OpenFile {
    /// Fills `bytes` from the data section, beginning `offset` bytes behind its start.
    pub(super) fn read_data(&self, bytes: &mut [u8], offset: u64) -> Result<(), GgufError> {
        let at = self.header.data_start().saturating_add(offset);
        self.file.read_exact_at(bytes, at).map_err(GgufError::Io)
    }

    /// A path that names this very file, whatever happened to its name since.
    pub fn alias(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }
}

/// Opens `path` and reads its header.
///
/// # Errors
/// When it cannot be opened, is not a regular file, or its header is bad.
pub fn open(path: &Path) -> Result<OpenFile, GgufError> {
    // Non-blocking only matters for a named pipe, where a plain open waits for a writer.
    let file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path).map_err(GgufError::Io)?;
    let about = file.metadata().map_err(GgufError::Io)?;
    if !about.is_file() {
        return Err(GgufError::NotAFile);
    }
    let header = Header::read(BufReader::with_capacity(64 << 10, &file), about.len())?;
    Ok(OpenFile { file, header })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_and_a_missing_file_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(open(folder.path()), Err(GgufError::NotAFile)));
        assert!(matches!(open(&folder.path().join("none")), Err(GgufError::Io(_))));
    }

    #[test]
    fn a_named_pipe_is_refused_without_waiting_for_a_writer() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(matches!(open(&pipe), Err(GgufError::NotAFile)));
    }

    #[test]
    fn the_alias_names_the_file_that_was_checked_after_a_rename_over_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        let bytes = super::super::fixture::GgufFile::default().u32("a", 1).bytes();
        std::fs::write(&path, &bytes).unwrap();
        let open = open(&path).unwrap();
        std::fs::write(folder.path().join("new"), b"other").unwrap();
        std::fs::rename(folder.path().join("new"), &path).unwrap();
        assert_eq!(std::fs::read(open.alias()).unwrap(), bytes);
    }
}
