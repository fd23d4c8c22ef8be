//! Hostile files, one by one, through the real process: each is refused with a reason and a sentence, and the process
//! goes on; none takes anything else down.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod adapters;
mod models;
mod peft;
#[path = "../support/mod.rs"]
mod support;
mod templates;

use std::fs::File;
use std::io::Write;
use std::path::Path;

use support::Runtime;
use synesis_proto::Problem;
use synesis_proto::runtime::v1::HealthRequest;

/// A GGUF file being spoilt: its header, and its length. What lies behind the header is zeros, and holes on disk.
pub(crate) struct Spoilt {
    pub(crate) bytes: Vec<u8>,
    pub(crate) length: u64,
}

impl Spoilt {
    /// The header of a good file.
    pub(crate) fn from(path: &str) -> Self {
        let bytes = std::fs::read(path).unwrap();
        let header = synesis_runtime::gguf::open(Path::new(path)).unwrap().header;
        let data = usize::try_from(header.data_start()).unwrap();
        Self { length: bytes.len() as u64, bytes: bytes[..data].to_vec() }
    }

    /// Overwrites the bytes `skip` behind the name of a key or a tensor.
    pub(crate) fn behind(&mut self, name: &str, skip: usize, new: &[u8]) {
        let name = sized(name);
        let at = self.bytes.windows(name.len()).position(|window| window == name).expect("the name is there");
        let start = at + name.len() + skip;
        self.bytes[start..start + new.len()].copy_from_slice(new);
    }

    /// Overwrites a key's value.
    pub(crate) fn value(&mut self, key: &str, new: &[u8]) {
        self.behind(key, 4, new);
    }

    /// Overwrites a key's value, a number.
    pub(crate) fn number(&mut self, key: &str, new: u32) {
        self.value(key, &new.to_le_bytes());
    }

    /// Overwrites the bytes at a place.
    pub(crate) fn at(&mut self, start: usize, new: &[u8]) {
        self.bytes[start..start + new.len()].copy_from_slice(new);
    }

    /// Adds an entry in front of all others.
    pub(crate) fn entry(&mut self, key: &str, kind: u32, value: &[u8]) {
        let entry = [sized(key), kind.to_le_bytes().to_vec(), value.to_vec()].concat();
        self.length += entry.len() as u64 + 32;
        self.bytes.splice(24..24, entry);
        let count = u64::from_le_bytes(*self.bytes[16..].first_chunk().unwrap());
        self.at(16, &(count + 1).to_le_bytes());
    }

    /// Ends the file there.
    pub(crate) fn cut(&mut self, length: u64) {
        self.length = length;
    }

    pub(crate) fn write(&self, path: &Path) {
        let mut file = File::create(path).unwrap();
        let kept = self.bytes.len().min(usize::try_from(self.length).unwrap());
        file.write_all(&self.bytes[..kept]).unwrap();
        file.set_len(self.length).unwrap();
    }
}

/// A text with its length in front.
pub(crate) fn sized(text: &str) -> Vec<u8> {
    [(text.len() as u64).to_le_bytes().to_vec(), text.as_bytes().to_vec()].concat()
}

/// What went wrong, case by case, so that one run tells of all of them.
#[derive(Default)]
pub(crate) struct Faults(Vec<String>);

impl Faults {
    /// Holds a refusal to its reason and to what its sentence must say, and the process to its life; a dead one is
    /// started again for the next case.
    pub(crate) async fn judge<T>(
        &mut self,
        runtime: &mut Runtime,
        case: &str,
        outcome: Result<T, Problem>,
        reasons: &[&str],
        says: &str,
    ) {
        let fault = match outcome {
            Ok(_) => Some("it was accepted".to_owned()),
            Err(problem) => {
                let is_typed = reasons.contains(&problem.reason.as_str()) && !problem.next_step.is_empty();
                let is_told = problem.message.contains(says);
                (!is_typed || !is_told).then(|| format!("{} ({})", problem, problem.reason))
            }
        };
        self.0.extend(fault.map(|fault| format!("{case}: {fault}")));
        if runtime.client.health(HealthRequest {}).await.is_err() {
            self.0.push(format!("{case}: the process ended"));
            *runtime = Runtime::with_smol().await;
        }
    }

    pub(crate) fn report(self, what: &str, cases: usize) {
        println!("{cases} hostile {what}, {} not refused as they should", self.0.len());
        assert!(self.0.is_empty(), "{:#?}", self.0);
        assert!(cases >= 20);
    }
}
