//! A gateway on a loopback socket, and devices for it. In a suite whose name ends in `over_tcp` no UDP gets through.
#![allow(dead_code, reason = "each suite uses its part")]

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use synesis_mesh::device::{
    Backoff, Fallback, Tunnel, TunnelConfig, TunnelHandle, TunnelState, TunnelStatus,
};
use synesis_mesh::gateway::{
    Accepted, Dates, DeviceConnection, EnrollConnection, GatewayEndpoint, GatewayTls, Session, Tally,
};
use synesis_mesh::identity::{Ca, CaKind, DeviceIdentity, DeviceKey, ReceiptKey, TrustDomain};
use synesis_mesh::kind::ErrorCode;
use synesis_mesh::stream::WorkStream;
use synesis_proto::mesh::v1;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use zeroize::Zeroizing;

pub(crate) const GOOD_TOKEN: &str = "good-token";
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Whether this suite runs over TCP.
pub(crate) fn over_tcp() -> bool {
    module_path!().split("::").next().is_some_and(|suite| suite.ends_with("over_tcp"))
}

/// An address where nobody answers. The socket keeps others from taking it.
pub(crate) fn silence() -> (std::net::UdpSocket, SocketAddr) {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// Listens on UDP and, at the same port, on TCP.
pub(crate) fn listen(tls: &GatewayTls, address: SocketAddr) -> GatewayEndpoint {
    for _ in 0..20 {
        let endpoint = GatewayEndpoint::bind(tls, address).unwrap();
        let bound = endpoint.local_addr().unwrap();
        // Somebody else may have the port on TCP.
        if let Ok(both) = endpoint.and_tcp(tls, bound) {
            return both;
        }
    }
    panic!("no port is free on both");
}

/// The certificates of one realm.
pub(crate) struct Pki {
    pub(crate) domain: TrustDomain,
    pub(crate) server_ca: Ca,
    pub(crate) device_ca: Ca,
    server_chain: String,
    server_key: String,
}

impl Pki {
    pub(crate) fn new() -> Arc<Self> {
        Self::of("test.example")
    }

    pub(crate) fn of(domain: &str) -> Arc<Self> {
        let domain = domain.parse().unwrap();
        let server_ca = Ca::generate(CaKind::Server, &domain).unwrap();
        let server = server_ca.issue_server(&[]).unwrap();
        Arc::new(Self {
            device_ca: Ca::generate(CaKind::Device, &domain).unwrap(),
            server_chain: server.chain_pem,
            server_key: server.key_pem.to_string(),
            server_ca,
            domain,
        })
    }

    pub(crate) fn tls(&self) -> GatewayTls {
        GatewayTls {
            chain_pem: self.server_chain.clone(),
            key_pem: Zeroizing::new(self.server_key.clone()),
            also: Vec::new(),
            device_ca_pem: self.device_ca.certificate_pem(),
            trust_domain: self.domain.clone(),
            reset_seed: Some(Zeroizing::new([7; 32])),
            dates: Dates::default(),
        }
    }

    /// An enrolled device, without the exchange.
    pub(crate) fn device(&self, gateway: SocketAddr) -> DeviceIdentity {
        let key = DeviceKey::generate().unwrap();
        let device_id = Uuid::new_v4();
        let issued = self.device_ca.sign_device_csr(&key.csr_der().unwrap(), device_id).unwrap();
        DeviceIdentity {
            device_id,
            account: "acme".into(),
            trust_domain: self.domain.clone(),
            key,
            chain: issued.chain,
            ca: certificates(&self.server_ca.certificate_pem()),
            receipt_keys: vec![ReceiptKey { key_id: "k1".into(), public_key: [1; 32] }],
            gateway: gateway.to_string(),
        }
    }
}

pub(crate) fn certificates(pem: &str) -> Vec<rustls_pki_types::CertificateDer<'static>> {
    use rustls_pki_types::pem::PemObject;
    rustls_pki_types::CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect()
}

