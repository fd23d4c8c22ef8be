//! A device with the real tunnel, without a daemon around it.

use std::sync::Arc;

use prost::Message as _;
use sha2::{Digest, Sha256};
use synesis_ledger::{KeyRing, SignedReceipt};
use synesis_mesh::device::{Tunnel, TunnelConfig, TunnelHandle, TunnelState, enroll};
use synesis_mesh::frame::FrameError;
use synesis_mesh::identity::DeviceIdentity;
use synesis_mesh::kind::StreamKind;
use synesis_mesh::stream::{StreamHeader, WorkStream};
use synesis_proto::mesh::v1;
use synesis_proto::mesh::v1::{account_down, account_up, ask_down, ask_up};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use ulid::Ulid;

use super::gateway::TestGateway;

/// An enrolled device with its tunnel up; dropping it cuts the connection.
pub(crate) struct TestDevice {
    pub(crate) identity: Arc<DeviceIdentity>,
    pub(crate) tunnel: TunnelHandle,
    _driver: JoinSet<()>,
}

impl TestDevice {
    pub(crate) async fn enrol(gateway: &TestGateway, ceiling_nanousd: Option<i64>) -> Self {
        let token = gateway.token(ceiling_nanousd).await;
        let address = gateway.address.to_string();
        let identity = enroll(&address, &gateway.ca_pem(), &token, "test/1").await.unwrap();
        Self::connect(Arc::new(identity), gateway).await
    }

    /// The same, in an account of its own.
    pub(crate) async fn enrol_into(gateway: &TestGateway, account: &str) -> Self {
        let token = gateway.token_of(account, 1, None).await;
        let address = gateway.address.to_string();
        let identity = enroll(&address, &gateway.ca_pem(), &token, "test/1").await.unwrap();
        Self::connect(Arc::new(identity), gateway).await
    }

    pub(crate) async fn connect(identity: Arc<DeviceIdentity>, gateway: &TestGateway) -> Self {
        let (_, vitals) = watch::channel(None);
        let mut config = TunnelConfig::new("test/1", vitals);
        config.endpoints = vec![gateway.address.to_string()];
        let device = Self::start(identity, config);
        device.reaches(TunnelState::Up).await;
        device
    }

    /// A device that is not connected yet. It uses at once what the gateway renews, and keeps nothing.
    pub(crate) fn start(identity: Arc<DeviceIdentity>, config: TunnelConfig) -> Self {
        let (tunnel, mut driver) = Tunnel::new(config, Some(Arc::clone(&identity)));
        let mut running = JoinSet::new();
        running.spawn(async move { driver.run(CancellationToken::new()).await });
        let handle = tunnel.clone();
        running.spawn(async move {
            let mut renewals = handle.renewals();
            while renewals.changed().await.is_ok() {
                handle.set_identity(renewals.borrow_and_update().clone());
            }
        });
        Self { identity, tunnel, _driver: running }
    }

    /// Waits for a state of the tunnel.
    pub(crate) async fn reaches(&self, state: TunnelState) {
        self.tunnel.status().wait_for(|status| status.state == state).await.unwrap();
    }

    /// Begins an ask that says `prompt`.
    pub(crate) async fn ask(&self, request_id: Ulid, prompt: &str) -> Asking {
        self.ask_with(request_id, start(prompt)).await
    }

    pub(crate) async fn ask_with(&self, request_id: Ulid, start: v1::AskStart) -> Asking {
        let mut stream = self.tunnel.open(StreamHeader::new(StreamKind::Ask, request_id)).await.unwrap();
        stream.tx.write(&v1::AskUp { message: Some(ask_up::Message::Start(start)) }).await.unwrap();
        Asking { stream }
    }

    /// Goes on with the answer to `prompt` from frame number `from`.
    pub(crate) async fn resume(&self, request_id: Ulid, from: u64, prompt: &str) -> Asking {
        let hash: [u8; 32] = Sha256::digest(&start(prompt).prompt).into();
        let resume = v1::AskResume { from_seq: from, redacted_hash: hash.to_vec().into() };
        let mut stream = self.tunnel.open(StreamHeader::new(StreamKind::Ask, request_id)).await.unwrap();
        stream.tx.write(&v1::AskUp { message: Some(ask_up::Message::Resume(resume)) }).await.unwrap();
        Asking { stream }
    }

