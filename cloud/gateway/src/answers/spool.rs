//! Finished answers on the disk, one file each, so that they outlive the process. A file holds what the tunnel carries:
//! redacted text. It is deleted when the device has the answer, or when its time is up.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use synesis_proto::mesh::v1;

use super::answer::{Answer, Identity, LIMIT};
use super::log::FrameLog;
use super::memory::{Limits, Memory};
use crate::control_plane::RequestKey;

/// The first line of every file.
const MAGIC: &[u8] = b"synesis-answer/1\n";
const DIGEST: usize = 32;
const EXTENSION: &str = "answer";
/// The header of a file that this code wrote is far shorter.
const LONGEST_HEADER: usize = 16 * 1024;

/// The folder.
#[derive(Debug, Clone)]
pub(super) struct Spool(Arc<Path>);

/// An answer that was read back.
pub(super) struct Spooled {
    pub(super) answer: Answer,
    pub(super) expires_in: Duration,
}

/// Why an answer could not be stored.
#[derive(Debug, thiserror::Error)]
pub(super) enum SpoolError {
    #[error("{} cannot be written", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the answer is not whole")]
    Nothing,
    #[error("the header cannot be encoded")]
    Header(#[from] serde_json::Error),
}

/// What stands before the frames, as one line of JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    device: String,
    request_id: String,
    redacted_hash: String,
    request_hash: String,
    model: String,
    held_nanousd: i64,
    price_version: u64,
    /// Unix epoch.
    ended_at_ms: i64,
}

impl Spool {
    /// In `folder`, which is made when it is not there. What an interrupted write left behind is deleted.
    pub(super) fn open(folder: &Path) -> Self {
        if let Err(error) = DirBuilder::new().mode(0o700).recursive(true).create(folder) {
            tracing::warn!(folder = %folder.display(), %error, "finished answers cannot be stored; they do not outlive this process");
        }
        Self(folder.into())
    }

    /// Writes an answer: completely, or not at all. Blocks until it is on the disk.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub(super) fn write(&self, answer: &Answer, ended_at_ms: i64) -> Result<(), SpoolError> {
        let (accepted, frames) = answer.kept().ok_or(SpoolError::Nothing)?;
        let header = Header {
            device: answer.key.device.to_string(),
            request_id: answer.key.request_id.to_string(),
            redacted_hash: hex::encode(answer.identity.redacted_hash),
            request_hash: hex::encode(answer.identity.request_hash),
            model: accepted.model,
            held_nanousd: accepted.held_nanousd,
            price_version: accepted.price_version,
            ended_at_ms,
        };
        let mut content = MAGIC.to_vec();
        content.extend(serde_json::to_vec(&header)?);
        content.push(b'\n');
        content.extend(frames);
        let digest: [u8; DIGEST] = Sha256::digest(&content).into();
        content.extend(digest);
        let path = self.path(&answer.key);
        self.publish(&path, &content).map_err(|source| SpoolError::Write { path, source })
    }

    fn publish(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let new = path.with_extension("new");
        let written = (|| {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&new, path)?;
            File::open(&self.0)?.sync_all()
        })();
        if written.is_err() {
            // On a full disk the half of it would only be in the way.
            let _ = fs::remove_file(&new);
        }
        written
    }

    /// The device has it, or nobody will ask for it any more.
    pub(super) fn delete(&self, key: &RequestKey) {
        let path = self.path(key);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %path.display(), %error, "an answer that is not needed stays on the disk");
            }
            _ => {}
        }
    }

    /// Every answer that is still worth keeping, the newest first, within the limits. What is too old, damaged, or too
    /// much is deleted.
    pub(super) fn read_all(
        &self,
        limits: Limits,
        keep: Duration,
        now_ms: i64,
        memory: &Arc<Memory>,
    ) -> Vec<Spooled> {
        let Ok(entries) = fs::read_dir(&self.0) else { return Vec::new() };
        let (mut found, keep_ms) = (Vec::new(), i64::try_from(keep.as_millis()).unwrap_or(i64::MAX));
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.extension().is_none_or(|extension| extension != EXTENSION) {
                remove(&path, "what an interrupted write left behind");
                continue;
            }
            match read(&path, limits) {
                // A clock that was set back makes an answer from the future; it is as old as one of now.
                Ok(file) if now_ms.saturating_sub(file.ended_at_ms) < keep_ms => found.push((path, file)),
                Ok(_) => remove(&path, "an answer whose time is up"),
                Err(why) => {
                    tracing::error!(path = %path.display(), why, "a stored answer is damaged; it cannot be resumed");
                    remove(&path, "a damaged answer");
                }
            }
        }
        found.sort_by_key(|(_, file)| std::cmp::Reverse(file.ended_at_ms));
        let mut kept = Vec::new();
        for (path, file) in found {
            if memory.taken() + file.log.memory() > limits.total / 8 * 7 {
                remove(&path, "an answer for which there is no room");
                continue;
            }
            let age = now_ms.saturating_sub(file.ended_at_ms).max(0).unsigned_abs();
            let answer =
                Answer::restored(file.key, file.identity, file.accepted, file.log, Arc::clone(memory));
            kept.push(Spooled { answer, expires_in: keep.saturating_sub(Duration::from_millis(age)) });
        }
        kept.reverse();
        kept
    }

    fn path(&self, key: &RequestKey) -> PathBuf {
        self.0.join(format!("{}.{}.{EXTENSION}", key.device, key.request_id))
    }
}

