//! System calls by seccomp: what a model process never does is refused with "not permitted".
//!
//! A list of what is forbidden, and not of what is allowed, on purpose: graphics drivers make calls that
//! differ from driver to driver and from version to version, and an allow-list would kill the process on the
//! next update. The list closes what matters to an attacker who already runs code in here: sockets, programs,
//! other processes, changes to files, and the parts of the kernel where its own holes are found. A refusal and
//! not a kill, because drivers and the C library try some of these and go on without.

use std::collections::BTreeMap;
use std::env::consts::ARCH;

use nix::libc;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::Lock;

/// Why system calls are not filtered.
#[derive(Debug, thiserror::Error)]
pub enum SyscallsError {
    /// A defect of the list, or an architecture the crate does not know.
    #[error("the filter cannot be built: {0}")]
    Build(#[from] BackendError),
    /// The kernel refused it.
    #[error("the kernel refused the filter: {0}")]
    Install(#[from] seccompiler::Error),
}

/// Sockets. The one connection is inherited; a pair of connected streams is made by the async runtime for
/// signals and leads nowhere.
const SOCKETS: &[i64] = &[
    libc::SYS_socket,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
];

/// Programs and other processes.
const PROCESSES: &[i64] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_chroot,
    libc::SYS_pivot_root,
    libc::SYS_personality,
];

/// Changes to the file system. This process writes nothing.
const FILES: &[i64] = &[
    libc::SYS_unlinkat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_truncate,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
];

/// The older calls for the same, which newer architectures never had.
#[cfg(target_arch = "x86_64")]
const OLD: &[i64] = &[
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_creat,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_link,
    libc::SYS_symlink,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_mknod,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_uselib,
    libc::SYS_ustat,
];
#[cfg(not(target_arch = "x86_64"))]
const OLD: &[i64] = &[];

/// Doors into the kernel that a model process has no business at.
const KERNEL: &[i64] = &[
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_bpf,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_userfaultfd,
    libc::SYS_perf_event_open,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_fanotify_init,
    libc::SYS_lookup_dcookie,
    libc::SYS_syslog,
    libc::SYS_vhangup,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
];

/// Their arguments lie in memory, where a filter cannot look. With "not implemented" the C library falls back
/// to the older call, whose arguments it can.
const UNREADABLE: &[i64] = &[libc::SYS_clone3, libc::SYS_openat2];

/// Bit of a call's number that chooses the 32-bit-pointer variant of the same call on this architecture, where
/// the kernel has it.
#[cfg(target_arch = "x86_64")]
const VARIANT: Option<i64> = Some(0x4000_0000);
#[cfg(not(target_arch = "x86_64"))]
const VARIANT: Option<i64> = None;

/// Installs both filters on the calling thread and those it will start.
pub(super) fn lock() -> Result<Lock, SyscallsError> {
    let forbidden = program(forbidden()?, libc::EPERM)?;
    let unreadable = program(UNREADABLE.iter().map(|call| (*call, Vec::new())).collect(), libc::ENOSYS)?;
    for filter in [forbidden, unreadable] {
        seccompiler::apply_filter(&filter)?;
    }
    Ok(Lock::Full)
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// The calls that are never made, and the ones that are made with certain arguments only.
fn forbidden() -> Result<Rules, BackendError> {
    let never = [SOCKETS, PROCESSES, FILES, OLD, KERNEL].concat();
    let mut rules: Rules = never.into_iter().map(|call| (call, Vec::new())).collect();
    // A thread shares everything with this process; what does not is another process.
    rules.insert(libc::SYS_clone, vec![masked(0, libc::CLONE_THREAD, 0)?]);
    // A pair of streams is connected for good; one of datagrams could be sent elsewhere.
    let kinds = [libc::SOCK_DGRAM, libc::SOCK_SEQPACKET, libc::SOCK_RAW];
    let kinds = kinds.into_iter().map(|kind| masked(1, 0xf, kind)).collect::<Result<_, _>>()?;
    rules.insert(libc::SYS_socketpair, kinds);
    let create = |argument| masked(argument, libc::O_CREAT, libc::O_CREAT);
    rules.insert(libc::SYS_openat, vec![create(2)?]);
    #[cfg(target_arch = "x86_64")]
    rules.insert(libc::SYS_open, vec![create(1)?]);
    Ok(rules)
}

/// Matches when the bits of `mask` in the argument are those of `value`.
fn masked(argument: u8, mask: i32, value: i32) -> Result<SeccompRule, BackendError> {
    let [mask, value] = [mask, value].map(|bits| u64::from(bits.cast_unsigned()));
    let operator = SeccompCmpOp::MaskedEq(mask);
    SeccompRule::new(vec![SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)?])
}

fn program(rules: Rules, errno: i32) -> Result<BpfProgram, BackendError> {
    let variants = rules.iter().filter_map(|(call, conditions)| Some((call | VARIANT?, conditions.clone())));
    let rules: Rules = variants.chain(rules.clone()).collect();
    let refusal = SeccompAction::Errno(errno.cast_unsigned());
    SeccompFilter::new(rules, SeccompAction::Allow, refusal, TargetArch::try_from(ARCH)?)?.try_into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_compiles_and_no_call_is_listed_twice() {
        let lists = [SOCKETS, PROCESSES, FILES, OLD, KERNEL, UNREADABLE].concat();
        let distinct: std::collections::BTreeSet<i64> = lists.iter().copied().collect();
        assert_eq!(lists.len(), distinct.len());
        assert!(!program(forbidden().unwrap(), libc::EPERM).unwrap().is_empty());
    }
}
