//! Memory that this process may still take: the least of what the machine has free, what each control group
//! above it leaves, and a limit.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::Bound;

/// The limit of the command line, for every model of this process.
static CEILING: OnceLock<u64> = OnceLock::new();

/// Sets the most bytes this process may use in all, for its whole life. The first call counts.
pub fn set_ceiling(bytes: u64) {
    CEILING.get_or_init(|| bytes);
}

/// The smaller of the process's ceiling and `limit`, where 0 is none; 0 when there is neither.
pub fn effective_limit(limit: u64) -> u64 {
    let ceiling = CEILING.get().copied();
    [Some(limit), ceiling].into_iter().flatten().filter(|bytes| *bytes > 0).min().unwrap_or(0)
}

/// Bytes that can be had, and what bounds them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Available {
    /// Bytes beyond what this process has already.
    pub bytes: u64,
    /// Which of the three it is.
    pub bound: Bound,
}

/// What can be had now. `limit` is the most that this process may use in all; 0 is none, or the ceiling of the
/// command line. What cannot be read bounds nothing.
pub fn available(limit: u64) -> Available {
    Sources { proc: Path::new("/proc"), cgroup: Path::new("/sys/fs/cgroup") }
        .available(effective_limit(limit))
}

/// Where the kernel's numbers are read; other folders in tests.
struct Sources<'a> {
    proc: &'a Path,
    cgroup: &'a Path,
}

impl Sources<'_> {
    fn available(&self, limit: u64) -> Available {
        let read = |path: &str| fs::read_to_string(self.proc.join(path)).unwrap_or_default();
        let machine = kibibytes(&read("meminfo"), "MemAvailable:");
        let groups = groups(&read("self/cgroup"), self.cgroup);
        let group = groups.iter().filter_map(|group| group.room()).min();
        let limit = (limit > 0).then(|| {
            let used = kibibytes(&read("self/status"), "VmRSS:").unwrap_or(0);
            limit.saturating_sub(used)
        });
        [(machine, Bound::Machine), (group, Bound::Cgroup), (limit, Bound::Limit)]
            .into_iter()
            .filter_map(|(bytes, bound)| Some(Available { bytes: bytes?, bound }))
            .min_by_key(|available| available.bytes)
            .unwrap_or(Available { bytes: u64::MAX, bound: Bound::Machine })
    }
}

/// A line such as `MemAvailable:   1234 kB`, in bytes.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// A control group's folder, and how its files are called.
#[derive(Debug, PartialEq, Eq)]
struct Group {
    folder: PathBuf,
    names: &'static Names,
}

/// The two versions of control groups.
#[derive(Debug, PartialEq, Eq)]
struct Names {
    limit: &'static str,
    usage: &'static str,
    /// Lines of `memory.stat` with the file cache, which the kernel takes back before it kills.
    reclaimable: [&'static str; 2],
}

const V2: Names =
    Names { limit: "memory.max", usage: "memory.current", reclaimable: ["active_file ", "inactive_file "] };
const V1: Names = Names {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    reclaimable: ["total_active_file ", "total_inactive_file "],
};

/// The groups of `/proc/self/cgroup` and all above them: each may have a limit. In a container the path may be
/// one outside of what is mounted; then the mounted root is what counts.
fn groups(text: &str, mount: &Path) -> Vec<Group> {
    let mut groups = Vec::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (root, names) = match controllers {
            "" => (mount.to_owned(), &V2),
            list if list.split(',').any(|name| name == "memory") => (mount.join("memory"), &V1),
            _ => continue,
        };
        let inside = Path::new(path.trim_start_matches('/'));
        // A path that leads out of the mount is not followed.
        let inside =
            if inside.components().any(|part| part.as_os_str() == "..") { Path::new("") } else { inside };
        let folders = inside.ancestors().map(|part| root.join(part));
        groups.extend(folders.map(|folder| Group { folder, names }));
    }
    groups
}