    async fn account(&self, question: account_up::Message) -> account_down::Message {
        let header = StreamHeader::new(StreamKind::Account, Ulid::from(1));
        let mut stream = self.tunnel.open(header).await.unwrap();
        stream.tx.write(&v1::AccountUp { message: Some(question) }).await.unwrap();
        stream.rx.read::<v1::AccountDown>().await.unwrap().unwrap().message.unwrap()
    }

    pub(crate) async fn balance(&self) -> v1::Balance {
        match self.account(account_up::Message::Balance(v1::BalanceQuery {})).await {
            account_down::Message::Balance(balance) => balance,
            other => panic!("no balance but {other:?}"),
        }
    }

    pub(crate) async fn receipt(&self, request_id: Ulid) -> v1::ReceiptAnswer {
        let query = v1::ReceiptQuery { request_id: request_id.to_string() };
        match self.account(account_up::Message::Receipt(query)).await {
            account_down::Message::Receipt(answer) => answer,
            other => panic!("no receipt but {other:?}"),
        }
    }

    /// The receipt, after its signature held.
    pub(crate) fn verified(&self, bytes: &[u8]) -> SignedReceipt {
        let mut ring = KeyRing::new();
        for key in &self.identity.receipt_keys {
            ring.insert(key.public_key).unwrap();
        }
        let receipt = SignedReceipt::from_bytes(bytes).unwrap();
        ring.verify(&receipt).unwrap();
        receipt
    }
}

/// An ask that says `prompt`.
pub(crate) fn start(prompt: &str) -> v1::AskStart {
    let message = v1::PromptMessage {
        role: "user".to_owned(),
        content: prompt.to_owned(),
        ..v1::PromptMessage::default()
    };
    let prompt = v1::Prompt { messages: vec![message], ..v1::Prompt::default() }.encode_to_vec();
    v1::AskStart { prompt: prompt.into(), max_tokens: 100, ..v1::AskStart::default() }
}

/// A running ask.
pub(crate) struct Asking {
    stream: WorkStream,
}

/// Everything an ask stream said.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) accepted: Option<v1::AskAccepted>,
    pub(crate) text: String,
    pub(crate) seqs: Vec<u64>,
    pub(crate) finished: Option<v1::AskFinished>,
    pub(crate) receipt: Option<Vec<u8>>,
    pub(crate) problem: Option<v1::Problem>,
}

impl Asking {
    /// The next frame, or why there is none.
    pub(crate) async fn read(&mut self) -> Result<Option<v1::AskDown>, FrameError> {
        self.stream.rx.read().await
    }

    /// The next frame.
    pub(crate) async fn next(&mut self) -> Option<ask_down::Message> {
        self.stream.rx.read::<v1::AskDown>().await.unwrap().map(|down| down.message.unwrap())
    }

    /// Reads up to the first delta.
    pub(crate) async fn first_delta(&mut self) -> v1::AskDelta {
        loop {
            match self.next().await.unwrap() {
                ask_down::Message::Accepted(_) => {}
                ask_down::Message::Delta(delta) => return delta,
                other => panic!("no delta but {other:?}"),
            }
        }
    }

    pub(crate) async fn cancel(&mut self) {
        let cancel = v1::AskUp { message: Some(ask_up::Message::Cancel(v1::AskCancel {})) };
        self.stream.tx.write(&cancel).await.unwrap();
    }

    /// Says that everything is here.
    pub(crate) async fn done(mut self) {
        let done = v1::AskUp { message: Some(ask_up::Message::Done(v1::AskDone {})) };
        self.stream.tx.write(&done).await.unwrap();
        self.stream.tx.finish().await.unwrap();
    }

    /// Reads to the end of the stream.
    pub(crate) async fn told(mut self) -> Told {
        let mut told = Told::default();
        while let Some(message) = self.next().await {
            match message {
                ask_down::Message::Accepted(accepted) => told.accepted = Some(accepted),
                ask_down::Message::Delta(delta) => {
                    told.seqs.push(delta.seq);
                    told.text.push_str(&delta.text);
                }
                ask_down::Message::Finished(finished) => told.finished = Some(finished),
                ask_down::Message::Receipt(receipt) => told.receipt = Some(receipt.signed_receipt.to_vec()),
                ask_down::Message::Problem(problem) => told.problem = Some(problem),
            }
        }
        told
    }
}
