//! A real daemon in a scratch folder.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::binaries::binary;
use crate::ctl::Ctl;
use crate::models::{SMOLLM, model};
use crate::process::{Process, children};
use crate::ready::NotifySocket;

/// A running daemon and its folder.
#[derive(Debug)]
pub struct Device {
    process: Process,
    folder: TempDir,
}

impl Device {
    /// With the real small model.
    pub fn start() -> Self {
        Self::with_config("")
    }

    /// With the real small model and more configuration (TOML, put into `conf.d`).
    pub fn with_config(more: &str) -> Self {
        let folder = scratch();
        std::fs::write(
            folder.path().join("synesisd.toml"),
            base_config(folder.path()) + &format!("[model]\npath = \"{}\"\n", model(SMOLLM).display()),
        )
        .expect("config");
        Self::serve(folder, more)
    }

    /// With the scripted engine of this crate in place of the model process.
    pub fn scripted(script: &str, more: &str) -> Self {
        let folder = scratch();
        let model = folder.path().join("scripted.gguf");
        std::fs::write(&model, script).expect("script");
        std::fs::write(
            folder.path().join("synesisd.toml"),
            base_config(folder.path())
                + &format!(
                    "[model]\npath = \"{}\"\n[runtime]\nprogram = \"{}\"\n",
                    model.display(),
                    binary("scripted-runtime").display()
                ),
        )
        .expect("config");
        Self::serve(folder, more)
    }

    fn serve(folder: TempDir, more: &str) -> Self {
        let conf_d = folder.path().join("conf.d");
        std::fs::create_dir_all(&conf_d).expect("conf.d");
        std::fs::write(conf_d.join("50-test.toml"), more).expect("config");
        let process = run(folder.path(), false);
        Self { process, folder }
    }

    /// With the real small model, in a network namespace that has no interface but a loopback that is down.
    pub fn without_network() -> Self {
        let folder = scratch();
        std::fs::write(
            folder.path().join("synesisd.toml"),
            base_config(folder.path()) + &format!("[model]\npath = \"{}\"\n", model(SMOLLM).display()),
        )
        .expect("config");
        let process = run(folder.path(), true);
        Self { process, folder }
    }

    /// `synctl` for it.
    pub fn ctl(&self) -> Ctl {
        Ctl::new(&self.socket())
    }

    /// The control socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("run/control.sock")
    }

    /// The state folder.
    pub fn state_dir(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        self.folder.path()
    }

    /// The running process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// The model process it supervises.
    ///
    /// # Panics
    /// When there is none.
    pub fn model_process(&self) -> u32 {
        let found = children(self.process.pid());
        // The kernel keeps 15 bytes of a name: the scripted engine's loses its last letter.
        let runtime = found.iter().find(|(_, name)| name.contains("runtim"));
        runtime.unwrap_or_else(|| panic!("no model process among {found:?}")).0
    }

    /// SIGKILL, then a new daemon over the same state.
    pub fn kill_and_restart(&mut self) {
        self.process.kill();
        self.process = run(self.folder.path(), false);
    }

    /// SIGTERM, then a new daemon over the same state.
    pub fn restart(&mut self) {
        self.process.terminate();
        self.process = run(self.folder.path(), false);
    }

    /// What it logged.
    pub fn log(&self) -> String {
        self.process.log()
    }
}

fn scratch() -> TempDir {
    // Short: a unix socket path has room for 107 bytes.
    tempfile::Builder::new().prefix("syn-dev-").tempdir().expect("scratch folder")
}

fn base_config(dir: &Path) -> String {
    format!(
        "[paths]\nstate_dir = \"{}\"\nruntime_dir = \"{}\"\n",
        dir.join("state").display(),
        dir.join("run").display()
    )
}

fn run(dir: &Path, without_network: bool) -> Process {
    let notify = NotifySocket::bind(dir, "device");
    let daemon = binary("synesisd");
    let mut command = if without_network {
        let mut unshare = Command::new("unshare");
        // A user namespace lets an ordinary user do this; root needs none.
        unshare.args(if nix::unistd::geteuid().is_root() {
            &["--net"][..]
        } else {
            &["--user", "--map-root-user", "--net"]
        });
        unshare.arg(&daemon);
        unshare
    } else {
        Command::new(&daemon)
    };
    command.args(["run", "--config"]).arg(dir.join("synesisd.toml")).env("NOTIFY_SOCKET", notify.path());
    let process = Process::start(command, &dir.join("synesisd.log"));
    assert!(notify.wait_for("READY=1"), "the daemon never became ready:\n{}", process.log());
    process
}
