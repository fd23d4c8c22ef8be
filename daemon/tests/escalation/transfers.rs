//! Pushes against a gateway that cuts them wherever the test wants it to: what arrives is the file, each byte once.

use std::fs;

use futures_util::StreamExt as _;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use synesis_mesh::device::TunnelHandle;
use synesis_mesh::gateway::Session;
use synesis_mesh::kind::{ADAPTER_CHUNK, ErrorCode, StreamKind};
use synesis_mesh::stream::WorkStream;
use synesis_proto::mesh::v1::{self, push_down::Message as Down, push_up::Message as Up};
use synesis_supervise::{Context, HealthBoard, Subsystem as _};
use synesisd::adapters::{AdapterKeeper, AdapterSpec};
use synesisd::config::Config;
use synesisd::journal::DeviceJournal;
use synesisd::model::{ModelSpec, RuntimeProcess};
use synesisd::transfers::{Direction, TransferError, TransferEvent, TransferKeeper, Transfers, Wait};
use synesisd::tunnel::{self, Identity, TunnelKeeper, TunnelParts};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::fixture::{Realm, let_in, welcome};

const NAME: &str = "tone";

/// An enrolled device with one adapter.
struct Device {
    folder: TempDir,
    bytes: Vec<u8>,
    tunnel: TunnelHandle,
    identity: Identity,
    keeper: TunnelKeeper,
}

impl Device {
    async fn new(realm: &Realm, size: usize) -> Self {
        let folder = TempDir::new().unwrap();
        let bytes: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
        let sha256 = hex::encode(Sha256::digest(&bytes));
        let adapters = folder.path().join("adapters");
        fs::create_dir(&adapters).unwrap();
        fs::write(adapters.join(format!("{sha256}.gguf")), &bytes).unwrap();
        let index = json!({"schema": "synesis.adapters/1", "generation": 0, "active": null, "adapters": [{
            "name": NAME, "sha256": sha256, "size_bytes": size, "rank": 8, "alpha": 16.0, "architecture": "llama",
            "targets": ["attn_q"], "imported_at": "2026-11-20T08:15:31Z"}]});
        fs::write(adapters.join("index.json"), index.to_string()).unwrap();

        let (journal, _) = DeviceJournal::open(folder.path()).await.unwrap();
        let (_, vitals) = watch::channel(None);
        let way = tunnel::Way { endpoints: vec![realm.address.clone()], ..tunnel::Way::default() };
        let parts = tunnel::prepare(folder.path().join("identity"), way, vitals, journal);
        let TunnelParts { handle, identity, keeper, .. } = parts;
        let (enrolled, ()) = tokio::join!(
            identity.enroll(&realm.address, realm.ca_pem.as_bytes(), "token"),
            let_in(&realm.endpoint, &realm.device_ca, realm.key.public())
        );
        enrolled.unwrap();
        Self { folder, bytes, tunnel: handle, identity, keeper }
    }

    /// As at a start of the daemon.
    fn transfers(&self) -> (TransferKeeper, Transfers) {
        let spec = AdapterSpec::new(self.folder.path().join("adapters"), &Config::default().adapters);
        let (_, model) = RuntimeProcess::new(ModelSpec::from(&Config::default()));
        let (_, adapters) = AdapterKeeper::open(&spec, model).unwrap();
        let folder = self.folder.path().join("transfers");
        TransferKeeper::open(&folder, adapters, self.tunnel.clone(), self.identity.clone()).unwrap()
    }
}

/// Runs the tunnel and the transfers until `check` is over.
async fn while_running(
    tunnel: &mut TunnelKeeper,
    transfers: &mut TransferKeeper,
    check: impl Future<Output = ()>,
) {
    let cx = |name| Context::detached(&HealthBoard::new(), name, CancellationToken::new());
    let (of_tunnel, of_transfers) = (cx("tunnel"), cx("transfers"));
    tokio::select! {
        ended = tunnel.run(&of_tunnel) => panic!("the tunnel ended: {ended:?}"),
        ended = transfers.run(&of_transfers) => panic!("the transfers ended: {ended:?}"),
        () = check => {}
    }
}

/// The gateway's end of one push: what was announced, and the stream after it was told that `have` bytes are there.
async fn pushed(session: &Session, have: usize) -> (WorkStream, v1::PushStart) {
    let mut stream = session.work().await.unwrap();
    assert_eq!(stream.header.kind, StreamKind::AdapterPush);
    let Some(Up::Start(start)) = stream.rx.read::<v1::PushUp>().await.unwrap().unwrap().message else {
        panic!("no start")
    };
    say(&mut stream, Down::Offset(v1::PushOffset { have: have as u64 })).await;
    (stream, start)
}

