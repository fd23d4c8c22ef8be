//! One try at a pull: what is missing of the file into a part, and then the same checks as for any import.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::stream;
use sha2::{Digest as _, Sha256};
use synesis_mesh::device::TunnelHandle;
use synesis_mesh::kind::{ADAPTER_CHUNK, StreamKind};
use synesis_mesh::stream::{StreamHeader, WorkStream};
use synesis_proto::mesh::v1;
use synesis_proto::mesh::v1::pull_down::Message as Down;
use tokio::io::AsyncReadExt as _;
use ulid::Ulid;

use super::attempt::{Watcher, in_time, unless_refused};
use super::plan::continues;
use super::{Job, TransferError};
use crate::adapters::{AdaptersHandle, Import, Part as ImportPart, Piece};

/// Bytes read at a time when a part is hashed again.
const STEP: usize = 1 << 20;

/// Fetches what is missing into `path`, and takes the adapter in. It is listed on this device when this returns.
pub(super) async fn pull(
    tunnel: &TunnelHandle,
    adapters: &AdaptersHandle,
    job: &Job,
    path: &Path,
    watcher: &dyn Watcher,
) -> Result<(), TransferError> {
    let (opened, size) = (path.to_owned(), job.size_bytes);
    let mut part = blocking(move || Part::open(opened, size)).await?;
    watcher.moved(part.length);
    if part.length < size {
        part = fetch(tunnel, job, part, watcher).await?;
    }
    watcher.verifying();
    if part.digest() != job.sha256 {
        tokio::fs::remove_file(path).await.map_err(TransferError::Store)?;
        return Err(TransferError::Mismatch);
    }
    let import = Import {
        name: job.name.clone(),
        source: format!("the gateway, pushed by device {}", job.pushed_by),
        base_model: job.base_model.clone(),
        uid: job.uid,
    };
    adapters.import(import, Box::pin(pieces(path.to_owned()))).await?;
    Ok(())
}

/// Receives into the part until it is complete.
async fn fetch(
    tunnel: &TunnelHandle,
    job: &Job,
    mut part: Part,
    watcher: &dyn Watcher,
) -> Result<Part, TransferError> {
    let id = Ulid::from_string(&job.id).unwrap_or_else(|_| Ulid::generate());
    let mut stream = tunnel.open(StreamHeader::new(StreamKind::AdapterPull, id)).await?;
    let start = Some(v1::PullStart { sha256: job.sha256.clone(), offset: part.length });
    unless_refused(in_time(stream.tx.write(&v1::PullUp { start })).await)?;
    match next(&mut stream).await? {
        Some(Down::Adapter(stored)) if stored.sha256 == job.sha256 && stored.size_bytes == job.size_bytes => {
        }
        Some(Down::Problem(problem)) => return Err(TransferError::from_problem(problem)),
        Some(_) => return Err(TransferError::Protocol("it sends something else than was asked for")),
        None => return Err(TransferError::Interrupted),
    }
    tracing::info!(
        adapter = job.name,
        sha256 = job.sha256,
        have = part.length,
        size = job.size_bytes,
        "pulling an adapter"
    );
    while part.length < job.size_bytes {
        let v1::AdapterChunk { offset, data } = match next(&mut stream).await? {
            Some(Down::Chunk(chunk)) => chunk,
            Some(Down::Problem(problem)) => return Err(TransferError::from_problem(problem)),
            Some(Down::Adapter(_)) => return Err(TransferError::Protocol("the file was announced twice")),
            None => return Err(TransferError::Interrupted),
        };
        if !continues(part.length, job.size_bytes, offset, data.len() as u64) {
            return Err(TransferError::Protocol("a chunk does not follow the bytes that are here"));
        }
        part = blocking(move || part.append(&data)).await?;
        watcher.moved(part.length);
    }
    Ok(part)
}

async fn next(stream: &mut WorkStream) -> Result<Option<Down>, TransferError> {
    match in_time(stream.rx.read::<v1::PullDown>()).await? {
        Some(v1::PullDown { message: Some(message) }) => Ok(Some(message)),
        Some(v1::PullDown { message: None }) => Err(TransferError::Protocol("a frame of an unknown kind")),
        None => Ok(None),
    }
}

/// The bytes so far, with the hash of them.
struct Part {
    file: File,
    hash: Sha256,
    length: u64,
}

impl Part {
    /// The hash is computed again from the bytes: it does not matter how their writing ended.
    fn open(path: PathBuf, size: u64) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let mut file = options.read(true).append(true).create(true).mode(0o600).open(path)?;
        let (mut hash, mut length, mut buffer) = (Sha256::new(), 0, vec![0; STEP]);
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            hash.update(buffer.get(..read).unwrap_or_default());
            length += read as u64;
        }
        if length > size {
            file.set_len(0)?;
            (hash, length) = (Sha256::new(), 0);
        }
        Ok(Self { file, hash, length })
    }

    fn append(mut self, data: &[u8]) -> io::Result<Self> {
        self.file.write_all(data)?;
        self.hash.update(data);
        self.length += data.len() as u64;
        Ok(self)
    }

    fn digest(&self) -> String {
        hex::encode(self.hash.clone().finalize())
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, TransferError> {
    let done = tokio::task::spawn_blocking(work).await.map_err(io::Error::other);
    done.and_then(|outcome| outcome).map_err(TransferError::Store)
}

/// The file as an importer sends it.
fn pieces(path: PathBuf) -> impl stream::Stream<Item = Option<Piece>> + Send {
    stream::unfold((Some(path), None), |(path, file)| async move {
        let mut file: tokio::fs::File = match (path, file) {
            (_, Some(file)) => file,
            (Some(path), None) => match tokio::fs::File::open(&path).await {
                Ok(file) => file,
                Err(error) => {
                    tracing::error!(%error, file = %path.display(), "a pulled adapter cannot be read");
                    return Some((None, (None, None)));
                }
            },
            (None, None) => return None,
        };
        let mut data = Vec::with_capacity(ADAPTER_CHUNK);
        match (&mut file).take(ADAPTER_CHUNK as u64).read_to_end(&mut data).await {
            Ok(0) => None,
            Ok(_) => {
                let piece = Piece { part: ImportPart::Gguf, data: Bytes::from(data) };
                Some((Some(piece), (None, Some(file))))
            }
            Err(error) => {
                tracing::error!(%error, "a pulled adapter cannot be read");
                Some((None, (None, None)))
            }
        }
    })
}
