//! A model process that follows a script: the real runtime.v1 service over a real socketpair, without the process.

use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use synesis_proto::runtime::v1;
use synesis_proto::runtime::v1::generate_event::Event;
use synesis_proto::runtime::v1::runtime_server::{Runtime, RuntimeServer};
use synesis_proto::{Problem, reason};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::{Code, Request, Response, Status};

/// What every prompt counts.
pub(crate) const INPUT_TOKENS: u32 = 7;
/// The prompt that is never answered to the end.
pub(crate) const HANG: &str = "never stop";

/// The file that the process says is no adapter.
pub(crate) const NO_ADAPTER: &str = "/no-adapter.gguf";
/// The file that ends the process.
pub(crate) const FATAL: &str = "/fatal.gguf";

/// The running service; it stops when dropped.
pub(crate) struct ScriptedRuntime {
    ours: std::sync::Mutex<Option<UnixStream>>,
    cancelled: watch::Receiver<bool>,
    probes: watch::Receiver<usize>,
    asked: watch::Receiver<Vec<v1::GenerateRequest>>,
    adapters: watch::Receiver<Vec<String>>,
    _serving: JoinSet<()>,
}

impl ScriptedRuntime {
    pub(crate) fn start() -> Self {
        Self::with(Manner::Answering)
    }

    /// A process that lives and does nothing.
    pub(crate) fn stuck() -> Self {
        Self::with(Manner::Stuck)
    }

    /// A process whose engine has made no progress for so long, and that says so.
    pub(crate) fn stalled(time: Duration) -> Self {
        Self::with(Manner::Stalled(time))
    }

    fn with(manner: Manner) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (sender, cancelled) = watch::channel(false);
        let (probed, probes) = watch::channel(0);
        let (asking, asked) = watch::channel(Vec::new());
        let (moving, adapters) = watch::channel(Vec::new());
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            // The incoming stream must not end, or the server would stop taking requests.
            let incoming = stream::iter([Ok::<_, std::io::Error>(theirs)]).chain(stream::pending());
            let service = RuntimeServer::new(Service { manner, cancelled: sender, probed, asking, moving });
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(incoming)
                .await
                .unwrap();
        });
        Self {
            ours: std::sync::Mutex::new(Some(ours)),
            cancelled,
            probes,
            asked,
            adapters,
            _serving: serving,
        }
    }

    /// The gateway's end of the socketpair; there is one.
    pub(crate) fn connect(&self) -> UnixStream {
        self.ours.lock().unwrap().take().unwrap()
    }

    /// Waits until an answer was cancelled.
    pub(crate) async fn cancelled(&self) {
        self.cancelled.clone().wait_for(|cancelled| *cancelled).await.unwrap();
    }

    /// The first `count` answers that were asked for, as soon as they were.
    pub(crate) async fn asked(&self, count: usize) -> Vec<v1::GenerateRequest> {
        self.asked.clone().wait_for(|asked| asked.len() >= count).await.unwrap().clone()
    }

    /// What became of adapters so far: `+id` for each that was loaded, `-id` for each that was let go.
    pub(crate) fn adapters(&self) -> Vec<String> {
        self.adapters.borrow().clone()
    }

    /// Waits until the process was asked `times` times how it is.
    pub(crate) async fn probed(&self, times: usize) {
        self.probes.clone().wait_for(|probes| *probes >= times).await.unwrap();
    }
}

/// How the process behaves towards its owner.
enum Manner {
    Answering,
    Stuck,
    Stalled(Duration),
}

struct Service {
    manner: Manner,
    probed: watch::Sender<usize>,
    asking: watch::Sender<Vec<v1::GenerateRequest>>,
    moving: watch::Sender<Vec<String>>,
    cancelled: watch::Sender<bool>,
}

/// Says so when the answer it belongs to is dropped.
struct Tell(watch::Sender<bool>);

impl Drop for Tell {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

fn event(event: Event) -> Result<v1::GenerateEvent, Status> {
    Ok(v1::GenerateEvent { event: Some(event) })
}

fn not_scripted<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not in the script"))
}

#[tonic::async_trait]
impl Runtime for Service {
    type GenerateStream = Pin<Box<dyn Stream<Item = Result<v1::GenerateEvent, Status>> + Send>>;

