//! What it costs that an answer outlives its stream: the CPU per frame of the whole way over a loopback tunnel, through the
//! answer's log against straight into the stream. Frame by frame, as a model speaks: each is received before the next is
//! made. Alternating, in one process; prints one line of JSON.
//!
//!     resume '{"frames": N, "rounds": N}'
#![allow(dead_code, unreachable_pub, missing_docs, reason = "a program that measures a part of another")]
#![allow(clippy::expect_used, clippy::panic, reason = "a bench fails by panicking")]

use std::sync::Arc;

use bytes::BytesMut;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde_json::{Value, json};
use synesis_mesh::device::{Tunnel, TunnelConfig, TunnelHandle, TunnelState, enroll};
use synesis_mesh::frame::FrameWriter;
use synesis_mesh::gateway::{Accepted, Dates, GatewayEndpoint, GatewayTls, Session};
use synesis_mesh::identity::{Ca, CaKind};
use synesis_mesh::kind::StreamKind;
use synesis_mesh::stream::{SendHalf, StreamHeader, WorkStream};
use synesis_proto::mesh::v1::{self, ask_down, ask_up, enroll_reply};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use ulid::Ulid;
use uuid::Uuid;

use answers::Read;

/// The gateway's own files: the log, its readers, its memory.
#[path = "../src/answers"]
mod answers {
    mod answer;
    mod cancel;
    mod log;
    mod memory;
    mod reader;

    pub(crate) use reader::Read;

    /// A new answer, with all the room it needs.
    pub(crate) fn begun() -> std::sync::Arc<answer::Answer> {
        let limits = memory::Limits { answer: 64 << 20, total: 256 << 20 };
        let key =
            super::control_plane::RequestKey { device: uuid::Uuid::from_u128(1), request_id: ulid::Ulid(1) };
        let identity = answer::Identity { redacted_hash: [0; 32], request_hash: [0; 32] };
        std::sync::Arc::new(answer::Answer::new(
            key,
            identity,
            std::sync::Arc::new(memory::Memory::new(limits)),
        ))
    }
}

/// What they need of the rest.
mod control_plane {
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct RequestKey {
        pub device: uuid::Uuid,
        pub request_id: ulid::Ulid,
    }

    impl std::fmt::Display for RequestKey {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "{}/{}", self.device, self.request_id)
        }
    }
}

/// A word, as models say them.
const TEXT: &str = " answer";

fn main() {
    // `cargo bench` adds `--bench`.
    let settings = std::env::args().skip(1).find(|argument| argument != "--bench");
    let settings: Value = match settings.as_deref().map(serde_json::from_str) {
        Some(Ok(settings)) => settings,
        Some(Err(error)) => panic!("the settings are no JSON: {error}"),
        None => json!({}),
    };
    let frames = settings["frames"].as_u64().unwrap_or(20_000);
    let rounds = settings["rounds"].as_u64().unwrap_or(5);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let (direct, logged) = runtime.expect("a runtime").block_on(measure(frames, rounds));
    let ratio = logged / direct;
    println!(
        "{}",
        json!({"frames": frames, "rounds": rounds, "direct_ns": direct, "logged_ns": logged, "ratio": ratio})
    );
}

/// CPU nanoseconds per frame, straight and through the log: the median of so many rounds each.
pub async fn measure(frames: u64, rounds: u64) -> (f64, f64) {
    let link = Link::open().await;
    // The first round pays for pages and windows that no later one does.
    link.round(frames / 10, Way::Direct).await;
    link.round(frames / 10, Way::Logged).await;
    let (mut direct, mut logged) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        direct.push(link.round(frames, Way::Direct).await);
        logged.push(link.round(frames, Way::Logged).await);
    }
    (median(direct), median(logged))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[derive(Clone, Copy)]
enum Way {
    Direct,
    Logged,
}

/// Both ends of a tunnel.
struct Link {
    device: TunnelHandle,
    gateway: Session,
    _endpoint: GatewayEndpoint,
    _driver: JoinSet<()>,
}

impl Link {
    async fn open() -> Self {
        let domain = "bench.internal".parse().expect("a domain");
        let server_ca = Ca::generate(CaKind::Server, &domain).expect("a CA");
        let device_ca = Ca::generate(CaKind::Device, &domain).expect("a CA");
        let server = server_ca.issue_server(&[]).expect("a certificate");
        let tls = GatewayTls {
            chain_pem: server.chain_pem,
            key_pem: server.key_pem,
            device_ca_pem: device_ca.certificate_pem(),
            trust_domain: domain,
            also: Vec::new(),
            dates: Dates::default(),
            reset_seed: None,
        };
        let endpoint =
            GatewayEndpoint::bind(&tls, "127.0.0.1:0".parse().expect("loopback")).expect("a socket");
        let address = endpoint.local_addr().expect("bound").to_string();
        let ca_pem = server_ca.certificate_pem();
        let (identity, ()) = tokio::join!(
            enroll(&address, ca_pem.as_bytes(), "token", "bench/1"),
            let_in(&endpoint, &device_ca)
        );
        let identity = identity.expect("enrolled");
        let (_, vitals) = watch::channel(None);
        let (device, mut driver) =
            Tunnel::new(TunnelConfig::new("bench/1", vitals), Some(Arc::new(identity)));
        let mut running = JoinSet::new();
        running.spawn(async move { driver.run(CancellationToken::new()).await });
        let incoming = endpoint.accept().await.expect("it dials");
        let Ok(Accepted::Device(mut connection)) = incoming.handshake().await else { panic!("no device") };
        connection.hello().await.expect("a hello");
        let gateway = connection.welcome(v1::Welcome::default()).await.expect("a session");
        device.status().wait_for(|status| status.state == TunnelState::Up).await.expect("a tunnel");
        Self { device, gateway, _endpoint: endpoint, _driver: running }
    }

