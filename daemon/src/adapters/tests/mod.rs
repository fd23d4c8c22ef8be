//! What is on disk after every way an import or a swap can be cut short, who may be unloaded when, and who leaves a
//! full disk.

mod disk;
mod memory;
mod room;
mod upload;

use std::time::UNIX_EPOCH;

use super::*;

fn name(text: &str) -> AdapterName {
    AdapterName::try_from(text.to_owned()).unwrap()
}

fn id(digit: char) -> String {
    digit.to_string().repeat(64)
}

fn adapter(text: &str, digit: char) -> Adapter {
    Adapter {
        name: name(text),
        id: id(digit),
        size_bytes: 3,
        rank: 8,
        alpha: 16.0,
        architecture: "llama".to_owned(),
        targets: vec!["attn_q".to_owned()],
        imported_at: UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        origin: Origin {
            format: Format::Peft,
            source: "/home/ann/tone".to_owned(),
            base_model: "org/base".to_owned(),
            imported_by: Some(1000),
            weights_sha256: Some(id('9')),
        },
    }
}

fn snapshot(names: &[(&str, char)], active: Option<&str>, generation: u64) -> Snapshot {
    Snapshot {
        adapters: names.iter().map(|(text, digit)| adapter(text, *digit)).collect(),
        generation,
        active: active.map(name),
    }
}
