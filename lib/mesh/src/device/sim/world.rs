//! A real gateway session, a device that knows it, and the simulated network between them.

use std::cell::Cell;
use std::sync::{Arc, Once};
use std::time::Duration;

use quinn::EndpointConfig;
use rand::SeedableRng;
use rand::rngs::StdRng;
use synesis_proto::mesh::v1;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use ulid::Ulid;
use uuid::Uuid;

use super::SimNet;
use crate::device::dial::{Dial, Dialled};
use crate::device::{Failure, Fallback, Tunnel, TunnelConfig, TunnelHandle, TunnelState, TunnelStatus};
use crate::frame::FrameWriter;
use crate::gateway::{Accepted, Dates, GatewayEndpoint, GatewayTls, HandshakeError};
use crate::identity::{Ca, CaKind, DeviceIdentity, DeviceKey, WallClock, certificates_from_pem};
use crate::kind::{ALPN_MESH, StreamKind};
use crate::stream::{SendHalf, StreamHeader, WorkStream};
use crate::tls::ClientTls;
use crate::transport;

pub(in crate::device) const GATEWAY: &str = "10.0.0.2:4433";
pub(in crate::device) const SECOND: Duration = Duration::from_secs(1);
/// Between two deltas of an answer.
const PACE: Duration = Duration::from_millis(50);
const RESET_SEED: [u8; 32] = [7; 32];

pub(in crate::device) struct World {
    pub(in crate::device) net: SimNet,
    pub(in crate::device) handle: TunnelHandle,
    pub(in crate::device) identity: Arc<DeviceIdentity>,
    /// How each failed handshake failed at the gateway.
    pub(in crate::device) refused: mpsc::Receiver<HandshakeError>,
    pub(in crate::device) stop: CancellationToken,
    pub(in crate::device) tasks: JoinSet<()>,
    tls: GatewayTls,
    welcome: v1::Welcome,
    refused_in: mpsc::Sender<HandshakeError>,
    gateway: AbortHandle,
}

impl World {
    /// A network without faults.
    pub(in crate::device) fn new(heartbeat: Duration) -> Self {
        Self::over(SimNet::default(), 1, heartbeat, v1::Welcome::default())
    }

    pub(in crate::device) fn over(net: SimNet, seed: u64, heartbeat: Duration, welcome: v1::Welcome) -> Self {
        let domain = "sim.example".parse().unwrap();
        let server_ca = Ca::generate(CaKind::Server, &domain).unwrap();
        let device_ca = Ca::generate(CaKind::Device, &domain).unwrap();
        let server = server_ca.issue_server(&[]).unwrap();
        let tls = GatewayTls {
            chain_pem: server.chain_pem,
            key_pem: server.key_pem,
            also: Vec::new(),
            device_ca_pem: device_ca.certificate_pem(),
            trust_domain: domain.clone(),
            reset_seed: None,
            dates: Dates::default(),
        };
        let key = DeviceKey::generate().unwrap();
        let device_id = Uuid::new_v4();
        let identity = DeviceIdentity {
            device_id,
            account: "acme".into(),
            trust_domain: domain,
            chain: device_ca.sign_device_csr(&key.csr_der().unwrap(), device_id).unwrap().chain,
            ca: certificates_from_pem(server_ca.certificate_pem().as_bytes()).unwrap(),
            key,
            receipt_keys: Vec::new(),
            gateway: GATEWAY.into(),
        };
        let mut config = TunnelConfig::new("sim/1", watch::channel(None).1);
        config.timing.heartbeat = Some(heartbeat);
        let identity = Arc::new(identity);
        let (handle, mut driver) = Tunnel::over(config, Some(identity.clone()), Arc::new(net.clone()));
        driver.rng = StdRng::seed_from_u64(seed);
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let (refused_in, refused) = mpsc::channel(16);
        let endpoint = gateway_endpoint(&net, &tls);
        let gateway = tasks.spawn(serve(endpoint, welcome.clone(), refused_in.clone()));
        let token = stop.clone();
        tasks.spawn(async move { driver.run(token).await });
        Self { net, handle, identity, refused, stop, tasks, tls, welcome, refused_in, gateway }
    }

    /// Waits, in virtual time, for a state.
    pub(in crate::device) async fn reach(&self, state: TunnelState) -> TunnelStatus {
        let mut status = self.handle.status();
        status.wait_for(|s| s.state == state).await.unwrap().clone()
    }

    pub(in crate::device) async fn leave_up(&self) -> Instant {
        let mut status = self.handle.status();
        status.wait_for(|s| s.state != TunnelState::Up).await.unwrap();
        Instant::now()
    }

    /// A second connection of the same device, on which nothing happens by itself.
    pub(in crate::device) async fn raw(&self) -> Dialled {
        dial_at(GATEWAY, &self.identity, SECOND, &self.net).await.unwrap()
    }

    /// An answer that goes on until somebody stops listening.
    pub(in crate::device) async fn endless_answer(&self) -> Answer {
        let header = StreamHeader::new(StreamKind::Ask, Ulid::from_parts(1, 1));
        let mut stream = self.handle.open(header).await.unwrap();
        let start = v1::ask_up::Message::Start(v1::AskStart::default());
        stream.tx.write(&v1::AskUp { message: Some(start) }).await.unwrap();
        Answer { stream, read: 0 }
    }

