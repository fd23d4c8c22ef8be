//! An honest fake of `synesis-runtime`: it speaks runtime.v1 on standard input like the real one, but what it says,
//! and when it dies, is written in a script. The "model file" is the script (JSON):
//!
//! ```json
//! { "load": "ok | refuse | abort | hang",
//!   "health": "ok | hang | stalled",
//!   "warm": "ok | abort",
//!   "estimate": "ok | refuse | abort",
//!   "memory": { "weights": 1, "available": 2 },
//!   "architecture": "script",
//!   "parallel": 1,
//!   "embeddings": [ 0.6, 0.8 ],
//!   "embeddings_only": false,
//!   "answers": [ { "match": "part of the prompt", "say": ["Hel", "lo"], "samples": ["Hi"],
//!                  "logprob": -0.1, "busy_ms": 1500, "wait_after": 1, "wait_on": "/path/of/a/fifo",
//!                  "then": "finish | abort | hang" } ] }
//! ```
//!
//! Every key may be left out. Each delta is one token of probability exp(`logprob`); a request with a temperature is
//! given the next of the `samples` where there are any; with `busy_ms` the answer is the refusal of a full queue. The first answer whose `match` occurs in the prompt is given; after `wait_after` deltas it
//! waits until somebody writes to the fifo `wait_on`. A prompt that no answer matches is echoed, word by word, after
//! `base:` or the first eight digits of the adapter's id and a colon. An adapter file is a script as well: with the word
//! `refuse` it is refused, with `abort` loading it kills the process, with `abort-when PATH` it does so while that file
//! exists, and with `for ARCHITECTURE` it fits only a model of that architecture. The GGUF of a PEFT adapter is its
//! weights' file as it is, and its config may have the same words. `abort-when PATH` as the script's `load` kills the
//! process while that file exists. `memory` is what `EstimateModel` answers and a load is refused by; without `embeddings` the
//! model makes none.

use std::collections::BTreeSet;
use std::future::pending;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream::{self, Stream, StreamExt as _};
use serde_json::Value;
use synesis_proto::runtime::v1::runtime_server::{Runtime, RuntimeServer};
use synesis_proto::runtime::v1::*;
use synesis_proto::{Problem, reason};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tonic::{Code, Request, Response, Status};

const CONTEXT_TOKENS: u32 = 2048;
/// Of the events of a converted adapter.
const CHUNK: usize = 1 << 20;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match serve().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("scripted-runtime: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> Result<(), Box<dyn std::error::Error>> {
    let stream = std::os::unix::net::UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    stream.set_nonblocking(true)?;
    let (alive, parent_left) = oneshot::channel::<()>();
    let connection = Connection { stream: UnixStream::from_std(stream)?, _alive: alive };
    // A server whose incoming stream ends is finished at once, so the stream never ends.
    let incoming = stream::iter([Ok::<_, io::Error>(connection)]).chain(stream::pending());
    let server =
        Server::builder().add_service(RuntimeServer::new(Scripted::default())).serve_with_incoming(incoming);
    tokio::select! {
        served = server => Ok(served?),
        _ = parent_left => Ok(()),
    }
}

#[derive(Default)]
struct Scripted {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    script: Option<Value>,
    adapters: BTreeSet<String>,
    /// Inputs whose tokens are there already.
    warm: BTreeSet<String>,
    tokens: u64,
    parallel: u32,
    /// Sampled answers so far.
    samples: usize,
}

type Events = Pin<Box<dyn Stream<Item = Result<GenerateEvent, Status>> + Send>>;
type Converted = Pin<Box<dyn Stream<Item = Result<ConvertAdapterEvent, Status>> + Send>>;

#[tonic::async_trait]
impl Runtime for Scripted {
    type GenerateStream = Events;
    type ConvertAdapterStream = Converted;