impl Group {
    /// `None` when the group has no limit.
    fn room(&self) -> Option<u64> {
        let read = |name: &str| fs::read_to_string(self.folder.join(name)).ok();
        // "max" is no number, and so no limit.
        let limit: u64 = read(self.names.limit)?.trim().parse().ok()?;
        let used: u64 = read(self.names.usage)?.trim().parse().ok()?;
        let stat = read("memory.stat").unwrap_or_default();
        let cached = stat.lines().filter_map(|line| {
            self.names.reclaimable.iter().find_map(|name| line.strip_prefix(name)?.trim().parse::<u64>().ok())
        });
        let held = used.saturating_sub(cached.fold(0, u64::saturating_add));
        Some(limit.saturating_sub(held))
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    /// A machine with 8,000,000 kB free on which this process has 1,000 kB.
    fn machine(cgroup_line: &str, files: &[(&str, &str)]) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("proc/meminfo", "MemTotal: 9000000 kB\nMemAvailable:    8000000 kB\n");
        write("proc/self/status", "Name:\tx\nVmRSS:\t    1000 kB\n");
        write("proc/self/cgroup", cgroup_line);
        for (path, text) in files {
            write(&format!("cgroup/{path}"), text);
        }
        folder
    }

    fn available(folder: &TempDir, limit: u64) -> Available {
        let (proc, cgroup) = (folder.path().join("proc"), folder.path().join("cgroup"));
        Sources { proc: &proc, cgroup: &cgroup }.available(limit)
    }

    #[test]
    fn a_machine_without_limits_has_what_is_free() {
        let folder =
            machine("0::/a.slice\n", &[("a.slice/memory.max", "max\n"), ("a.slice/memory.current", "5\n")]);
        assert_eq!(available(&folder, 0), Available { bytes: 8_000_000 * 1024, bound: Bound::Machine });
    }

    #[test]
    fn a_limit_counts_what_the_process_has_already() {
        let folder = machine("", &[]);
        let found = available(&folder, 5_000 * 1024);
        assert_eq!(found, Available { bytes: 4_000 * 1024, bound: Bound::Limit });
        assert_eq!(available(&folder, 1).bytes, 0);
    }

    #[test]
    fn the_tightest_group_on_the_way_up_counts_and_its_file_cache_is_free() {
        let folder = machine(
            "0::/a.slice/b.service\n",
            &[
                ("a.slice/memory.max", "3000\n"),
                ("a.slice/memory.current", "2500\n"),
                ("a.slice/memory.stat", "anon 1000\ninactive_file 900\nactive_file 600\n"),
                ("a.slice/b.service/memory.max", "9000\n"),
                ("a.slice/b.service/memory.current", "100\n"),
            ],
        );
        assert_eq!(available(&folder, 0), Available { bytes: 2000, bound: Bound::Cgroup });
    }

    #[test]
    fn the_first_version_of_control_groups_and_a_containers_root_are_understood() {
        let files = [
            ("memory/memory.limit_in_bytes", "5000\n"),
            ("memory/memory.usage_in_bytes", "1500\n"),
            ("memory/memory.stat", "total_inactive_file 400\ntotal_active_file 100\ninactive_file 7\n"),
        ];
        let folder = machine("3:cpu,cpuacct:/x\n2:memory:/docker/abc\n", &files);
        assert_eq!(available(&folder, 0), Available { bytes: 4000, bound: Bound::Cgroup });
    }

    #[test]
    fn what_cannot_be_read_bounds_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(available(&folder, 0).bytes, u64::MAX);
        let odd = machine("nonsense\n0::/../../etc\n", &[("memory.max", "12 apples\n")]);
        assert_eq!(available(&odd, 0).bound, Bound::Machine);
    }

    #[test]
    fn the_smaller_of_ceiling_and_limit_counts() {
        assert_eq!((effective_limit(0), effective_limit(7)), (0, 7));
        set_ceiling(u64::MAX - 1);
        set_ceiling(5);
        assert_eq!((effective_limit(0), effective_limit(7)), (u64::MAX - 1, 7));
        assert_eq!(effective_limit(u64::MAX), u64::MAX - 1);
    }

    #[test]
    fn this_machine_has_some_memory() {
        assert!(super::available(0).bytes > 0);
    }
}
