//! A real gateway on loopback, made with `synesis-gateway init` as an operator would.

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::binaries::binary;
use crate::ctl::{Outcome, finish};
use crate::device::Device;
use crate::models::{GEMMA, SMOLLM, model};
use crate::process::Process;
use crate::provider::Provider;
use crate::ready::NotifySocket;

/// The model name that [`Gateway::with_provider`] and [`Gateway::with_runtime`] serve.
pub const MODEL: &str = "big-model";

/// A running gateway and its folder.
#[derive(Debug)]
pub struct Gateway {
    process: Process,
    folder: TempDir,
    port: u16,
}

impl Gateway {
    /// A gateway whose provider is a fake that speaks the OpenAI API.
    pub fn with_provider(provider: &Provider) -> Self {
        Self::configured(provider, "")
    }

    /// The same, with more tables of configuration.
    pub fn configured(provider: &Provider, more: &str) -> Self {
        Self::start(&format!(
            "[[providers]]\nkind = \"openai\"\nbase_url = \"{}\"\nmodels = [\"{MODEL}\"]\n{more}",
            provider.base_url()
        ))
    }

    /// A gateway with a supervised model process of its own and the bigger of the two real models.
    pub fn with_runtime() -> Self {
        Self::start(&format!(
            "[[providers]]\nkind = \"runtime\"\nmodels = [\"{MODEL}\"]\nmodel_path = \"{}\"\nchat_template_file = \"{}\"\n\
             stop = [\"\\nQuestion:\"]\nprogram = \"{}\"\n",
            model(GEMMA).display(),
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/gemma-base.jinja").display(),
            binary("synesis-runtime").display(),
        ))
    }

    /// The same with the devices' own model, for which there are trained adapters.
    pub fn with_small_runtime() -> Self {
        Self::with_small_runtime_and("")
    }

    /// The same with more configuration.
    pub fn with_small_runtime_and(more: &str) -> Self {
        Self::start(&format!(
            "{more}[[providers]]\nkind = \"runtime\"\nmodels = [\"{MODEL}\"]\nmodel_path = \"{}\"\nprogram = \"{}\"\n",
            model(SMOLLM).display(),
            binary("synesis-runtime").display(),
        ))
    }

    /// A gateway with these `[[providers]]` tables, one model called [`MODEL`] at $2 and $10 per million tokens.
    pub fn start(providers: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("syn-gw-").tempdir().expect("scratch folder");
        let dir = folder.path();
        let mut init = Command::new(binary("synesis-gateway"));
        init.args(["init", "--dir"]).arg(dir);
        finish(init, "").expect_code(0);
        let port = free_udp_port();
        let conf_d = dir.join("conf.d");
        std::fs::create_dir_all(&conf_d).expect("conf.d");
        let config = format!(
            "listen = \"127.0.0.1:{port}\"\nadmin_socket = \"{}\"\ndefault_model = \"{MODEL}\"\n\n{providers}\n\
             [[prices]]\nmodel = \"{MODEL}\"\ninput_usd_per_mtok = 2\noutput_usd_per_mtok = \"10\"\n",
            dir.join("admin.sock").display(),
        );
        std::fs::write(conf_d.join("50-test.toml"), config).expect("config");
        let process = serve(dir);
        Self { process, folder, port }
    }

    /// Where devices dial.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The CA that devices pin.
    pub fn ca(&self) -> PathBuf {
        self.dir().join("pki/server-ca.pem")
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        self.folder.path()
    }

    /// Runs an administration command against it.
    pub fn admin(&self, args: &[&str]) -> Outcome {
        let mut command = Command::new(binary("synesis-gateway"));
        command.args(args).env("SYNESIS_GATEWAY_SOCKET", self.dir().join("admin.sock"));
        finish(command, "")
    }

    /// Makes an account.
    pub fn account(&self, name: &str, flags: &[&str]) {
        let mut args = vec!["account", "create", name];
        args.extend(flags);
        self.admin(&args).expect_code(0);
    }

    /// Makes a one-time token and writes it to a file.
    pub fn token_file(&self, account: &str, flags: &[&str]) -> PathBuf {
        let mut args = vec!["token", "create", "--account", account];
        args.extend(flags);
        let token = self.admin(&args).expect_code(0).stdout;
        let path = self.dir().join(format!("token-{account}"));
        std::fs::write(&path, token).expect("token file");
        path
    }

    /// Makes a managed account with a ceiling, enrols `device` and waits until its tunnel is up.
    pub fn enroll(&self, device: &Device) {
        self.account("acme", &["--tier", "managed", "--ceiling", "5"]);
        let token = self.token_file("acme", &[]);
        self.enroll_with(device, &token).expect_code(0);
        device.ctl().wait_for_tunnel();
    }

    /// The same, with `address` in front of this gateway (a relay's).
    pub fn enroll_through(&self, device: &Device, address: &str) {
        self.account("acme", &["--tier", "managed", "--ceiling", "5"]);
        let token = self.token_file("acme", &[]);
        self.enroll_at(device, address, &token).expect_code(0);
        device.ctl().wait_for_tunnel();
    }

    /// `synctl enroll` with that token.
    pub fn enroll_with(&self, device: &Device, token: &Path) -> Outcome {
        self.enroll_at(device, &self.address(), token)
    }

    fn enroll_at(&self, device: &Device, address: &str, token: &Path) -> Outcome {
        let ca = self.ca();
        let (ca, token) = (ca.to_str().expect("UTF-8"), token.to_str().expect("UTF-8"));
        device.ctl().run(&["enroll", "--gateway", address, "--ca", ca, "--token-file", token])
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// SIGTERM, waits for its end, and starts it again on the same port and folder.
    pub fn restart_in_order(&mut self) {
        self.process.terminate();
        self.restart();
    }

    /// Starts it again after [`Gateway::kill`], on the same port and folder.
    pub fn restart(&mut self) {
        self.process = serve(self.folder.path());
    }

    /// What it logged.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// The running process.
    pub fn process(&self) -> &Process {
        &self.process
    }
}

fn serve(dir: &Path) -> Process {
    let notify = NotifySocket::bind(dir, "gateway");
    let mut command = Command::new(binary("synesis-gateway"));
    command.args(["serve", "--config"]).arg(dir.join("gateway.toml")).env("NOTIFY_SOCKET", notify.path());
    let process = Process::start(command, &dir.join("gateway.log"));
    assert!(notify.wait_for("READY=1"), "the gateway never became ready:\n{}", process.log());
    process
}

/// A UDP port that was free a moment ago; a restarted gateway has to come back on the same one.
fn free_udp_port() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    socket.local_addr().expect("bound").port()
}