    async fn health(&self, _: Request<HealthRequest>) -> Result<Response<HealthReply>, Status> {
        if self.says("health") == "hang" {
            pending::<()>().await;
        }
        let stalled = self.says("health") == "stalled";
        let state = self.state();
        Ok(Response::new(HealthReply {
            model_loaded: state.script.is_some(),
            busy: stalled,
            tokens_generated: state.tokens,
            resident_bytes: 1 << 20,
            parallel: state.parallel,
            active: u32::from(stalled),
            stalled_ms: if stalled { 600_000 } else { 0 },
            ..HealthReply::default()
        }))
    }

    async fn load_model(&self, request: Request<LoadModelRequest>) -> Result<Response<ModelInfo>, Status> {
        let request = request.into_inner();
        let (script, size_bytes) = read_script(&request.path)?;
        let load = script["load"].as_str().unwrap_or_default();
        match load {
            "refuse" => return Err(invalid(reason::MODEL_INVALID, "the script refuses to be loaded")),
            "abort" => std::process::abort(),
            "hang" => pending().await,
            _ => {}
        }
        if load.strip_prefix("abort-when ").is_some_and(|path| Path::new(path).exists()) {
            std::process::abort();
        }
        let memory = memory_of(&script, size_bytes, request.memory_limit_bytes);
        fitting(&memory)?;
        let parallel = script["parallel"].as_u64().map_or(request.parallel.max(1), |many| many as u32);
        let architecture = architecture_of(&script);
        let vector = script["embeddings"].as_array().map_or(0, |values| values.len() as u32);
        let embeddings_only = script["embeddings_only"] == true;
        let mut state = self.state();
        state.script = Some(script);
        state.parallel = parallel;
        Ok(Response::new(ModelInfo {
            architecture,
            name: "scripted".to_owned(),
            parameters: 1,
            size_bytes,
            context_tokens: CONTEXT_TOKENS,
            trained_context_tokens: CONTEXT_TOKENS,
            layers: 1,
            has_chat_template: true,
            engine: "scripted-runtime".to_owned(),
            threads: 1,
            parallel,
            memory_bytes: memory.total,
            makes_embeddings: vector > 0,
            template_takes_tools: false,
            embeddings_only,
            embedding_width: vector,
        }))
    }

    async fn estimate_model(
        &self,
        request: Request<EstimateModelRequest>,
    ) -> Result<Response<MemoryEstimate>, Status> {
        let request = request.into_inner();
        let (script, size_bytes) = read_script(&request.path)?;
        match script["estimate"].as_str().unwrap_or_default() {
            "refuse" => return Err(invalid(reason::MODEL_INVALID, "the script's header makes no sense")),
            "abort" => std::process::abort(),
            _ => {}
        }
        // Whether it fits is for the caller to judge, and for a load to refuse.
        Ok(Response::new(memory_of(&script, size_bytes, request.memory_limit_bytes)))
    }

    async fn convert_adapter(
        &self,
        request: Request<ConvertAdapterRequest>,
    ) -> Result<Response<Converted>, Status> {
        let request = request.into_inner();
        let architecture = self.architecture();
        inspect(Path::new(&request.config_path), &architecture)?;
        let (info, _) = inspect(Path::new(&request.weights_path), &architecture)?;
        let bytes = std::fs::read(&request.weights_path)
            .map_err(|_| invalid(reason::ADAPTER_INVALID, "the weights cannot be read"))?;
        let first = convert_adapter_event::Event::Adapter(ConvertedAdapter {
            info: Some(info),
            base_model: String::new(),
            size_bytes: bytes.len() as u64,
        });
        let data = bytes.chunks(CHUNK).map(|chunk| convert_adapter_event::Event::Data(chunk.to_vec()));
        let events: Vec<_> = std::iter::once(first)
            .chain(data)
            .map(|event| Ok(ConvertAdapterEvent { event: Some(event) }))
            .collect();
        Ok(Response::new(Box::pin(stream::iter(events))))
    }

