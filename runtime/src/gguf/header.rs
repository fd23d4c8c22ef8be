//! The whole header: metadata and tensor descriptions, with every offset inside the file.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::Read;

use super::reader::Reader;
use super::{GgufError, Tensor, Value};

const METADATA_LIMIT: u64 = 1 << 16;
const TENSOR_LIMIT: u64 = 1 << 16;
const DEFAULT_ALIGNMENT: u64 = 32;
const ALIGNMENT_LIMIT: u32 = 1 << 20;

/// What a GGUF file says about itself. Tensor data was not read, but lies inside the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    metadata: BTreeMap<String, Value>,
    tensors: BTreeMap<String, Tensor>,
    data_start: u64,
    file_bytes: u64,
}

impl Header {
    /// Reads the header of a file of `file_bytes` bytes.
    ///
    /// # Errors
    /// When the file is not GGUF 2 or 3, is truncated (in the header or in the tensor data), or claims
    /// something impossible.
    pub fn read(source: impl Read, file_bytes: u64) -> Result<Self, GgufError> {
        let mut reader = Reader::new(source, file_bytes);
        if reader.array("magic").map_err(|_| GgufError::Magic)? != *b"GGUF" {
            return Err(GgufError::Magic);
        }
        match reader.u32("version")? {
            2 | 3 => {}
            version if matches!(version.swap_bytes(), 1..=3) => return Err(GgufError::BigEndian),
            version => return Err(GgufError::Version(version)),
        }
        let tensor_count = reader.count("tensors", TENSOR_LIMIT)?;
        let metadata_count = reader.count("metadata entries", METADATA_LIMIT)?;

        let mut metadata = BTreeMap::new();
        for _ in 0..metadata_count {
            let key = reader.name("metadata key")?;
            let value = Value::read(&mut reader, &key)?;
            insert(&mut metadata, key, value)?;
        }
        let alignment = alignment(&metadata)?;

        let mut tensors = BTreeMap::new();
        for _ in 0..tensor_count {
            let (name, tensor) = Tensor::read(&mut reader)?;
            insert(&mut tensors, name, tensor)?;
        }
        let data_start = reader.position().next_multiple_of(alignment);
        for (name, tensor) in &tensors {
            if !tensor.offset.is_multiple_of(alignment) {
                return Err(GgufError::Unaligned { tensor: name.clone() });
            }
            let end = data_start.saturating_add(tensor.offset).saturating_add(tensor.bytes);
            if end > file_bytes {
                return Err(GgufError::TruncatedData { tensor: name.clone(), end, length: file_bytes });
            }
        }
        Ok(Self { metadata, tensors, data_start, file_bytes })
    }

    /// A metadata value.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.metadata.get(key)
    }

    /// All metadata by key.
    pub fn metadata(&self) -> &BTreeMap<String, Value> {
        &self.metadata
    }

    /// A metadata text; `None` also when the value is of another type.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.value(key).and_then(Value::as_str)
    }

    /// All tensors by name.
    pub fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.tensors
    }

    /// Where the data section begins, from the start of the file; offsets of tensors count from there.
    pub fn data_start(&self) -> u64 {
        self.data_start
    }

    /// Length of the whole file.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }
}

fn insert<T>(map: &mut BTreeMap<String, T>, name: String, value: T) -> Result<(), GgufError> {
    match map.entry(name) {
        Entry::Occupied(entry) => Err(GgufError::Duplicate { name: entry.key().clone() }),
        Entry::Vacant(entry) => {
            entry.insert(value);
            Ok(())
        }
    }
}