/// A gateway that lets everybody in who is not revoked, and echoes.
pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    pub(crate) endpoint: GatewayEndpoint,
    /// Each welcomed session, in order.
    pub(crate) sessions: mpsc::Receiver<Arc<Session>>,
    /// How each failed handshake failed.
    pub(crate) refused: mpsc::Receiver<String>,
    pub(crate) revoked: Arc<Mutex<HashSet<Uuid>>>,
    pub(crate) tally: Arc<Tally>,
    _tasks: JoinSet<()>,
}

struct Desk {
    pki: Arc<Pki>,
    revoked: Arc<Mutex<HashSet<Uuid>>>,
    sessions: mpsc::Sender<Arc<Session>>,
    refused: mpsc::Sender<String>,
    tally: Arc<Tally>,
}

impl Gateway {
    pub(crate) fn start(pki: &Arc<Pki>) -> Self {
        Self::with(pki, pki.tls(), ([127, 0, 0, 1], 0).into())
    }

    pub(crate) fn with(pki: &Arc<Pki>, tls: GatewayTls, address: SocketAddr) -> Self {
        let endpoint = listen(&tls, address);
        let (sessions_in, sessions) = mpsc::channel(64);
        let (refused_in, refused) = mpsc::channel(64);
        let revoked = Arc::new(Mutex::new(HashSet::new()));
        let desk = Arc::new(Desk {
            pki: pki.clone(),
            revoked: revoked.clone(),
            sessions: sessions_in,
            refused: refused_in,
            tally: Arc::default(),
        });
        let tally = Arc::clone(&desk.tally);
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(endpoint.clone(), desk));
        let address = endpoint.local_addr().unwrap();
        Self { address, endpoint, sessions, refused, revoked, tally, _tasks: tasks }
    }

    pub(crate) async fn session(&mut self) -> Arc<Session> {
        timeout(SOON, self.sessions.recv()).await.expect("a session in time").unwrap()
    }

    pub(crate) async fn refusal(&mut self) -> String {
        timeout(SOON, self.refused.recv()).await.expect("a refusal in time").unwrap()
    }
}

async fn serve(endpoint: GatewayEndpoint, desk: Arc<Desk>) {
    let mut peers = JoinSet::new();
    while let Some(incoming) = endpoint.accept().await {
        let desk = desk.clone();
        peers.spawn(async move {
            match incoming.handshake().await {
                Ok(Accepted::Enroll(connection)) => enrol(&desk, connection).await,
                Ok(Accepted::Device(device)) => welcome(&desk, device).await,
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    desk.refused.send(format!("{error}: {}", cause.unwrap_or_default())).await.unwrap();
                }
            }
        });
    }
}

async fn enrol(desk: &Desk, mut connection: EnrollConnection) {
    let Ok(request) = connection.request().await else { return };
    match request.token.as_str() {
        GOOD_TOKEN => {}
        "expired" => {
            let next = "create another token";
            return connection.refuse(ErrorCode::TokenExpired, "the token has expired", next).await.unwrap();
        }
        "somebody-else" => {}
        _ => return connection.refuse(ErrorCode::TokenInvalid, "no such token", "").await.unwrap(),
    }
    let device_id = Uuid::new_v4();
    let csr = match request.token.as_str() {
        "somebody-else" => DeviceKey::generate().unwrap().csr_der().unwrap(),
        _ => request.csr_der.to_vec(),
    };
    let issued = desk.pki.device_ca.sign_device_csr(&csr, device_id).unwrap();
    let enrolled = v1::Enrolled {
        device_id: device_id.to_string(),
        account: "acme".into(),
        trust_domain: desk.pki.domain.to_string(),
        certificate_chain: issued.chain.iter().map(|der| der.to_vec().into()).collect(),
        receipt_keys: vec![ReceiptKey { key_id: "k1".into(), public_key: [1; 32] }.into()],
        not_after_s: 0,
        server_ca: Vec::new(),
    };
    let message = Some(v1::enroll_reply::Message::Enrolled(enrolled));
    connection.reply(v1::EnrollReply { message }).await.unwrap();
}

