//! One decision as one line of JSON, and the decision made again from such a line.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use ulid::Ulid;

use crate::route::{Decision, Evidence, Inputs, settle};

/// Of the line's format and of the rules that made the decision: it changes when either does.
const VERSION: u32 = 1;
/// No line of ours is longer, in bytes.
const LONGEST: usize = 16 * 1024;

/// A recorded decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    version: u32,
    request_id: String,
    /// RFC 3339, UTC: when the prompt arrived.
    at: String,
    inputs: Inputs,
    evidence: Vec<Evidence>,
    /// `local`, `cloud` or `refuse`.
    decision: String,
    reason: String,
}

impl Record {
    /// What came of `inputs` and `evidence`.
    pub fn new(id: Ulid, at: SystemTime, inputs: Inputs, evidence: Vec<Evidence>) -> Self {
        let decision = settle(&inputs, &evidence);
        Self {
            version: VERSION,
            request_id: id.to_string(),
            at: OffsetDateTime::from(at).format(&Rfc3339).unwrap_or_default(),
            inputs,
            evidence,
            decision: decision.place().to_owned(),
            reason: decision.reason().to_owned(),
        }
    }

    /// As one line, without its end.
    ///
    /// # Errors
    /// Never for a record of ours.
    pub fn to_line(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }
}

/// Why a line cannot be decided again.
#[derive(Debug, Error)]
pub enum Fault {
    /// It is no record.
    #[error("the line is longer than {LONGEST} bytes")]
    TooLong,
    /// Another version wrote it.
    #[error("the line has format version {0}, and this synesisd decides version {VERSION}")]
    Version(u64),
    /// It is cut short, or somebody changed its shape.
    #[error("the line is damaged: {0}")]
    Damaged(#[source] serde_json::Error),
}

/// A line decided again.
#[derive(Debug)]
pub struct Replay {
    /// Empty when it cannot be read.
    pub request_id: String,
    /// Decision and reason, as recorded and as decided now.
    pub outcome: Result<(String, String), Fault>,
}

impl Replay {
    /// The line says what is decided now.
    pub fn is_same(&self) -> bool {
        self.outcome.as_ref().is_ok_and(|(recorded, decided)| recorded == decided)
    }
}

/// Decides a recorded line again. Total: a line of any content has a replay.
pub fn replay(line: &str) -> Replay {
    match read(line) {
        Ok(record) => {
            let recorded = format!("{} {}", record.decision, record.reason);
            let decided = words(settle(&record.inputs, &record.evidence));
            Replay { request_id: record.request_id, outcome: Ok((recorded, decided)) }
        }
        Err((request_id, fault)) => Replay { request_id, outcome: Err(fault) },
    }
}

fn words(decision: Decision) -> String {
    format!("{} {}", decision.place(), decision.reason())
}

/// A line of a later version may look different in every other respect.
#[derive(Deserialize)]
struct Head {
    version: u64,
    #[serde(default)]
    request_id: String,
}

fn read(line: &str) -> Result<Record, (String, Fault)> {
    if line.len() > LONGEST {
        return Err((String::new(), Fault::TooLong));
    }
    let head: Head = serde_json::from_str(line).map_err(|error| (String::new(), Fault::Damaged(error)))?;
    if head.version != u64::from(VERSION) {
        return Err((head.request_id, Fault::Version(head.version)));
    }
    serde_json::from_str(line).map_err(|error| (head.request_id, Fault::Damaged(error)))
}
