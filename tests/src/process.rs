//! A process that a test owns: its output goes to a file that a failing test prints, and it ends with its owner.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A started process.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with its standard error in `log`.
    pub fn start(mut command: Command, log: &Path) -> Self {
        let sink = File::options().create(true).append(true).open(log).expect("the log can be written");
        command.stdin(Stdio::null()).stdout(sink.try_clone().expect("dup")).stderr(sink);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child, log: log.to_owned() }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to this process, and to no other.
    pub fn signal(&self, signal: Signal) {
        kill(pid(self.child.id()), signal).expect("the process is ours and alive");
    }

    /// SIGKILL, then waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, then waits until it is gone.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.child.wait().expect("our child")
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("our child")
    }

    /// Everything it has written so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // An orderly stop lets it end its own children; a hung one is killed.
            self.signal(Signal::SIGTERM);
            for _ in 0..100 {
                match self.child.try_wait() {
                    Ok(None) => std::thread::park_timeout(std::time::Duration::from_millis(50)),
                    _ => break,
                }
            }
            self.kill();
        }
        if std::thread::panicking() {
            eprintln!("---- {} ----\n{}", self.log.display(), self.log());
        }
    }
}

/// Kills a process by id with SIGKILL.
pub fn kill_pid(id: u32) {
    kill(pid(id), Signal::SIGKILL).expect("the process is alive");
}

/// The processes whose parent is `parent`, with their command names.
pub fn children(parent: u32) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        // pid (comm) state ppid ...; comm may itself hold spaces and parentheses.
        let Some((head, tail)) = stat.rsplit_once(") ") else { continue };
        let name = head.split_once('(').map(|(_, name)| name.to_owned()).unwrap_or_default();
        if tail.split(' ').nth(1).and_then(|ppid| ppid.parse::<u32>().ok()) == Some(parent) {
            found.push((id, name));
        }
    }
    found
}

/// What a process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Memory, in bytes.
    pub resident_bytes: u64,
    /// Open files, sockets and the like.
    pub descriptors: usize,
}

/// What process `id` holds now.
///
/// # Panics
/// When there is no such process.
pub fn usage(id: u32) -> Usage {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("the process lives");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("proc(5)");
    let kib: u64 = resident.trim().trim_end_matches(" kB").parse().expect("proc(5)");
    let descriptors = std::fs::read_dir(format!("/proc/{id}/fd")).expect("our own process").count();
    Usage { resident_bytes: kib * 1024, descriptors }
}

/// How a process ended, in words, for assertions that explain themselves.
pub fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (_, Some(signal)) => format!("signal {signal}"),
        _ => "unknown".to_owned(),
    }
}

fn pid(id: u32) -> Pid {
    Pid::from_raw(i32::try_from(id).expect("process ids are small"))
}