async fn welcome(desk: &Desk, device: DeviceConnection) {
    let mut device = device.counted(Arc::clone(&desk.tally));
    if desk.revoked.lock().unwrap().contains(&device.device_id()) {
        return device.refuse(ErrorCode::Revoked, "revoked by the test");
    }
    let Ok(_hello) = device.hello().await else { return };
    let welcome =
        v1::Welcome { heartbeat_interval_ms: 100, gateway_id: "test".into(), ..v1::Welcome::default() };
    let Ok(session) = device.welcome(welcome).await else { return };
    let session = Arc::new(session);
    if desk.sessions.send(session.clone()).await.is_err() {
        return;
    }
    let mut work = JoinSet::new();
    while let Some(stream) = session.work().await {
        work.spawn(echo(stream));
    }
}

/// Sends each prompt back as a delta. A frame that cannot be read is refused.
async fn echo(mut stream: WorkStream) {
    let mut seq = 0;
    loop {
        match stream.rx.read::<v1::AskUp>().await {
            Ok(Some(v1::AskUp { message: Some(v1::ask_up::Message::Start(start)) })) => {
                seq += 1;
                let text = String::from_utf8_lossy(&start.prompt).into_owned();
                if stream.tx.write(&delta(seq, text)).await.is_err() {
                    return;
                }
            }
            Ok(Some(_)) => {}
            Ok(None) => {
                let _ = stream.tx.finish().await;
                return;
            }
            Err(error) => {
                let _ = stream.refuse(error.code(), error.to_string(), "").await;
                return;
            }
        }
    }
}

pub(crate) fn delta(seq: u64, text: String) -> v1::AskDown {
    v1::AskDown { message: Some(v1::ask_down::Message::Delta(v1::AskDelta { seq, text })) }
}

pub(crate) fn ask(prompt: &[u8]) -> v1::AskUp {
    let start = v1::AskStart { prompt: prompt.to_vec().into(), ..v1::AskStart::default() };
    v1::AskUp { message: Some(v1::ask_up::Message::Start(start)) }
}

/// A running tunnel.
pub(crate) struct Device {
    pub(crate) handle: TunnelHandle,
    pub(crate) vitals: watch::Sender<Option<v1::Vitals>>,
    pub(crate) stop: CancellationToken,
    _tasks: JoinSet<()>,
    _silence: std::net::UdpSocket,
}

impl Device {
    pub(crate) fn start(identity: Option<DeviceIdentity>) -> Self {
        Self::with(identity, |_| {})
    }

    pub(crate) fn with(identity: Option<DeviceIdentity>, adjust: impl FnOnce(&mut TunnelConfig)) -> Self {
        let (vitals, vitals_out) =
            watch::channel(Some(v1::Vitals { cpu: Some(0.25), ..v1::Vitals::default() }));
        let mut config = TunnelConfig::new("test/1", vitals_out);
        config.timing.backoff = Backoff { base: Duration::from_millis(20), cap: Duration::from_millis(200) };
        let (silence, nobody) = silence();
        if let Some(gateway) = identity.as_ref().and_then(|identity| identity.gateway.parse().ok())
            && over_tcp()
        {
            let gateway: SocketAddr = gateway;
            config.endpoints = vec![nobody.to_string()];
            config.fallback = Fallback::Auto { port: gateway.port(), proxy: None };
            config.timing.tcp_after = Duration::ZERO;
        } else {
            config.fallback = Fallback::Off;
        }
        adjust(&mut config);
        let (handle, mut driver) = Tunnel::new(config, identity.map(Arc::new));
        let stop = CancellationToken::new();
        let token = stop.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { driver.run(token).await });
        Self { handle, vitals, stop, _tasks: tasks, _silence: silence }
    }

    pub(crate) async fn reach(&self, state: TunnelState) -> TunnelStatus {
        self.status(|status| status.state == state).await
    }

    pub(crate) async fn status(&self, wanted: impl FnMut(&TunnelStatus) -> bool) -> TunnelStatus {
        let mut status = self.handle.status();
        let found = timeout(SOON, status.wait_for(wanted)).await;
        match found {
            Ok(found) => found.unwrap().clone(),
            Err(_) => panic!("still {:?}", self.handle.status().borrow().clone()),
        }
    }
}
