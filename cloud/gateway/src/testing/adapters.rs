//! Adapters over the tunnel: cut anywhere, pushed by two at once, refused, listed, removed, pulled, and used.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use synesis_mesh::frame::FrameError;
use synesis_mesh::kind::{ADAPTER_CHUNK, ErrorCode, StreamKind};
use synesis_mesh::stream::{StreamHeader, WorkStream};
use synesis_proto::mesh::v1;
use synesis_proto::mesh::v1::{catalogue_down, catalogue_up, pull_down, push_down, push_up};
use ulid::Ulid;

use super::device::{TestDevice, start as ask};
use super::end_to_end::{REQUEST, world};
use super::gateway::TestGateway;
use super::scripted_http::ScriptedHttp;

fn file(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n % 251) as u8).collect()
}

fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn start(name: &str, bytes: &[u8]) -> v1::PushStart {
    let facts = v1::AdapterFacts {
        architecture: "llama".to_owned(),
        rank: 8,
        alpha: 16.0,
        ..v1::AdapterFacts::default()
    };
    let (sha256, size_bytes) = (digest(bytes), bytes.len() as u64);
    v1::PushStart { name: name.to_owned(), sha256, size_bytes, facts: Some(facts) }
}

/// The device's end of one push.
struct Pushing(WorkStream);

impl Pushing {
    async fn begin(device: &TestDevice, start: v1::PushStart) -> Self {
        let header = StreamHeader::new(StreamKind::AdapterPush, Ulid::generate());
        let mut pushing = Self(device.tunnel.open(header).await.unwrap());
        pushing.say(push_up::Message::Start(start)).await;
        pushing
    }

    async fn say(&mut self, message: push_up::Message) {
        // The gateway may have ended it, and then says why.
        let _ = self.0.tx.write(&v1::PushUp { message: Some(message) }).await;
    }

    async fn chunk(&mut self, bytes: &[u8], offset: usize, length: usize) {
        let data = bytes[offset..(offset + length).min(bytes.len())].to_vec().into();
        self.say(push_up::Message::Chunk(v1::AdapterChunk { offset: offset as u64, data })).await;
    }

    async fn next(&mut self) -> push_down::Message {
        self.0.rx.read::<v1::PushDown>().await.unwrap().unwrap().message.unwrap()
    }

    /// From where on.
    async fn offset(&mut self) -> usize {
        match self.next().await {
            push_down::Message::Offset(v1::PushOffset { have }) => have as usize,
            other => panic!("no offset but {other:?}"),
        }
    }

    /// Reads up to the end.
    async fn end(mut self) -> Result<v1::StoredAdapter, v1::Problem> {
        loop {
            match self.next().await {
                push_down::Message::Done(stored) => return Ok(stored),
                push_down::Message::Problem(problem) => return Err(problem),
                push_down::Message::Ack(_) => {}
                push_down::Message::Offset(_) => panic!("a second offset"),
            }
        }
    }
}

async fn push(device: &TestDevice, name: &str, bytes: &[u8]) -> Result<v1::StoredAdapter, v1::Problem> {
    let mut pushing = Pushing::begin(device, start(name, bytes)).await;
    let mut have = match pushing.next().await {
        push_down::Message::Offset(v1::PushOffset { have }) => have as usize,
        push_down::Message::Done(stored) => return Ok(stored),
        push_down::Message::Problem(problem) => return Err(problem),
        push_down::Message::Ack(_) => panic!("an acknowledgement of nothing"),
    };
    while have < bytes.len() {
        pushing.chunk(bytes, have, ADAPTER_CHUNK).await;
        have += ADAPTER_CHUNK;
    }
    pushing.end().await
}

async fn pull(device: &TestDevice, sha256: &str, offset: u64) -> Result<Vec<u8>, v1::Problem> {
    let header = StreamHeader::new(StreamKind::AdapterPull, Ulid::generate());
    let mut stream = device.tunnel.open(header).await.unwrap();
    let start = Some(v1::PullStart { sha256: sha256.to_owned(), offset });
    stream.tx.write(&v1::PullUp { start }).await.unwrap();
    let mut got = Vec::new();
    while let Some(frame) = stream.rx.read::<v1::PullDown>().await.unwrap() {
        match frame.message.unwrap() {
            pull_down::Message::Adapter(stored) => assert_eq!(stored.sha256, sha256),
            pull_down::Message::Chunk(chunk) => {
                assert_eq!(chunk.offset, offset + got.len() as u64);
                got.extend(chunk.data);
            }
            pull_down::Message::Problem(problem) => return Err(problem),
        }
    }
    Ok(got)
}

