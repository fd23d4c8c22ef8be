//! The tunnel with nothing behind it: the gateway's end answers asks by itself, so that what is measured is the tunnel.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use synesis_mesh::device::{Tunnel, TunnelConfig, TunnelHandle, TunnelState};
use synesis_mesh::gateway::{Accepted, GatewayEndpoint, Incoming};
use synesis_mesh::identity::DeviceIdentity;
use synesis_mesh::kind::StreamKind;
use synesis_mesh::stream::{StreamHeader, WorkStream};
use synesis_proto::mesh::v1;
use synesis_proto::mesh::v1::ask_down::Message as Down;
use synesis_proto::mesh::v1::ask_up::Message as Up;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use ulid::Ulid;

use crate::lines::say;
use crate::pki::Pki;
use crate::tcp::answer;

pub(crate) async fn serve(pki: &Pki) {
    let endpoint = GatewayEndpoint::bind(&pki.gateway(), ([127, 0, 0, 1], 0).into()).expect("loopback");
    say(&json!({ "address": endpoint.local_addr().expect("bound").to_string() }));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(incoming) = endpoint.accept() => drop(connections.spawn(session(incoming))),
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn session(incoming: Incoming) {
    let Ok(Accepted::Device(mut device)) = incoming.handshake().await else { return };
    if device.hello().await.is_err() {
        return;
    }
    let welcome = v1::Welcome { heartbeat_interval_ms: 30_000, ..v1::Welcome::default() };
    let Ok(session) = device.welcome(welcome).await else { return };
    let mut work = JoinSet::new();
    loop {
        tokio::select! {
            stream = session.work() => match stream {
                Some(stream) => drop(work.spawn(respond(stream))),
                None => return,
            },
            Some(_) = work.join_next() => {}
        }
    }
}

/// Answers when the request has ended, as the first frame of it asks.
async fn respond(mut stream: WorkStream) {
    let mut first = None;
    while let Ok(Some(v1::AskUp { message })) = stream.rx.read().await {
        if let Some(Up::Start(start)) = message {
            first.get_or_insert_with(|| answer(&start.prompt));
        }
    }
    let text = String::from_utf8(first.unwrap_or_default()).unwrap_or_default();
    let delta = v1::AskDown { message: Some(Down::Delta(v1::AskDelta { seq: 1, text })) };
    if stream.tx.write(&delta).await.is_ok() {
        let _ = stream.tx.finish().await;
    }
}

/// A frame that asks.
pub(crate) fn frame(body: bytes::Bytes) -> v1::AskUp {
    let start = v1::AskStart { prompt: body, ..v1::AskStart::default() };
    v1::AskUp { message: Some(Up::Start(start)) }
}

/// One request on a new work stream, one answer: its length.
pub(crate) async fn ask(tunnel: &TunnelHandle, request: &bytes::Bytes) -> usize {
    let header = StreamHeader::new(StreamKind::Ask, Ulid::generate());
    let mut work = tunnel.open(header).await.expect("the tunnel is up");
    work.tx.write(&frame(request.clone())).await.expect("the far end reads");
    answered(work).await
}

/// Ends the request and reads the answer to its end: the length of its text.
pub(crate) async fn answered(mut work: WorkStream) -> usize {
    work.tx.finish().await.expect("the far end reads");
    let mut length = 0;
    while let Some(frame) = work.rx.read::<v1::AskDown>().await.expect("the far end answers") {
        match frame.message {
            Some(Down::Delta(delta)) => length += delta.text.len(),
            other => panic!("{other:?}"),
        }
    }
    length
}

/// A running tunnel; it ends when this is dropped or told to leave.
pub(crate) struct Device {
    pub(crate) tunnel: TunnelHandle,
    stop: CancellationToken,
    driver: JoinSet<()>,
    _vitals: watch::Sender<Option<v1::Vitals>>,
}

impl Device {
    /// Starts dialling. `heartbeat` none: as the gateway asks.
    pub(crate) fn start(
        identity: Arc<DeviceIdentity>,
        gateway: SocketAddr,
        heartbeat: Option<Duration>,
    ) -> Self {
        let (vitals, vitals_out) = watch::channel(Some(typical_vitals()));
        let mut config = TunnelConfig::new("synesis-load/1", vitals_out);
        config.endpoints = vec![gateway.to_string()];
        config.timing.heartbeat = heartbeat;
        let (tunnel, mut running) = Tunnel::new(config, Some(identity));
        let stop = CancellationToken::new();
        let mut driver = JoinSet::new();
        let stopping = stop.clone();
        driver.spawn(async move { running.run(stopping).await });
        Self { tunnel, stop, driver, _vitals: vitals }
    }

    /// Resolves when the gateway has welcomed it.
    pub(crate) async fn up(&self) {
        let mut status = self.tunnel.status();
        let up = status.wait_for(|status| status.state == TunnelState::Up).await;
        drop(up.expect("the driver runs"));
    }

    /// Closes the connection; resolves when the gateway has had time to hear of it.
    pub(crate) async fn leave(mut self) {
        self.stop.cancel();
        while self.driver.join_next().await.is_some() {}
    }
}

/// What a small box reports.
pub(crate) fn typical_vitals() -> v1::Vitals {
    v1::Vitals {
        cpu: Some(0.12),
        memory: Some(0.43),
        disk: Some(0.61),
        temperature_c: Some(48.5),
        load: Some(0.33),
        uptime_s: Some(86_400),
        gpus: Vec::new(),
    }
}
