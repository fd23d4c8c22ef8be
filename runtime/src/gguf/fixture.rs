//! Test only: writes small GGUF files, good ones and, with the right arguments, bad ones.

use super::TensorType;

/// A file under construction. Tensor data is zeros.
#[derive(Default)]
pub(crate) struct GgufFile {
    metadata: Vec<u8>,
    metadata_count: u64,
    tensors: Vec<u8>,
    tensor_count: u64,
    data_bytes: u64,
}

impl GgufFile {
    pub(crate) fn text(self, key: &str, value: &str) -> Self {
        self.entry(key, 8, &sized(value))
    }

    pub(crate) fn u32(self, key: &str, value: u32) -> Self {
        self.entry(key, 4, &value.to_le_bytes())
    }

    pub(crate) fn f32(self, key: &str, value: f32) -> Self {
        self.entry(key, 6, &value.to_le_bytes())
    }

    pub(crate) fn flag(self, key: &str, value: bool) -> Self {
        self.entry(key, 7, &[u8::from(value)])
    }

    pub(crate) fn numbers(self, key: &str, values: &[i32]) -> Self {
        let mut bytes = 5_u32.to_le_bytes().to_vec();
        bytes.extend((values.len() as u64).to_le_bytes());
        for value in values {
            bytes.extend(value.to_le_bytes());
        }
        self.entry(key, 9, &bytes)
    }

    pub(crate) fn texts(self, key: &str, values: &[&str]) -> Self {
        let mut bytes = 8_u32.to_le_bytes().to_vec();
        bytes.extend((values.len() as u64).to_le_bytes());
        for value in values {
            bytes.extend(sized(value));
        }
        self.entry(key, 9, &bytes)
    }

    pub(crate) fn tensor(mut self, name: &str, shape: &[u64], kind: TensorType) -> Self {
        let (block, block_bytes) = kind.layout();
        self.tensors.extend(sized(name));
        self.tensors.extend((shape.len() as u32).to_le_bytes());
        for dimension in shape {
            self.tensors.extend(dimension.to_le_bytes());
        }
        self.tensors.extend(kind.number().to_le_bytes());
        self.tensors.extend(self.data_bytes.to_le_bytes());
        let bytes = shape.iter().product::<u64>() / block * block_bytes;
        self.data_bytes += bytes.next_multiple_of(32);
        self.tensor_count += 1;
        self
    }

    pub(crate) fn bytes(self) -> Vec<u8> {
        let mut file = b"GGUF\x03\0\0\0".to_vec();
        file.extend(self.tensor_count.to_le_bytes());
        file.extend(self.metadata_count.to_le_bytes());
        file.extend(self.metadata);
        file.extend(self.tensors);
        if self.tensor_count > 0 {
            file.resize(file.len().next_multiple_of(32) + self.data_bytes as usize, 0);
        }
        file
    }

    fn entry(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        self.metadata.extend(sized(key));
        self.metadata.extend(kind.to_le_bytes());
        self.metadata.extend(value);
        self.metadata_count += 1;
        self
    }
}

fn sized(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}
