//! An enrolled device with its tunnel up, and the gateway at the other end of it: the real listener on a loopback
//! socket, with the test deciding what it says.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost::Message as _;
use sha2::{Digest, Sha256};
use synesis_ledger::{NanoUsd, Receipt, SignedReceipt, SigningKey, Tier};
use synesis_mesh::device::{Backoff, Tunnel, TunnelConfig, TunnelState, enroll};
use synesis_mesh::gateway::{
    Accepted, Dates, DeviceConnection, EnrollConnection, GatewayEndpoint, GatewayTls, Session,
};
use synesis_mesh::identity::{Ca, CaKind};
use synesis_mesh::kind::StreamKind;
use synesis_mesh::stream::WorkStream;
use synesis_privacy::{Message, Policy, Redacted, Vault};
use synesis_proto::mesh::v1::{self, account_down, ask_down, ask_up, enroll_reply};
use synesis_supervise::{Context, HealthBoard, Subsystem};
use synesisd::ask::Sink;
use synesisd::budget::Budget;
use synesisd::escalation::{CloudAnswer, Escalation, EscalationError, Reconciler, Resume, Wishes};
use synesisd::journal::DeviceJournal;
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use ulid::Ulid;

static POLICY: LazyLock<Policy> = LazyLock::new(|| Policy::standard().unwrap());

/// A gateway that listens, and nobody is there yet.
pub(crate) struct Realm {
    /// Where it listens.
    pub(crate) endpoint: GatewayEndpoint,
    /// What signs its devices.
    pub(crate) device_ca: Ca,
    /// What its devices pin.
    pub(crate) ca_pem: String,
    /// `host:port`.
    pub(crate) address: String,
    /// What signs its receipts.
    pub(crate) key: SigningKey,
}

impl Realm {
    /// On a loopback socket.
    pub(crate) fn new() -> Self {
        let domain = "test.internal".parse().unwrap();
        let server_ca = Ca::generate(CaKind::Server, &domain).unwrap();
        let device_ca = Ca::generate(CaKind::Device, &domain).unwrap();
        let server = server_ca.issue_server(&[]).unwrap();
        let tls = GatewayTls {
            chain_pem: server.chain_pem,
            key_pem: server.key_pem,
            device_ca_pem: device_ca.certificate_pem(),
            trust_domain: domain,
            also: Vec::new(),
            dates: Dates::default(),
            reset_seed: None,
        };
        let endpoint = GatewayEndpoint::bind(&tls, "127.0.0.1:0".parse().unwrap()).unwrap();
        let address = endpoint.local_addr().unwrap().to_string();
        let key = SigningKey::generate([7; 32]);
        Self { endpoint, device_ca, ca_pem: server_ca.certificate_pem(), address, key }
    }
}

/// Both ends.
pub(crate) struct World {
    /// The gateway's end of the device's connection.
    pub(crate) gateway: Session,
    /// What signs its receipts.
    pub(crate) key: SigningKey,
    /// The device's end.
    pub(crate) escalation: Escalation,
    device_id: String,
    endpoint: GatewayEndpoint,
    _driver: JoinSet<()>,
    _folder: TempDir,
}

impl World {
    /// A device with a daily limit, if any, in nano-dollars.
    pub(crate) async fn with_limit(limit: Option<i64>) -> Self {
        let Realm { endpoint, device_ca, ca_pem, address, key } = Realm::new();
        let (identity, ()) = tokio::join!(
            enroll(&address, ca_pem.as_bytes(), "token", "test/1"),
            let_in(&endpoint, &device_ca, key.public())
        );
        let identity = Arc::new(identity.unwrap());
        let device_id = identity.device_id.to_string();

        let (_, vitals) = watch::channel(None);
        let mut config = TunnelConfig::new("test/1", vitals);
        config.endpoints = vec![address];
        config.timing.backoff = Backoff { base: Duration::from_millis(20), cap: Duration::from_millis(200) };
        let (tunnel, mut driver) = Tunnel::new(config, Some(Arc::clone(&identity)));
        let mut running = JoinSet::new();
        running.spawn(async move { driver.run(CancellationToken::new()).await });
        let gateway = welcome(&endpoint).await;
        tunnel.status().wait_for(|status| status.state == TunnelState::Up).await.unwrap();

        let folder = TempDir::new().unwrap();
        let (journal, _) = DeviceJournal::open(folder.path()).await.unwrap();
        let budget = Budget::new(limit.map(NanoUsd::from_i64));
        let (_, identity) = watch::channel(Some(identity));
        let resume = Resume::within(Duration::ZERO);
        let escalation = Escalation { tunnel, identity, journal, budget, resume };
        Self { gateway, key, escalation, device_id, endpoint, _driver: running, _folder: folder }
    }