async fn catalogue(
    device: &TestDevice,
    question: catalogue_up::Message,
) -> Result<Vec<v1::StoredAdapter>, v1::Problem> {
    let header = StreamHeader::new(StreamKind::Adapters, Ulid::generate());
    let mut stream = device.tunnel.open(header).await.unwrap();
    stream.tx.write(&v1::CatalogueUp { message: Some(question) }).await.unwrap();
    let mut found = Vec::new();
    while let Some(frame) = stream.rx.read::<v1::CatalogueDown>().await.unwrap() {
        match frame.message.unwrap() {
            catalogue_down::Message::Adapters(page) => found.extend(page.adapters),
            catalogue_down::Message::Problem(problem) => return Err(problem),
        }
    }
    Ok(found)
}

async fn list(device: &TestDevice) -> Vec<v1::StoredAdapter> {
    catalogue(device, catalogue_up::Message::List(v1::AdapterList {})).await.unwrap()
}

#[tokio::test]
async fn a_push_cut_after_every_chunk_and_across_restarts_of_the_gateway_arrives_whole() {
    let (_provider, mut gateway, mut device) = world(Vec::new()).await;
    let bytes = file(5 * ADAPTER_CHUNK + 17);
    for boundary in 0..=5 {
        let mut pushing = Pushing::begin(&device, start("tone", &bytes)).await;
        let have = pushing.offset().await;
        assert_eq!(have, boundary * ADAPTER_CHUNK, "nothing is sent twice, nothing is missing");
        if boundary == 5 {
            break;
        }
        pushing.chunk(&bytes, have, ADAPTER_CHUNK).await;
        // The end of this direction comes after the chunk: when it is answered, the chunk was taken.
        pushing.0.tx.finish().await.unwrap();
        assert_eq!(pushing.end().await.unwrap_err().code, ErrorCode::BadFrame.number());
        if boundary % 2 == 1 {
            let identity = Arc::clone(&device.identity);
            drop(device);
            gateway = gateway.restart().await;
            device = TestDevice::connect(identity, &gateway).await;
        }
    }
    let stored = push(&device, "tone", &bytes).await.unwrap();
    assert_eq!((stored.name.as_str(), stored.size_bytes), ("tone", bytes.len() as u64));
    assert_eq!(stored.pushed_by, device.identity.device_id.to_string());
    for offset in [0, 1, ADAPTER_CHUNK as u64, bytes.len() as u64] {
        assert_eq!(pull(&device, &digest(&bytes), offset).await.unwrap(), bytes[offset as usize..]);
    }
}

#[tokio::test]
async fn what_does_not_have_its_digest_or_ends_early_is_refused_and_not_listed() {
    let (_provider, _gateway, device) = world(Vec::new()).await;
    let bytes = file(1000);
    let mut wrong = Pushing::begin(&device, start("tone", &bytes)).await;
    wrong.offset().await;
    wrong.chunk(&[7; 1000], 0, 1000).await;
    assert_eq!(wrong.end().await.unwrap_err().code, ErrorCode::DigestMismatch.number());

    let mut gap = Pushing::begin(&device, start("tone", &bytes)).await;
    assert_eq!(gap.offset().await, 0, "the wrong bytes are gone");
    gap.chunk(&bytes, 10, 10).await;
    assert_eq!(gap.end().await.unwrap_err().code, ErrorCode::BadFrame.number());

    let bad = v1::PushStart { sha256: "../../etc/passwd".to_owned(), ..start("tone", &bytes) };
    assert_eq!(
        Pushing::begin(&device, bad).await.end().await.unwrap_err().code,
        ErrorCode::BadFrame.number()
    );
    let huge = v1::PushStart { size_bytes: u64::MAX, ..start("tone", &bytes) };
    assert_eq!(
        Pushing::begin(&device, huge).await.end().await.unwrap_err().code,
        ErrorCode::TooLarge.number()
    );
    assert_eq!(list(&device).await, []);
    assert_eq!(device.balance().await.account, "acme", "the tunnel is up");
}

#[tokio::test]
async fn two_devices_of_an_account_push_the_same_file_and_both_succeed() {
    let (_provider, gateway, one) = world(Vec::new()).await;
    let two = TestDevice::enrol(&gateway, None).await;
    let bytes = file(3 * ADAPTER_CHUNK);
    let (a, b) = tokio::join!(push(&one, "tone", &bytes), push(&two, "tone", &bytes));
    assert_eq!(a.unwrap().sha256, b.unwrap().sha256);
    assert_eq!(list(&one).await.len(), 1);
    assert_eq!(list(&two).await, list(&one).await);
}

