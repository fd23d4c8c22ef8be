//! The gateway's configuration: what it is when it is valid. [`load`] is the only way to one.

mod check;
mod decimal;
mod duration;
mod error;
mod layers;
mod limits;
mod raw;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Url;
use synesis_ledger::Price;

use crate::adapters::Limits;
use crate::answers::Settings;

pub(crate) use error::ConfigError;
pub(crate) use limits::Drain;

use crate::limits::Rules;

/// The trust domain of a gateway that was not told another.
pub(crate) const DEFAULT_TRUST_DOMAIN: &str = "synesis.internal";

/// A checked configuration. Every path is absolute or relative to the working directory, every model of every
/// provider has a price, and the default model is one of them.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// Where devices connect (UDP).
    pub(crate) listen: SocketAddr,
    /// Where devices connect that UDP does not let through (TCP).
    pub(crate) listen_tcp: Option<SocketAddr>,
    pub(crate) admin_socket: PathBuf,
    pub(crate) store_dir: PathBuf,
    pub(crate) pki_dir: PathBuf,
    /// What devices are told to dial, when it is not obvious from `listen`.
    pub(crate) public_url: Option<String>,
    pub(crate) trust_domain: String,
    /// How long after its end a device's certificate can still be renewed.
    pub(crate) identity_grace: Duration,
    /// Absent only when there is no provider.
    pub(crate) default_model: Option<String>,
    pub(crate) log: Log,
    pub(crate) resume: Settings,
    pub(crate) limits: Rules,
    pub(crate) drain: Drain,
    /// What its connection ids carry; absent: drawn from its key.
    pub(crate) gateway_number: Option<u16>,
    /// In which devices come back when this gateway was lost, when there are many.
    pub(crate) reconnect_window: Duration,
    /// Where `/ready` and `/metrics` are; absent: nowhere.
    pub(crate) http_listen: Option<SocketAddr>,
    pub(crate) providers: Vec<ProviderConfig>,
    pub(crate) prices: BTreeMap<String, Price>,
    pub(crate) adapters: Limits,
}

impl Config {
    /// Where the adapters of all accounts are.
    pub(crate) fn adapters_dir(&self) -> PathBuf {
        self.store_dir.join("adapters")
    }
}

/// How the log is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Log {
    pub(crate) format: LogFormat,
    /// A level, or a `tracing` filter such as `info,synesis_gateway=debug`.
    pub(crate) level: String,
}

/// The log's shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LogFormat {
    /// journald when stderr is the journal, else text.
    Auto,
    Text,
    Json,
    Journald,
}

/// One source of answers.
#[derive(Debug, Clone)]
pub(crate) enum ProviderConfig {
    OpenAi(HttpProvider),
    Anthropic(HttpProvider),
    Runtime(RuntimeProvider),
}

impl ProviderConfig {
    pub(crate) fn models(&self) -> &[String] {
        match self {
            Self::OpenAi(http) | Self::Anthropic(http) => &http.models,
            Self::Runtime(runtime) => &runtime.models,
        }
    }
}

/// A provider behind an HTTP API.
#[derive(Debug, Clone)]
pub(crate) struct HttpProvider {
    pub(crate) base_url: Url,
    pub(crate) api_key_file: Option<PathBuf>,
    pub(crate) models: Vec<String>,
}

/// Isolation of a model process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Sandbox {
    /// What the kernel has; what it lacks is logged.
    #[default]
    Auto,
    /// All of it, or the model does not start.
    Require,
    /// None, for debugging.
    Off,
}

impl Sandbox {
    /// The word on the model process's command line.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Require => "require",
            Self::Off => "off",
        }
    }
}

/// A model process beside the gateway.
#[derive(Debug, Clone)]
pub(crate) struct RuntimeProvider {
    pub(crate) models: Vec<String>,
    pub(crate) model_path: PathBuf,
    /// Replaces the model file's own chat template.
    pub(crate) chat_template_file: Option<PathBuf>,
    /// Texts that end every answer: a base model does not know when its turn is over.
    pub(crate) stop: Vec<String>,
    /// 0: the smaller of the model's own and 2048.
    pub(crate) context_tokens: u32,
    /// 0: what the machine allows.
    pub(crate) threads: u32,
    /// Requests answered at the same time.
    pub(crate) parallel: u32,
    pub(crate) sandbox: Sandbox,
    /// Absent: beside this binary, then where the package puts it.
    pub(crate) program: Option<PathBuf>,
}

/// Reads `file`, `conf.d/*.toml` beside it and `SYNESIS_GATEWAY_*`, and checks the result.
///
/// # Errors
/// When a file cannot be read or parsed, a key is unknown, or a value makes no sense; the error says which and
/// what to do.
pub(crate) fn load(file: &Path) -> Result<Config, ConfigError> {
    let raw = layers::read(file)?;
    let folder = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    check::check(raw, folder)
}

/// The limits of a configuration that does not mention them.
#[cfg(test)]
pub(crate) fn default_limits() -> Rules {
    limits::RawLimits::default().check().unwrap()
}

#[cfg(test)]
mod tests;
