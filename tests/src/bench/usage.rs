//! What a process used, from `/proc`.

use std::fs::read_to_string;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::unistd::{SysconfVar, sysconf};

/// CPU time of process `id` since it started, user and system, all threads.
///
/// # Panics
/// When there is no such process.
pub(crate) fn cpu(id: u32) -> Duration {
    let stat = read_to_string(format!("/proc/{id}/stat")).expect("the process lives");
    // After "pid (comm) ": state is field 3 of proc(5), utime 14, stime 15.
    let (_, fields) = stat.rsplit_once(") ").expect("proc(5)");
    let ticks: u64 =
        fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().expect("proc(5)")).sum();
    let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().expect("Linux has a clock tick");
    Duration::from_secs_f64(ticks as f64 / per_second as f64)
}

/// CPU time of the children that this process has waited for.
pub(crate) fn cpu_of_ended_children() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("it has no way to fail");
    let part = |time: nix::sys::time::TimeVal| {
        Duration::from_secs(time.tv_sec().unsigned_abs())
            + Duration::from_micros(time.tv_usec().unsigned_abs())
    };
    part(usage.user_time()) + part(usage.system_time())
}

/// Most memory that process `id` ever had resident, in bytes.
///
/// # Panics
/// When there is no such process.
pub(crate) fn peak_resident(id: u32) -> u64 {
    let status = read_to_string(format!("/proc/{id}/status")).expect("the process lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("proc(5)");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("proc(5)") * 1024
}

/// Memory that process `id` has to itself or shares fairly (proportional set size), and what of it is its own data.
///
/// # Panics
/// When there is no such process.
pub(crate) fn memory(id: u32) -> Memory {
    let rollup = read_to_string(format!("/proc/{id}/smaps_rollup")).expect("the process lives");
    let bytes = |name: &str| {
        let line = rollup.lines().find_map(|line| line.strip_prefix(name)).expect("proc(5)");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("proc(5)") * 1024
    };
    Memory { whole: bytes("Pss:"), data: bytes("Pss_Anon:") }
}

/// In bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Everything, program text included.
    pub(crate) whole: u64,
    /// Heap and stacks.
    pub(crate) data: u64,
}
