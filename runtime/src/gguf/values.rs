//! Are the numbers of an adapter numbers? One NaN among the weights makes every logit NaN.

use std::io;

use super::{GgufError, OpenFile, Tensor, TensorType};

/// Bytes read at once; a multiple of every block size below.
const CHUNK: u64 = 34 << 15;

/// Reads every float of an adapter's tensors, and every scale of the 8-bit ones. Tensors of other types are not
/// looked at: an adapter's header check lets none through.
///
/// # Errors
/// When one is not finite, or the file cannot be read to its end.
pub fn check_values(file: &OpenFile) -> Result<(), GgufError> {
    for (name, tensor) in file.header.tensors() {
        let Some(is_finite) = finite(tensor.kind) else { continue };
        if !each_block(file, tensor, is_finite)? {
            return Err(GgufError::NotFinite { tensor: name.clone() });
        }
    }
    Ok(())
}

/// Whether a block of that type has a finite number, or a finite scale, in front.
fn finite(kind: TensorType) -> Option<fn(&[u8]) -> bool> {
    match kind {
        TensorType::F32 => {
            Some(|block| block.first_chunk().is_some_and(|bytes| f32::from_le_bytes(*bytes).is_finite()))
        }
        TensorType::F16 | TensorType::Q8_0 => Some(|block| exponent_is_below(block, 0x7c00)),
        TensorType::BF16 => Some(|block| exponent_is_below(block, 0x7f80)),
        _ => None,
    }
}

/// An exponent of only ones is infinity or NaN.
fn exponent_is_below(block: &[u8], exponent: u16) -> bool {
    block.first_chunk().is_some_and(|bytes| u16::from_le_bytes(*bytes) & exponent != exponent)
}

fn each_block(file: &OpenFile, tensor: &Tensor, is_finite: fn(&[u8]) -> bool) -> Result<bool, GgufError> {
    let (_, block) = tensor.kind.layout();
    let block = usize::try_from(block).map_err(|_| GgufError::Io(io::ErrorKind::InvalidData.into()))?;
    let mut bytes = Vec::new();
    let mut done = 0;
    while done < tensor.bytes {
        let count = CHUNK.min(tensor.bytes - done);
        bytes.resize(usize::try_from(count).unwrap_or(0), 0);
        file.read_data(&mut bytes, tensor.offset.saturating_add(done))?;
        if !bytes.chunks_exact(block).all(is_finite) {
            return Ok(false);
        }
        done += count;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::GgufFile;
    use super::super::open;
    use super::*;

    /// Checks a file with one tensor of 64 numbers whose bytes at `at` are replaced.
    fn check(kind: TensorType, at: usize, bytes: &[u8]) -> Result<(), GgufError> {
        let mut file = GgufFile::default().tensor("t", &[64], kind).bytes();
        let (block, size) = kind.layout();
        let start = file.len() - ((64 / block * size) as usize).next_multiple_of(32);
        file[start + at..start + at + bytes.len()].copy_from_slice(bytes);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("adapter.gguf");
        std::fs::write(&path, file).unwrap();
        check_values(&open(&path).unwrap())
    }

    #[test]
    fn numbers_pass_and_what_is_none_is_named() {
        let f16 = |bits: u16| bits.to_le_bytes();
        assert!(check(TensorType::F32, 252, &1e38_f32.to_le_bytes()).is_ok());
        assert!(check(TensorType::F16, 126, &f16(0x7bff)).is_ok());
        assert!(check(TensorType::BF16, 126, &f16(0x7f7f)).is_ok());
        // The second half of a block is whole numbers, whatever their bits.
        assert!(check(TensorType::Q8_0, 36, &[0xff; 32]).is_ok());
        for (kind, at, bytes) in [
            (TensorType::F32, 252, f32::NAN.to_le_bytes().to_vec()),
            (TensorType::F32, 0, f32::NEG_INFINITY.to_le_bytes().to_vec()),
            (TensorType::F16, 126, f16(0x7e00).to_vec()),
            (TensorType::F16, 0, f16(0xfc00).to_vec()),
            (TensorType::BF16, 64, f16(0x7fc0).to_vec()),
            (TensorType::Q8_0, 34, f16(0x7c01).to_vec()),
        ] {
            let error = check(kind, at, &bytes).unwrap_err();
            assert!(matches!(&error, GgufError::NotFinite { tensor } if tensor == "t"), "{kind:?}: {error}");
        }
    }

    #[test]
    fn a_file_that_became_shorter_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("adapter.gguf");
        std::fs::write(&path, GgufFile::default().tensor("t", &[64], TensorType::F32).bytes()).unwrap();
        let file = open(&path).unwrap();
        std::fs::File::options().write(true).open(&path).unwrap().set_len(100).unwrap();
        assert!(matches!(check_values(&file), Err(GgufError::Io(_))));
    }
}