    /// A device without a limit, that does not wait for a tunnel that was lost.
    pub(crate) async fn start() -> Self {
        Self::with_limit(None).await
    }

    /// The same, and it waits.
    pub(crate) async fn resuming() -> Self {
        let mut world = Self::start().await;
        world.escalation.resume.window = Duration::from_secs(30);
        world
    }

    /// Asks about Ann, whose address is hidden; the answer and what the user saw of it.
    pub(crate) async fn ask(&self) -> (Result<CloudAnswer, EscalationError>, String) {
        let mut vault = Vault::with_seed(1);
        let redacted = redact(&["mail ann@example.org"], &mut vault);
        let wishes = Wishes {
            max_tokens: 100,
            temperature: None,
            top_p: None,
            seed: None,
            presence_penalty: None,
            frequency_penalty: None,
            stop: redact(&[], &mut vault),
            tools: None,
            json_schema: None,
            adapter_generation: 0,
            adapter: None,
        };
        let (events, _listening) = mpsc::channel(64);
        let mut sink = Sink::new(events, Instant::now());
        let answer =
            self.escalation.run(Ulid::generate(), &redacted, vault.restorer(), wishes, &mut sink).await;
        (answer, sink.text().to_owned())
    }

    /// The next ask that arrives.
    pub(crate) async fn asked(&self) -> Asking {
        let mut stream = self.gateway.work().await.unwrap();
        assert_eq!(stream.header.kind, StreamKind::Ask);
        let start = match stream.rx.read::<v1::AskUp>().await.unwrap().unwrap().message {
            Some(ask_up::Message::Start(start)) => start,
            other => panic!("no start but {other:?}"),
        };
        Asking { stream, start }
    }

    /// Answers the next question about a request.
    pub(crate) async fn tell(&self, state: &str, signed: Option<&SignedReceipt>) {
        self.tell_on(&self.gateway, state, signed).await;
    }

    /// The same, over another of the device's connections.
    pub(crate) async fn tell_on(&self, gateway: &Session, state: &str, signed: Option<&SignedReceipt>) {
        let mut stream = gateway.work().await.unwrap();
        if stream.header.kind == StreamKind::Ask {
            // Of a request that was given up, the device says so before it asks what became of it.
            let first = stream.rx.read::<v1::AskUp>().await.unwrap().unwrap().message;
            assert!(matches!(first, Some(ask_up::Message::Cancel(_))), "{first:?}");
            stream = gateway.work().await.unwrap();
        }
        assert_eq!(stream.header.kind, StreamKind::Account);
        stream.rx.read::<v1::AccountUp>().await.unwrap().unwrap();
        let signed_receipt = signed.map(SignedReceipt::to_bytes).unwrap_or_default().into();
        let answer = v1::ReceiptAnswer { state: state.to_owned(), signed_receipt };
        let message = Some(account_down::Message::Receipt(answer));
        stream.tx.write(&v1::AccountDown { message }).await.unwrap();
        stream.tx.finish().await.unwrap();
    }

    /// The receipt of an ask: 103 nano-dollars, the first of this device.
    pub(crate) fn receipt(&self, asking: &Asking) -> Receipt {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Receipt {
            account: "acme".to_owned(),
            device: self.device_id.clone(),
            request_id: asking.stream.header.request_id.to_string(),
            model: "big".to_owned(),
            adapter_generation: 0,
            input_tokens: 5,
            output_tokens: 2,
            tier: Tier::Managed,
            cost: NanoUsd::from_i64(100),
            fee: NanoUsd::from_i64(3),
            credits_used: NanoUsd::ZERO,
            net: NanoUsd::from_i64(103),
            price_version: 1,
            redacted_hash: Sha256::digest(&asking.start.prompt).into(),
            seq: 1,
            prev_hash: [0; 32],
            issued_at_ms: i64::try_from(now.as_millis()).unwrap(),
        }
    }

    /// The device's next connection.
    pub(crate) async fn reconnected(&self) -> Session {
        welcome(&self.endpoint).await
    }

    /// How many requests are open, those included that somebody works on.
    pub(crate) fn open_in_all(&self) -> usize {
        self.escalation.journal.open_requests().len()
    }

    /// How many requests are open.
    pub(crate) fn open(&self) -> usize {
        self.escalation.journal.unsettled().len()
    }

    /// Runs the reconciler until no request is open.
    pub(crate) async fn reconcile(&self) {
        let mut pending = self.escalation.journal.pending();
        let mut reconciler = Reconciler::new(self.escalation.clone());
        let cx = Context::detached(&HealthBoard::new(), "reconcile", CancellationToken::new());
        tokio::select! {
            ended = reconciler.run(&cx) => panic!("it ended by itself: {ended:?}"),
            settled = pending.wait_for(|open| *open == 0) => drop(settled.unwrap()),
        }
    }
}

