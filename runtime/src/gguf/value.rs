//! Metadata values. Scalars are kept, and short lists of whole numbers, which have one per layer; other arrays
//! (the vocabulary, mostly) are walked and only described.

use std::io::Read;

use super::GgufError;
use super::reader::Reader;

/// A vocabulary of 16 million tokens is ten times the largest that exists.
const ARRAY_LIMIT: u64 = 1 << 24;

/// A list of whole numbers that is not longer is kept: one for each layer of the deepest model there may be.
const KEPT_NUMBERS: u64 = 512;

/// The value types of the format, without the array that contains them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the format's own")]
pub enum ValueType {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    String,
    U64,
    I64,
    F64,
}

/// The number that stands for an array.
const ARRAY: u32 = 9;

impl ValueType {
    fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::U8,
            1 => Self::I8,
            2 => Self::U16,
            3 => Self::I16,
            4 => Self::U32,
            5 => Self::I32,
            6 => Self::F32,
            7 => Self::Bool,
            8 => Self::String,
            10 => Self::U64,
            11 => Self::I64,
            12 => Self::F64,
            _ => return None,
        })
    }

    /// Bytes of one element; a string has no fixed size.
    fn size(self) -> Option<u64> {
        match self {
            Self::U8 | Self::I8 | Self::Bool => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::String => None,
        }
    }
}

/// One metadata value.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the names are the format's own")]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    U64(u64),
    I64(i64),
    F64(f64),
    /// Element type and length; the elements were walked and left behind.
    Array(ValueType, u64),
    /// A short list of whole numbers with its elements; a negative one counts as the largest there is.
    Numbers(ValueType, Vec<u64>),
}

impl Value {
    pub(super) fn read<R: Read>(reader: &mut Reader<R>, key: &str) -> Result<Self, GgufError> {
        const WHAT: &str = "metadata value";
        let number = reader.u32(WHAT)?;
        if number == ARRAY {
            return read_array(reader, key);
        }
        Ok(match known(number, key)? {
            ValueType::U8 => Self::U8(u8::from_le_bytes(reader.array(WHAT)?)),
            ValueType::I8 => Self::I8(i8::from_le_bytes(reader.array(WHAT)?)),
            ValueType::U16 => Self::U16(u16::from_le_bytes(reader.array(WHAT)?)),
            ValueType::I16 => Self::I16(i16::from_le_bytes(reader.array(WHAT)?)),
            ValueType::U32 => Self::U32(u32::from_le_bytes(reader.array(WHAT)?)),
            ValueType::I32 => Self::I32(i32::from_le_bytes(reader.array(WHAT)?)),
            ValueType::F32 => Self::F32(f32::from_le_bytes(reader.array(WHAT)?)),
            ValueType::Bool => Self::Bool(reader.array::<1>(WHAT)? != [0]),
            ValueType::String => Self::String(reader.text("metadata text")?),
            ValueType::U64 => Self::U64(u64::from_le_bytes(reader.array(WHAT)?)),
            ValueType::I64 => Self::I64(i64::from_le_bytes(reader.array(WHAT)?)),
            ValueType::F64 => Self::F64(f64::from_le_bytes(reader.array(WHAT)?)),
        })
    }

    /// Element type and length, if it is an array.
    pub fn as_array(&self) -> Option<(ValueType, u64)> {
        match self {
            Self::Array(element, length) => Some((*element, *length)),
            Self::Numbers(element, numbers) => Some((*element, numbers.len() as u64)),
            _ => None,
        }
    }

    /// The number, if it is a whole one that is not negative.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::U8(number) => Some(u64::from(*number)),
            Self::U16(number) => Some(u64::from(*number)),
            Self::U32(number) => Some(u64::from(*number)),
            Self::U64(number) => Some(*number),
            Self::I32(number) => u64::try_from(*number).ok(),
            Self::I64(number) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }
}

fn known(number: u32, key: &str) -> Result<ValueType, GgufError> {
    ValueType::from_number(number).ok_or_else(|| GgufError::ValueType { key: key.to_owned(), kind: number })
}

/// Walks an array. Arrays of arrays exist in the format's text but in no reader: they are refused.
fn read_array<R: Read>(reader: &mut Reader<R>, key: &str) -> Result<Value, GgufError> {
    const WHAT: &str = "array elements";
    let element = known(reader.u32(WHAT)?, key)?;
    let length = reader.count(WHAT, ARRAY_LIMIT)?;
    if length <= KEPT_NUMBERS && [ValueType::U32, ValueType::I32, ValueType::U64].contains(&element) {
        let mut numbers = Vec::new();
        for _ in 0..length {
            numbers.push(match element {
                ValueType::U64 => reader.u64(WHAT)?,
                ValueType::U32 => u64::from(reader.u32(WHAT)?),
                _ => u64::try_from(i32::from_le_bytes(reader.array(WHAT)?)).unwrap_or(u64::MAX),
            });
        }
        return Ok(Value::Numbers(element, numbers));
    }
    if let Some(size) = element.size() {
        reader.skip(WHAT, length * size)?;
    } else {
        for _ in 0..length {
            let bytes = reader.u64(WHAT)?;
            reader.skip(WHAT, bytes)?;
        }
    }
    Ok(Value::Array(element, length))
}
