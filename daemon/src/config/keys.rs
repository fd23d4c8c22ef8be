//! The one table of configuration keys: what each takes and what it is for. Error messages, environment
//! names, `config show` and the reference documentation are read from it.

/// One key of the configuration.
#[derive(Debug)]
pub struct Key {
    /// Dotted, as in `section.key`.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// What it is for, one line.
    pub doc: &'static str,
}

/// What a key takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An absolute path.
    Path,
    /// Any text.
    Text,
    /// One of a few words.
    Choice(&'static [&'static str]),
    /// A whole number between two bounds, both included.
    Integer(u64, u64),
    /// A number between 0 and 2.
    Temperature,
    /// A number between 0 and 1.
    Share,
    /// Yes or no.
    Switch,
    /// `host:port` where the host is a loopback address.
    Loopback,
    /// The base of a web address.
    Url,
    /// The address of an HTTP proxy.
    Proxy,
    /// An amount in US dollars with at most nine decimals; never passes through a float.
    Usd,
    /// A list of `host:port`.
    HostPorts,
    /// A list of numeric user ids.
    Uids,
}

impl Kind {
    /// What is allowed, to end the sentence "it takes ...".
    pub fn allowed(self) -> String {
        match self {
            Self::Path => "an absolute path".to_owned(),
            Self::Text => "text".to_owned(),
            Self::Choice(words) => match words.split_last() {
                Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
                _ => words.concat(),
            },
            Self::Integer(least, most) => format!("a whole number from {least} to {most}"),
            Self::Temperature => "a number from 0 to 2".to_owned(),
            Self::Share => "a number from 0 to 1".to_owned(),
            Self::Switch => "true or false".to_owned(),
            Self::Loopback => "a loopback address with a port, such as \"127.0.0.1:8088\"".to_owned(),
            Self::Url => "an http or https address, such as \"https://huggingface.co\"".to_owned(),
            Self::Proxy => "an HTTP proxy, such as \"http://proxy.example.com:3128\"".to_owned(),
            Self::Usd => {
                "a positive amount in US dollars with at most nine decimals, such as 1.50".to_owned()
            }
            Self::HostPorts => "a list of \"host:port\"".to_owned(),
            Self::Uids => "a list of numeric user ids".to_owned(),
        }
    }
}

impl Key {
    /// The part before the dot.
    pub fn section(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(section, _)| section)
    }

    /// The part after the dot.
    pub fn leaf(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(_, leaf)| leaf)
    }
}

/// The row called `name`.
pub(super) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// The known key whose name is closest to `unknown`: a typo in the section or in the key, or a key in the
/// wrong section.
pub(super) fn nearest(unknown: &str) -> &'static str {
    let leaf_of = |name: &str| name.rsplit('.').next().map_or_else(String::new, str::to_owned);
    let score = |key: &Key| {
        let whole = strsim::normalized_damerau_levenshtein(unknown, key.name);
        let leaf = strsim::normalized_damerau_levenshtein(&leaf_of(unknown), key.leaf());
        whole.max(leaf * 0.9)
    };
    KEYS.iter().max_by(|a, b| score(a).total_cmp(&score(b))).map_or("", |key| key.name)
}

const fn key(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key { name, kind, doc }
}