async fn say(stream: &mut WorkStream, message: Down) {
    stream.tx.write(&v1::PushDown { message: Some(message) }).await.unwrap();
}

async fn chunk(stream: &mut WorkStream) -> v1::AdapterChunk {
    match stream.rx.read::<v1::PushUp>().await.unwrap().unwrap().message {
        Some(Up::Chunk(chunk)) => chunk,
        other => panic!("no chunk but {other:?}"),
    }
}

async fn finish(stream: &mut WorkStream, start: v1::PushStart) {
    let v1::PushStart { name, sha256, size_bytes, facts } = start;
    let stored = v1::StoredAdapter { name, sha256, size_bytes, facts, ..v1::StoredAdapter::default() };
    say(stream, Down::Done(stored)).await;
    stream.tx.finish().await.unwrap();
}

async fn last(
    events: impl futures_util::Stream<Item = Result<TransferEvent, TransferError>>,
) -> Result<TransferEvent, TransferError> {
    Box::pin(events).fold(None, async |_, event| Some(event)).await.unwrap()
}

#[tokio::test]
async fn a_push_that_is_cut_at_every_chunk_by_a_lost_stream_or_a_lost_tunnel_arrives_byte_for_byte() {
    let realm = Realm::new();
    let mut device = Device::new(&realm, 4 * ADAPTER_CHUNK + 5).await;
    let (mut keeper, transfers) = device.transfers();
    let bytes = device.bytes.clone();
    let check = async {
        let gateway = async {
            let mut session = welcome(&realm.endpoint).await;
            let mut got = Vec::new();
            for cut in 0..4 {
                let (mut stream, start) = pushed(&session, got.len()).await;
                assert_eq!((start.name.as_str(), start.size_bytes), (NAME, bytes.len() as u64));
                let chunk = chunk(&mut stream).await;
                assert_eq!(chunk.offset, got.len() as u64, "it goes on from what is there");
                got.extend(chunk.data);
                if cut % 2 == 0 {
                    drop(stream);
                } else {
                    session.close(ErrorCode::Draining, "a cut");
                    session = welcome(&realm.endpoint).await;
                }
            }
            let (mut stream, start) = pushed(&session, got.len()).await;
            while got.len() < bytes.len() {
                got.extend(chunk(&mut stream).await.data);
            }
            finish(&mut stream, start).await;
            assert!(got == bytes, "the bytes differ");
            // The session is kept until the device has heard of the end.
            session
        };
        let events = transfers.push(NAME.to_owned(), 0, Wait::ForTheEnd);
        let (_session, end) = tokio::join!(gateway, last(events));
        assert!(matches!(end, Ok(TransferEvent::Done(transfer)) if transfer.state() == "done"));
    };
    while_running(&mut device.keeper, &mut keeper, check).await;
}

#[tokio::test]
async fn chunks_do_not_wait_for_one_another() {
    let realm = Realm::new();
    let mut device = Device::new(&realm, 3 * ADAPTER_CHUNK).await;
    let (mut keeper, transfers) = device.transfers();
    let check = async {
        let gateway = async {
            let session = welcome(&realm.endpoint).await;
            let (mut stream, start) = pushed(&session, 0).await;
            // Not one of them is acknowledged.
            for n in 0..3 {
                assert_eq!(chunk(&mut stream).await.offset, n * ADAPTER_CHUNK as u64);
            }
            finish(&mut stream, start).await;
            session
        };
        let (_session, end) =
            tokio::join!(gateway, last(transfers.push(NAME.to_owned(), 0, Wait::ForTheEnd)));
        end.unwrap();
    };
    while_running(&mut device.keeper, &mut keeper, check).await;
}

#[tokio::test]
async fn a_job_outlives_its_caller_and_the_daemon_and_is_one_job_however_often_it_is_asked_for() {
    let realm = Realm::new();
    let mut device = Device::new(&realm, 10).await;
    let id = {
        let (_keeper, transfers) = device.transfers();
        let Ok(TransferEvent::Done(first)) =
            last(transfers.push(NAME.to_owned(), 7, Wait::ForTheStart)).await
        else {
            panic!("it is not kept")
        };
        last(transfers.push(NAME.to_owned(), 7, Wait::ForTheStart)).await.unwrap();
        assert_eq!(transfers.list().borrow().len(), 1);
        first.job.id
    };
    let (mut keeper, transfers) = device.transfers();
    assert_eq!(transfers.list().borrow()[0].job.id, id);
    let check = async {
        let session = welcome(&realm.endpoint).await;
        let (mut stream, start) = pushed(&session, 0).await;
        assert_eq!(stream.header.request_id.to_string(), id, "the same job, the same id");
        chunk(&mut stream).await;
        finish(&mut stream, start).await;
        transfers.list().wait_for(|list| list[0].state() == "done").await.unwrap();
        drop(session);
    };
    while_running(&mut device.keeper, &mut keeper, check).await;
    let (_, transfers) = device.transfers();
    assert_eq!(transfers.list().borrow()[0].state(), "done", "how it ended is kept, too");
}