fn remove(path: &Path, what: &str) {
    match fs::remove_file(path) {
        Ok(()) => tracing::debug!(path = %path.display(), what, "deleted"),
        Err(error) => tracing::warn!(path = %path.display(), what, %error, "cannot be deleted"),
    }
}

struct Stored {
    key: RequestKey,
    identity: Identity,
    accepted: v1::AskAccepted,
    log: FrameLog,
    ended_at_ms: i64,
}

fn read(path: &Path, limits: Limits) -> Result<Stored, &'static str> {
    let size = fs::metadata(path).map_err(|_| "it cannot be read")?.len();
    // An answer grows past its limit by no more than its last frames.
    let most = limits.answer + 3 * LIMIT + LONGEST_HEADER;
    if size > most as u64 {
        return Err("it is larger than any answer");
    }
    let content = fs::read(path).map_err(|_| "it cannot be read")?;
    let stored = parse(&content)?;
    let name = format!("{}.{}.{EXTENSION}", stored.key.device, stored.key.request_id);
    if path.file_name().is_some_and(|found| found == name.as_str()) {
        Ok(stored)
    } else {
        Err("it is about another request")
    }
}

fn parse(content: &[u8]) -> Result<Stored, &'static str> {
    let (content, digest) = content.split_last_chunk::<DIGEST>().ok_or("it is too short")?;
    let expected: [u8; DIGEST] = Sha256::digest(content).into();
    if *digest != expected {
        return Err("its digest is another");
    }
    let rest = content.strip_prefix(MAGIC).ok_or("it is no answer of this version")?;
    let line = rest.iter().take(LONGEST_HEADER).position(|byte| *byte == b'\n').ok_or("it has no header")?;
    let header: Header = serde_json::from_slice(&rest[..line]).map_err(|_| "its header cannot be read")?;
    let hash = |text: &str| -> Option<[u8; 32]> { hex::decode(text).ok()?.try_into().ok() };
    let key = RequestKey {
        device: header.device.parse().map_err(|_| "its device has no id")?,
        request_id: header.request_id.parse().map_err(|_| "its request has no id")?,
    };
    let identity = Identity {
        redacted_hash: hash(&header.redacted_hash).ok_or("a hash cannot be read")?,
        request_hash: hash(&header.request_hash).ok_or("a hash cannot be read")?,
    };
    let accepted = v1::AskAccepted {
        model: header.model,
        held_nanousd: header.held_nanousd,
        price_version: header.price_version,
    };
    let log = FrameLog::read(&rest[line + 1..], LIMIT).ok_or("its frames cannot be read")?;
    Ok(Stored { key, identity, accepted, log, ended_at_ms: header.ended_at_ms })
}
