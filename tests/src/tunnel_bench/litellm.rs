//! The other way from an application to a provider: the LiteLLM proxy, from PyPI, in an environment of the bench's own.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use super::Bench;
use super::load::Load;
use super::mosquitto::free_tcp_port;
use crate::gateway::MODEL;
use crate::provider::Provider;

/// Pinned: figures of different versions are different figures.
const PACKAGE: &str = "litellm[proxy]==1.108.7";
/// It imports for a while.
const START: Duration = Duration::from_secs(120);

#[derive(Debug)]
pub(super) struct LiteLlm {
    _guard: Load,
    port: u16,
}

impl LiteLlm {
    /// A running proxy in front of `provider`; none, and why, when it cannot be installed or does not start.
    pub(super) fn start(bench: &Bench, provider: &Provider) -> Result<Self, String> {
        let venv = bench.folder.parent().expect("a folder in target/bench").join("litellm");
        let program = install(&venv)?;
        let folder = bench.folder.join("litellm");
        std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        let config = json!({
            "model_list": [{
                "model_name": MODEL,
                "litellm_params":
                    { "model": format!("openai/{MODEL}"), "api_base": provider.base_url(), "api_key": "none" },
            }],
            "litellm_settings": { "telemetry": false, "drop_params": true },
        });
        // JSON is YAML.
        let file = folder.join("config.yaml");
        std::fs::write(&file, config.to_string()).map_err(|error| error.to_string())?;
        let port = free_tcp_port();
        let port_text = port.to_string();
        let guard = Load::start(
            "guard",
            &json!({
                "program": program,
                "arguments": ["--config", file, "--host", "127.0.0.1", "--port", port_text, "--telemetry", "False"],
                // Its price list comes with it, and without the first it fetches a newer one. It asks nobody for a key.
                "environment": [
                    ["LITELLM_LOCAL_MODEL_COST_MAP", "True"],
                    ["LITELLM_LOG", "ERROR"],
                    ["LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY", "true"],
                ],
                "log": folder.join("log"),
            }),
        );
        if answers(port, START) {
            Ok(Self { _guard: guard, port })
        } else {
            Err("it does not start".to_owned())
        }
    }

    /// What rows call it.
    pub(super) fn name(started: &Result<Self, String>) -> String {
        match started {
            Ok(_) => format!("the LiteLLM proxy ({PACKAGE})"),
            Err(why) => format!("the LiteLLM proxy (missing: {})", why.lines().last().unwrap_or_default()),
        }
    }

    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

/// The proxy's program, installed below `venv` unless it is there already.
fn install(venv: &Path) -> Result<PathBuf, String> {
    let (python, program) = (venv.join("bin/python"), venv.join("bin/litellm"));
    if !program.exists() {
        run(Command::new("python3").args(["-m", "venv", "--without-pip"]).arg(venv))?;
        let pip = ["install", "--quiet", PACKAGE];
        run(Command::new("python3").args(["-m", "pip", "--python"]).arg(&python).args(pip))?;
    }
    Ok(program)
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

/// Whether something listens on this port before the time is over.
pub(super) fn answers(port: u16, patience: Duration) -> bool {
    let step = Duration::from_millis(50);
    (0..patience.as_millis() / step.as_millis()).any(|_| {
        let there = TcpStream::connect(("127.0.0.1", port)).is_ok();
        if !there {
            std::thread::park_timeout(step);
        }
        there
    })
}
