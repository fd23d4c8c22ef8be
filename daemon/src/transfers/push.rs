//! One try at a push. Chunks go out as fast as the line takes them, and what the gateway says is heard beside that: no
//! chunk waits for an answer.

use std::io::{self, SeekFrom};
use std::path::Path;

use bytes::BytesMut;
use synesis_mesh::device::TunnelHandle;
use synesis_mesh::frame::{FrameError, FrameReader, FrameWriter};
use synesis_mesh::kind::{ADAPTER_CHUNK, StreamKind};
use synesis_mesh::stream::{RecvHalf, SendHalf, StreamHeader, WorkStream};
use synesis_proto::mesh::v1;
use synesis_proto::mesh::v1::push_down::Message as Down;
use synesis_proto::mesh::v1::push_up::Message as Up;
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use ulid::Ulid;

use super::attempt::{Watcher, in_time, unless_refused};
use super::plan::{Chunk, rest};
use super::{Job, TransferError};

/// Sends what the gateway does not have of `path`. It is at the gateway, whole and listed, when this returns.
pub(super) async fn push(
    tunnel: &TunnelHandle,
    job: &Job,
    path: &Path,
    watcher: &dyn Watcher,
) -> Result<(), TransferError> {
    let file = open(path, job.size_bytes).await?;
    let id = Ulid::from_string(&job.id).unwrap_or_else(|_| Ulid::generate());
    let mut stream = tunnel.open(StreamHeader::new(StreamKind::AdapterPush, id)).await?;
    unless_refused(in_time(say(&mut stream.tx, Up::Start(start(job)))).await)?;
    let have = match in_time(next(&mut stream.rx)).await? {
        Down::Offset(v1::PushOffset { have }) => have,
        Down::Done(stored) => return is_ours(&stored, job),
        Down::Problem(problem) => return Err(TransferError::from_problem(problem)),
        Down::Ack(_) => return Err(TransferError::Protocol("bytes were acknowledged that were not sent")),
    };
    let chunks = rest(job.size_bytes, have).ok_or(TransferError::Protocol("it has more than there is"))?;
    watcher.moved(have);
    tracing::info!(
        adapter = job.name,
        sha256 = job.sha256,
        have,
        size = job.size_bytes,
        "pushing an adapter"
    );
    let WorkStream { mut tx, mut rx, .. } = stream;
    tokio::select! {
        biased;
        heard = listen(&mut rx, job, watcher) => heard,
        error = send(&mut tx, file, chunks) => Err(error),
    }
}

fn start(job: &Job) -> v1::PushStart {
    v1::PushStart {
        name: job.name.clone(),
        sha256: job.sha256.clone(),
        size_bytes: job.size_bytes,
        facts: Some(v1::AdapterFacts {
            architecture: job.architecture.clone(),
            rank: job.rank,
            alpha: job.alpha,
            base_model: job.base_model.clone(),
        }),
    }
}

/// The file, if it still is what was promised.
async fn open(path: &Path, size: u64) -> Result<File, TransferError> {
    let mut file = match File::open(path).await {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(TransferError::Changed),
        Err(error) => return Err(TransferError::Store(error)),
    };
    let found = file.metadata().await.map_err(TransferError::Store)?.len();
    file.set_max_buf_size(ADAPTER_CHUNK);
    if found == size { Ok(file) } else { Err(TransferError::Changed) }
}

/// Sends, and then waits for whoever listens; returns only with an error.
async fn send(
    tx: &mut FrameWriter<SendHalf>,
    mut file: File,
    chunks: impl Iterator<Item = Chunk>,
) -> TransferError {
    match send_all(tx, &mut file, chunks).await {
        // Everything is out, or the gateway wants to hear no more: what it says itself tells how it went.
        Ok(()) | Err(TransferError::Stream(FrameError::Reset(_))) => std::future::pending().await,
        Err(error) => error,
    }
}

async fn send_all(
    tx: &mut FrameWriter<SendHalf>,
    file: &mut File,
    chunks: impl Iterator<Item = Chunk>,
) -> Result<(), TransferError> {
    let mut at = None;
    for Chunk { offset, length } in chunks {
        if at != Some(offset) {
            file.seek(SeekFrom::Start(offset)).await.map_err(TransferError::Store)?;
        }
        let mut data = BytesMut::zeroed(length);
        match file.read_exact(&mut data).await {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(TransferError::Changed),
            Err(error) => return Err(TransferError::Store(error)),
        }
        in_time(say(tx, Up::Chunk(v1::AdapterChunk { offset, data: data.freeze() }))).await?;
        at = Some(offset + length as u64);
    }
    in_time(tx.finish()).await
}

async fn listen(
    rx: &mut FrameReader<RecvHalf>,
    job: &Job,
    watcher: &dyn Watcher,
) -> Result<(), TransferError> {
    loop {
        match in_time(next(rx)).await? {
            Down::Ack(v1::PushOffset { have }) if have <= job.size_bytes => watcher.moved(have),
            Down::Done(stored) => return is_ours(&stored, job),
            Down::Problem(problem) => return Err(TransferError::from_problem(problem)),
            Down::Ack(_) | Down::Offset(_) => {
                return Err(TransferError::Protocol("an acknowledgement that makes no sense"));
            }
        }
    }
}

fn is_ours(stored: &v1::StoredAdapter, job: &Job) -> Result<(), TransferError> {
    if stored.sha256 == job.sha256 && stored.size_bytes == job.size_bytes {
        Ok(())
    } else {
        Err(TransferError::Protocol("it stored something else"))
    }
}

async fn say(tx: &mut FrameWriter<SendHalf>, message: Up) -> Result<(), FrameError> {
    tx.write(&v1::PushUp { message: Some(message) }).await
}

/// What the gateway says next. Its end without a word is that of a gateway that went away.
async fn next(rx: &mut FrameReader<RecvHalf>) -> Result<Down, FrameError> {
    match rx.read::<v1::PushDown>().await? {
        Some(v1::PushDown { message: Some(message) }) => Ok(message),
        None | Some(v1::PushDown { message: None }) => Err(FrameError::Truncated),
    }
}
