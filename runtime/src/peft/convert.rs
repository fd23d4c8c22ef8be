//! The conversion: a plan made of names, shapes and values, then the bytes of the file, piece by piece.

use std::collections::BTreeMap;
use std::path::Path;

use super::PeftError;
use super::config::AdapterConfig;
use super::float::{F16_MAX, f32_to_f16};
use super::layout::{self, Slot};
use super::names::{self, Half, Place};
use super::safetensors::{Archive, Entry};
use crate::gguf::{AdapterHeader, Header, ModelHeader, TensorType};

/// Most bytes of one piece.
const PIECE: usize = 1 << 20;
/// Numbers read at once.
const BLOCK: u64 = 1 << 18;

/// An adapter that fits the model and has finite values, ready to be written.
#[derive(Debug)]
pub struct Conversion {
    /// What the file will be.
    pub header: AdapterHeader,
    /// `base_model_name_or_path` of the configuration; may be empty.
    pub base_model: String,
    /// Length of the file.
    pub size_bytes: u64,
    /// The file.
    pub pieces: Pieces,
}

/// Converts an adapter for `model`. Every value is read once before this returns, so that a bad adapter is refused
/// as a whole, and once more while the pieces are taken.
///
/// # Errors
/// When a file cannot be read, is not what it claims, uses what GGUF adapters cannot express, belongs to another
/// model, or has values that are not finite.
pub fn convert(config: &Path, weights: &Path, model: &ModelHeader) -> Result<Conversion, PeftError> {
    let config = AdapterConfig::read(config)?;
    if !names::is_known(&model.architecture) {
        return Err(PeftError::Architecture(model.architecture.clone()));
    }
    let archive = Archive::open(weights)?;
    let mut tensors = plan(&archive, &config, model)?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "checked to be between 1e-6 and 1e6 times a root of 512"
    )]
    let alpha = config.gguf_alpha() as f32;
    // Shapes first: an adapter of another model is refused before its values are read.
    read_back(&model.architecture, alpha, &tensors, model)?;
    for tensor in &mut tensors {
        tensor.slot.kind = tensor.fitting_type(&archive)?;
    }
    let (header, bytes, size_bytes) = read_back(&model.architecture, alpha, &tensors, model)?;
    let pieces = Pieces { archive, tensors: tensors.into_iter(), current: None, buffer: bytes };
    Ok(Conversion { header, base_model: config.base_model, size_bytes, pieces })
}

/// One tensor, from where it is read to where it is written.
#[derive(Debug)]
struct Tensor {
    source: String,
    entry: Entry,
    slot: Slot,
    /// Heads whose rows change places.
    heads: Option<u64>,
    factor: f32,
}

/// The tensors in the order of their names in the adapter.
fn plan(archive: &Archive, config: &AdapterConfig, model: &ModelHeader) -> Result<Vec<Tensor>, PeftError> {
    let mut tensors = Vec::new();
    let mut taken = BTreeMap::new();
    for (source, entry) in archive.tensors() {
        let unknown = || PeftError::UnknownTensor(source.clone());
        let Place { module, target, half, permuted_heads } =
            names::place(source, model).ok_or_else(unknown)?;
        let (suffix, factor) = match half {
            Half::A => ("lora_a", 1.0),
            Half::B => ("lora_b", config.factor(&module, entry.columns)),
        };
        let name = format!("{target}.{suffix}");
        if let Some(other) = taken.insert(name.clone(), source.clone()) {
            return Err(PeftError::SameTarget(other, source.clone()));
        }
        // Two rows of each head are a pair that is rotated together.
        if permuted_heads
            .is_some_and(|heads| heads == 0 || !entry.rows.is_multiple_of(heads.saturating_mul(2)))
        {
            return Err(PeftError::Shape(source.clone()));
        }
        #[expect(clippy::cast_possible_truncation, reason = "a ratio of two plausible numbers")]
        let factor = factor as f32;
        let slot = Slot { name, rows: entry.rows, columns: entry.columns, kind: TensorType::F16 };
        let source = source.clone();
        tensors.push(Tensor { source, entry: entry.clone(), slot, heads: permuted_heads, factor });
    }
    Ok(tensors)
}

