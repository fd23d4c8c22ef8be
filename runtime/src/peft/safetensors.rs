//! Reads the safetensors format (eight bytes with the length of a JSON header, the header, the data): the header
//! as a whole, the data where it lies. The public crate wants the whole file in memory; an adapter may have
//! gigabytes.

use std::collections::{BTreeMap, btree_map};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use nix::libc::O_NONBLOCK;
use serde::Deserialize;
use serde::de::{MapAccess, Visitor};

use super::PeftError;
use super::float::FloatType;

const WHAT: &str = "adapter_model.safetensors";
/// About 130 bytes a tensor: room for 30,000.
const HEADER_LIMIT: u64 = 4 << 20;
const LENGTH: u64 = 8;

/// Opens a regular file; its length in bytes comes along.
pub(super) fn open(path: &Path, what: &'static str) -> Result<(File, u64), PeftError> {
    let failed = |cause| PeftError::Io { what, cause };
    // Non-blocking only matters for a named pipe, where a plain open waits for a writer.
    let file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path).map_err(failed)?;
    let about = file.metadata().map_err(failed)?;
    if about.is_file() { Ok((file, about.len())) } else { Err(PeftError::NotAFile(what)) }
}

/// One tensor, with its bytes inside the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) kind: FloatType,
    pub(super) rows: u64,
    pub(super) columns: u64,
    /// From the start of the file.
    start: u64,
}

/// An open file whose header was checked.
#[derive(Debug)]
pub(super) struct Archive {
    file: File,
    tensors: BTreeMap<String, Entry>,
}

impl Archive {
    pub(super) fn open(path: &Path) -> Result<Self, PeftError> {
        let (file, length) = open(path, WHAT)?;
        let mut size = [0; LENGTH as usize];
        read_at(&file, &mut size, 0)?;
        let header_length = u64::from_le_bytes(size);
        if header_length > HEADER_LIMIT {
            return Err(PeftError::TooLong { what: "its header", bytes: header_length, limit: HEADER_LIMIT });
        }
        let data = LENGTH + header_length;
        if data > length {
            return Err(invalid("the header goes on after the end of the file"));
        }
        // Bounded by the limit above.
        let mut header = vec![0; usize::try_from(header_length).unwrap_or(0)];
        read_at(&file, &mut header, LENGTH)?;
        let Header(described) =
            serde_json::from_slice(&header).map_err(|error| invalid(error.to_string()))?;
        Ok(Self { file, tensors: checked(described, data, length)? })
    }

    pub(super) fn tensors(&self) -> &BTreeMap<String, Entry> {
        &self.tensors
    }

    /// Some rows of a tensor as 32-bit floats.
    pub(super) fn rows(&self, entry: &Entry, first: u64, count: u64) -> Result<Vec<f32>, PeftError> {
        // `checked` made sure that the whole tensor's size is a number.
        let row = entry.columns * entry.kind.bytes();
        let size = usize::try_from(count * row).map_err(|_| invalid("a tensor is too large"))?;
        let mut bytes = vec![0; size];
        read_at(&self.file, &mut bytes, entry.start + first * row)?;
        Ok(entry.kind.decode(&bytes))
    }
}

fn read_at(file: &File, bytes: &mut [u8], at: u64) -> Result<(), PeftError> {
    file.read_exact_at(bytes, at).map_err(|cause| match cause.kind() {
        io::ErrorKind::UnexpectedEof => invalid("the file is truncated"),
        _ => PeftError::Io { what: WHAT, cause },
    })
}

fn invalid(why: impl Into<String>) -> PeftError {
    PeftError::Safetensors(why.into())
}

/// A tensor as the header describes it.
#[derive(Deserialize)]
struct Described {
    dtype: String,
    shape: Vec<u64>,
    /// First byte and the one after the last, from the end of the header.
    data_offsets: (u64, u64),
}

/// Types, sizes and places: the data must be the tensors one after the other, with nothing between or behind.
fn checked(
    described: BTreeMap<String, Described>,
    data: u64,
    length: u64,
) -> Result<BTreeMap<String, Entry>, PeftError> {
    let mut places = Vec::new();
    let mut tensors = BTreeMap::new();
    for (name, Described { dtype, shape, data_offsets: (start, end) }) in described {
        let kind = FloatType::from_name(&dtype).ok_or_else(|| {
            invalid(format!("tensor {name} has the type {dtype}, only F32, F16 and BF16 are read"))
        })?;
        let [rows, columns] = <[u64; 2]>::try_from(shape).map_err(|_| PeftError::Shape(name.clone()))?;
        let size = rows.checked_mul(columns).and_then(|count| count.checked_mul(kind.bytes()));
        if rows == 0 || columns == 0 || size.is_none() {
            return Err(PeftError::Shape(name));
        }
        if end.checked_sub(start) != size {
            return Err(invalid(format!("the bytes of tensor {name} do not match its shape")));
        }
        places.push((start, end));
        tensors.insert(name, Entry { kind, rows, columns, start: data.saturating_add(start) });
    }
    places.sort_unstable();
    let mut expected = 0;
    for (start, end) in places {
        if start != expected {
            return Err(invalid("tensors overlap, or there are gaps between them"));
        }
        expected = end;
    }
    match data.checked_add(expected) {
        Some(end) if end == length => Ok(tensors),
        Some(end) if end < length => Err(invalid("there are bytes behind the last tensor")),
        _ => Err(invalid("the file is truncated")),
    }
}

