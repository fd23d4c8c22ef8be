//! Log lines go to stderr, which the parent inherits or captures. The level comes from `SYNESIS_LOG`.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Name of the environment variable with the level.
pub const LEVEL_VARIABLE: &str = "SYNESIS_LOG";

/// The target of llama.cpp's own log lines.
pub(crate) const LLAMA_TARGET: &str = "llama";

/// Installs the subscriber. A level nobody knows means `info`; a second call changes nothing.
pub fn init() {
    let level = std::env::var(LEVEL_VARIABLE)
        .ok()
        .and_then(|text| text.parse::<LevelFilter>().ok())
        .unwrap_or(LevelFilter::INFO);
    // The HTTP/2 stack logs every frame at debug: keep it out of a debug session about models.
    let targets = Targets::new()
        .with_default(LevelFilter::WARN)
        .with_target("synesis_runtime", level)
        .with_target(LLAMA_TARGET, level);
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    let _already_installed = tracing_subscriber::registry().with(targets).with(lines).try_init();
}
