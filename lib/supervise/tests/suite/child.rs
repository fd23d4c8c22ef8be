//! Real children on real socketpairs, in real time.

use std::{collections::BTreeSet, io, path::Path, time::Duration};

use nix::unistd::{Pid, getpgid, getpgrp};
use synesis_supervise::child::{ChildError, ChildProcess, ChildSpec, ExitStatus};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    time::timeout,
};

/// Long enough for any machine; reached only by a test that would hang.
const PATIENCE: Duration = Duration::from_secs(30);

fn sh(script: &str) -> ChildProcess {
    ChildProcess::spawn(&ChildSpec::new("/bin/sh").arg("-c").arg(script)).unwrap()
}

async fn ended(child: &ChildProcess) -> ExitStatus {
    timeout(PATIENCE, child.wait()).await.unwrap()
}

/// Everything the child says until it and whoever shares its end are gone.
async fn all_of(mut stream: UnixStream) -> String {
    let mut text = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut text)).await.unwrap().unwrap();
    text
}

fn is_in_the_process_table(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[tokio::test]
async fn parent_and_child_speak_over_the_childs_standard_input() {
    // cat writes to its standard output; here that is led back into the socket.
    let mut child = sh("exec cat >&0");
    let mut stream = child.take_stream().unwrap();
    assert!(child.take_stream().is_none());
    stream.write_all(b"hello over the socketpair\n").await.unwrap();
    let mut line = String::new();
    timeout(PATIENCE, BufReader::new(&mut stream).read_line(&mut line)).await.unwrap().unwrap();
    assert_eq!(line, "hello over the socketpair\n");
    assert_eq!(child.exit_status(), None);
    drop(stream);
    assert_eq!(ended(&child).await, ExitStatus::Code(0), "our end closed, the child left by itself");
}

#[tokio::test]
async fn a_child_that_never_sees_our_end_open_again_leaves_on_stop_without_being_killed() {
    let mut child = ChildProcess::spawn(&ChildSpec::new("/bin/cat")).unwrap();
    let status = timeout(PATIENCE, child.stop(PATIENCE)).await.unwrap();
    // Closing and SIGTERM race; both are a polite end.
    assert!([ExitStatus::Code(0), ExitStatus::Signal(15)].contains(&status), "{status}");
}

#[tokio::test]
async fn the_exit_code_is_told_to_everyone_who_waits_before_or_after() {
    let mut child = sh("read go; exit 3");
    let before = child.wait();
    let mut stream = child.take_stream().unwrap();
    stream.write_all(b"go\n").await.unwrap();
    assert_eq!(timeout(PATIENCE, before).await.unwrap().to_string(), "exit code 3");
    assert_eq!(ended(&child).await, ExitStatus::Code(3));
    assert_eq!(child.exit_status(), Some(ExitStatus::Code(3)));
    assert!(!is_in_the_process_table(child.pid()), "reaped, not a zombie");
    let again = timeout(PATIENCE, child.stop(PATIENCE)).await.unwrap();
    assert_eq!(again, ExitStatus::Code(3), "stopping what has ended only repeats how it ended");
}

#[tokio::test]
async fn a_child_that_ignores_sigterm_is_killed_after_the_grace() {
    let mut child = sh("trap '' TERM; echo deaf >&0; exec sleep 1000");
    let mut stream = BufReader::new(child.take_stream().unwrap());
    let mut line = String::new();
    timeout(PATIENCE, stream.read_line(&mut line)).await.unwrap().unwrap();
    let status = timeout(PATIENCE, child.stop(Duration::from_millis(50))).await.unwrap();
    assert_eq!(status.to_string(), "killed by signal 9");
    assert!(!is_in_the_process_table(child.pid()));
}

#[tokio::test]
async fn dropping_kills_the_child_and_its_children_and_leaves_no_zombie() {
    // The grandchild holds the socket too, so the stream ends only when both are gone.
    let mut child = sh("exec 3<&0; sleep 1000 & echo started >&3; wait");
    let mut stream = BufReader::new(child.take_stream().unwrap());
    let mut line = String::new();
    timeout(PATIENCE, stream.read_line(&mut line)).await.unwrap().unwrap();
    let (pid, end) = (child.pid(), child.wait());
    assert!(is_in_the_process_table(pid));
    drop(child);
    assert_eq!(timeout(PATIENCE, end).await.unwrap(), ExitStatus::Signal(9));
    assert!(!is_in_the_process_table(pid));
    assert_eq!(all_of(stream.into_inner()).await, "");
}

#[tokio::test]
async fn a_killed_child_is_seen_as_the_end_of_the_stream() {
    let mut child = sh("kill -9 $$");
    let stream = child.take_stream().unwrap();
    assert_eq!(all_of(stream).await, "");
    assert_eq!(ended(&child).await.to_string(), "killed by signal 9");
}

#[tokio::test]
async fn the_child_gets_only_the_environment_it_is_given() {
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some(), "there is something to leak");
    let spec = ChildSpec::new("/bin/sh").arg("-c").arg("exec cat /proc/$$/environ >&0");
    let mut child = ChildProcess::spawn(&spec.env("GOMP_SPINCOUNT", "1000")).unwrap();
    let environment = all_of(child.take_stream().unwrap()).await;
    let names: BTreeSet<&str> =
        environment.split_terminator('\0').filter_map(|pair| Some(pair.split_once('=')?.0)).collect();
    assert!(environment.split('\0').any(|pair| pair == "GOMP_SPINCOUNT=1000"));
    // The shell may export where it stands.
    let known = BTreeSet::from(["GOMP_SPINCOUNT", "PATH", "LANG", "LD_LIBRARY_PATH", "PWD"]);
    assert!(names.is_subset(&known), "{names:?}");
    assert!(names.contains("PATH"));
}

#[tokio::test]
async fn what_the_child_prints_goes_where_our_messages_go() {
    // Looked up in subshells: a redirection may change the shell's own descriptors for a moment.
    let mut child = sh("o=$(readlink /proc/$$/fd/1); e=$(readlink /proc/$$/fd/2); echo \"$o $e\" >&0");
    let said = all_of(child.take_stream().unwrap()).await;
    let ours = std::fs::read_link("/proc/self/fd/2").unwrap();
    let ours = ours.to_str().unwrap();
    assert_eq!(said.split_whitespace().collect::<Vec<_>>(), [ours, ours]);
}

#[tokio::test]
async fn the_child_leads_a_process_group_of_its_own() {
    let child = ChildProcess::spawn(&ChildSpec::new("/bin/cat")).unwrap();
    let pid = Pid::from_raw(i32::try_from(child.pid()).unwrap());
    let group = getpgid(Some(pid)).unwrap();
    assert_eq!(group, pid);
    assert_ne!(group, getpgrp());
}

#[tokio::test]
async fn a_program_that_does_not_exist_is_an_error_that_names_it() {
    let error = ChildProcess::spawn(&ChildSpec::new("/nowhere/synesis-runtime")).unwrap_err();
    assert_eq!(error.to_string(), "cannot start /nowhere/synesis-runtime");
    let ChildError::Spawn { source, .. } = error else { panic!("{error:?}") };
    assert_eq!(source.kind(), io::ErrorKind::NotFound);
}
