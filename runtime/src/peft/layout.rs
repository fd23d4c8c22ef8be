//! Lays out a GGUF adapter: the header's bytes, and where each tensor's data begin.

use crate::gguf::TensorType;

/// The format's default.
pub(super) const ALIGNMENT: u64 = 32;
const VERSION: u32 = 3;
const UINT32: u32 = 4;
const FLOAT32: u32 = 6;
const STRING: u32 = 8;
/// `general.file_type` of a file of mostly 16-bit floats.
const MOSTLY_F16: u32 = 1;
/// `general.quantization_version`, which every file has.
const QUANTIZATION: u32 = 2;

/// One tensor to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) name: String,
    pub(super) rows: u64,
    pub(super) columns: u64,
    pub(super) kind: TensorType,
}

impl Slot {
    pub(super) fn bytes(&self) -> u64 {
        let (_, size) = self.kind.layout();
        self.rows.saturating_mul(self.columns).saturating_mul(size)
    }
}

/// The header up to the first tensor's data, and the size of the whole file.
pub(super) fn header(architecture: &str, alpha: f32, slots: &[Slot]) -> (Vec<u8>, u64) {
    let entries: &[(&str, u32, Vec<u8>)] = &[
        ("general.architecture", STRING, text(architecture)),
        ("general.type", STRING, text("adapter")),
        ("adapter.type", STRING, text("lora")),
        ("adapter.lora.alpha", FLOAT32, alpha.to_le_bytes().to_vec()),
        ("general.file_type", UINT32, MOSTLY_F16.to_le_bytes().to_vec()),
        ("general.quantization_version", UINT32, QUANTIZATION.to_le_bytes().to_vec()),
    ];
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend((slots.len() as u64).to_le_bytes());
    bytes.extend((entries.len() as u64).to_le_bytes());
    for (key, kind, value) in entries {
        bytes.extend(text(key));
        bytes.extend(kind.to_le_bytes());
        bytes.extend(value);
    }
    let mut offset = 0_u64;
    for slot in slots {
        bytes.extend(text(&slot.name));
        bytes.extend(2_u32.to_le_bytes());
        bytes.extend(slot.columns.to_le_bytes());
        bytes.extend(slot.rows.to_le_bytes());
        bytes.extend(slot.kind.number().to_le_bytes());
        bytes.extend(offset.to_le_bytes());
        offset = offset.saturating_add(aligned(slot.bytes()));
    }
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT as usize), 0);
    let size = (bytes.len() as u64).saturating_add(offset);
    (bytes, size)
}

/// The next multiple of the alignment.
pub(super) fn aligned(bytes: u64) -> u64 {
    bytes.checked_next_multiple_of(ALIGNMENT).unwrap_or(u64::MAX)
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}
