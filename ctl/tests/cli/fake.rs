//! A daemon that speaks the real protocol on a real socket and answers from a script. It runs on threads of its
//! own, so that a test can kill it in the middle of an answer.

mod services;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use synesis_proto::Problem;
use synesis_proto::control::v1::ask_event::Event;
use synesis_proto::control::v1::*;
use tokio::net::UnixListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;

/// How long a test waits for something that must happen, before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// One step of a scripted stream.
#[derive(Debug, Clone)]
pub(crate) enum Step<T> {
    Send(T),
    /// Goes on when the test says so.
    Wait(Arc<Notify>),
    Fail(Problem),
    /// Never goes on.
    Hang,
}

/// What the fake answers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Script {
    /// Refuses every call, whatever it is.
    pub(crate) refuse: Option<Problem>,
    /// Answers no call.
    pub(crate) hang: bool,
    pub(crate) ask: Vec<Step<AskEvent>>,
    pub(crate) route: RouteReply,
    pub(crate) status: StatusReply,
    pub(crate) watch: Vec<Step<StatusReply>>,
    pub(crate) vitals: Vec<Step<Vitals>>,
    pub(crate) preview: Vec<Span>,
    pub(crate) enroll: EnrollReply,
    pub(crate) tunnel: Tunnel,
    pub(crate) ping: TunnelPingReply,
    pub(crate) record: AdapterRecord,
    pub(crate) list: ListAdaptersReply,
    pub(crate) swap: SwapReply,
    pub(crate) model: ModelInfoReply,
    pub(crate) models: ListModelsReply,
    pub(crate) catalogue: CatalogueReply,
    pub(crate) pull: Vec<Step<PullEvent>>,
    pub(crate) load: LoadModelReply,
    pub(crate) transfer: Vec<Step<TransferEvent>>,
    pub(crate) cloud: ListCloudReply,
    pub(crate) decisions: Vec<Decision>,
    pub(crate) replayed: Vec<Replayed>,
    pub(crate) balance: BalanceReply,
    pub(crate) receipts: Vec<StoredReceipt>,
    pub(crate) keys: Vec<ReceiptKey>,
}

/// What the fake was asked.
#[derive(Debug, Clone)]
pub(crate) enum Asked {
    Ask(AskRequest),
    Route(AskRequest),
    Enroll(EnrollRequest),
    Receipts(ReceiptsRequest),
    /// The bytes of each part, in the order they came.
    Imported {
        name: String,
        source: String,
        parts: Vec<(ImportPart, Vec<u8>)>,
        chunks: usize,
    },
    ImportBroken,
    Swap(SwapRequest),
    Off(OffRequest),
    Removed(String),
    Push(PushAdapterRequest),
    Pull(PullAdapterRequest),
    Unenrolled,
    Reconnect,
}

struct Shared {
    script: Script,
    asked: Mutex<Vec<Asked>>,
    /// An answer whose reader left before its end.
    cancelled: mpsc::SyncSender<()>,
}

/// The fake, alive until it is dropped.
pub(crate) struct Fake {
    pub(crate) socket: PathBuf,
    pub(crate) dir: tempfile::TempDir,
    shared: Arc<Shared>,
    cancelled: mpsc::Receiver<()>,
    runtime: Option<Runtime>,
}

impl Fake {
    pub(crate) fn start(script: Script) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("control.sock");
        let (sender, cancelled) = mpsc::sync_channel(16);
        let shared = Arc::new(Shared { script, asked: Mutex::default(), cancelled: sender });
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(async { UnixListener::bind(&socket).unwrap() });
        runtime.spawn(services::serve(Arc::clone(&shared), listener));
        Self { socket, dir, shared, cancelled, runtime: Some(runtime) }
    }

    /// Ends it the way a kill does: no goodbye on any connection.
    pub(crate) fn kill(&mut self) {
        self.runtime.take().unwrap().shutdown_timeout(PATIENCE);
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// Waits until an answer was cancelled by its reader.
    pub(crate) fn wait_for_cancellation(&self) {
        self.cancelled.recv_timeout(PATIENCE).expect("the call was not cancelled");
    }

    /// A file in the fake's folder.
    pub(crate) fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        file(self.dir.path(), name, bytes)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

pub(crate) fn file(dir: &Path, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

pub(crate) fn delta(text: &str) -> Step<AskEvent> {
    Step::Send(AskEvent { event: Some(Event::Delta(Delta { text: text.to_owned(), ..Delta::default() })) })
}

pub(crate) fn done(done: Done) -> Step<AskEvent> {
    Step::Send(AskEvent { event: Some(Event::Done(done)) })
}
