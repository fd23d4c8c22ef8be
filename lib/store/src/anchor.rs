//! The second place that knows where the chain ends: a small preallocated file of two slots, written in turn.
//!
//! Each slot has a block of 4 KiB of its own and a checksum, so a write torn by a power cut damages at most
//! the slot being written, and the other one still tells the head before it. The open file carries a lock: a
//! store has one writer.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::StoreError;
use crate::chain::Head;
use crate::durable::{at, create_private, publish, sibling};

const MAGIC: &[u8; 16] = b"synesis.anchor/1";
const BLOCK: u64 = 4096;
const SLOTS: u64 = 2;
/// Magic, turn, sequence, hash, checksum.
const SLOT_BYTES: usize = 16 + 8 + 8 + 32 + 32;

/// The open anchor of a store.
#[derive(Debug)]
pub(crate) struct Anchor {
    file: File,
    path: PathBuf,
    turn: u64,
    head: Head,
}

/// What was found where the anchor should be.
pub(crate) enum Found {
    /// No file.
    Missing,
    /// A file without a valid slot; locked, to be replaced.
    Unreadable {
        /// Keeps the lock until it is replaced.
        _locked: File,
    },
    /// The anchor.
    Anchor(Anchor),
}

impl Anchor {
    /// Opens and locks the anchor.
    pub(crate) fn open(path: &Path) -> Result<Found, StoreError> {
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Missing),
            Err(error) => return Err(at(path)(error)),
        };
        lock(&file, path)?;
        Ok(match newest(&file).map_err(at(path))? {
            Some((turn, head)) => Found::Anchor(Self { file, path: path.to_owned(), turn, head }),
            None => Found::Unreadable { _locked: file },
        })
    }

    /// Creates the anchor, or replaces one that cannot be read.
    pub(crate) fn create(path: &Path, head: Head) -> Result<Self, StoreError> {
        let temporary = sibling(path, ".new");
        let file = create_private(&temporary).map_err(at(&temporary))?;
        lock(&file, path)?;
        let mut anchor = Self { file, path: path.to_owned(), turn: 0, head };
        let prepared = anchor.file.write_all_at(&vec![0; (BLOCK * SLOTS) as usize], 0);
        prepared.and_then(|()| anchor.write(head)).map_err(at(&temporary))?;
        publish(&temporary, path).map_err(at(path))?;
        Ok(anchor)
    }

    /// The head as it was last anchored.
    pub(crate) const fn head(&self) -> Head {
        self.head
    }

    /// Anchors a new head; on disk when this returns.
    pub(crate) fn advance(&mut self, head: Head) -> Result<(), StoreError> {
        self.write(head)
            .map_err(|source| StoreError::Anchor { path: self.path.clone(), source: Arc::new(source) })
    }

    fn write(&mut self, head: Head) -> io::Result<()> {
        let turn = self.turn.wrapping_add(1);
        self.file.write_all_at(&encode(turn, head), (turn % SLOTS) * BLOCK)?;
        self.file.sync_data()?;
        (self.turn, self.head) = (turn, head);
        Ok(())
    }

    /// An anchor on whatever file a test wants to fail.
    #[cfg(test)]
    pub(crate) fn on(file: File, path: &Path) -> Self {
        Self { file, path: path.to_owned(), turn: 0, head: Head::START }
    }
}

/// The anchored head, read afresh and without the lock; `None` if there is no valid slot.
pub(crate) fn read_head(path: &Path) -> Result<Option<Head>, StoreError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at(path)(error)),
    };
    Ok(newest(&file).map_err(at(path))?.map(|(_, head)| head))
}

fn lock(file: &File, path: &Path) -> Result<(), StoreError> {
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => StoreError::InUse { path: path.to_owned() },
        TryLockError::Error(error) => at(path)(error),
    })
}

fn newest(file: &File) -> io::Result<Option<(u64, Head)>> {
    let mut best: Option<(u64, Head)> = None;
    for slot in 0..SLOTS {
        let mut bytes = [0; SLOT_BYTES];
        match file.read_exact_at(&mut bytes, slot * BLOCK) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => continue,
            read => read?,
        }
        let found = decode(&bytes);
        if found.is_some_and(|(turn, _)| best.is_none_or(|(newest, _)| turn > newest)) {
            best = found;
        }
    }
    Ok(best)
}

fn encode(turn: u64, head: Head) -> Vec<u8> {
    let mut bytes = [MAGIC.as_slice(), &turn.to_be_bytes(), &head.seq.to_be_bytes(), &head.hash].concat();
    let checksum = Sha256::digest(&bytes);
    bytes.extend(checksum);
    bytes
}

fn decode(bytes: &[u8; SLOT_BYTES]) -> Option<(u64, Head)> {
    let rest = bytes.strip_prefix(MAGIC.as_slice())?;
    let (turn, rest) = rest.split_first_chunk()?;
    let (seq, rest) = rest.split_first_chunk()?;
    let (hash, checksum) = rest.split_first_chunk()?;
    let (turn, head) = (u64::from_be_bytes(*turn), Head { seq: u64::from_be_bytes(*seq), hash: *hash });
    let signed = bytes.len() - checksum.len();
    (Sha256::digest(&bytes[..signed]).as_slice() == checksum).then_some((turn, head))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(seq: u64) -> Head {
        Head { seq, hash: [seq as u8; 32] }
    }

    fn anchored(path: &Path, heads: std::ops::RangeInclusive<u64>) {
        let mut anchor = Anchor::create(path, head(0)).unwrap();
        for seq in heads {
            anchor.advance(head(seq)).unwrap();
        }
    }

    #[test]
    fn the_newest_head_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.head");
        anchored(&path, 1..=5);
        assert_eq!(read_head(&path).unwrap(), Some(head(5)));
        assert_eq!(std::fs::metadata(&path).unwrap().len(), BLOCK * SLOTS);
    }

    #[test]
    fn a_torn_write_leaves_the_head_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.head");
        anchored(&path, 1..=3);
        let before = std::fs::read(&path).unwrap();
        let new = encode(5, head(4));
        for torn in 0..SLOT_BYTES {
            let mut bytes = before.clone();
            bytes[BLOCK as usize..][..torn].copy_from_slice(&new[..torn]);
            std::fs::write(&path, &bytes).unwrap();
            let found = read_head(&path).unwrap().expect("a head");
            assert_eq!(found, head(3), "torn after {torn} bytes");
        }
    }

    #[test]
    fn a_changed_byte_in_the_newest_slot_falls_back_to_the_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.head");
        anchored(&path, 1..=4);
        let good = std::fs::read(&path).unwrap();
        for position in 0..SLOT_BYTES {
            let mut bytes = good.clone();
            bytes[BLOCK as usize + position] ^= 0x40;
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(read_head(&path).unwrap(), Some(head(3)), "byte {position}");
        }
    }

    #[test]
    fn an_anchor_without_a_valid_slot_is_unreadable() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.head");
        for bytes in [vec![], vec![0; 8192], b"hello".to_vec()] {
            std::fs::write(&path, &bytes).unwrap();
            assert!(
                matches!(Anchor::open(&path).unwrap(), Found::Unreadable { .. }),
                "{} bytes",
                bytes.len()
            );
        }
    }

    #[test]
    fn a_second_opener_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.head");
        let _held = Anchor::create(&path, head(0)).unwrap();
        assert!(matches!(Anchor::open(&path), Err(StoreError::InUse { .. })));
    }
}
