//! The real models and adapters the suites run on. They are never skipped silently: a missing file is a failure that
//! says how to get it.

use std::path::{Path, PathBuf};

/// The device's model.
pub const SMOLLM: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
/// The gateway's model.
pub const GEMMA: &str = "gemma-3-270m-q4_k_m.gguf";

/// A model of the cache that `packaging/fetch-models` fills.
pub fn model(file: &str) -> PathBuf {
    let cache = std::env::var_os("SYNESIS_MODEL_CACHE").map(PathBuf::from).unwrap_or_else(|| {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let home = || PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache");
        cache.unwrap_or_else(home).join("synesis/models")
    });
    let path = cache.join(file);
    assert!(path.is_file(), "{} is missing; run packaging/fetch-models", path.display());
    path
}

/// A trained adapter (`json` or `pirate`).
pub fn adapter(name: &str) -> PathBuf {
    let path = adapters().join(format!("{name}.gguf"));
    assert!(path.is_file(), "{} is missing; set SYNESIS_ADAPTERS to the folder that has it", path.display());
    path
}

fn adapters() -> PathBuf {
    std::env::var_os("SYNESIS_ADAPTERS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/adapters"),
        PathBuf::from,
    )
}
