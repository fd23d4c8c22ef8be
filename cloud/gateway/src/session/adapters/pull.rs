//! A file to a device, from where it has it.

use std::io::SeekFrom;
use std::path::Path;

use bytes::BytesMut;
use synesis_mesh::frame::FrameError;
use synesis_mesh::kind::ADAPTER_CHUNK;
use synesis_mesh::stream::WorkStream;
use synesis_proto::mesh::v1;
use synesis_proto::mesh::v1::pull_down::Message as Down;
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{SILENCE, STEP, StreamError};
use crate::adapters::AdapterStoreError;
use crate::control_plane::{AdapterDigest, Wanted};
use crate::session::Services;

/// Serves one pull stream to its end; `leave` asks for that.
pub(in crate::session) async fn serve(
    stream: WorkStream,
    device: Uuid,
    services: &Services,
    leave: CancellationToken,
) {
    let work = async |stream: &mut WorkStream| send(stream, device, services).await;
    super::serve(stream, device, leave, work, |outcome| {
        // The file's own end says that it is whole.
        let problem = outcome.err()?;
        Some(v1::PullDown { message: Some(Down::Problem(problem)) })
    })
    .await;
}

async fn send(stream: &mut WorkStream, device: Uuid, services: &Services) -> Result<(), StreamError> {
    let question = timeout(STEP, stream.rx.read::<v1::PullUp>()).await.map_err(|_| StreamError::Silent)??;
    let start = question.and_then(|question| question.start);
    let start = start.ok_or(AdapterStoreError::Bad("the stream has no question"))?;
    let digest = AdapterDigest::parse(&start.sha256);
    let digest = digest.ok_or(AdapterStoreError::Bad("the digest is not a sha256 in lower case hex"))?;
    let (record, path) = services.adapters.find(device, &Wanted::Digest(digest)).await?;
    let size = record.adapter.size_bytes;
    if start.offset > size {
        return Err(AdapterStoreError::Bad("the file is shorter than what the device has of it").into());
    }
    say(stream, Down::Adapter(record.into())).await?;
    file(stream, &path, start.offset, size).await
}

async fn file(stream: &mut WorkStream, path: &Path, mut offset: u64, size: u64) -> Result<(), StreamError> {
    let store = |error: std::io::Error| StreamError::Store(error.into());
    let mut file = File::open(path).await.map_err(store)?;
    file.set_max_buf_size(ADAPTER_CHUNK);
    file.seek(SeekFrom::Start(offset)).await.map_err(store)?;
    while offset < size {
        let left = usize::try_from(size - offset).unwrap_or(usize::MAX).min(ADAPTER_CHUNK);
        let mut data = BytesMut::with_capacity(left);
        (&mut file).take(left as u64).read_buf(&mut data).await.map_err(store)?;
        if data.is_empty() {
            // Somebody shortened it. The device notices by its digest.
            return Err(AdapterStoreError::Mismatch.into());
        }
        let next = offset + data.len() as u64;
        let chunk = v1::AdapterChunk { offset, data: data.freeze() };
        let sent = timeout(SILENCE, say(stream, Down::Chunk(chunk))).await;
        sent.map_err(|_| StreamError::Silent)??;
        offset = next;
    }
    Ok(())
}

async fn say(stream: &mut WorkStream, message: Down) -> Result<(), FrameError> {
    stream.tx.write(&v1::PullDown { message: Some(message) }).await
}
