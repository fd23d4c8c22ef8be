//! A model process by script, supervised or bare, and a whole daemon around it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use synesis_proto::runtime::v1::{
    Chat, ChatMessage, GenerateRequest, generate_event::Event, generate_request::Input,
};
use synesis_supervise::{Backoff, HealthBoard, Running, Spec, Supervisor};
use synesisd::app::Daemon;
use synesisd::config::{self, Source};
use synesisd::model::{Answer, ModelError, ModelHandle, ModelSpec, ModelState, ModelStatus, RuntimeProcess};
use tempfile::TempDir;
use tokio::time::timeout;

/// Longer than anything here takes; a test that gets there has failed.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// The scripted runtime, which `cargo test` builds only together with the `tests` crate.
pub(crate) fn scripted_runtime() -> PathBuf {
    let deps = std::env::current_exe().unwrap();
    let program = deps.parent().and_then(Path::parent).unwrap().join("scripted-runtime");
    assert!(
        program.exists(),
        "{} is not built; build it with: cargo build -p synesis-tests --bin scripted-runtime",
        program.display()
    );
    program
}

/// A folder with a script in it.
pub(crate) struct Scene {
    pub(crate) folder: TempDir,
}

impl Scene {
    pub(crate) fn new(script: &Value) -> Self {
        let scene = Self { folder: tempfile::tempdir().unwrap() };
        scene.rewrite(script);
        scene
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Replaces the script as a whole, as a model file is replaced.
    pub(crate) fn rewrite(&self, script: &Value) {
        fs::write(self.path("model.new"), script.to_string()).unwrap();
        fs::rename(self.path("model.new"), self.path("model.json")).unwrap();
    }

    pub(crate) fn fifo(&self) -> PathBuf {
        let path = self.path("go");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        path
    }

    pub(crate) fn spec(&self) -> ModelSpec {
        ModelSpec {
            program: Some(scripted_runtime()),
            path: Some(self.path("model.json")),
            name: None,
            context_tokens: 2048,
            threads: 1,
            parallel: 1,
            queue: 8,
            prefix_cache_bytes: 0,
            embeddings: config::Embeddings::Auto,
            memory_limit_bytes: 0,
            probe_every: Duration::from_secs(10),
            selected: None,
            drain: Duration::from_secs(5),
            sandbox: config::Sandbox::Auto,
            readable: Vec::new(),
            quarantine: None,
        }
    }

    /// The model process under supervision, with quick restarts.
    pub(crate) async fn supervised(&self, spec: ModelSpec) -> (ModelHandle, HealthBoard, Running) {
        let (process, model) = RuntimeProcess::new(spec);
        let board = HealthBoard::new();
        let backoff = Backoff { base: Duration::from_millis(1), cap: Duration::from_millis(5) };
        let supervisor =
            Supervisor::new(board.clone()).add(Spec::degradable("runtime").backoff(backoff), process);
        (model, board, supervisor.start().await.unwrap())
    }

    /// A whole daemon with its state in this folder.
    pub(crate) async fn daemon(&self, more: &str) -> Daemon {
        let text = format!(
            "[paths]\nstate_dir = {state:?}\nruntime_dir = {run:?}\n[model]\npath = {model:?}\n[runtime]\nprogram = {program:?}\n{more}",
            state = self.path("state"),
            run = self.path("run"),
            model = self.path("model.json"),
            program = scripted_runtime(),
        );
        fs::write(self.path("synesisd.toml"), text).unwrap();
        let loaded = config::load(&Source::File(self.path("synesisd.toml")), []).unwrap();
        let daemon = Daemon::start_until(loaded.config, std::future::pending()).await.unwrap();
        until(&daemon.handles.model, |status| status.state != ModelState::Loading).await;
        daemon
    }
}

/// Waits for the model's status to be as `wanted`.
pub(crate) async fn until(model: &ModelHandle, wanted: impl Fn(&ModelStatus) -> bool) -> Arc<ModelStatus> {
    let mut status = model.status();
    let found = timeout(LIMIT, status.wait_for(|status| wanted(status))).await;
    let found = found.map(|found| Arc::clone(&found.unwrap()));
    found.unwrap_or_else(|_| panic!("the model stayed {:?}", model.status().borrow()))
}

pub(crate) async fn ready(model: &ModelHandle) -> Arc<ModelStatus> {
    until(model, |status| status.state == ModelState::Ready).await
}

pub(crate) fn prompt(text: &str) -> GenerateRequest {
    let message = ChatMessage { role: "user".to_owned(), content: text.to_owned(), ..ChatMessage::default() };
    GenerateRequest {
        input: Some(Input::Chat(Chat { messages: vec![message], ..Chat::default() })),
        ..GenerateRequest::default()
    }
}

/// The text of an answer, and how it ended.
pub(crate) async fn read(mut answer: Answer) -> (String, Result<(), ModelError>) {
    let mut text = String::new();
    while let Some(event) = timeout(LIMIT, answer.next()).await.expect("the answer hangs") {
        match event {
            Ok(Event::Delta(delta)) => text += &delta.text,
            Ok(Event::Started(_)) => {}
            Ok(Event::Finished(_)) => return (text, Ok(())),
            Err(error) => return (text, Err(error)),
        }
    }
    panic!("the answer ended without an end");
}

/// Asks and reads.
pub(crate) async fn ask(model: &ModelHandle, request: GenerateRequest) -> Result<String, ModelError> {
    let (text, ended) = read(model.generate(request).await?).await;
    ended.map(|()| text)
}

/// A script in which one prompt kills the process after two deltas.
pub(crate) fn deadly_prompt() -> Value {
    json!({"answers": [{"match": "die", "say": ["al", "most"], "then": "abort"}]})
}
