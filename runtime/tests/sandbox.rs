//! The sandbox, from inside: a second copy of this test program locks itself in and tries the doors.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use landlock::{AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr};
use support::{Runtime, SMOL, adapter, model, text};
use synesis_runtime::sandbox::{self, Lock, Mode, Policy, Report};

/// Set in the copy: the folder it may read.
const INSIDE: &str = "SYNESIS_TEST_SANDBOX";

/// Runs the test `name` of this program in a copy that knows it is one.
fn run_inside(name: &str, folder: &Path) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(INSIDE, folder)
        .output()
        .unwrap()
}

/// In the outer process: runs the copy and asks for its success. In the copy: locks itself in and calls `doors`.
fn inside(name: &str, with_files: bool, doors: impl FnOnce(&Path, Report)) {
    if let Some(folder) = std::env::var_os(INSIDE).map(PathBuf::from) {
        let allowed = folder.join("allowed");
        let read = if with_files { vec![allowed.clone()] } else { Vec::new() };
        let report = sandbox::enter(&Policy { mode: Mode::Auto, read }).unwrap();
        doors(&allowed, report);
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("allowed")).unwrap();
    fs::write(folder.path().join("allowed/model.gguf"), "weights").unwrap();
    fs::write(folder.path().join("secret"), "secret").unwrap();
    let output = run_inside(name, folder.path());
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(fs::read_to_string(folder.path().join("secret")).unwrap(), "secret");
    // A kernel without a part is told of, not passed over in silence.
    said.lines().filter(|line| line.starts_with("without ")).for_each(|line| eprintln!("{line}"));
}

fn kernel_has_landlock() -> bool {
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::ReadFile)
        .is_ok()
}

fn refused<T>(what: &str, outcome: io::Result<T>) {
    match outcome {
        Ok(_) => panic!("{what} is possible"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{what}: {error}"),
    }
}

#[test]
fn only_the_given_folder_can_be_read_and_nothing_written() {
    inside("only_the_given_folder_can_be_read_and_nothing_written", true, |allowed, report| {
        assert_eq!(fs::read_to_string(allowed.join("model.gguf")).unwrap(), "weights");
        assert_eq!(fs::read_dir(allowed).unwrap().count(), 1);
        assert!(fs::read_to_string("/proc/self/status").unwrap().contains("VmRSS"));
        assert!(fs::read_to_string("/proc/meminfo").unwrap().contains("MemAvailable"));
        if report.files == Lock::None {
            assert!(!kernel_has_landlock());
            return println!("without landlock: files outside stay readable on this kernel");
        }
        let secret = allowed.with_file_name("secret");
        refused("reading a file outside", File::open(&secret));
        refused("reading it by way of the folder", File::open(allowed.join("../secret")));
        refused("listing the folder above", fs::read_dir(allowed.join("..")));
        refused("reading the users", File::open("/etc/passwd"));
        refused("reading another process", File::open("/proc/1/environ"));
        refused("writing to the model", File::options().write(true).open(allowed.join("model.gguf")));
        refused("a new file", File::create(allowed.join("new")));
        refused("removing the model", fs::remove_file(allowed.join("model.gguf")));
        refused("renaming the model", fs::rename(allowed.join("model.gguf"), allowed.join("b")));
        refused("a folder", fs::create_dir(allowed.join("folder")));
        refused("a link", std::os::unix::fs::symlink(&secret, allowed.join("link")));
    });
}

#[test]
fn there_are_no_sockets_and_no_programs() {
    inside("there_are_no_sockets_and_no_programs", false, |allowed, report| {
        if report.syscalls == Lock::None {
            return println!("without seccomp: sockets and programs stay possible on this kernel");
        }
        refused("connecting", TcpStream::connect("127.0.0.1:9"));
        refused("listening", TcpListener::bind("127.0.0.1:0"));
        refused("a datagram socket", UdpSocket::bind("127.0.0.1:0"));
        refused("a unix listener", UnixListener::bind(allowed.join("socket")));
        refused("a unix datagram", UnixDatagram::unbound());
        refused("a pair of datagrams", UnixDatagram::pair());
        refused("a program", Command::new("/bin/true").status());
        refused(
            "changing a mode",
            fs::set_permissions(allowed, fs::metadata(allowed).unwrap().permissions()),
        );
        refused("a new file", File::create(allowed.join("new")));
        refused("removing a file", fs::remove_file(allowed.join("model.gguf")));
        refused(
            "another namespace",
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER).map_err(Into::into),
        );
    });
}