    async fn inspect_adapter(
        &self,
        request: Request<InspectAdapterRequest>,
    ) -> Result<Response<AdapterInfo>, Status> {
        let architecture = self.architecture();
        inspect(Path::new(&request.into_inner().path), &architecture).map(|(info, _)| Response::new(info))
    }

    async fn load_adapter(
        &self,
        request: Request<LoadAdapterRequest>,
    ) -> Result<Response<AdapterInfo>, Status> {
        let request = request.into_inner();
        let (info, text) = inspect(Path::new(&request.path), &self.architecture())?;
        let mut words = text.split_whitespace();
        while let Some(word) = words.next() {
            let deadly = word == "abort"
                || (word == "abort-when" && words.next().is_some_and(|path| Path::new(path).exists()));
            if deadly {
                std::process::abort();
            }
        }
        self.state().adapters.insert(request.id);
        Ok(Response::new(info))
    }

    async fn unload_adapter(
        &self,
        request: Request<UnloadAdapterRequest>,
    ) -> Result<Response<UnloadAdapterReply>, Status> {
        self.state().adapters.remove(&request.into_inner().id);
        Ok(Response::new(UnloadAdapterReply {}))
    }

    async fn warm(&self, request: Request<WarmRequest>) -> Result<Response<WarmReply>, Status> {
        if self.says("warm") == "abort" {
            std::process::abort();
        }
        let request = request.into_inner();
        if !request.adapter_id.is_empty() && !self.state().adapters.contains(&request.adapter_id) {
            return Err(invalid(reason::ADAPTER_NOT_FOUND, "the adapter is not loaded"));
        }
        let text = match &request.input {
            Some(warm_request::Input::Chat(chat)) => text_of(chat),
            Some(warm_request::Input::Raw(raw)) => raw.clone(),
            None => String::new(),
        };
        let tokens = words_of(&text);
        let new = self.state().warm.insert(format!("{}\n{text}", request.adapter_id));
        Ok(Response::new(WarmReply { tokens, cached_tokens: if new { 0 } else { tokens }, prefill_us: 1 }))
    }

    async fn embed(&self, request: Request<EmbedRequest>) -> Result<Response<EmbedReply>, Status> {
        let values: Option<Vec<f32>> = {
            let state = self.state();
            let script = state.script.as_ref().and_then(|script| script["embeddings"].as_array());
            script.map(|values| values.iter().filter_map(Value::as_f64).map(|value| value as f32).collect())
        };
        let Some(values) = values else {
            let (message, next) = ("the scripted model makes no embeddings", "load a model that does");
            return Err(Problem::new(Code::FailedPrecondition, reason::NO_EMBEDDINGS, message, next).into());
        };
        let inputs = request.into_inner().inputs;
        let embeddings = inputs
            .iter()
            .map(|input| Embedding { values: values.clone(), tokens: words_of(input) })
            .collect();
        Ok(Response::new(EmbedReply { embeddings }))
    }

    async fn count_tokens(
        &self,
        request: Request<CountTokensRequest>,
    ) -> Result<Response<CountTokensReply>, Status> {
        let prompt = match request.into_inner().input {
            Some(count_tokens_request::Input::Chat(chat)) => text_of(&chat),
            Some(count_tokens_request::Input::Raw(raw)) => raw,
            None => String::new(),
        };
        Ok(Response::new(CountTokensReply { tokens: words_of(&prompt), context_tokens: CONTEXT_TOKENS }))
    }

