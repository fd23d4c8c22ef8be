//! A file on its way: its bytes so far, under a name that says what it will be: digest and size. Everything blocks.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::AdapterStoreError;
use crate::control_plane::AdapterDigest;

/// Bytes read at a time when a part is hashed again.
const STEP: usize = 1 << 20;
const EXTENSION: &str = ".part";

/// The bytes so far, with the hash of them.
pub(super) struct Part {
    path: PathBuf,
    file: File,
    hash: Sha256,
    length: u64,
    digest: AdapterDigest,
}

impl Part {
    /// What there is of a file; nothing yet, as a rule. The hash is computed again from the bytes, so that it does not
    /// matter who wrote them and how that ended.
    pub(super) fn open(folder: &Path, digest: &AdapterDigest, size: u64) -> io::Result<Self> {
        let path = folder.join(format!("{digest}.{size}{EXTENSION}"));
        // A part that was announced with another size is of no use any more.
        for (other, announced, _) in parts(folder)? {
            if announced == *digest && other != path {
                fs::remove_file(other)?;
            }
        }
        let mut options = OpenOptions::new();
        let mut file = options.read(true).append(true).create(true).mode(0o600).open(&path)?;
        let (mut hash, mut length) = read_through(&mut file)?;
        if length > size {
            file.set_len(0)?;
            (hash, length) = (Sha256::new(), 0);
        }
        Ok(Self { path, file, hash, length, digest: digest.clone() })
    }

    /// Bytes that are here.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Adds bytes at the end. After an error the part is dropped; what a failed write left is read again.
    pub(super) fn append(&mut self, data: &[u8]) -> io::Result<()> {
        self.file.write_all(data)?;
        self.hash.update(data);
        self.length = self.length.saturating_add(data.len() as u64);
        Ok(())
    }

    /// Gives the complete file its name, durably. Bytes of another digest are deleted, and so is a file with more or
    /// fewer bytes than were hashed: somebody else wrote to it.
    pub(super) fn publish(self, to: &Path) -> Result<(), AdapterStoreError> {
        let is_ours = self.file.metadata()?.len() == self.length;
        if !is_ours || hex::encode(self.hash.finalize()) != self.digest.as_str() {
            fs::remove_file(&self.path)?;
            return Err(AdapterStoreError::Mismatch);
        }
        self.file.sync_all()?;
        fs::rename(&self.path, to)?;
        if let Some(folder) = to.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(())
    }
}

/// The parts in a folder: path, digest, announced size.
pub(super) fn parts(folder: &Path) -> io::Result<Vec<(PathBuf, AdapterDigest, u64)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let announced = name.and_then(|name| name.strip_suffix(EXTENSION)?.split_once('.'));
        let announced =
            announced.and_then(|(digest, size)| Some((AdapterDigest::parse(digest)?, size.parse().ok()?)));
        if let Some((digest, size)) = announced {
            found.push((path, digest, size));
        }
    }
    Ok(found)
}

/// What the parts in a folder will take when they are complete, beside the one of `digest`.
pub(super) fn announced(folder: &Path, beside: &AdapterDigest) -> io::Result<u64> {
    let others = parts(folder)?.into_iter().filter(|(_, digest, _)| digest != beside);
    Ok(others.fold(0, |sum, (_, _, size)| sum.saturating_add(size)))
}

/// sha256 (hex) and length of a file.
pub(super) fn digest_of(path: &Path) -> io::Result<(String, u64)> {
    let (hash, length) = read_through(&mut File::open(path)?)?;
    Ok((hex::encode(hash.finalize()), length))
}

fn read_through(file: &mut File) -> io::Result<(Sha256, u64)> {
    let (mut hash, mut length, mut buffer) = (Sha256::new(), 0, vec![0; STEP]);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((hash, length));
        }
        hash.update(buffer.get(..read).unwrap_or_default());
        length += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use synesis_mesh::kind::ErrorCode;

    use super::*;

    #[test]
    fn a_full_disk_is_told_as_one() {
        // A file of the kernel's that is always full.
        let path = PathBuf::from("/dev/full");
        let file = OpenOptions::new().append(true).open(&path).unwrap();
        let digest = AdapterDigest::parse(&"ab".repeat(32)).unwrap();
        let mut part = Part { path, file, hash: Sha256::new(), length: 0, digest };
        let problem = AdapterStoreError::from(part.append(b"bytes").unwrap_err()).problem();
        assert_eq!(problem.code, ErrorCode::StoreFailed.number());
        assert!(problem.message.contains("disk is full") && problem.retry_after_ms > 0, "{problem:?}");
    }

    #[test]
    fn a_file_that_somebody_else_wrote_to_is_not_published() {
        let folder = tempfile::TempDir::new().unwrap();
        let digest = AdapterDigest::parse(&hex::encode(Sha256::digest(b"12345678"))).unwrap();
        let mut part = Part::open(folder.path(), &digest, 8).unwrap();
        part.append(b"1234").unwrap();
        let mut late = OpenOptions::new().append(true).open(&part.path).unwrap();
        late.write_all(b"1234").unwrap();
        part.append(b"5678").unwrap();
        let to = folder.path().join("whole");
        assert!(matches!(part.publish(&to), Err(AdapterStoreError::Mismatch)));
        assert!(!to.exists() && parts(folder.path()).unwrap().is_empty());
    }

    #[test]
    fn a_part_with_more_bytes_than_announced_begins_anew() {
        let folder = tempfile::TempDir::new().unwrap();
        let digest = AdapterDigest::parse(&"ab".repeat(32)).unwrap();
        let mut part = Part::open(folder.path(), &digest, 4).unwrap();
        part.append(b"123456").unwrap();
        drop(part);
        assert_eq!(Part::open(folder.path(), &digest, 4).unwrap().length(), 0);
        assert_eq!(announced(folder.path(), &AdapterDigest::parse(&"cd".repeat(32)).unwrap()).unwrap(), 4);
        // Announced anew with another size, the old part is of no use.
        Part::open(folder.path(), &digest, 7).unwrap();
        assert_eq!(parts(folder.path()).unwrap().len(), 1);
    }
}
