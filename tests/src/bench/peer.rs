//! The other side: llama.cpp's own HTTP server as the PyPI wheel `xllamacpp` carries it, in a virtual environment of
//! the bench's own.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;

use super::http::post;
use super::{Answer, CONTEXT_TOKENS, Question, Side, THREADS, adapters};
use crate::models::{SMOLLM, model};

/// The wheel, pinned: figures of different versions are different figures.
const WHEEL: &str = "xllamacpp==2026.10.11549";

/// An installed peer, or why there is none.
#[derive(Debug)]
pub struct PeerKit {
    python: Result<PathBuf, String>,
}

impl PeerKit {
    /// Installs it below `folder`, unless it is there already.
    pub fn install(folder: &Path) -> Self {
        let venv = folder.join("venv");
        let python = venv.join("bin/python");
        let has_wheel = || run(Command::new(&python).args(["-c", "import xllamacpp"]));
        let installed = has_wheel().or_else(|_| {
            // Without a pip of its own: Debian leaves that to a package which nothing else here needs.
            run(Command::new("python3").args(["-m", "venv", "--without-pip"]).arg(&venv))?;
            let pip = ["install", "--quiet", "--no-deps", WHEEL];
            run(Command::new("python3").args(["-m", "pip", "--python"]).arg(&python).args(pip))?;
            has_wheel()
        });
        Self { python: installed.map(|()| python) }
    }

    /// Why there is none, if so.
    pub fn missing(&self) -> Option<&str> {
        self.python.as_ref().err().map(String::as_str)
    }

    /// What the rows call it.
    pub fn name(&self) -> String {
        match &self.python {
            Ok(_) => format!("llama-server ({WHEEL})"),
            Err(_) => "llama-server (could not be installed)".to_owned(),
        }
    }

    /// A running server with `parallel` slots and the adapters of those names, all off; none when it is not installed.
    pub async fn start(&self, parallel: u32, adapters: &[&str]) -> Option<Peer> {
        let python = self.python.as_ref().ok()?;
        let peer = Peer::start(python, parallel, adapters);
        if !adapters.is_empty() {
            peer.swap(None).await;
        }
        // The first request of a process pays for pages that no later one does.
        peer.ask(Question::new("Hello.", 4)).await;
        Some(peer)
    }
}

/// A running llama-server.
#[derive(Debug)]
pub struct Peer {
    child: Child,
    /// Closing it is how the server is told to leave.
    _stdin: Option<ChildStdin>,
    address: String,
    interpreter_bytes: u64,
    adapters: Vec<String>,
    _files: TempDir,
}

impl Peer {
    fn start(python: &Path, parallel: u32, names: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("syn-peer-").tempdir().expect("scratch folder");
        let files: Vec<PathBuf> = names.iter().map(|name| adapters::file(name, folder.path())).collect();
        let settings = json!({
            "model": model(SMOLLM),
            "parallel": parallel,
            "context_tokens": CONTEXT_TOKENS,
            "threads": THREADS,
            "adapters": files,
        });
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench-peers/llama_server.py");
        let log = std::fs::File::create(folder.path().join("log")).expect("scratch folder");
        let mut child = Command::new(python)
            .arg(script)
            .arg(settings.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the peer starts");
        let mut ready = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut ready).expect("UTF-8");
        let ready: Value = serde_json::from_str(&ready).unwrap_or_else(|error| {
            let log = std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
            panic!("the peer did not start: {error}\n{log}")
        });
        Self {
            _stdin: child.stdin.take(),
            child,
            address: ready["address"].as_str().expect("an address").to_owned(),
            interpreter_bytes: ready["interpreter_bytes"].as_u64().expect("a size"),
            adapters: names.iter().map(|name| (*name).to_owned()).collect(),
            _files: folder,
        }
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the Python interpreter took before the library was loaded.
    pub fn interpreter_bytes(&self) -> u64 {
        self.interpreter_bytes
    }

    /// Every adapter with its scale, for a request or for all of them.
    fn scales(&self, active: Option<&str>) -> Value {
        let scale = |name: &String| if Some(name.as_str()) == active { 1.0 } else { 0.0 };
        self.adapters.iter().enumerate().map(|(id, name)| json!({ "id": id, "scale": scale(name) })).collect()
    }

    fn request(&self, question: Question<'_>) -> Value {
        let mut request = json!({
            "messages": [{ "role": "user", "content": question.prompt }],
            "max_tokens": question.max_tokens,
            // Greedy, without the cost of samplers that greedy decoding does not need.
            "temperature": 0,
            "top_k": 1,
            "samplers": ["top_k"],
            "stream": true,
            "stream_options": { "include_usage": true },
        });
        if let Some(adapter) = question.adapter {
            request["lora"] = self.scales(Some(adapter));
        }
        request
    }
}

impl Side for Peer {
    async fn ask(&self, question: Question<'_>) -> Answer {
        let mut lines = post(&self.address, "/v1/chat/completions", &self.request(question)).await;
        let mut answer = Answer::default();
        while let Some(event) = lines.next_event().await {
            if let Some(text) = event["choices"][0]["delta"]["content"].as_str() {
                answer.push(text, lines.sent);
            }
            let count =
                |field: &str| event["usage"][field].as_u64().and_then(|count| u32::try_from(count).ok());
            if let (Some(input), Some(output)) = (count("prompt_tokens"), count("completion_tokens")) {
                (answer.input_tokens, answer.output_tokens) = (input, output);
            }
        }
        answer
    }

    async fn swap(&self, adapter: Option<&str>) -> Duration {
        let asked = Instant::now();
        let mut lines = post(&self.address, "/lora-adapters", &self.scales(adapter)).await;
        while lines.next().await.is_some() {}
        asked.elapsed()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command to its end; its own words when it fails.
fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