#[tokio::test]
async fn a_second_stream_of_the_same_device_takes_the_first_ones_place() {
    let (_provider, _gateway, device) = world(Vec::new()).await;
    let bytes = file(2 * ADAPTER_CHUNK);
    let mut stale = Pushing::begin(&device, start("tone", &bytes)).await;
    stale.offset().await;
    push(&device, "tone", &bytes).await.unwrap();
    assert_eq!(stale.end().await.unwrap_err().code, ErrorCode::Cancelled.number());
}

#[tokio::test]
async fn another_account_neither_sees_nor_gets_nor_removes_it() {
    let (_provider, gateway, device) = world(Vec::new()).await;
    let bytes = file(1000);
    push(&device, "tone", &bytes).await.unwrap();
    let stranger = TestDevice::enrol_into(&gateway, "other").await;
    assert_eq!(list(&stranger).await, []);
    let unknown = ErrorCode::AdapterUnknown.number();
    assert_eq!(pull(&stranger, &digest(&bytes), 0).await.unwrap_err().code, unknown);
    for wanted in ["tone".to_owned(), digest(&bytes)] {
        let remove = catalogue_up::Message::Remove(v1::AdapterRemove { wanted });
        assert_eq!(catalogue(&stranger, remove).await.unwrap_err().code, unknown);
    }
    let asked = v1::AskStart { adapter_sha256: digest(&bytes), ..ask("hi") };
    let told = stranger.ask_with(REQUEST, asked).await.told().await;
    assert_eq!(told.problem.unwrap().code, unknown);
    let remove = catalogue_up::Message::Remove(v1::AdapterRemove { wanted: "tone".to_owned() });
    assert_eq!(catalogue(&device, remove).await.unwrap().len(), 1);
    assert_eq!(list(&device).await, []);
}

#[tokio::test]
async fn a_provider_without_adapters_refuses_before_anything_is_held() {
    let (provider, _gateway, device) = world(Vec::new()).await;
    push(&device, "tone", &file(1000)).await.unwrap();
    let asked = v1::AskStart { adapter_name: "tone".to_owned(), ..ask("hi") };
    let told = device.ask_with(REQUEST, asked).await.told().await;
    let problem = told.problem.unwrap();
    assert_eq!(problem.code, ErrorCode::AdapterUnusable.number());
    assert!(problem.message.contains("runtime") && told.accepted.is_none(), "{problem:?}");
    assert_eq!(device.receipt(REQUEST).await.state, "unknown");
    assert_eq!(provider.requests(), 0);
}

#[tokio::test]
async fn a_push_does_not_keep_a_stopping_gateway() {
    let provider = ScriptedHttp::start(Vec::new()).await;
    let gateway = TestGateway::start(&provider).await;
    let device = TestDevice::enrol(&gateway, None).await;
    let mut pushing = Pushing::begin(&device, start("tone", &file(1000))).await;
    pushing.offset().await;
    gateway.begin_stop();
    match pushing.end().await {
        Err(problem) => assert_eq!(problem.code, ErrorCode::Draining.number()),
        Ok(stored) => panic!("{stored:?}"),
    }
    gateway.stop().await;
}

#[tokio::test]
async fn garbage_on_the_streams_of_adapters_is_refused_and_nothing_else_is_disturbed() {
    let (_provider, _gateway, device) = world(Vec::new()).await;
    for kind in [StreamKind::AdapterPush, StreamKind::AdapterPull, StreamKind::Adapters] {
        let mut stream = device.tunnel.open(StreamHeader::new(kind, Ulid::generate())).await.unwrap();
        // Valid protobuf of something else.
        let pong = v1::ControlUp { message: Some(v1::control_up::Message::Pong(v1::Pong { seq: 7 })) };
        stream.tx.write(&pong).await.unwrap();
        stream.tx.finish().await.unwrap();
        let answered = match kind {
            StreamKind::AdapterPush => stream.rx.read::<v1::PushDown>().await.map(|frame| frame.is_some()),
            StreamKind::AdapterPull => stream.rx.read::<v1::PullDown>().await.map(|frame| frame.is_some()),
            _ => stream.rx.read::<v1::CatalogueDown>().await.map(|frame| frame.is_some()),
        };
        assert!(matches!(answered, Ok(true) | Err(FrameError::Reset(_))), "{kind}: {answered:?}");
    }
    assert_eq!(device.balance().await.account, "acme");
}
