//! A small catalogue of well-known models, so that `synctl model pull auto` is all a new device needs. Sizes and
//! memory are approximate: what the hub states counts, and the estimate before a load.

use sysinfo::System;

/// One model that can be pulled by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// For `synctl model pull`.
    pub name: &'static str,
    /// Where it is.
    pub source: &'static str,
    /// Approximate size of the file, in bytes.
    pub size_bytes: u64,
    /// Keys and values of one token: layers x key-value heads x head width x 2 x 2 bytes.
    cache_per_token: u64,
    /// As its publisher names it.
    pub licence: &'static str,
}

/// From small to large, which is from quick to good.
pub static CATALOGUE: &[Entry] = &[
    entry(
        "smollm2-135m",
        "hf:bartowski/SmolLM2-135M-Instruct-GGUF:Q4_K_M",
        105,
        30 * 3 * 64 * 4,
        "Apache-2.0",
    ),
    entry(
        "smollm2-360m",
        "hf:bartowski/SmolLM2-360M-Instruct-GGUF:Q4_K_M",
        271,
        32 * 5 * 64 * 4,
        "Apache-2.0",
    ),
    entry("qwen2.5-0.5b", "hf:Qwen/Qwen2.5-0.5B-Instruct-GGUF:Q4_K_M", 491, 24 * 2 * 64 * 4, "Apache-2.0"),
    entry(
        "llama-3.2-1b",
        "hf:bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M",
        808,
        16 * 8 * 64 * 4,
        "Llama 3.2",
    ),
    entry("qwen2.5-1.5b", "hf:Qwen/Qwen2.5-1.5B-Instruct-GGUF:Q4_K_M", 1_117, 28 * 2 * 128 * 4, "Apache-2.0"),
    entry(
        "llama-3.2-3b",
        "hf:bartowski/Llama-3.2-3B-Instruct-GGUF:Q4_K_M",
        2_019,
        28 * 8 * 128 * 4,
        "Llama 3.2",
    ),
    entry(
        "qwen2.5-7b",
        "hf:bartowski/Qwen2.5-7B-Instruct-GGUF:Q4_K_M",
        4_683,
        28 * 4 * 128 * 4,
        "Apache-2.0",
    ),
];

const MEGABYTE: u64 = 1_000_000;
/// The process, the graph's buffers and the logits, roughly; the estimate before a load is exact.
const OVERHEAD: u64 = 256 * MEGABYTE;

const fn entry(
    name: &'static str,
    source: &'static str,
    megabytes: u64,
    cache_per_token: u64,
    licence: &'static str,
) -> Entry {
    Entry { name, source, size_bytes: megabytes * MEGABYTE, cache_per_token, licence }
}

impl Entry {
    /// Approximate memory with contexts of so many tokens in all, in bytes.
    pub fn memory_bytes(&self, tokens: u64) -> u64 {
        let cache = self.cache_per_token.saturating_mul(tokens);
        self.size_bytes.saturating_add(cache).saturating_add(OVERHEAD)
    }
}

/// The catalogue, seen from one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// What a model may use here, in bytes.
    pub memory_bytes: u64,
    /// Tokens of all contexts together.
    pub tokens: u64,
}

impl Offer {
    /// For this machine: three quarters of its memory or of its control group's, whichever is less, and not more than
    /// the configured limit (0: none) or, when there is a GPU, than that one's memory: a model that fits it is quick.
    pub fn here(tokens: u64, limit: u64, gpu_bytes: Option<u64>) -> Self {
        let memory = memory_here() / 4 * 3;
        let limit = if limit == 0 { u64::MAX } else { limit };
        Self { memory_bytes: memory.min(limit).min(gpu_bytes.unwrap_or(u64::MAX)), tokens }
    }

    /// Whether an entry fits.
    pub fn fits(&self, entry: &Entry) -> bool {
        entry.memory_bytes(self.tokens) <= self.memory_bytes
    }

    /// The largest that fits.
    pub fn choose(&self) -> Option<&'static Entry> {
        CATALOGUE.iter().filter(|entry| self.fits(entry)).max_by_key(|entry| entry.size_bytes)
    }
}

/// In bytes; 0 when the machine does not say.
fn memory_here() -> u64 {
    let Ok(mut system) = System::new() else { return 0 };
    system.refresh_memory();
    let group = system.cgroup_limits().map_or(u64::MAX, |limits| limits.total_memory);
    system.total_memory().min(group)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::models::ModelName;
    use crate::models::source::Source;

    #[test]
    fn every_entry_has_a_name_of_its_own_and_a_source_that_is_understood() {
        let names: BTreeSet<&str> = CATALOGUE.iter().map(|entry| entry.name).collect();
        assert_eq!(names.len(), CATALOGUE.len());
        for entry in CATALOGUE {
            ModelName::try_from(entry.name.to_owned()).unwrap();
            assert!(matches!(Source::parse(entry.source), Ok(Source::Hub(_))), "{entry:?}");
        }
        assert!(CATALOGUE.windows(2).all(|pair| pair[0].size_bytes < pair[1].size_bytes));
    }

    #[test]
    fn the_largest_that_fits_is_chosen_and_nothing_when_nothing_does() {
        let choose = |gigabytes: u64| {
            let offer = Offer { memory_bytes: gigabytes * 1_000 * MEGABYTE, tokens: 2048 };
            offer.choose().map(|entry| entry.name)
        };
        assert_eq!(choose(0), None);
        assert_eq!(choose(64), Some("qwen2.5-7b"));
        assert_eq!(choose(4), Some("llama-3.2-3b"));
        assert_eq!(choose(2), Some("qwen2.5-1.5b"));
    }

    #[test]
    fn more_contexts_need_more_memory() {
        let small = CATALOGUE[0];
        let tight = small.memory_bytes(2048);
        assert!(Offer { memory_bytes: tight, tokens: 2048 }.fits(&small));
        assert!(!Offer { memory_bytes: tight, tokens: 4 * 2048 }.fits(&small));
        assert_eq!(CATALOGUE[0].memory_bytes(u64::MAX), u64::MAX, "no overflow");
    }

    #[test]
    fn this_machine_has_memory_and_limits_are_kept() {
        let all = Offer::here(2048, 0, None);
        assert!(all.memory_bytes > 0);
        assert_eq!(Offer::here(2048, 1000, None).memory_bytes, 1000);
        assert_eq!(Offer::here(2048, 0, Some(500)).memory_bytes, 500);
    }
}
