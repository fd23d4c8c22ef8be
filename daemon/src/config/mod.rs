//! The daemon's configuration as types that cannot hold a bad value. Layers, later ones win: defaults, the
//! file, `conf.d/*.toml` beside it in order of name, then `SYNESIS_*` variables.

mod env;
mod error;
mod file;
mod keys;
mod layers;
mod show;
mod value;

use serde::{Deserialize, Serialize};
use synesis_ledger::NanoUsd;

pub use error::ConfigError;
pub use keys::{KEYS, Key, Kind};
pub use layers::{Loaded, Source, load};
pub use show::{Origins, as_json, as_toml};
pub use value::{AbsolutePath, HostPort, HttpProxy, Loopback, Url};

/// Everything the daemon can be told. One field per row of [`KEYS`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Config {
    /// Where files live.
    pub paths: Paths,
    /// The local model.
    pub model: Model,
    /// The process that runs it.
    pub runtime: Runtime,
    /// LoRA adapters.
    pub adapters: Adapters,
    /// The cloud side.
    pub gateway: Gateway,
    /// Prompts that go to the cloud.
    pub escalation: Escalation,
    /// Where a prompt runs when it does not say.
    pub routing: Routing,
    /// The device's own spending limit.
    pub billing: Billing,
    /// What may leave the device.
    pub privacy: Privacy,
    /// The local socket.
    pub ipc: Ipc,
    /// The OpenAI-compatible endpoint.
    pub openai: OpenAi,
    /// Device measurements.
    pub vitals: Vitals,
    /// Where the log goes.
    pub log: Log,
}

/// `[paths]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Paths {
    /// Durable state: journal, identity, adapters.
    pub state_dir: AbsolutePath,
    /// The control socket's folder.
    pub runtime_dir: AbsolutePath,
}

/// `[model]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// The GGUF file; none: no local answers.
    pub path: Option<AbsolutePath>,
    /// The name shown to users; none: the file's own.
    pub name: Option<String>,
    /// Context length in tokens.
    #[serde(deserialize_with = "value::between::<64, 1_048_576, _>")]
    pub context_tokens: u32,
    /// Threads for inference; 0: what the machine allows.
    #[serde(deserialize_with = "value::between::<0, 1_024, _>")]
    pub threads: u32,
    /// Longest answer when the request names none, in tokens.
    #[serde(deserialize_with = "value::between::<1, 1_048_576, _>")]
    pub max_tokens: u32,
    /// Sampling temperature when the request names none; 0 is greedy.
    #[serde(with = "value::temperature")]
    pub temperature: f32,
    /// Requests answered at the same time, each with a whole context.
    #[serde(deserialize_with = "value::between::<1, 64, _>")]
    pub parallel: u32,
    /// Requests that may wait for the model.
    #[serde(deserialize_with = "value::between::<1, 4_096, _>")]
    pub queue: u32,
    /// Memory for saved prefixes, in bytes.
    #[serde(deserialize_with = "value::between_u64::<0, 1_099_511_627_776, _>")]
    pub prefix_cache_bytes: u64,
    /// Seconds that answers in flight have when the model is replaced.
    #[serde(deserialize_with = "value::between::<0, 3_600, _>")]
    pub drain_s: u32,
    /// Whether the model makes vectors of texts, and how.
    pub embeddings: Embeddings,
    /// The hub that `model pull hf:` asks; none: `HF_ENDPOINT`, else Hugging Face.
    pub hf_endpoint: Option<Url>,
    /// A file with the hub's access token; none: the systemd credential `hf-token`, if there is one.
    pub hf_token_file: Option<AbsolutePath>,
    /// Most that pulled models may take on disk, in bytes; 0: no limit.
    #[serde(deserialize_with = "value::between_u64::<0, 1_125_899_906_842_624, _>")]
    pub store_max_bytes: u64,
}

/// Whether a model makes vectors of texts, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Embeddings {
    /// As its file says: models that are made for it do.
    #[default]
    Auto,
    /// The mean of its tokens' vectors, whatever the file says.
    Mean,
    /// The vector of the last token, whatever the file says.
    Last,
    /// None are made.
    Off,
}