/// The header that will be written, read back by the checks that every adapter must pass.
fn read_back(
    architecture: &str,
    alpha: f32,
    tensors: &[Tensor],
    model: &ModelHeader,
) -> Result<(AdapterHeader, Vec<u8>, u64), PeftError> {
    let slots: Vec<Slot> = tensors.iter().map(|tensor| tensor.slot.clone()).collect();
    let (bytes, size) = layout::header(architecture, alpha, &slots);
    let header = AdapterHeader::check(&Header::read(bytes.as_slice(), size)?, model)?;
    Ok((header, bytes, size))
}

impl Tensor {
    /// 16-bit floats unless a value is too large for them.
    fn fitting_type(&self, archive: &Archive) -> Result<TensorType, PeftError> {
        let mut largest = 0_f32;
        let mut row = 0;
        while row < self.entry.rows {
            let (numbers, rows) = self.block(archive, row)?;
            if numbers.iter().any(|number| !number.is_finite()) {
                return Err(PeftError::NotFinite(self.source.clone()));
            }
            largest = numbers.iter().fold(largest, |largest, number| largest.max(number.abs()));
            row += rows;
        }
        Ok(if largest > F16_MAX { TensorType::F32 } else { TensorType::F16 })
    }

    /// Some rows as they are written, beginning with `row`, and how many. With heads a block is one head, and `row`
    /// is the first one of it.
    fn block(&self, archive: &Archive, row: u64) -> Result<(Vec<f32>, u64), PeftError> {
        let columns = self.entry.columns;
        let left = self.entry.rows - row;
        let rows = match self.heads {
            Some(heads) => self.entry.rows / heads,
            None => (BLOCK / columns).max(1),
        };
        let rows = rows.min(left);
        let mut numbers = archive.rows(&self.entry, row, rows)?;
        if self.factor != 1.0 {
            numbers.iter_mut().for_each(|number| *number *= self.factor);
        }
        if self.heads.is_some() {
            numbers = interleaved(&numbers, usize::try_from(columns).unwrap_or(usize::MAX));
        }
        Ok((numbers, rows))
    }

    fn encode(&self, numbers: &[f32], bytes: &mut Vec<u8>) {
        if self.slot.kind == TensorType::F32 {
            bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        } else {
            bytes.extend(numbers.iter().flat_map(|number| f32_to_f16(*number).to_le_bytes()));
        }
    }
}

/// The rows of one head: the first half and the second half become even and odd rows.
fn interleaved(head: &[f32], columns: usize) -> Vec<f32> {
    let (first, second) = head.split_at(head.len() / 2);
    let pairs = first.chunks(columns).zip(second.chunks(columns));
    pairs.flat_map(|(even, odd)| even.iter().chain(odd)).copied().collect()
}

/// The bytes of the file in order, in pieces of at most one mebibyte.
#[derive(Debug)]
pub struct Pieces {
    archive: Archive,
    tensors: std::vec::IntoIter<Tensor>,
    /// The tensor being written, and its next row.
    current: Option<(Tensor, u64)>,
    buffer: Vec<u8>,
}

impl Pieces {
    /// Appends the next block to the buffer; false when there is none.
    fn fill(&mut self) -> Result<bool, PeftError> {
        let Some((tensor, row)) = self.current.take().or_else(|| Some((self.tensors.next()?, 0))) else {
            return Ok(false);
        };
        let (numbers, rows) = tensor.block(&self.archive, row)?;
        // The file may have changed since it was checked.
        if numbers.iter().any(|number| !number.is_finite()) {
            return Err(PeftError::NotFinite(tensor.source));
        }
        tensor.encode(&numbers, &mut self.buffer);
        let next = row + rows;
        if next < tensor.entry.rows {
            self.current = Some((tensor, next));
        } else {
            let padding = layout::aligned(tensor.slot.bytes()) - tensor.slot.bytes();
            self.buffer.extend(std::iter::repeat_n(0, usize::try_from(padding).unwrap_or(0)));
        }
        Ok(true)
    }
}

impl Iterator for Pieces {
    type Item = Result<Vec<u8>, PeftError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.buffer.len() < PIECE {
            match self.fill() {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    // Nothing may follow an error.
                    self.tensors = Vec::new().into_iter();
                    self.buffer.clear();
                    return Some(Err(error));
                }
            }
        }
        let rest = self.buffer.split_off(self.buffer.len().min(PIECE));
        let piece = std::mem::replace(&mut self.buffer, rest);
        (!piece.is_empty()).then_some(Ok(piece))
    }
}

#[cfg(test)]
pub(super) mod tests;