    /// One answer of so many frames; CPU nanoseconds for each.
    async fn round(&self, frames: u64, way: Way) -> f64 {
        let mut there =
            self.device.open(StreamHeader::new(StreamKind::Ask, Ulid(1))).await.expect("a stream");
        let start = v1::AskUp { message: Some(ask_up::Message::Start(v1::AskStart::default())) };
        there.tx.write(&start).await.expect("written");
        let mut here = self.gateway.work().await.expect("the stream");
        here.rx.read::<v1::AskUp>().await.expect("read");
        // The device asks for the next word when it has the last.
        let (again, words) = mpsc::channel(1);
        let before = cpu();
        let mut both = JoinSet::new();
        both.spawn(async move {
            receive(&mut there, frames, again).await;
        });
        match way {
            Way::Direct => direct(here.tx, frames, words).await,
            Way::Logged => logged(here.tx, frames, words).await,
        }
        both.join_all().await;
        (cpu() - before) as f64 / frames as f64
    }
}

async fn receive(stream: &mut WorkStream, frames: u64, again: mpsc::Sender<()>) {
    for seq in 1..=frames {
        again.send(()).await.expect("somebody speaks");
        let down = stream.rx.read::<v1::AskDown>().await.expect("read").expect("a frame");
        assert!(matches!(down.message, Some(ask_down::Message::Delta(delta)) if delta.seq == seq));
    }
}

/// As if the answer belonged to its stream.
async fn direct(mut tx: FrameWriter<SendHalf>, frames: u64, mut words: mpsc::Receiver<()>) {
    for seq in 1..=frames {
        words.recv().await.expect("somebody listens");
        let delta = v1::AskDelta { seq, text: TEXT.to_owned() };
        let message = v1::AskDown { message: Some(ask_down::Message::Delta(delta)) };
        tx.write(&message).await.expect("written");
    }
    tx.finish().await.expect("finished");
}

/// As the gateway does it: one task makes the answer, another reads it for the stream.
async fn logged(mut tx: FrameWriter<SendHalf>, frames: u64, mut words: mpsc::Receiver<()>) {
    let answer = answers::begun();
    let mut reader = answer.read(1).expect("it begins");
    let mut run = JoinSet::new();
    let made = Arc::clone(&answer);
    run.spawn(async move {
        for seq in 1..=frames {
            words.recv().await.expect("somebody listens");
            made.push(v1::AskDelta { seq, text: TEXT.to_owned() }).await.expect("it fits");
        }
    });
    let (mut out, mut sent) = (BytesMut::new(), 0);
    while sent < frames {
        assert_eq!(reader.next(&mut out).await, Read::Frames);
        // In lockstep, one frame at a time.
        sent += 1;
        tx.write_encoded(&out).await.expect("written");
        out.clear();
    }
    tx.finish().await.expect("finished");
    run.join_all().await;
}

/// CPU time of this process, in nanoseconds.
fn cpu() -> i64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("getrusage(2)");
    (usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) * 1_000
}

/// Enrols the one device that there is.
async fn let_in(endpoint: &GatewayEndpoint, device_ca: &Ca) {
    let incoming = endpoint.accept().await.expect("it dials");
    let Ok(Accepted::Enroll(mut newcomer)) = incoming.handshake().await else { panic!("no newcomer") };
    let request = newcomer.request().await.expect("a request");
    let device = Uuid::from_u128(1);
    let issued = device_ca.sign_device_csr(&request.csr_der, device).expect("a certificate");
    let enrolled = v1::Enrolled {
        device_id: device.to_string(),
        account: "bench".to_owned(),
        trust_domain: "bench.internal".to_owned(),
        certificate_chain: issued.chain.iter().map(|der| der.to_vec().into()).collect(),
        receipt_keys: vec![v1::ReceiptKey { key_id: "k".to_owned(), public_key: vec![1; 32].into() }],
        ..v1::Enrolled::default()
    };
    let message = Some(enroll_reply::Message::Enrolled(enrolled));
    newcomer.reply(v1::EnrollReply { message }).await.expect("replied");
}