/// `[runtime]`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Runtime {
    /// The model process; none: `synesis-runtime` beside the daemon, then `/usr/lib/synesis/synesis-runtime`.
    pub program: Option<AbsolutePath>,
    /// Most memory of the model process, in bytes; 0: what the machine has.
    #[serde(deserialize_with = "value::between_u64::<0, 1_125_899_906_842_624, _>")]
    pub memory_max_bytes: u64,
    /// Isolation of the model process.
    pub sandbox: Sandbox,
}

/// Isolation of the model process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sandbox {
    /// What the kernel has; what it lacks is logged.
    #[default]
    Auto,
    /// All of it, or the model does not start.
    Require,
    /// None, for debugging.
    Off,
}

/// `[adapters]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Adapters {
    /// Largest adapter file that is taken in, in bytes.
    #[serde(deserialize_with = "value::between_u64::<1, 1_099_511_627_776, _>")]
    pub max_bytes: u64,
    /// Most that all of them may take on disk, in bytes.
    #[serde(deserialize_with = "value::between_u64::<1, 1_125_899_906_842_624, _>")]
    pub max_total_bytes: u64,
    /// What happens to an import beyond that.
    pub when_full: WhenFull,
    /// Adapters kept in memory.
    #[serde(deserialize_with = "value::between::<1, 64, _>")]
    pub max_loaded: u32,
}

/// What happens to an import for which there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhenFull {
    /// It is refused: an adapter may exist nowhere else.
    #[default]
    Refuse,
    /// The least recently used ones that are not active leave.
    Evict,
}

/// `[gateway]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gateway {
    /// Addresses to dial; empty: the one this device enrolled with.
    pub endpoints: Vec<HostPort>,
    /// What happens where UDP does not get through.
    pub fallback: Fallback,
    /// The TCP port of gateways.
    #[serde(deserialize_with = "value::port")]
    pub fallback_port: u16,
    /// The way out for TCP; none: straight.
    pub proxy: Option<HttpProxy>,
    /// A file with `user:password` for the proxy.
    pub proxy_credentials_file: Option<AbsolutePath>,
}

/// What happens where UDP does not get through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fallback {
    /// The tunnel runs over TCP until it does.
    #[default]
    Auto,
    /// No tunnel.
    Off,
}

/// `[escalation]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Escalation {
    /// Seconds that an answer which was cut off waits for the tunnel.
    #[serde(deserialize_with = "value::between::<0, 600, _>")]
    pub resume_s: u32,
}

/// `[routing]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Routing {
    /// Applied to requests that do not choose.
    pub policy: RoutingPolicy,
    /// Mean token probability below which a local answer is given up for the cloud; 0: never.
    #[serde(deserialize_with = "value::share")]
    pub min_confidence: f64,
    /// Tokens of a local answer that are judged before it is shown.
    #[serde(deserialize_with = "value::between::<1, 256, _>")]
    pub confidence_tokens: u32,
    /// Share of local samples that have to agree with the answer; 0: none are drawn.
    #[serde(deserialize_with = "value::share")]
    pub min_agreement: f64,
    /// Local samples drawn for that.
    #[serde(deserialize_with = "value::between::<1, 8, _>")]
    pub agreement_samples: u32,
    /// Wait for the local model, in milliseconds, beyond which the cloud is used; 0: any.
    #[serde(deserialize_with = "value::between::<0, 3_600_000, _>")]
    pub max_wait_ms: u32,
    /// Share of memory in use from which new prompts go to the cloud; 0: any.
    #[serde(deserialize_with = "value::share")]
    pub max_memory: f64,
    /// Temperature from which new prompts go to the cloud; 0: any.
    #[serde(deserialize_with = "value::between::<0, 200, _>")]
    pub max_temperature_c: u32,
    /// Decisions kept for a replay; 0: none.
    #[serde(deserialize_with = "value::between::<0, 100_000, _>")]
    pub decisions: u32,
}

