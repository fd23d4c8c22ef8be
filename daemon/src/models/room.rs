//! Room on the disk: asked for before a byte is fetched, so that a full disk is an answer and not an accident.

use std::io;
use std::path::Path;

use nix::sys::statvfs::statvfs;
use thiserror::Error;

/// Left free beside every model, in bytes: the journal and the operating system write to the same disk.
const MARGIN: u64 = 256 << 20;

/// There is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NoRoom {
    /// On the disk.
    #[error("the file needs {needed} more bytes, and of the {free} free ones {MARGIN} have to stay free")]
    Disk {
        /// Bytes to come.
        needed: u64,
        /// Bytes there are.
        free: u64,
    },
    /// Within the store's limit.
    #[error("the file needs {size} bytes, and the models here take {used} of the {limit} they may take")]
    Store {
        /// The file's size.
        size: u64,
        /// Of the models there are.
        used: u64,
        /// `model.store_max_bytes`.
        limit: u64,
    },
}

/// What a file may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Of the models there are, in bytes.
    pub(super) used: u64,
    /// Most they may take; 0: no limit.
    pub(super) limit: u64,
}

impl Room {
    /// Whether a file of `size` bytes, of which `here` are there already, may come into `folder`.
    pub(super) fn check(self, folder: &Path, size: u64, here: u64) -> io::Result<Result<(), NoRoom>> {
        let disk = statvfs(folder)?;
        let free = disk.blocks_available().saturating_mul(disk.fragment_size());
        Ok(self.judge(size, here, free))
    }

    fn judge(self, size: u64, here: u64, free: u64) -> Result<(), NoRoom> {
        let Self { used, limit } = self;
        if limit > 0 && used.saturating_add(size) > limit {
            return Err(NoRoom::Store { size, used, limit });
        }
        let needed = size.saturating_sub(here);
        if needed.saturating_add(MARGIN) > free { Err(NoRoom::Disk { needed, free }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_still_to_come_needs_room_and_a_margin_stays() {
        let room = Room { used: 0, limit: 0 };
        assert_eq!(room.judge(100, 90, MARGIN + 10), Ok(()));
        assert_eq!(room.judge(100, 90, MARGIN + 9), Err(NoRoom::Disk { needed: 10, free: MARGIN + 9 }));
        assert!(room.judge(u64::MAX, 0, u64::MAX - 1).is_err(), "no overflow");
    }

    #[test]
    fn the_stores_limit_is_for_all_models_together() {
        let room = Room { used: 60, limit: 100 };
        assert_eq!(room.judge(40, 0, u64::MAX), Ok(()));
        assert_eq!(room.judge(41, 41, u64::MAX), Err(NoRoom::Store { size: 41, used: 60, limit: 100 }));
    }

    #[test]
    fn a_real_folder_has_an_answer_and_a_missing_one_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let room = Room { used: 0, limit: 0 };
        assert!(room.check(folder.path(), u64::MAX, 0).unwrap().is_err());
        assert!(room.check(&folder.path().join("no"), 1, 0).is_err());
    }
}
