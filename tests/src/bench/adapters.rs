//! Four adapters out of the two trained ones: content-addressed stores take copies for the same, so two of the four
//! have another alpha.

use std::path::{Path, PathBuf};

use crate::models::adapter;

/// The names that [`file`] knows, two of them trained, two with half their strength.
pub(super) const FOUR: [&str; 4] = ["json", "pirate", "json-half", "pirate-half"];

/// The key whose 32-bit float comes right after its type (GGUF: a length, the name, a type number, the value).
const ALPHA: &[u8] = b"adapter.lora.alpha";

/// GGUF's number for a 32-bit float.
const FLOAT32: [u8; 4] = 6_u32.to_le_bytes();

/// The file of that adapter; a weakened one is written into `folder`.
///
/// # Panics
/// When the trained adapter it is made from is not there, or has no alpha.
pub(super) fn file(name: &str, folder: &Path) -> PathBuf {
    let Some(trained) = name.strip_suffix("-half") else { return adapter(name) };
    let mut bytes = std::fs::read(adapter(trained)).expect("a readable adapter");
    let at = bytes.windows(ALPHA.len()).position(|window| window == ALPHA).expect("an adapter has an alpha");
    let value = at + ALPHA.len() + FLOAT32.len();
    assert_eq!(bytes[at + ALPHA.len()..value], FLOAT32, "alpha is a float");
    let alpha = f32::from_le_bytes(bytes[value..value + 4].try_into().expect("four bytes"));
    bytes[value..value + 4].copy_from_slice(&(alpha / 2.0).to_le_bytes());
    let path = folder.join(format!("{name}.gguf"));
    std::fs::write(&path, bytes).expect("scratch folder");
    path
}