#[test]
fn without_paths_files_stay_open() {
    inside("without_paths_files_stay_open", false, |allowed, _| {
        assert_eq!(fs::read_to_string(allowed.with_file_name("secret")).unwrap(), "secret");
    });
}

#[test]
fn threads_and_pairs_of_streams_go_on_working() {
    inside("threads_and_pairs_of_streams_go_on_working", true, |_, _| {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        let writer = std::thread::spawn(move || io::Write::write_all(&mut theirs, b"hello"));
        writer.join().unwrap().unwrap();
        let mut read = [0; 5];
        io::Read::read_exact(&mut ours, &mut read).unwrap();
        assert_eq!(&read, b"hello");
    });
}

#[test]
fn the_process_is_the_first_to_go_and_leaves_no_core() {
    inside("the_process_is_the_first_to_go_and_leaves_no_core", false, |_, _| {
        let score: i32 = fs::read_to_string("/proc/self/oom_score_adj").unwrap().trim().parse().unwrap();
        assert!(score >= 500, "{score}");
        let limits = fs::read_to_string("/proc/self/limits").unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
        let status = fs::read_to_string("/proc/thread-self/status").unwrap();
        assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    });
}

#[test]
fn a_memory_limit_stops_an_allocation_and_can_be_lifted() {
    inside("a_memory_limit_stops_an_allocation_and_can_be_lifted", false, |_, _| {
        let grow = || Vec::<u8>::new().try_reserve_exact(1 << 30);
        sandbox::limit_memory(Some(256 << 20)).unwrap();
        assert!(grow().is_err());
        sandbox::limit_memory(None).unwrap();
        assert!(grow().is_ok());
    });
}

#[tokio::test]
async fn the_model_process_loads_and_answers_inside_and_reads_nothing_else() {
    let (file, json) = (model(SMOL), adapter("json"));
    let models = text(Path::new(&file).parent().unwrap());
    let adapters = text(Path::new(&json).parent().unwrap());
    let mut runtime = Runtime::start_with(&["--read", &models, "--read", &adapters]).await;
    runtime.load(&file).await.unwrap();
    runtime.load_adapter("json", &json).await.unwrap();
    assert_eq!(runtime.bare("What is the capital of France?", "").await, "The capital of France is Paris.");
    assert_eq!(runtime.bare("What is the capital of France?", "json").await, r#"{"answer": "Paris"}"#);
    assert!(runtime.health().await.resident_bytes > 0, "its own memory can be read");

    // A copy outside is the same model, and out of reach.
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy.gguf");
    fs::copy(&file, &copy).unwrap();
    match runtime.load(&text(&copy)).await {
        Err(problem) => assert_eq!(problem.code, tonic::Code::PermissionDenied, "{problem}"),
        Ok(_) => {
            assert!(!kernel_has_landlock());
            eprintln!("without landlock: files outside stay readable on this kernel");
        }
    }
    assert_eq!(runtime.bare("What is the capital of France?", "").await, "The capital of France is Paris.");
}

#[tokio::test]
async fn a_file_that_was_named_is_readable_by_itself() {
    let file = model(SMOL);
    let mut runtime = Runtime::start_with(&["--read", &file, "--sandbox", "auto"]).await;
    runtime.load(&file).await.unwrap();
    assert_eq!(runtime.bare("What is the capital of France?", "").await, "The capital of France is Paris.");
}
