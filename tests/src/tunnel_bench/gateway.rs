//! A real gateway in a folder that is kept between runs, so that its devices need to be enrolled only once.

use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::Bench;
use super::load::Load;
use crate::binaries::binary;
use crate::ctl::{Outcome, finish};
use crate::gateway::MODEL;
use crate::ready::NotifySocket;

/// A token enrols no more than this many devices.
const USES: usize = 10_000;

/// Every device of a bench has the same address, and comes and asks as often as it can: what the gateway would do
/// about that is not what is measured here.
const LIMITS: &str = "[limits]\nsource_handshakes = 1024\nsource_connections_per_second = 1000000\n\
    device_connections_per_minute = 1000000\nasks_per_minute = 1000000\nothers_per_minute = 1000000\n";

/// A provider that nothing asks.
pub(super) const NOBODY: &str = "http://127.0.0.1:9/v1";

#[derive(Debug)]
pub(super) struct Gateway {
    folder: PathBuf,
    port: u16,
    /// What it is started under: a program and its arguments, or nothing.
    wrapper: Vec<String>,
    guard: Option<Load>,
}

impl Gateway {
    /// Starts it in `folder` with this provider, and makes the folder when it is not there.
    pub(super) fn start(folder: &Path, provider: &str) -> Self {
        Self::start_under(folder, provider, Vec::new())
    }

    /// The same, as the argument of another program.
    pub(super) fn start_under(folder: &Path, provider: &str, wrapper: Vec<String>) -> Self {
        let dir = folder.to_owned();
        if !dir.join("gateway.toml").exists() {
            let mut init = Command::new(binary("synesis-gateway"));
            init.args(["init", "--dir"]).arg(&dir);
            finish(init, "").expect_code(0);
        }
        let port = free_udp_port();
        fs::create_dir_all(dir.join("conf.d")).expect("conf.d");
        let config = format!(
            "listen = \"127.0.0.1:{port}\"\nadmin_socket = \"{}\"\ndefault_model = \"{MODEL}\"\n\n{LIMITS}\n\
             [log]\nformat = \"text\"\nlevel = \"warn\"\n\n\
             [[providers]]\nkind = \"openai\"\nbase_url = \"{provider}\"\nmodels = [\"{MODEL}\"]\n\n\
             [[prices]]\nmodel = \"{MODEL}\"\ninput_usd_per_mtok = 2\noutput_usd_per_mtok = \"10\"\n",
            dir.join("admin.sock").display(),
        );
        fs::write(dir.join("conf.d/50-bench.toml"), config).expect("its configuration");
        let mut gateway = Self { folder: dir, port, wrapper, guard: None };
        gateway.serve();
        gateway
    }

    /// One with at least `devices` enrolled, in a file for `synesis-load`.
    pub(super) fn with_devices(bench: &Bench, devices: usize) -> (Self, PathBuf) {
        let folder = bench.folder.join("gateway");
        let file = folder.join("devices.jsonl");
        // The first line is what they share.
        let enrolled = fs::read_to_string(&file).map_or(0, |text| text.lines().count().saturating_sub(1));
        if enrolled < devices {
            let _ = fs::remove_dir_all(&folder);
        }
        let gateway = Self::start(&folder, NOBODY);
        if enrolled < devices {
            eprintln!("   enrolling {devices} devices, once");
            gateway.admin(&["account", "create", "fleet"]).expect_code(0);
            let token = || {
                let uses = USES.to_string();
                gateway
                    .admin(&["token", "create", "--account", "fleet", "--uses", &uses])
                    .expect_code(0)
                    .stdout
            };
            let tokens: Vec<String> = (0..devices.div_ceil(USES)).map(|_| token()).collect();
            drop(Load::start(
                "enrol",
                &json!({
                    "gateway": gateway.address(), "ca": folder.join("pki/server-ca.pem"), "tokens": tokens,
                    "each": USES, "count": devices, "out": file,
                }),
            ));
        }
        (gateway, file)
    }

    fn serve(&mut self) {
        let notify = NotifySocket::bind(&self.folder, "gateway");
        let gateway =
            [binary("synesis-gateway"), "serve".into(), "--config".into(), self.folder.join("gateway.toml")];
        let line: Vec<PathBuf> = self.wrapper.iter().map(PathBuf::from).chain(gateway).collect();
        self.guard = Some(Load::start(
            "guard",
            &json!({
                "program": line[0],
                "arguments": line[1..],
                "environment": [["NOTIFY_SOCKET", notify.path()]],
                "log": self.folder.join("log"),
            }),
        ));
        let log = || fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        assert!(notify.wait_for("READY=1"), "the gateway never became ready:\n{}", log());
    }

    /// SIGKILL, then a new process on the same port and folder.
    pub(super) fn kill_and_restart(&mut self) {
        let id = i32::try_from(self.pid()).expect("process ids are small");
        kill(Pid::from_raw(id), Signal::SIGKILL).expect("it is ours and alive");
        self.guard = None;
        self.serve();
    }

    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Where it keeps everything.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The CA that devices pin.
    pub(super) fn ca(&self) -> PathBuf {
        self.folder.join("pki/server-ca.pem")
    }

    pub(super) fn pid(&self) -> u32 {
        pid(self.guard.as_ref().expect("it runs"))
    }

    /// Runs an administration command against it.
    pub(super) fn admin(&self, args: &[&str]) -> Outcome {
        let mut command = Command::new(binary("synesis-gateway"));
        command.args(args).env("SYNESIS_GATEWAY_SOCKET", self.folder.join("admin.sock"));
        finish(command, "")
    }
}

/// The program that a guard runs.
pub(super) fn pid(guard: &Load) -> u32 {
    guard.first()["pid"].as_u64().and_then(|id| u32::try_from(id).ok()).expect("a guard says whom it guards")
}

fn free_udp_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("loopback").port()
}