/// `[openai]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpenAi {
    /// Whether there is an endpoint at all.
    pub enabled: bool,
    /// A loopback address beside the socket; none: the socket only.
    pub listen: Option<Loopback>,
    /// The bearer token for `listen`; none: made in the state folder.
    pub token_file: Option<AbsolutePath>,
}

/// Where a prompt runs when the request does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoutingPolicy {
    /// Local when it is good enough, cloud when it is not.
    #[default]
    Auto,
    /// Never the cloud.
    Local,
    /// The cloud whenever the tunnel is up.
    Cloud,
    /// As auto, but the cloud only when the request itself asks for it.
    Ask,
}

/// `[billing]`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Billing {
    /// Most this device spends per UTC day; none: the account's ceiling alone.
    #[serde(with = "value::usd")]
    pub daily_limit_usd: Option<NanoUsd>,
}

/// `[privacy]`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Privacy {
    /// Whether redacted prompts may leave the device.
    pub consent: Consent,
}

/// Whether a redacted prompt may leave the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Consent {
    /// Nothing leaves.
    Never,
    /// Redacted prompts may leave.
    #[default]
    Auto,
    /// Only when the request itself asks for the cloud.
    Ask,
}

/// `[ipc]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ipc {
    /// Users with the admin role beside root and the daemon's own.
    pub admin_uids: Vec<u32>,
    /// Requests one user may make per minute; a stream counts once.
    #[serde(deserialize_with = "value::between::<1, 1_000_000, _>")]
    pub requests_per_minute: u32,
}

/// `[vitals]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Vitals {
    /// Seconds between two samples.
    #[serde(deserialize_with = "value::between::<1, 3_600, _>")]
    pub interval_s: u32,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Log {
    /// Where and how.
    pub format: LogFormat,
    /// How much.
    pub level: LogLevel,
}

/// Where log lines go and what they look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// journald when the service manager connected stderr to it, else text.
    #[default]
    Auto,
    /// Lines for people, on stderr.
    Text,
    /// One JSON object per line, on stderr.
    Json,
    /// Structured fields, straight to journald.
    Journald,
}

/// The least severe line that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Act.
    Error,
    /// Look.
    Warn,
    /// State changed.
    #[default]
    Info,
    /// Why.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The name that log filters use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            state_dir: AbsolutePath::fixed("/var/lib/synesis"),
            runtime_dir: AbsolutePath::fixed("/run/synesis"),
        }
    }
}

impl Default for Model {
    fn default() -> Self {
        Self {
            path: None,
            name: None,
            context_tokens: 2048,
            threads: 0,
            max_tokens: 256,
            temperature: 0.0,
            parallel: 4,
            queue: 64,
            prefix_cache_bytes: 64 << 20,
            drain_s: 30,
            embeddings: Embeddings::Auto,
            hf_endpoint: None,
            hf_token_file: None,
            store_max_bytes: 0,
        }
    }
}

impl Default for Adapters {
    fn default() -> Self {
        Self { max_bytes: 1 << 30, max_total_bytes: 8 << 30, when_full: WhenFull::Refuse, max_loaded: 8 }
    }
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            fallback: Fallback::default(),
            fallback_port: synesis_mesh::device::FALLBACK_PORT,
            proxy: None,
            proxy_credentials_file: None,
        }
    }
}

impl Default for Escalation {
    fn default() -> Self {
        Self { resume_s: 90 }
    }
}

impl Default for Routing {
    fn default() -> Self {
        Self {
            policy: RoutingPolicy::default(),
            min_confidence: 0.0,
            confidence_tokens: 24,
            min_agreement: 0.0,
            agreement_samples: 2,
            max_wait_ms: 0,
            max_memory: 0.0,
            max_temperature_c: 0,
            decisions: 2_000,
        }
    }
}

impl Default for OpenAi {
    fn default() -> Self {
        Self { enabled: true, listen: None, token_file: None }
    }
}

impl Default for Ipc {
    fn default() -> Self {
        Self { admin_uids: Vec::new(), requests_per_minute: 600 }
    }
}

impl Default for Vitals {
    fn default() -> Self {
        Self { interval_s: 5 }
    }
}

#[cfg(test)]
mod tests;