    async fn generate(&self, request: Request<GenerateRequest>) -> Result<Response<Events>, Status> {
        let request = request.into_inner();
        let prompt = match &request.input {
            Some(generate_request::Input::Chat(chat)) => text_of(chat),
            Some(generate_request::Input::Raw(raw)) => raw.clone(),
            None => String::new(),
        };
        if prompt.trim().is_empty() {
            return Err(invalid(reason::EMPTY_PROMPT, "the prompt is empty"));
        }
        if !request.adapter_id.is_empty() && !self.state().adapters.contains(&request.adapter_id) {
            return Err(invalid(reason::ADAPTER_NOT_FOUND, "the adapter is not loaded"));
        }
        let input_tokens = words_of(&prompt);
        let sampled = request.sampling.as_ref().is_some_and(|sampling| sampling.temperature > 0.0);
        let answer = self.answer_to(&prompt, &request.adapter_id, sampled);
        if let Some(time) = answer.busy {
            let problem =
                Problem::new(Code::ResourceExhausted, reason::BUSY, "the queue is full", "ask again later");
            return Err(problem.retry_after(time).into());
        }
        self.state().tokens += answer.say.len() as u64;
        Ok(Response::new(play(answer, input_tokens, request.logprobs.is_some())))
    }
}

impl Scripted {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn says(&self, key: &str) -> String {
        let state = self.state();
        let word = state.script.as_ref().and_then(|script| script[key].as_str());
        word.unwrap_or("ok").to_owned()
    }

    fn architecture(&self) -> String {
        self.state().script.as_ref().map_or_else(|| "script".to_owned(), architecture_of)
    }

    fn answer_to(&self, prompt: &str, adapter: &str, sampled: bool) -> Answer {
        let mut state = self.state();
        let number = state.samples;
        state.samples += usize::from(sampled);
        let answers = state.script.as_ref().and_then(|script| script["answers"].as_array());
        let matching = answers
            .into_iter()
            .flatten()
            .find(|answer| prompt.contains(answer["match"].as_str().unwrap_or("")));
        let Some(answer) = matching else {
            let who = if adapter.is_empty() { "base" } else { adapter.get(..8).unwrap_or(adapter) };
            let say = format!("{who}: {prompt}").split_inclusive(' ').map(str::to_owned).collect();
            return Answer { say, wait: None, then: Then::Finish, logprob: -0.1, busy: None };
        };
        let texts = |value: &Value| -> Vec<String> {
            value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let samples = texts(&answer["samples"]);
        let say = match samples.get(number % samples.len().max(1)) {
            Some(sample) if sampled => vec![sample.clone()],
            _ => texts(&answer["say"]),
        };
        let after = answer["wait_after"].as_u64().unwrap_or(0);
        Answer {
            say,
            wait: answer["wait_on"].as_str().map(|path| (after, PathBuf::from(path))),
            logprob: answer["logprob"].as_f64().unwrap_or(-0.1) as f32,
            busy: answer["busy_ms"].as_u64().map(Duration::from_millis),
            then: match answer["then"].as_str().unwrap_or_default() {
                "abort" => Then::Abort,
                "hang" => Then::Hang,
                _ => Then::Finish,
            },
        }
    }
}

struct Answer {
    say: Vec<String>,
    /// After this many deltas, wait for a writer of this fifo.
    wait: Option<(u64, PathBuf)>,
    then: Then,
    /// Of each token.
    logprob: f32,
    /// Refused instead, with this time to come back after.
    busy: Option<Duration>,
}

enum Then {
    Finish,
    Abort,
    Hang,
}

/// The answer as events, one step at a time, so that a dropped call stops it.
fn play(answer: Answer, input_tokens: u32, logprobs: bool) -> Events {
    let started = GenerateEvent {
        event: Some(generate_event::Event::Started(Started { input_tokens, ..Started::default() })),
    };
    let steps = stream::unfold((answer, 0_usize, false), move |(answer, said, ended)| async move {
        if ended {
            return None;
        }
        if let Some((after, fifo)) = &answer.wait
            && *after == said as u64
        {
            // Opening a fifo blocks until the other side does, and nothing comes before it closes.
            if let Err(error) = tokio::fs::read(fifo).await {
                return Some((Err(Status::internal(error.to_string())), (answer, said, true)));
            }
        }
        let output_tokens = said as u32 + 1;
        if let Some(text) = answer.say.get(said).cloned() {
            let token = TokenLogprob {
                token: text.clone().into_bytes(),
                logprob: answer.logprob,
                ..TokenLogprob::default()
            };
            let logprobs = if logprobs { vec![token] } else { Vec::new() };
            let delta = generate_event::Event::Delta(Delta { text, output_tokens, logprobs });
            return Some((Ok(GenerateEvent { event: Some(delta) }), (answer, said + 1, false)));
        }
        match answer.then {
            Then::Finish => {}
            Then::Abort => {
                settle().await;
                std::process::abort()
            }
            Then::Hang => pending().await,
        }
        let finished = generate_event::Event::Finished(Finished {
            reason: "stop".to_owned(),
            input_tokens,
            output_tokens: said as u32,
            prefill_us: 1,
            generate_us: 1,
            mean_logprob: answer.logprob,
            ..Finished::default()
        });
        Some((Ok(GenerateEvent { event: Some(finished) }), (answer, said, true)))
    });
    Box::pin(stream::iter([Ok(started)]).chain(steps))
}

/// Lets what was said so far be written to the socket: the connection's task runs on this same thread.
async fn settle() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}

