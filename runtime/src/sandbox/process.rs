//! Limits of the process itself: privileges, core dumps, memory, and who is killed first.

use std::fs;
use std::io;

use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Well above the daemon's own, well below "always": when memory is short, the answer goes and not the ledger.
const OOM_SCORE: i32 = 500;
const OOM_SCORE_FILE: &str = "/proc/self/oom_score_adj";

/// What every system can do. A failure is told and is no reason to stop: systemd may have set the same already.
pub(super) fn prepare() {
    let attempts: [(&str, io::Result<()>); 3] = [
        ("no new privileges", prctl::set_no_new_privs().map_err(io::Error::from)),
        ("no core dumps", setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(io::Error::from)),
        ("first to be killed", raise_oom_score()),
    ];
    for (what, outcome) in attempts {
        if let Err(error) = outcome {
            tracing::warn!(what, %error, "a part of the sandbox is missing");
        }
    }
}

/// Raising needs no privilege; whoever set it higher meant it.
fn raise_oom_score() -> io::Result<()> {
    let current = fs::read_to_string(OOM_SCORE_FILE)?;
    if current.trim().parse::<i32>().is_ok_and(|score| score >= OOM_SCORE) {
        return Ok(());
    }
    fs::write(OOM_SCORE_FILE, OOM_SCORE.to_string())
}

/// Bounds the memory this process can write to (`RLIMIT_DATA`): an allocation beyond fails. Mapped weights are
/// not counted. It can be set again; `None` lifts it.
///
/// # Errors
/// When the limit is above one that was set from outside.
pub fn limit_memory(bytes: Option<u64>) -> io::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_DATA)?;
    setrlimit(Resource::RLIMIT_DATA, bytes.unwrap_or(hard).min(hard), hard)?;
    Ok(())
}