    /// The gateway's process dies and another one starts, which remembers nothing but its keys. Nobody is told.
    pub(in crate::device) fn restart_gateway(&mut self) {
        // First the new socket: from now on nothing of the old process reaches anybody.
        let endpoint = gateway_endpoint(&self.net, &self.tls);
        self.gateway.abort();
        self.gateway = self.tasks.spawn(serve(endpoint, self.welcome.clone(), self.refused_in.clone()));
    }

    pub(in crate::device) async fn end(mut self) {
        self.stop.cancel();
        self.reach(TunnelState::Offline).await;
        self.tasks.abort_all();
    }
}

pub(in crate::device) async fn dial_at(
    gateway: &str,
    identity: &DeviceIdentity,
    each: Duration,
    net: &SimNet,
) -> Result<Dialled, Failure> {
    let tls =
        crate::tls::device(identity, ALPN_MESH, &WallClock::system()).and_then(ClientTls::try_from).unwrap();
    let gateways = [gateway.to_owned()];
    Dial { gateways: &gateways, tls, each, fallback: &Fallback::Off, head_start: Duration::ZERO }
        .run(net)
        .await
}

/// A stream of numbered deltas.
pub(in crate::device) struct Answer {
    stream: WorkStream,
    pub(in crate::device) read: u64,
}

impl Answer {
    /// Sends so many bytes up the stream.
    pub(in crate::device) async fn ask_at_length(&mut self, bytes: usize) {
        let start = v1::AskStart { prompt: vec![b'x'; bytes].into(), ..v1::AskStart::default() };
        let message = Some(v1::ask_up::Message::Start(start));
        self.stream.tx.write(&v1::AskUp { message }).await.unwrap();
    }

    /// Reads for this long, and checks that no delta is missing or repeated; whether the stream still lives.
    pub(in crate::device) async fn read_for(&mut self, time: Duration) -> bool {
        let end = Instant::now() + time;
        loop {
            let next = self.stream.rx.read::<v1::AskDown>();
            match tokio::time::timeout_at(end, next).await {
                Err(_) => return true,
                Ok(Ok(Some(v1::AskDown { message: Some(v1::ask_down::Message::Delta(delta)) }))) => {
                    self.read += 1;
                    assert_eq!(delta.seq, self.read, "nothing is lost or repeated");
                }
                Ok(Ok(other)) => panic!("{other:?}"),
                Ok(Err(_)) => return false,
            }
        }
    }
}

/// How many tasks have panicked on this thread, and in a test with one thread that is all of them. A panic inside QUIC's
/// own tasks shows nowhere else.
pub(in crate::device) fn panics() -> usize {
    thread_local!(static COUNT: Cell<usize> = const { Cell::new(0) });
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            COUNT.with(|count| count.set(count.get() + 1));
            before(info);
        }));
    });
    COUNT.with(Cell::get)
}

fn gateway_endpoint(net: &SimNet, tls: &GatewayTls) -> GatewayEndpoint {
    let config =
        transport::gateway_endpoint(Some(&RESET_SEED), None).unwrap_or_else(|_| EndpointConfig::default());
    let endpoint = net.endpoint_at(GATEWAY.parse().unwrap(), config).unwrap();
    GatewayEndpoint::over(endpoint, tls).unwrap()
}

/// Welcomes everybody, holds every stream open, and answers who asks.
async fn serve(gateway: GatewayEndpoint, welcome: v1::Welcome, refused: mpsc::Sender<HandshakeError>) {
    let mut sessions = JoinSet::new();
    while let Some(incoming) = gateway.accept().await {
        let (refused, welcome) = (refused.clone(), welcome.clone());
        sessions.spawn(async move {
            let mut device = match incoming.handshake().await {
                Ok(Accepted::Device(device)) => device,
                Ok(Accepted::Enroll(_)) => return,
                // Only some tests look.
                Err(error) => return drop(refused.try_send(error)),
            };
            if device.hello().await.is_err() {
                return;
            }
            let Ok(session) = device.welcome(welcome).await else { return };
            let mut answers = JoinSet::new();
            while let Some(stream) = session.work().await {
                answers.spawn(answer(stream));
            }
        });
    }
}

/// Counts for as long as somebody listens, once asked to.
async fn answer(mut stream: WorkStream) {
    let Ok(Some(v1::AskUp { message: Some(v1::ask_up::Message::Start(_)) })) = stream.rx.read().await else {
        return;
    };
    let WorkStream { mut tx, mut rx, .. } = stream;
    // What else is said is read, so that it can be sent.
    let heard = async { while let Ok(Some(_)) = rx.read::<v1::AskUp>().await {} };
    let counted = count(&mut tx);
    tokio::join!(heard, counted);
}

async fn count(tx: &mut FrameWriter<SendHalf>) {
    for seq in 1.. {
        let delta = v1::AskDelta { seq, text: format!("word {seq} ") };
        let message = Some(v1::ask_down::Message::Delta(delta));
        if tx.write(&v1::AskDown { message }).await.is_err() {
            return;
        }
        sleep(PACE).await;
    }
}
