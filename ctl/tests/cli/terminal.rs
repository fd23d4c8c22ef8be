//! What changes when a person looks: the same binary with a pseudo-terminal for its streams.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Stdio;

use nix::fcntl::OFlag;
use nix::pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt};
use synesis_proto::control::v1::*;

use crate::fake::{Fake, Script, delta, done};
use crate::run::command;

/// A pseudo-terminal: our end and the command's. Neither is inherited by what other tests start meanwhile.
fn terminal() -> (PtyMaster, File) {
    let ours = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname_r(&ours).unwrap();
    let theirs = OpenOptions::new().read(true).write(true).custom_flags(OFlag::O_NOCTTY.bits()).open(name);
    (ours, theirs.unwrap())
}

/// Runs it with standard output on a terminal; returns all that the terminal was sent.
fn on_terminal(socket: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let (ours, theirs) = terminal();
    let mut command = command(socket, arguments);
    command.envs(environment.iter().copied()).stdout(Stdio::from(theirs)).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    // The command holds the last copy of the terminal's far end: dropped, so that the end can be seen.
    drop(command);
    let mut shown = Vec::new();
    // A terminal whose last writer left reads as an error, not as an end.
    let _ = File::from(OwnedFd::from(ours)).read_to_end(&mut shown);
    assert!(child.wait().unwrap().success());
    String::from_utf8(shown).unwrap()
}

fn fake() -> Fake {
    let status = StatusReply { state: "ready".into(), version: "0.1.0".into(), ..StatusReply::default() };
    let ask = vec![delta("\x1b]0;owned\x07\x1b[2Jhi"), done(Done::default())];
    Fake::start(Script { status, ask, ..Script::default() })
}

#[test]
fn states_are_coloured_on_a_terminal() {
    let shown = on_terminal(&fake().socket, &["status"], &[("TERM", "xterm")]);
    assert!(shown.contains("\x1b[32mready"), "{shown:?}");
}

#[test]
fn no_color_and_a_dumb_terminal_are_honoured() {
    let fake = fake();
    for environment in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let shown = on_terminal(&fake.socket, &["status"], &[environment]);
        assert!(shown.contains("ready") && !shown.contains('\x1b'), "{shown:?}");
    }
}

#[test]
fn an_answer_cannot_drive_the_terminal_but_a_pipe_gets_it_as_it_is() {
    let fake = fake();
    let shown = on_terminal(&fake.socket, &["ask", "hi"], &[]);
    assert_eq!(shown, "\u{fffd}]0;owned\u{fffd}\u{fffd}[2Jhi\r\n");
    let piped = crate::run::synctl(&fake.socket, &["ask", "hi"]).expect(0);
    assert_eq!(piped.stdout, "\x1b]0;owned\x07\x1b[2Jhi\n");
}

#[test]
fn without_a_prompt_a_terminal_is_not_waited_for() {
    let (_ours, theirs) = terminal();
    let fake = fake();
    for arguments in [&["ask"][..], &["redact"], &["redact", "--lines"]] {
        let mut command = command(&fake.socket, arguments);
        command.stdin(Stdio::from(theirs.try_clone().unwrap()));
        crate::run::ended(command).expect_failure(2, "no text given");
    }
}
