//! How every command ends when something is wrong with the daemon, its socket, or the arguments.

use std::fs::{self, Permissions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind};
use serde_json::json;
use synesis_proto::{Problem, reason};
use tonic::Code;

use crate::fake::{Fake, Script};
use crate::run::{command, ended, synctl};

/// Every command that talks to the daemon.
const COMMANDS: &[&[&str]] = &[
    &["unenroll"],
    &["status"],
    &["status", "--watch"],
    &["vitals"],
    &["vitals", "--watch"],
    &["ask", "hi"],
    &["route", "hi"],
    &["redact"],
    &["redact", "--lines"],
    &["tunnel", "status"],
    &["tunnel", "ping"],
    &["tunnel", "reconnect"],
    &["adapter", "import", "/proc/self/status"],
    &["adapter", "list"],
    &["adapter", "swap", "x"],
    &["adapter", "off"],
    &["adapter", "rm", "x"],
    &["model", "info"],
    &["billing", "balance"],
    &["billing", "receipts"],
    &["billing", "verify"],
];

#[test]
fn without_a_daemon_every_command_says_so_with_code_3() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("control.sock");
    for arguments in COMMANDS {
        let ended = synctl(&socket, arguments).expect_failure(3, "the daemon is not running");
        assert_eq!(ended.stdout, "", "{arguments:?}");
        assert!(ended.stderr.contains("systemctl start synesisd"), "{}", ended.stderr);
    }
}

#[test]
fn a_socket_that_nobody_serves_any_more_is_no_daemon_either() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("control.sock");
    // Bound, but never listened on: what a killed daemon leaves behind.
    let (family, kind) = (AddressFamily::Unix, SockType::Stream);
    let stale = nix::sys::socket::socket(family, kind, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(stale.as_raw_fd(), &UnixAddr::new(&socket).unwrap()).unwrap();
    synctl(&socket, &["status"]).expect_failure(3, "the daemon is not running");
    let error = synctl(&socket, &["status", "--json"]).expect(3).error();
    assert_eq!((&error["reason"], &error["exit_code"]), (&json!("DAEMON_UNREACHABLE"), &json!(3)));
}

#[test]
fn a_socket_that_may_not_be_opened_names_the_group() {
    let fake = Fake::start(Script::default());
    fs::set_permissions(&fake.socket, Permissions::from_mode(0o000)).unwrap();
    let mut command = command(&fake.socket, &["status"]);
    if nix::unistd::geteuid().is_root() {
        // root opens everything, so the child is nobody; it needs a binary and a folder that nobody can reach.
        let binary = fake.dir.path().join("synctl");
        // By another process: a file that this one has open for writing, a child of another test may have too,
        // and then it cannot be executed.
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_synctl")).arg(&binary).status().unwrap();
        assert!(copied.success());
        fs::set_permissions(fake.dir.path(), Permissions::from_mode(0o755)).unwrap();
        command = as_nobody(&binary, &fake.socket);
    }
    let ended = ended(command).expect_failure(5, "no permission to open");
    assert!(ended.stderr.contains("group `synesis`"), "{}", ended.stderr);
}

fn as_nobody(binary: &std::path::Path, socket: &std::path::Path) -> Command {
    let mut command = Command::new(binary);
    command.env_clear().arg("status").arg("--socket").arg(socket).current_dir("/").uid(65_534).gid(65_534);
    command
}

#[test]
fn each_reason_of_the_daemon_ends_with_its_documented_code() {
    let table = [
        (Code::Internal, reason::INTERNAL, 1),
        (Code::InvalidArgument, reason::BAD_REQUEST, 2),
        (Code::Unavailable, reason::STOPPING, 3),
        (Code::FailedPrecondition, reason::NOT_ENROLLED, 4),
        (Code::PermissionDenied, reason::FORBIDDEN, 5),
        (Code::Unavailable, reason::OFFLINE, 6),
        (Code::ResourceExhausted, reason::CEILING_REACHED, 7),
        (Code::FailedPrecondition, reason::PRIVACY_REFUSED, 8),
        (Code::NotFound, reason::ADAPTER_NOT_FOUND, 9),
    ];
    for (status, reason, code) in table {
        let refuse = Some(Problem::new(status, reason, "it did not work", "do this"));
        let fake = Fake::start(Script { refuse, ..Script::default() });
        let ended = synctl(&fake.socket, &["ask", "hi"]).expect(code);
        assert_eq!(ended.stderr, "error: it did not work\nnext: do this\n", "{reason}");
        let error = synctl(&fake.socket, &["ask", "hi", "--json"]).expect(code).error();
        assert_eq!((&error["reason"], &error["exit_code"]), (&json!(reason), &json!(code)));
    }
}

#[test]
fn no_command_prints_data_and_succeeds_when_the_daemon_refuses() {
    let refuse = Some(Problem::new(Code::PermissionDenied, reason::FORBIDDEN, "your role may not", ""));
    let fake = Fake::start(Script { refuse, ..Script::default() });
    for arguments in COMMANDS {
        let ended = synctl(&fake.socket, arguments).expect_failure(5, "your role may not");
        assert_eq!(ended.stdout, "", "{arguments:?}");
    }
}

#[test]
fn a_daemon_that_does_not_answer_ends_every_command_with_124() {
    let fake = Fake::start(Script { hang: true, ..Script::default() });
    for arguments in COMMANDS {
        let arguments = [&["--timeout=100ms"], *arguments].concat();
        synctl(&fake.socket, &arguments).expect_failure(124, "no complete answer within 100 ms");
    }
}

#[test]
fn wrong_arguments_are_code_2_in_both_forms() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("none.sock");
    let table: &[&[&str]] = &[
        &["frobnicate"],
        &["ask", "hi", "--local", "--cloud"],
        &["ask", "hi", "--temperature", "warm"],
        &["ask", "hi", "--max-tokens", "0"],
        &["status", "--timeout", "soon"],
        &["enroll", "--gateway", "nowhere", "--ca", "a", "--token-file", "b"],
        &["adapter", "import"],
        &["completions", "tcsh-but-wrong"],
    ];
    for arguments in table {
        let human = synctl(&socket, arguments).expect(2);
        assert!(human.stderr.starts_with("error: "), "{}", human.stderr);
        let error = synctl(&socket, &[*arguments, &["--json"]].concat()).expect(2).error();
        assert_eq!((&error["reason"], &error["exit_code"]), (&json!("USAGE"), &json!(2)), "{error}");
    }
}

#[test]
fn an_output_that_takes_nothing_is_a_failure() {
    let fake = Fake::start(Script::default());
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = command(&fake.socket, &["status", "--json"]);
    command.stdout(full);
    let ended = ended(command).expect(1);
    assert_eq!(ended.error()["reason"], "OUTPUT_FAILED");
}

#[test]
fn the_socket_option_wins_over_the_environment() {
    let fake = Fake::start(Script::default());
    let nowhere = fake.dir.path().join("nowhere");
    synctl(&nowhere, &["status", "--socket", fake.socket.to_str().unwrap()]).expect(0);
}

#[test]
fn a_path_no_socket_can_have_is_a_usage_error() {
    let long = format!("/tmp/{}", "x".repeat(200));
    synctl(std::path::Path::new(&long), &["status"]).expect_failure(2, "cannot be the path of a socket");
}
