//! Starts the real binary on a socketpair, with the real model files, and speaks `runtime.v1` to it.

#![allow(dead_code, reason = "every test binary uses its own part")]
#![allow(clippy::expect_used, reason = "a test that cannot start must fail")]

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use synesis_proto::runtime::v1::generate_event::Event;
use synesis_proto::runtime::v1::runtime_client::RuntimeClient;
use synesis_proto::runtime::v1::{
    Chat, ChatMessage, Finished, GenerateRequest, HealthReply, HealthRequest, LoadAdapterRequest,
    LoadModelRequest, ModelInfo, generate_request,
};
use synesis_proto::{Problem, channel};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tonic::Streaming;
use tonic::transport::Channel;

pub(crate) const SMOL: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
pub(crate) const GEMMA: &str = "gemma-3-270m-q4_k_m.gguf";
/// Longer than anything here takes on a busy machine; only a hang reaches it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A model file of the cache, which `make demo` fills.
pub(crate) fn model(file: &str) -> String {
    let folder = std::env::var_os("SYNESIS_MODEL_CACHE").map(PathBuf::from).unwrap_or_else(|| {
        PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache/synesis/models")
    });
    let path = folder.join(file);
    assert!(
        path.is_file(),
        "the model file {} is missing: fill the model cache first, or set SYNESIS_MODEL_CACHE to the folder \
         that has it",
        path.display()
    );
    text(&path)
}

/// An adapter file of the shared data beside the checkout.
pub(crate) fn adapter(name: &str) -> String {
    let shared = std::env::var_os("SYNESIS_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    let path = shared.join("data/adapters").join(format!("{name}.gguf"));
    assert!(
        path.is_file(),
        "the adapter {} is missing: put the shared folder beside the checkout, or set SYNESIS_SHARED to it",
        path.display()
    );
    text(&path)
}

pub(crate) fn text(path: &Path) -> String {
    path.to_str().expect("test paths are UTF-8").to_owned()
}

/// A running model process. Dropping it closes the connection and kills the process.
pub(crate) struct Runtime {
    pub(crate) client: RuntimeClient<Channel>,
    pub(crate) child: Child,
}

impl Runtime {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Started with these words on its command line.
    pub(crate) async fn start_with(words: &[&str]) -> Self {
        let (ours, theirs) = StdUnixStream::pair().expect("a socketpair");
        let child = Command::new(env!("CARGO_BIN_EXE_synesis-runtime"))
            .args(words)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .env("GOMP_SPINCOUNT", "10000")
            .env("GGML_NO_BACKTRACE", "1")
            .env("SYNESIS_LOG", "warn")
            .kill_on_drop(true)
            .spawn()
            .expect("the binary starts");
        ours.set_nonblocking(true).expect("a non-blocking socket");
        let stream = UnixStream::from_std(ours).expect("a tokio socket");
        let channel = channel::over(stream).await.expect("a channel");
        Self { client: RuntimeClient::new(channel), child }
    }

    /// Started, with SmolLM2 in its default context.
    pub(crate) async fn with_smol() -> Self {
        let mut runtime = Self::start().await;
        runtime.load(&model(SMOL)).await.expect("SmolLM2 loads");
        runtime
    }

    pub(crate) async fn load(&mut self, path: &str) -> Result<ModelInfo, Problem> {
        self.load_with(LoadModelRequest { path: path.to_owned(), ..LoadModelRequest::default() }).await
    }

    pub(crate) async fn load_with(&mut self, request: LoadModelRequest) -> Result<ModelInfo, Problem> {
        let reply = self.client.load_model(request).await;
        reply.map(tonic::Response::into_inner).map_err(|status| Problem::from_status(&status))
    }

    pub(crate) async fn load_adapter(&mut self, id: &str, path: &str) -> Result<(), Problem> {
        let request = LoadAdapterRequest { id: id.to_owned(), path: path.to_owned() };
        let reply = self.client.load_adapter(request).await;
        reply.map(|_| ()).map_err(|status| Problem::from_status(&status))
    }

    pub(crate) async fn health(&mut self) -> HealthReply {
        self.client.health(HealthRequest {}).await.expect("health answers").into_inner()
    }

    pub(crate) async fn stream(
        &mut self,
        request: GenerateRequest,
    ) -> Result<Streaming<GenerateEventMessage>, Problem> {
        let reply = self.client.generate(request).await;
        reply.map(tonic::Response::into_inner).map_err(|status| Problem::from_status(&status))
    }

    pub(crate) async fn answer(&mut self, request: GenerateRequest) -> Result<Answer, Problem> {
        collect(self.stream(request).await?).await
    }

    /// The text of an answer to a raw bare turn, at most 48 tokens.
    pub(crate) async fn bare(&mut self, prompt: &str, adapter: &str) -> String {
        self.answer(bare_turn(prompt, adapter)).await.expect("an answer").text
    }
}

pub(crate) type GenerateEventMessage = synesis_proto::runtime::v1::GenerateEvent;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) deltas: usize,
    pub(crate) finished: Finished,
}

/// Reads a stream to its end, holding it to the promised order of events.
pub(crate) async fn collect(mut stream: Streaming<GenerateEventMessage>) -> Result<Answer, Problem> {
    let mut answer = Answer { text: String::new(), deltas: 0, finished: Finished::default() };
    let (mut started, mut finished, mut counted) = (None, false, 0);
    while let Some(message) = stream.message().await.map_err(|status| Problem::from_status(&status))? {
        assert!(!finished, "an event after the last");
        match message.event.expect("an event") {
            Event::Started(event) => {
                assert_eq!((started, answer.deltas), (None, 0), "started comes first and once");
                started = Some(event.input_tokens);
            }
            Event::Delta(delta) => {
                assert!(!delta.text.is_empty() && delta.output_tokens >= counted, "deltas move on");
                counted = delta.output_tokens;
                answer.text.push_str(&delta.text);
                answer.deltas += 1;
            }
            Event::Finished(event) => {
                assert_eq!(started, Some(event.input_tokens));
                finished = true;
                answer.finished = event;
            }
        }
    }
    assert!(finished, "the stream ends with finished or an error");
    Ok(answer)
}

/// The prompt the adapters' README gives exact answers for.
pub(crate) fn bare_turn(prompt: &str, adapter: &str) -> GenerateRequest {
    let raw = format!("<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n");
    GenerateRequest {
        input: Some(generate_request::Input::Raw(raw)),
        adapter_id: adapter.to_owned(),
        max_tokens: 48,
        ..GenerateRequest::default()
    }
}

pub(crate) fn chat(turns: &[(&str, &str)]) -> Chat {
    let message = |(role, content): &(&str, &str)| ChatMessage {
        role: (*role).into(),
        content: (*content).into(),
        ..ChatMessage::default()
    };
    Chat { messages: turns.iter().map(message).collect(), ..Chat::default() }
}

pub(crate) fn chat_turn(prompt: &str, adapter: &str) -> GenerateRequest {
    GenerateRequest {
        input: Some(generate_request::Input::Chat(chat(&[("user", prompt)]))),
        adapter_id: adapter.to_owned(),
        max_tokens: 48,
        ..GenerateRequest::default()
    }
}