    async fn generate(
        &self,
        request: Request<v1::GenerateRequest>,
    ) -> Result<Response<Self::GenerateStream>, Status> {
        let request = request.into_inner();
        self.asking.send_modify(|asked| asked.push(request.clone()));
        let Some(v1::generate_request::Input::Chat(chat)) = request.input else {
            return Err(Status::invalid_argument("the gateway asks with a chat"));
        };
        let said = chat.messages.last().unwrap().content.clone();
        let delta = |text: &str, output_tokens| {
            let text = text.to_owned();
            event(Event::Delta(v1::Delta { text, output_tokens, ..v1::Delta::default() }))
        };
        let started =
            event(Event::Started(v1::Started { input_tokens: INPUT_TOKENS, ..v1::Started::default() }));
        if said == HANG {
            let tell = Tell(self.cancelled.clone());
            let silence = stream::pending().inspect(move |_| {
                let _ = &tell;
            });
            return Ok(Response::new(stream::iter([started]).chain(silence).boxed()));
        }
        let finished = event(Event::Finished(v1::Finished {
            reason: "stop".to_owned(),
            input_tokens: INPUT_TOKENS,
            output_tokens: 2,
            ..v1::Finished::default()
        }));
        Ok(Response::new(stream::iter([started, delta("you said: ", 1), delta(&said, 2), finished]).boxed()))
    }

    async fn count_tokens(
        &self,
        _: Request<v1::CountTokensRequest>,
    ) -> Result<Response<v1::CountTokensReply>, Status> {
        Ok(Response::new(v1::CountTokensReply { tokens: INPUT_TOKENS, context_tokens: 2048 }))
    }

    async fn health(&self, _: Request<v1::HealthRequest>) -> Result<Response<v1::HealthReply>, Status> {
        self.probed.send_modify(|probes| *probes += 1);
        match self.manner {
            Manner::Answering => Ok(Response::new(v1::HealthReply::default())),
            Manner::Stalled(time) => {
                let stalled_ms = time.as_millis().try_into().unwrap();
                Ok(Response::new(v1::HealthReply { stalled_ms, ..v1::HealthReply::default() }))
            }
            Manner::Stuck => std::future::pending().await,
        }
    }

    async fn load_model(&self, _: Request<v1::LoadModelRequest>) -> Result<Response<v1::ModelInfo>, Status> {
        match self.manner {
            Manner::Answering | Manner::Stalled(_) => not_scripted(),
            Manner::Stuck => std::future::pending().await,
        }
    }

    async fn estimate_model(
        &self,
        _: Request<v1::EstimateModelRequest>,
    ) -> Result<Response<v1::MemoryEstimate>, Status> {
        not_scripted()
    }

    type ConvertAdapterStream = stream::Pending<Result<v1::ConvertAdapterEvent, Status>>;

    async fn convert_adapter(
        &self,
        _: Request<v1::ConvertAdapterRequest>,
    ) -> Result<Response<Self::ConvertAdapterStream>, Status> {
        not_scripted()
    }

    async fn warm(&self, _: Request<v1::WarmRequest>) -> Result<Response<v1::WarmReply>, Status> {
        not_scripted()
    }

    async fn embed(&self, _: Request<v1::EmbedRequest>) -> Result<Response<v1::EmbedReply>, Status> {
        not_scripted()
    }

    async fn inspect_adapter(
        &self,
        _: Request<v1::InspectAdapterRequest>,
    ) -> Result<Response<v1::AdapterInfo>, Status> {
        not_scripted()
    }

    async fn load_adapter(
        &self,
        request: Request<v1::LoadAdapterRequest>,
    ) -> Result<Response<v1::AdapterInfo>, Status> {
        let v1::LoadAdapterRequest { id, path } = request.into_inner();
        match path.as_str() {
            NO_ADAPTER => {
                let next = "use an adapter that was trained for the loaded model";
                Err(Problem::new(Code::InvalidArgument, reason::ADAPTER_INVALID, "no adapter", next).into())
            }
            FATAL => Err(Status::unavailable("broken pipe")),
            _ => {
                self.moving.send_modify(|moved| moved.push(format!("+{id}")));
                Ok(Response::new(v1::AdapterInfo::default()))
            }
        }
    }

    async fn unload_adapter(
        &self,
        request: Request<v1::UnloadAdapterRequest>,
    ) -> Result<Response<v1::UnloadAdapterReply>, Status> {
        self.moving.send_modify(|moved| moved.push(format!("-{}", request.get_ref().id)));
        Ok(Response::new(v1::UnloadAdapterReply {}))
    }
}
