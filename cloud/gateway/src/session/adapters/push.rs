//! A file from a device. The device sends as fast as flow control lets it; what is here is acknowledged now and then, so
//! that people see how far it is, and is asked for again from there when the stream ends early.

use std::time::Duration;

use synesis_mesh::frame::{FrameError, FrameReader};
use synesis_mesh::stream::{RecvHalf, WorkStream};
use synesis_proto::mesh::v1;
use synesis_proto::mesh::v1::push_down::Message as Down;
use synesis_proto::mesh::v1::push_up::Message as Up;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{SILENCE, STEP, StreamError};
use crate::adapters::{AdapterStoreError, Begun, Receiving};
use crate::control_plane::{AdapterDigest, AdapterFacts, AdapterRecord, NewAdapter};
use crate::session::Services;

/// Bytes between two acknowledgements, on a fast line; on a slow one every chunk that took a while is acknowledged.
const ACK_EVERY: u64 = 1 << 20;
const ACK_WITHIN: Duration = Duration::from_secs(2);
/// As devices name adapters.
const LONGEST_NAME: usize = 64;
/// Of what a device says of an adapter, in bytes.
const LONGEST_WORD: usize = 64;
const LONGEST_BASE: usize = 256;

/// Serves one push stream to its end; `leave` asks for that.
pub(in crate::session) async fn serve(
    stream: WorkStream,
    device: Uuid,
    services: &Services,
    leave: CancellationToken,
) {
    let work = async |stream: &mut WorkStream| receive(stream, device, services).await;
    super::serve(stream, device, leave, work, |outcome| {
        let message = outcome.map_or_else(Down::Problem, |record| Down::Done(record.into()));
        Some(v1::PushDown { message: Some(message) })
    })
    .await;
}

async fn receive(
    stream: &mut WorkStream,
    device: Uuid,
    services: &Services,
) -> Result<AdapterRecord, StreamError> {
    let start = match timeout(STEP, next(&mut stream.rx)).await.map_err(|_| StreamError::Silent)?? {
        Up::Start(start) => read(start)?,
        Up::Chunk(_) => return Err(AdapterStoreError::Gap.into()),
    };
    let counted = services.devices.take_upload(device, &start.sha256, Instant::now());
    counted.map_err(StreamError::TooMany)?;
    let receiving = match services.adapters.receive(device, start).await? {
        Begun::Here(record) => return Ok(record),
        Begun::Receiving(receiving) => *receiving,
    };
    say(stream, Down::Offset(v1::PushOffset { have: receiving.have() })).await?;
    let superseded = receiving.superseded();
    tokio::select! {
        biased;
        () = superseded => Err(StreamError::Superseded),
        stored = to_the_end(stream, receiving, services) => stored,
    }
}

async fn to_the_end(
    stream: &mut WorkStream,
    receiving: Receiving,
    services: &Services,
) -> Result<AdapterRecord, StreamError> {
    let whole = chunks(stream, receiving).await?;
    Ok(services.adapters.complete(whole).await?)
}

async fn chunks(stream: &mut WorkStream, mut receiving: Receiving) -> Result<Receiving, StreamError> {
    let (mut acknowledged, mut at) = (receiving.have(), Instant::now());
    while !receiving.is_complete() {
        let chunk = match timeout(SILENCE, next(&mut stream.rx)).await.map_err(|_| StreamError::Silent)?? {
            Up::Chunk(chunk) => chunk,
            Up::Start(_) => return Err(AdapterStoreError::Bad("the file was announced twice").into()),
        };
        receiving = receiving.append(chunk.offset, chunk.data).await?;
        if receiving.have().saturating_sub(acknowledged) >= ACK_EVERY || at.elapsed() >= ACK_WITHIN {
            (acknowledged, at) = (receiving.have(), Instant::now());
            say(stream, Down::Ack(v1::PushOffset { have: acknowledged })).await?;
        }
    }
    Ok(receiving)
}

async fn next(rx: &mut FrameReader<RecvHalf>) -> Result<Up, FrameError> {
    match rx.read::<v1::PushUp>().await? {
        Some(v1::PushUp { message: Some(message) }) => Ok(message),
        // The device has given up in good order, or says something that this build does not know.
        None | Some(v1::PushUp { message: None }) => Err(FrameError::Truncated),
    }
}

async fn say(stream: &mut WorkStream, message: Down) -> Result<(), FrameError> {
    stream.tx.write(&v1::PushDown { message: Some(message) }).await
}

/// What is announced, read strictly.
fn read(start: v1::PushStart) -> Result<NewAdapter, AdapterStoreError> {
    let sha256 = AdapterDigest::parse(&start.sha256);
    let sha256 = sha256.ok_or(AdapterStoreError::Bad("the digest is not a sha256 in lower case hex"))?;
    if !is_name(&start.name) {
        return Err(AdapterStoreError::Bad("that is no name for an adapter"));
    }
    let facts = start.facts.unwrap_or_default();
    let is_plain = |text: &str, most| text.len() <= most && !text.chars().any(char::is_control);
    if !is_plain(&facts.architecture, LONGEST_WORD) || !is_plain(&facts.base_model, LONGEST_BASE) {
        return Err(AdapterStoreError::Bad("what is said of the adapter is too long, or is not plain text"));
    }
    if !facts.alpha.is_finite() {
        return Err(AdapterStoreError::Bad("the adapter's alpha is no number"));
    }
    let v1::AdapterFacts { architecture, rank, alpha, base_model } = facts;
    let facts = AdapterFacts { architecture, rank, alpha, base_model };
    Ok(NewAdapter { name: start.name, sha256, size_bytes: start.size_bytes, facts })
}

/// The rule of devices. What could be a digest is none: a pull or a removal would not know which is meant.
fn is_name(name: &str) -> bool {
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    name.len() <= LONGEST_NAME
        && name != "none"
        && name.bytes().next().is_some_and(letter)
        && name.bytes().all(|b| letter(b) || matches!(b, b'.' | b'_' | b'-'))
        && AdapterDigest::parse(name).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> v1::PushStart {
        v1::PushStart { name: "tone".into(), sha256: "ab".repeat(32), size_bytes: 1, facts: None }
    }

    #[test]
    fn what_is_announced_is_read_strictly() {
        assert_eq!(read(start()).unwrap().name, "tone");
        let (long, digest) = ("a".repeat(65), "ab".repeat(32));
        for name in ["", "none", "../x", "A", ".a", "a/b", long.as_str(), digest.as_str()] {
            assert!(read(v1::PushStart { name: name.to_owned(), ..start() }).is_err(), "{name}");
        }
        for sha256 in [String::new(), "AB".repeat(32), "ab".repeat(31), "../../etc".to_owned()] {
            assert!(read(v1::PushStart { sha256: sha256.clone(), ..start() }).is_err(), "{sha256}");
        }
        let facts = |facts| v1::PushStart { facts: Some(facts), ..start() };
        let none = v1::AdapterFacts::default;
        for bad in [
            v1::AdapterFacts { architecture: "x".repeat(65), ..none() },
            v1::AdapterFacts { base_model: "a\u{1b}[2J".into(), ..none() },
            v1::AdapterFacts { alpha: f32::NAN, ..none() },
        ] {
            assert!(read(facts(bad)).is_err());
        }
    }
}