fn alignment(metadata: &BTreeMap<String, Value>) -> Result<u64, GgufError> {
    match metadata.get("general.alignment") {
        None => Ok(DEFAULT_ALIGNMENT),
        Some(Value::U32(bytes)) if bytes.is_power_of_two() && *bytes <= ALIGNMENT_LIMIT => {
            Ok(u64::from(*bytes))
        }
        Some(_) => Err(GgufError::Alignment),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::fixture::GgufFile;
    use super::*;

    fn small() -> Vec<u8> {
        GgufFile::default()
            .text("general.architecture", "llama")
            .u32("llama.block_count", 2)
            .f32("adapter.lora.alpha", 16.0)
            .texts("tokenizer.ggml.tokens", &["a", "b"])
            .tensor("blk.0.attn_q.weight", &[64, 4], TensorType::Q8_0)
            .tensor("output_norm.weight", &[64], TensorType::F32)
            .bytes()
    }

    use super::super::TensorType;

    fn read(bytes: &[u8]) -> Result<Header, GgufError> {
        Header::read(bytes, bytes.len() as u64)
    }

    #[test]
    fn a_whole_file_is_read() {
        let header = read(&small()).unwrap();
        assert_eq!(header.text("general.architecture"), Some("llama"));
        assert_eq!(header.value("llama.block_count"), Some(&Value::U32(2)));
        assert_eq!(
            header.value("tokenizer.ggml.tokens"),
            Some(&Value::Array(super::super::ValueType::String, 2))
        );
        assert_eq!(header.tensors()["blk.0.attn_q.weight"].shape, [64, 4, 1, 1]);
    }

    #[test]
    fn a_file_cut_at_any_byte_is_called_truncated() {
        let whole = small();
        for cut in 4..whole.len() {
            let error = read(&whole[..cut]).unwrap_err();
            assert!(
                matches!(error, GgufError::TruncatedHeader { .. } | GgufError::TruncatedData { .. }),
                "cut at {cut}: {error}"
            );
        }
    }

    #[test]
    fn another_magic_version_or_byte_order_is_named() {
        let whole = small();
        let with = |range: std::ops::Range<usize>, bytes: &[u8]| {
            let mut changed = whole.clone();
            changed[range].copy_from_slice(bytes);
            read(&changed).unwrap_err()
        };
        assert!(matches!(read(b""), Err(GgufError::Magic)));
        assert!(matches!(with(0..4, b"GGML"), GgufError::Magic));
        assert!(matches!(with(4..8, &1_u32.to_le_bytes()), GgufError::Version(1)));
        assert!(matches!(with(4..8, &4_u32.to_le_bytes()), GgufError::Version(4)));
        assert!(matches!(with(4..8, &3_u32.to_be_bytes()), GgufError::BigEndian));
    }

    #[test]
    fn absurd_counts_are_refused_before_anything_is_allocated() {
        let whole = small();
        for field in [8..16, 16..24] {
            for count in [u64::MAX, 1 << 40, (1 << 16) + 1] {
                let mut changed = whole.clone();
                changed[field.clone()].copy_from_slice(&count.to_le_bytes());
                assert!(matches!(read(&changed), Err(GgufError::Implausible { .. })));
            }
        }
    }

    #[test]
    fn a_key_or_tensor_that_appears_twice_is_refused() {
        let keys = GgufFile::default().u32("a", 1).u32("a", 2).bytes();
        assert!(matches!(read(&keys), Err(GgufError::Duplicate { .. })));
        let tensors =
            GgufFile::default().tensor("t", &[4], TensorType::F32).tensor("t", &[4], TensorType::F32).bytes();
        assert!(matches!(read(&tensors), Err(GgufError::Duplicate { .. })));
    }

    #[test]
    fn a_name_with_a_nul_inside_is_refused() {
        let file = GgufFile::default().tensor("blk.0\0evil", &[4], TensorType::F32).bytes();
        assert!(matches!(read(&file), Err(GgufError::Text { .. })));
    }

    #[test]
    fn an_alignment_that_is_no_power_of_two_is_refused() {
        for bytes in [0, 33, 1 << 31] {
            let file = GgufFile::default().u32("general.alignment", bytes).bytes();
            assert!(matches!(read(&file), Err(GgufError::Alignment)), "{bytes}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = read(&bytes);
            let mut with_magic = b"GGUF\x03\0\0\0".to_vec();
            with_magic.extend(bytes);
            let _ = read(&with_magic);
        }

        #[test]
        fn perturbed_files_never_panic(
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = small();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Ok(header) = read(&bytes) {
                // The further checks must hold for whatever gets through.
                if let Ok(base) = super::super::ModelHeader::check(&header) {
                    let _ = super::super::AdapterHeader::check(&header, &base);
                }
            }
            let _ = read(&bytes[..cut.index(bytes.len())]);
        }
    }
}
