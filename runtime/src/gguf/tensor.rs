//! Tensor descriptions: name, shape, type, and where the bytes lie.

use std::io::Read;

use super::GgufError;
use super::reader::Reader;

const MAX_DIMENSIONS: u32 = 4;

/// ggml's tensor types by their number in the file. Quantised types come in blocks of elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TensorType(u32);

impl TensorType {
    /// 32-bit float.
    pub const F32: Self = Self(0);
    /// 16-bit float.
    pub const F16: Self = Self(1);
    /// 8 bits a weight in blocks of 32.
    pub const Q8_0: Self = Self(8);
    /// 16-bit brain float.
    pub const BF16: Self = Self(30);

    /// The type of that number, if ggml still has it.
    pub fn from_number(number: u32) -> Option<Self> {
        Self(number).try_layout().map(|_| Self(number))
    }

    /// The number in the file.
    pub fn number(self) -> u32 {
        self.0
    }

    /// Elements and bytes of one block. A unit test holds this table against the linked ggml.
    pub fn layout(self) -> (u64, u64) {
        self.try_layout().unwrap_or((1, 1))
    }

    fn try_layout(self) -> Option<(u64, u64)> {
        Some(match self.0 {
            0 => (1, 4),           // F32
            1 | 30 => (1, 2),      // F16, BF16
            2 => (32, 18),         // Q4_0
            3 => (32, 20),         // Q4_1
            6 => (32, 22),         // Q5_0
            7 => (32, 24),         // Q5_1
            8 => (32, 34),         // Q8_0
            9 => (32, 36),         // Q8_1
            10 => (256, 84),       // Q2_K
            11 | 21 => (256, 110), // Q3_K, IQ3_S
            12 => (256, 144),      // Q4_K
            13 => (256, 176),      // Q5_K
            14 => (256, 210),      // Q6_K
            15 => (256, 292),      // Q8_K
            16 | 35 => (256, 66),  // IQ2_XXS, TQ2_0
            17 => (256, 74),       // IQ2_XS
            18 => (256, 98),       // IQ3_XXS
            19 => (256, 50),       // IQ1_S
            20 => (32, 18),        // IQ4_NL
            22 => (256, 82),       // IQ2_S
            23 => (256, 136),      // IQ4_XS
            24 => (1, 1),          // I8
            25 => (1, 2),          // I16
            26 => (1, 4),          // I32
            27 | 28 => (1, 8),     // I64, F64
            29 => (256, 56),       // IQ1_M
            34 => (256, 54),       // TQ1_0
            39 => (32, 17),        // MXFP4
            40 => (64, 36),        // NVFP4
            41 => (128, 18),       // Q1_0
            42 => (64, 18),        // Q2_0
            _ => return None,
        })
    }
}

/// One tensor as the header describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Elements per dimension, the fastest first; missing dimensions are 1.
    pub shape: [u64; 4],
    /// How the elements are stored.
    pub kind: TensorType,
    /// First byte, counted from the start of the data section.
    pub offset: u64,
    /// Size of the data.
    pub bytes: u64,
}

impl Tensor {
    /// Reads one description; the bounds against the file are checked when the header is complete.
    pub(super) fn read<R: Read>(reader: &mut Reader<R>) -> Result<(String, Self), GgufError> {
        const WHAT: &str = "tensor description";
        let name = reader.name("tensor name")?;
        let dimensions = reader.u32(WHAT)?;
        if dimensions > MAX_DIMENSIONS {
            return Err(GgufError::Shape { tensor: name });
        }
        let mut shape = [1_u64; MAX_DIMENSIONS as usize];
        for dimension in shape.iter_mut().take(dimensions as usize) {
            *dimension = reader.u64(WHAT)?;
        }
        let number = reader.u32(WHAT)?;
        let Some(kind) = TensorType::from_number(number) else {
            return Err(GgufError::TensorType { tensor: name, kind: number });
        };
        let offset = reader.u64(WHAT)?;
        let Some(bytes) = size_in_bytes(shape, kind) else {
            return Err(GgufError::Shape { tensor: name });
        };
        Ok((name, Self { shape, kind, offset, bytes }))
    }
}

/// `None` when a dimension is zero, a row is not whole blocks, or the size overflows what C counts with
/// (`i64`).
fn size_in_bytes(shape: [u64; 4], kind: TensorType) -> Option<u64> {
    let (block, block_bytes) = kind.layout();
    let elements = shape.into_iter().try_fold(1_u64, u64::checked_mul)?;
    if elements == 0 || !shape[0].is_multiple_of(block) {
        return None;
    }
    let bytes = (elements / block).checked_mul(block_bytes)?;
    (elements <= i64::MAX as u64 && bytes <= i64::MAX as u64).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantised_row_must_be_whole_blocks() {
        assert_eq!(size_in_bytes([64, 2, 1, 1], TensorType::Q8_0), Some(136));
        assert_eq!(size_in_bytes([65, 2, 1, 1], TensorType::Q8_0), None);
    }

    #[test]
    fn zero_and_overflowing_shapes_have_no_size() {
        assert_eq!(size_in_bytes([0, 1, 1, 1], TensorType::F32), None);
        assert_eq!(size_in_bytes([u64::MAX, 2, 1, 1], TensorType::F32), None);
        assert_eq!(size_in_bytes([1 << 62, 1, 1, 1], TensorType::F32), None);
    }
}