/// The gateway's end of one ask.
pub(crate) struct Asking {
    /// The stream.
    pub(crate) stream: WorkStream,
    /// What was asked.
    pub(crate) start: v1::AskStart,
}

impl Asking {
    /// Says anything.
    pub(crate) async fn say(&mut self, message: ask_down::Message) {
        self.stream.tx.write(&v1::AskDown { message: Some(message) }).await.unwrap();
    }

    /// Accepts with a hold.
    pub(crate) async fn accept(&mut self, held_nanousd: i64) {
        let accepted = v1::AskAccepted { model: "big".to_owned(), held_nanousd, price_version: 1 };
        self.say(ask_down::Message::Accepted(accepted)).await;
    }

    /// A part of the answer.
    pub(crate) async fn delta(&mut self, seq: u64, text: &str) {
        self.say(ask_down::Message::Delta(v1::AskDelta { seq, text: text.to_owned() })).await;
    }

    /// The end of the answer.
    pub(crate) async fn finish(&mut self, seq: u64) {
        self.finish_with(seq, "stop", "").await;
    }

    /// The end of an answer that calls tools.
    pub(crate) async fn call(&mut self, seq: u64, tool_calls_json: &str) {
        self.finish_with(seq, "tool_calls", tool_calls_json).await;
    }

    async fn finish_with(&mut self, seq: u64, reason: &str, tool_calls_json: &str) {
        let end = v1::AskFinished {
            seq,
            reason: reason.to_owned(),
            input_tokens: 5,
            output_tokens: 2,
            provider_counted: true,
            tool_calls_json: tool_calls_json.to_owned(),
        };
        self.say(ask_down::Message::Finished(end)).await;
    }

    /// The receipt, and the end of the stream.
    pub(crate) async fn hand_over(&mut self, signed: &SignedReceipt) {
        self.say(ask_down::Message::Receipt(v1::AskReceipt {
            signed_receipt: signed.to_bytes().into(),
            seq: 0,
        }))
        .await;
        self.end().await;
    }

    /// The end of the stream. A device that has all it needs does not wait for it.
    pub(crate) async fn end(&mut self) {
        let _ = self.stream.tx.finish().await;
    }

    /// What left the device.
    pub(crate) fn prompt(&self) -> String {
        v1::Prompt::decode(self.start.prompt.clone()).unwrap().messages.remove(0).content
    }
}

fn redact(texts: &[&str], vault: &mut Vault) -> Redacted {
    let messages: Vec<Message> = texts.iter().map(|text| Message::new("user", *text)).collect();
    POLICY.redact(&messages, vault).unwrap()
}

/// Enrols whoever comes.
pub(crate) async fn let_in(endpoint: &GatewayEndpoint, device_ca: &Ca, receipt_key: [u8; 32]) {
    let mut newcomer = newcomer(endpoint).await;
    let request = newcomer.request().await.unwrap();
    newcomer.reply(admit(&request, device_ca, receipt_key)).await.unwrap();
}

/// Somebody with a token.
pub(crate) async fn newcomer(endpoint: &GatewayEndpoint) -> EnrollConnection {
    match endpoint.accept().await.unwrap().handshake().await.unwrap() {
        Accepted::Enroll(newcomer) => newcomer,
        Accepted::Device(_) => panic!("no newcomer"),
    }
}

/// A yes to everybody.
pub(crate) fn admit(request: &v1::EnrollRequest, device_ca: &Ca, receipt_key: [u8; 32]) -> v1::EnrollReply {
    let id = "6f1c2a52-3a0c-4b52-9a3e-2f6d4f6f0a11";
    let issued = device_ca.sign_device_csr(&request.csr_der, id.parse().unwrap()).unwrap();
    let key = v1::ReceiptKey {
        key_id: synesis_ledger::key_id(&receipt_key),
        public_key: receipt_key.to_vec().into(),
    };
    let enrolled = v1::Enrolled {
        device_id: id.to_owned(),
        account: "acme".to_owned(),
        trust_domain: "test.internal".to_owned(),
        certificate_chain: issued.chain.iter().map(|der| der.to_vec().into()).collect(),
        receipt_keys: vec![key],
        not_after_s: 0,
        server_ca: Vec::new(),
    };
    v1::EnrollReply { message: Some(enroll_reply::Message::Enrolled(enrolled)) }
}

/// A device that shows its certificate, let in.
pub(crate) async fn welcome(endpoint: &GatewayEndpoint) -> Session {
    let mut device: DeviceConnection = match endpoint.accept().await.unwrap().handshake().await.unwrap() {
        Accepted::Device(device) => device,
        Accepted::Enroll(_) => panic!("enrolled already"),
    };
    device.hello().await.unwrap();
    device.welcome(v1::Welcome { heartbeat_interval_ms: 30_000, ..v1::Welcome::default() }).await.unwrap()
}
