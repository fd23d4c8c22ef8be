//! The broker that devices of this kind usually talk to: Debian's mosquitto, with the certificates of all peers.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;

use serde_json::json;

use super::Bench;
use super::load::Load;

/// Debian puts it where only root looks.
const PLACES: [&str; 3] = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/usr/bin/mosquitto"];

#[derive(Debug)]
pub(super) struct Mosquitto {
    guard: Load,
    port: u16,
}

/// What rows call it.
pub(super) fn name() -> String {
    let version = program().and_then(|program| {
        let output = Command::new(program).arg("-h").output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        Some(text.lines().next()?.trim_start_matches("mosquitto version ").to_owned())
    });
    match version {
        Some(version) => format!("mosquitto {version}, TLS 1.3 with client certificates"),
        None => "mosquitto (not installed: packaging/prerequisites bench)".to_owned(),
    }
}

fn program() -> Option<PathBuf> {
    PLACES.iter().map(PathBuf::from).find(|path| path.is_file())
}

impl Mosquitto {
    /// A running one; none where it is not installed.
    pub(super) fn start(bench: &Bench) -> Option<Self> {
        let program = program()?;
        let port = free_tcp_port();
        let pki = bench.pki();
        let folder = bench.folder.join("mosquitto");
        std::fs::create_dir_all(&folder).expect("the bench's folder");
        let config = format!(
            "listener {port} 127.0.0.1\ncafile {ca}\ncertfile {certificate}\nkeyfile {key}\nrequire_certificate true\n\
             use_identity_as_username true\ntls_version tlsv1.3\nallow_anonymous false\npersistence false\n\
             max_connections -1\nset_tcp_nodelay true\nlog_dest stderr\nlog_type error\nlog_type warning\n{user}",
            ca = pki.join("device-ca.pem").display(),
            certificate = pki.join("server.pem").display(),
            key = pki.join("server.key").display(),
            // Started by root it would become a user that cannot read these files.
            user = if nix::unistd::geteuid().is_root() { "user root\n" } else { "" },
        );
        let path = folder.join("mosquitto.conf");
        std::fs::write(&path, config).expect("its configuration");
        let guard = Load::start(
            "guard",
            &json!({ "program": program, "arguments": ["-c", path], "log": folder.join("log") }),
        );
        let started = Self { guard, port };
        assert!(started.listens(), "mosquitto does not listen; see {}", folder.join("log").display());
        Some(started)
    }

    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(super) fn pid(&self) -> u32 {
        super::gateway::pid(&self.guard)
    }

    fn listens(&self) -> bool {
        super::litellm::answers(self.port, std::time::Duration::from_secs(10))
    }
}

/// A TCP port that was free a moment ago.
pub(super) fn free_tcp_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("loopback").port()
}
