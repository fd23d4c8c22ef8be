//! One adapter that is to be moved: what is kept of it on the disk, and how far it is.

use serde::{Deserialize, Serialize};
use synesis_proto::Problem;
use tonic::Code;

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// To the gateway.
    Push,
    /// From the gateway.
    Pull,
}

impl Direction {
    /// The name on the local API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Pull => "pull",
        }
    }
}

/// A job as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// A ULID: jobs are done in their order.
    pub id: String,
    /// Which way.
    pub direction: Direction,
    /// What the adapter is called on this device.
    pub name: String,
    /// sha256 of its file, hex.
    pub sha256: String,
    /// Of its file.
    pub size_bytes: u64,
    /// Of the base model it was made for.
    pub architecture: String,
    /// Rank of its matrices.
    pub rank: u32,
    /// Scale numerator.
    pub alpha: f32,
    /// As its maker names it; may be empty.
    pub base_model: String,
    /// The identity it belongs to: it is not moved to or from another account.
    pub device: String,
    /// The device that pushed what is pulled; empty for a push.
    pub pushed_by: String,
    /// Who asked for it.
    pub uid: Option<u32>,
    /// Unix epoch, milliseconds.
    pub begun_at_ms: u64,
    /// None: it is not over.
    pub ending: Option<Ending>,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ending {
    /// Well.
    Done,
    /// Trying again does not help.
    Failed {
        /// A gRPC status code.
        code: i32,
        /// Stable.
        reason: String,
        /// One sentence.
        message: String,
        /// What to do.
        next_step: String,
    },
}

impl Ending {
    pub(super) fn failed(problem: Problem) -> Self {
        let Problem { code, reason, message, next_step, .. } = problem;
        Self::Failed { code: code.into(), reason, message, next_step }
    }

    /// What a caller is told; none: it ended well.
    pub fn problem(&self) -> Option<Problem> {
        match self {
            Self::Done => None,
            Self::Failed { code, reason, message, next_step } => {
                Some(Problem::new(Code::from(*code), reason, message, next_step))
            }
        }
    }
}

/// What a job is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// For its turn, or for the reason given.
    Waiting(String),
    /// Bytes are on their way.
    Moving,
    /// They are all there and are looked at.
    Verifying,
    /// It is over.
    Over,
}

/// A job and how far it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Transfer {
    /// What is to be done.
    pub job: Job,
    /// Bytes at the other end.
    pub moved: u64,
    /// What is being done.
    pub phase: Phase,
}

impl Transfer {
    pub(super) fn new(job: Job) -> Self {
        let done = job.ending == Some(Ending::Done);
        let phase = if job.ending.is_some() { Phase::Over } else { Phase::Waiting(String::new()) };
        Self { moved: if done { job.size_bytes } else { 0 }, phase, job }
    }

    /// The name on the local API.
    pub fn state(&self) -> &'static str {
        match (&self.phase, &self.job.ending, self.job.direction) {
            (_, Some(Ending::Done), _) => "done",
            (_, Some(Ending::Failed { .. }), _) => "failed",
            (Phase::Waiting(_) | Phase::Over, None, _) => "waiting",
            (Phase::Moving, None, Direction::Push) => "sending",
            (Phase::Moving, None, Direction::Pull) => "receiving",
            (Phase::Verifying, None, _) => "verifying",
        }
    }
}