fn inspect(path: &Path, architecture: &str) -> Result<(AdapterInfo, String), Status> {
    let bytes = std::fs::read(path)
        .map_err(|_| invalid(reason::ADAPTER_INVALID, "the adapter file cannot be read"))?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let mut words = text.split_whitespace();
    while let Some(word) = words.next() {
        let other = word == "for" && words.next() != Some(architecture);
        if word == "refuse" || other {
            return Err(invalid(reason::ADAPTER_INVALID, "the adapter was made for another model"));
        }
    }
    let info = AdapterInfo {
        architecture: architecture.to_owned(),
        rank: 8,
        alpha: 16.0,
        targets: vec!["attn_q".to_owned()],
        tensors: 2,
        size_bytes: bytes.len() as u64,
    };
    Ok((info, text))
}

/// The script in the "model file" at `path`, and the file's size.
fn read_script(path: &str) -> Result<(Value, u64), Status> {
    let bytes =
        std::fs::read(path).map_err(|_| invalid(reason::MODEL_INVALID, "the script cannot be read"))?;
    let script = serde_json::from_slice(&bytes)
        .map_err(|_| invalid(reason::MODEL_INVALID, "the model file is no script"))?;
    Ok((script, bytes.len() as u64))
}

fn architecture_of(script: &Value) -> String {
    script["architecture"].as_str().unwrap_or("script").to_owned()
}

fn memory_of(script: &Value, size_bytes: u64, limit: u64) -> MemoryEstimate {
    let weights = script["memory"]["weights"].as_u64().unwrap_or(size_bytes);
    let there_is = script["memory"]["available"].as_u64().unwrap_or(1 << 40);
    MemoryEstimate {
        weights,
        total: weights,
        available: if limit == 0 { there_is } else { there_is.min(limit) },
        architecture: architecture_of(script),
        context_tokens: CONTEXT_TOKENS,
        trained_context_tokens: CONTEXT_TOKENS,
        ..MemoryEstimate::default()
    }
}

fn fitting(memory: &MemoryEstimate) -> Result<(), Status> {
    if memory.total <= memory.available {
        return Ok(());
    }
    let message = format!("the model needs {} bytes, and there are {}", memory.total, memory.available);
    let next = "use a smaller model";
    Err(Problem::new(Code::ResourceExhausted, reason::MODEL_TOO_LARGE, message, next).into())
}

fn invalid(reason: &str, message: &str) -> Status {
    Problem::new(Code::InvalidArgument, reason, message, "use another file").into()
}

fn text_of(chat: &Chat) -> String {
    chat.messages.last().map(|message| message.content.clone()).unwrap_or_default()
}

fn words_of(text: &str) -> u32 {
    text.split_whitespace().count() as u32
}

/// The one connection; the process leaves when it is dropped.
struct Connection {
    stream: UnixStream,
    _alive: oneshot::Sender<()>,
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