/// Every key there is, by section.
pub static KEYS: &[Key] = &[
    key("paths.state_dir", Kind::Path, "durable state: journal, identity, adapters"),
    key("paths.runtime_dir", Kind::Path, "the folder of the control socket"),
    key("model.path", Kind::Path, "the local model, a GGUF file; not set: no local answers"),
    key("model.name", Kind::Text, "the model's name in answers and status; not set: the file's own"),
    key("model.context_tokens", Kind::Integer(64, 1_048_576), "context length: prompt and answer together"),
    key("model.threads", Kind::Integer(0, 1_024), "inference threads; 0: what the machine allows"),
    key("model.max_tokens", Kind::Integer(1, 1_048_576), "longest answer when a request names none"),
    key(
        "model.temperature",
        Kind::Temperature,
        "sampling temperature when a request names none; 0 is greedy",
    ),
    key(
        "model.parallel",
        Kind::Integer(1, 64),
        "requests answered at the same time, each with a whole context",
    ),
    key("model.queue", Kind::Integer(1, 4_096), "requests that may wait for the model before one is refused"),
    key(
        "model.prefix_cache_bytes",
        Kind::Integer(0, 1 << 40),
        "memory for prefixes of earlier requests, beside the contexts; 0: none are kept there",
    ),
    key(
        "model.drain_s",
        Kind::Integer(0, 3_600),
        "seconds that answers in flight have when the model is replaced",
    ),
    key(
        "model.embeddings",
        Kind::Choice(&["auto", "mean", "last", "off"]),
        "vectors of texts; auto: of models made for it; mean, last: of any model, from the vectors of its tokens",
    ),
    key(
        "model.hf_endpoint",
        Kind::Url,
        "the hub that `model pull hf:` asks; not set: HF_ENDPOINT, else Hugging Face",
    ),
    key(
        "model.hf_token_file",
        Kind::Path,
        "a file with the hub's access token; not set: the credential hf-token",
    ),
    key(
        "model.store_max_bytes",
        Kind::Integer(0, 1 << 50),
        "most that pulled models may take on disk; 0: no limit",
    ),
    key(
        "runtime.memory_max_bytes",
        Kind::Integer(0, 1 << 50),
        "most memory of the model process; 0: what the machine has",
    ),
    key(
        "runtime.sandbox",
        Kind::Choice(&["auto", "require", "off"]),
        "isolation of the model process; auto: what the kernel has; require: refuse to start without",
    ),
    key("runtime.program", Kind::Path, "the model process; not set: synesis-runtime beside the daemon"),
    key("adapters.max_bytes", Kind::Integer(1, 1 << 40), "largest adapter file that is taken in"),
    key("adapters.max_total_bytes", Kind::Integer(1, 1 << 50), "most that adapters may take on disk"),
    key(
        "adapters.when_full",
        Kind::Choice(&["refuse", "evict"]),
        "an import beyond that is refused, or takes the place of the least recently used",
    ),
    key(
        "adapters.max_loaded",
        Kind::Integer(1, 64),
        "adapters kept in memory; the least recently used leave",
    ),
    key("gateway.endpoints", Kind::HostPorts, "gateways to dial; empty: the one this device enrolled with"),
    key(
        "gateway.fallback",
        Kind::Choice(&["auto", "off"]),
        "whether the tunnel runs over TCP where UDP does not get through",
    ),
    key("gateway.fallback_port", Kind::Integer(1, 65_535), "the gateways' TCP port"),
    key("gateway.proxy", Kind::Proxy, "an HTTP proxy for the tunnel over TCP; not set: straight"),
    key(
        "gateway.proxy_credentials_file",
        Kind::Path,
        "a file with user:password for the proxy; not set: it wants none",
    ),
    key(
        "escalation.resume_s",
        Kind::Integer(0, 600),
        "seconds that a cloud answer which was cut off waits for the tunnel; 0: it is given up at once",
    ),
    key(
        "routing.policy",
        Kind::Choice(&["auto", "local", "cloud", "ask"]),
        "where a prompt runs when the request does not say",
    ),
    key(
        "routing.min_confidence",
        Kind::Share,
        "mean token probability below which a local answer is given up for the cloud; 0: never",
    ),
    key(
        "routing.confidence_tokens",
        Kind::Integer(1, 256),
        "tokens of a local answer that are judged before it is shown",
    ),
    key(
        "routing.min_agreement",
        Kind::Share,
        "share of local samples that have to agree with the answer, else the cloud; 0: none are drawn",
    ),
    key("routing.agreement_samples", Kind::Integer(1, 8), "local samples drawn for that"),
    key(
        "routing.max_wait_ms",
        Kind::Integer(0, 3_600_000),
        "wait for the local model beyond which the cloud is used; 0: any",
    ),
    key(
        "routing.max_memory",
        Kind::Share,
        "share of memory in use from which new prompts go to the cloud; 0: any",
    ),
    key(
        "routing.max_temperature_c",
        Kind::Integer(0, 200),
        "temperature from which new prompts go to the cloud; 0: any",
    ),
    key(
        "routing.decisions",
        Kind::Integer(0, 100_000),
        "routing decisions kept for `synctl route --replay`; 0: none",
    ),
    key(
        "openai.enabled",
        Kind::Switch,
        "the OpenAI-compatible endpoint, on openai.sock beside the control socket",
    ),
    key("openai.listen", Kind::Loopback, "the same on loopback TCP, with a token; not set: the socket only"),
    key(
        "openai.token_file",
        Kind::Path,
        "the token for openai.listen; not set: made in state_dir/openai-token",
    ),
    key("billing.daily_limit_usd", Kind::Usd, "most this device spends per UTC day; not set: no own limit"),
    key(
        "privacy.consent",
        Kind::Choice(&["never", "auto", "ask"]),
        "whether redacted prompts may leave the device; ask: only when a request names the cloud",
    ),
    key("ipc.admin_uids", Kind::Uids, "users with the admin role, beside root and the daemon's own"),
    key("ipc.requests_per_minute", Kind::Integer(1, 1_000_000), "requests one user may make per minute"),
    key("vitals.interval_s", Kind::Integer(1, 3_600), "seconds between two samples of the vitals"),
    key("log.format", Kind::Choice(&["auto", "text", "json", "journald"]), "where the log goes, and as what"),
    key(
        "log.level",
        Kind::Choice(&["error", "warn", "info", "debug", "trace"]),
        "the least severe line written",
    ),
];