/// The header's tensors; a name that appears twice is an error, and the free text beside them is left out.
struct Header(BTreeMap<String, Described>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let mut tensors = BTreeMap::new();
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                map.next_value::<serde::de::IgnoredAny>()?;
                continue;
            }
            match tensors.entry(name) {
                btree_map::Entry::Occupied(entry) => {
                    return Err(serde::de::Error::custom(format!("tensor {} appears twice", entry.key())));
                }
                btree_map::Entry::Vacant(entry) => {
                    entry.insert(map.next_value()?);
                }
            }
        }
        Ok(Header(tensors))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::PathBuf;

    use tempfile::TempDir;

    use super::*;

    /// A file with this header text and so many zero bytes behind it.
    pub(crate) fn file(header: &str, data: &[u8]) -> (TempDir, PathBuf) {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        raw(&bytes)
    }

    fn raw(bytes: &[u8]) -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("adapter_model.safetensors");
        std::fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    fn refused(header: &str, data: usize) -> String {
        let (_folder, path) = file(header, &vec![0; data]);
        Archive::open(&path).unwrap_err().to_string()
    }

    #[test]
    fn tensors_are_read_where_they_lie() {
        let header = r#"{"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[1,2],"data_offsets":[4,12]},
            "a":{"dtype":"BF16","shape":[2,1],"data_offsets":[0,4]}}"#;
        let mut data = vec![0x80, 0x3f, 0x00, 0xc0];
        data.extend(1.5_f32.to_le_bytes());
        data.extend((-2.5_f32).to_le_bytes());
        let (_folder, path) = file(header, &data);
        let archive = Archive::open(&path).unwrap();
        assert_eq!(archive.rows(&archive.tensors()["a"], 0, 2).unwrap(), [1.0, -2.0]);
        assert_eq!(archive.rows(&archive.tensors()["a"], 1, 1).unwrap(), [-2.0]);
        assert_eq!(archive.rows(&archive.tensors()["b"], 0, 1).unwrap(), [1.5, -2.5]);
    }

    #[test]
    fn a_header_length_nobody_needs_is_refused_before_it_is_read() {
        for length in [u64::MAX, 1 << 40, HEADER_LIMIT + 1] {
            let (_folder, path) = raw(&length.to_le_bytes());
            assert!(matches!(Archive::open(&path), Err(PeftError::TooLong { .. })), "{length}");
        }
        let (_folder, path) = raw(&100_u64.to_le_bytes());
        assert!(Archive::open(&path).unwrap_err().to_string().contains("after the end"));
        let (_folder, path) = raw(b"short");
        assert!(Archive::open(&path).unwrap_err().to_string().contains("truncated"));
    }

    #[test]
    fn headers_that_lie_are_refused() {
        let one = |shape: &str, offsets: &str| {
            format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}"#)
        };
        assert!(refused("not json", 0).contains("not valid"));
        assert!(refused("[]", 0).contains("not valid"));
        assert!(refused(&one("[2,2]", "[0,16]"), 15).contains("truncated"));
        assert!(refused(&one("[2,2]", "[0,16]"), 17).contains("behind the last"));
        assert!(refused(&one("[2,2]", "[0,15]"), 16).contains("do not match"));
        assert!(refused(&one("[2,2]", "[16,0]"), 16).contains("do not match"));
        assert!(refused(&one("[2,2]", "[1,17]"), 17).contains("gaps"));
        assert!(refused(&one("[4]", "[0,16]"), 16).contains("impossible shape"));
        assert!(refused(&one("[0,4]", "[0,0]"), 0).contains("impossible shape"));
        assert!(refused(&one("[4294967296,4294967296]", "[0,0]"), 0).contains("impossible shape"));
        assert!(refused(&one("[-1,4]", "[0,0]"), 0).contains("not valid"));
        assert!(
            refused(&one("[2,2]", "[18446744073709551600,18446744073709551616]"), 16).contains("not valid")
        );
        assert!(refused(&one("[2,2]", "[18446744073709551590,18446744073709551606]"), 16).contains("gaps"));
        let int = r#"{"a":{"dtype":"I64","shape":[1,1],"data_offsets":[0,8]}}"#;
        assert!(refused(int, 8).contains("I64"));
        let overlapping = r#"{"a":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},
            "b":{"dtype":"F32","shape":[1,2],"data_offsets":[4,12]}}"#;
        assert!(refused(overlapping, 12).contains("overlap"));
        let twice = r#"{"a":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]},
            "a":{"dtype":"F32","shape":[1,1],"data_offsets":[4,8]}}"#;
        assert!(refused(twice, 8).contains("twice"));
    }

    #[test]
    fn a_folder_is_not_a_file() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(Archive::open(folder.path()), Err(PeftError::NotAFile(_))));
        assert!(matches!(Archive::open(&folder.path().join("none")), Err(PeftError::Io { .. })));
    }
}
