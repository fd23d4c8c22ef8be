//! Files by landlock: reading only, and only below the paths that were given and those that the library and
//! this process itself look at. On newer kernels also: no TCP, no abstract sockets, no signals to others.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, RulesetStatus, Scope, path_beneath_rules,
};

use super::Lock;

/// The newest version this list of rights was tested with; on an older kernel what it lacks is left out.
const TESTED: ABI = ABI::V7;

/// What the process reads besides models: its own state, memory and control group, the processors' topology,
/// and the libraries a GPU driver loads late.
const SYSTEM: &[&str] = &[
    "/proc/self",
    "/proc/meminfo",
    "/proc/cpuinfo",
    "/proc/stat",
    "/sys/fs/cgroup",
    "/sys/devices/system",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/dev/null",
    "/dev/urandom",
];

/// Nodes of graphics cards; used only where there are any.
const GPU_NODES: &[&str] = &["/dev/dri", "/dev/kfd", "/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-caps"];
/// What drivers read beside their nodes.
const GPU_FILES: &[&str] = &[
    "/proc/driver/nvidia",
    "/proc/devices",
    "/sys/bus/pci",
    "/sys/devices/pci0000:00",
    "/sys/class/drm",
    "/sys/class/kfd",
    "/sys/dev/char",
    "/usr/share/vulkan",
    "/etc/vulkan",
    "/usr/share/nvidia",
];

/// Why files are not locked.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// Old kernel, or not enabled at boot.
    #[error("the kernel has no landlock ({0})")]
    Missing(&'static str),
    /// A call failed.
    #[error("landlock: {0}")]
    Ruleset(#[from] RulesetError),
}

/// Locks everything but `read` and what the system needs. Without `read` only network and signals are locked.
pub(super) fn lock(read: &[PathBuf]) -> Result<Lock, FilesError> {
    for path in read {
        if let Err(error) = path.metadata() {
            tracing::warn!(path = %path.display(), %error, "nothing can be read there later");
        }
    }
    let ruleset =
        Ruleset::default().handle_access(AccessNet::from_all(TESTED))?.scope(Scope::from_all(TESTED))?;
    let ruleset =
        if read.is_empty() { ruleset } else { ruleset.handle_access(AccessFs::from_all(TESTED))? };
    let mut created = ruleset.create()?;
    if !read.is_empty() {
        // Not `Execute`: nothing here starts a program.
        let reading = AccessFs::ReadFile | AccessFs::ReadDir;
        let using: BitFlags<AccessFs> = reading | AccessFs::WriteFile | AccessFs::IoctlDev;
        let nodes = gpu_nodes();
        created = created
            .add_rules(path_beneath_rules(read, reading))?
            .add_rules(path_beneath_rules(SYSTEM, reading))?;
        if !nodes.is_empty() {
            created = created
                .add_rules(path_beneath_rules(nodes, using))?
                .add_rules(path_beneath_rules(GPU_FILES, reading))?;
        }
    }
    let status = created.restrict_self()?;
    match (status.ruleset, status.landlock) {
        (RulesetStatus::FullyEnforced, _) if read.is_empty() => Ok(Lock::Partial),
        (RulesetStatus::FullyEnforced, _) => Ok(Lock::Full),
        (RulesetStatus::PartiallyEnforced, _) => {
            tracing::info!("this kernel's landlock is older than what is asked of it");
            Ok(Lock::Partial)
        }
        // Files were not asked for, and this kernel has nothing else to lock.
        (RulesetStatus::NotEnforced, LandlockStatus::Available { .. }) if read.is_empty() => Ok(Lock::None),
        (RulesetStatus::NotEnforced, LandlockStatus::NotEnabled) => {
            Err(FilesError::Missing("it is not enabled at boot"))
        }
        (RulesetStatus::NotEnforced, _) => Err(FilesError::Missing("it is not built in")),
    }
}

fn gpu_nodes() -> Vec<PathBuf> {
    let numbered = (0..16).map(|card| PathBuf::from(format!("/dev/nvidia{card}")));
    GPU_NODES
        .iter()
        .map(|node| Path::new(node).to_owned())
        .chain(numbered)
        .filter(|node| node.exists())
        .collect()
}