#[tokio::test]
async fn a_refusal_ends_the_job_with_the_gateways_words_and_a_passing_one_does_not() {
    let realm = Realm::new();
    let mut device = Device::new(&realm, 10).await;
    let (mut keeper, transfers) = device.transfers();
    let check = async {
        let gateway = async {
            let session = welcome(&realm.endpoint).await;
            for problem in [
                ErrorCode::StoreFailed.problem("the gateway's disk is full", ""),
                ErrorCode::AdapterQuota.problem("100 of 100 bytes are taken", "remove one"),
            ] {
                let mut stream = session.work().await.unwrap();
                stream.rx.read::<v1::PushUp>().await.unwrap();
                say(&mut stream, Down::Problem(problem)).await;
                stream.tx.finish().await.unwrap();
                stream.tx.stopped().await;
            }
            session
        };
        let events = transfers.push(NAME.to_owned(), 0, Wait::ForTheEnd);
        let (_session, end) = tokio::join!(gateway, last(events));
        let problem = synesis_proto::Problem::from(end.unwrap_err());
        assert_eq!(problem.reason, synesis_proto::reason::ADAPTER_QUOTA);
        assert!(problem.message.contains("100 of 100"), "{problem:?}");
    };
    while_running(&mut device.keeper, &mut keeper, check).await;
}

#[tokio::test]
async fn a_cancelled_job_is_gone_for_good_and_the_gateway_hears_of_it() {
    let realm = Realm::new();
    let mut device = Device::new(&realm, 10).await;
    let (mut keeper, transfers) = device.transfers();
    let check = async {
        let gateway = async {
            let session = welcome(&realm.endpoint).await;
            let (stream, _) = pushed(&session, 0).await;
            transfers.cancel(NAME, Direction::Push).await.unwrap();
            stream.tx.stopped().await;
            session
        };
        let events = transfers.push(NAME.to_owned(), 0, Wait::ForTheEnd);
        let (_session, end) = tokio::join!(gateway, last(events));
        assert!(matches!(end, Err(TransferError::Cancelled)), "{end:?}");
        assert!(transfers.cancel(NAME, Direction::Push).await.is_err());
    };
    while_running(&mut device.keeper, &mut keeper, check).await;
    assert!(device.transfers().1.list().borrow().is_empty());
}

#[tokio::test]
async fn a_job_of_another_identity_is_not_moved_to_another_account() {
    let realm = Realm::new();
    let mut device = Device::new(&realm, 10).await;
    {
        let (_keeper, transfers) = device.transfers();
        last(transfers.push(NAME.to_owned(), 0, Wait::ForTheStart)).await.unwrap();
    }
    let folder = device.folder.path().join("transfers");
    let job = fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    let text = fs::read_to_string(&job).unwrap();
    let ours = device.identity.watch().borrow().as_ref().unwrap().device_id.to_string();
    fs::write(&job, text.replace(&ours, "00000000-0000-4000-8000-000000000000")).unwrap();
    let (mut keeper, transfers) = device.transfers();
    let check = async {
        let _session = welcome(&realm.endpoint).await;
        transfers.list().wait_for(|list| list[0].state() == "failed").await.unwrap();
    };
    while_running(&mut device.keeper, &mut keeper, check).await;
}

#[tokio::test]
async fn job_files_that_cannot_be_read_are_put_aside_and_parts_of_nobody_are_deleted() {
    let realm = Realm::new();
    let device = Device::new(&realm, 10).await;
    let folder = device.folder.path().join("transfers");
    fs::create_dir(&folder).unwrap();
    for (name, text) in [("x.json", "{"), ("a.part", "x"), ("y.json.new", "{")] {
        fs::write(folder.join(name), text).unwrap();
    }
    let (_, transfers) = device.transfers();
    assert!(transfers.list().borrow().is_empty());
    let mut left: Vec<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["x.damaged"]);
}
