//! The machine a figure was measured on. A figure without it means nothing.

use std::fs::read_to_string;

/// One line: processor, cores, memory, kernel, and how busy it was when the bench began.
pub fn machine() -> String {
    let cpu = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "an unnamed processor".to_owned());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory_kib: f64 = field("/proc/meminfo", "MemTotal")
        .and_then(|value| value.split(' ').next().and_then(|number| number.parse().ok()))
        .unwrap_or(0.0);
    let kernel = read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{cpu}, {cores} cores, {:.0} GiB, Linux {}, load {}",
        memory_kib / f64::from(1 << 20),
        kernel.trim(),
        load()
    )
}

/// The load average of the last minute.
pub(crate) fn load() -> String {
    let all = read_to_string("/proc/loadavg").unwrap_or_default();
    all.split(' ').next().unwrap_or("unknown").to_owned()
}

fn field(file: &str, name: &str) -> Option<String> {
    let text = read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
