//! A whole gateway in this process: made by `init`, configured by files, served on loopback sockets.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use synesis_proto::channel;
use synesis_proto::gateway::v1;
use synesis_proto::gateway::v1::gateway_admin_client::GatewayAdminClient;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::scripted_http::ScriptedHttp;
use crate::answers::Answers;
use crate::app::Bound;
use crate::cli::Init;
use crate::control_plane::Clock;
use crate::failure::Failure;
use crate::metrics::Metrics;
use crate::providers::{Catalogue, catalogue};
use crate::{app, commands, config};

/// The running gateway; it is aborted when dropped, and stops in order with [`TestGateway::stop`].
pub(crate) struct TestGateway {
    folder: TempDir,
    pub(crate) address: SocketAddr,
    answers: Answers,
    pub(crate) metrics: Metrics,
    pub(crate) http: Option<SocketAddr>,
    stopping: CancellationToken,
    hurrying: CancellationToken,
    serving: JoinSet<Result<(), Failure>>,
}

impl TestGateway {
    /// A gateway whose model "big" is served by `provider`, at 1 and 2 dollars per million tokens.
    pub(crate) async fn start(provider: &ScriptedHttp) -> Self {
        Self::serve(Self::folder(provider.address())).await
    }

    /// The same, with more configuration.
    pub(crate) async fn start_configured(provider: &ScriptedHttp, more: &str) -> Self {
        let folder = Self::folder(provider.address());
        std::fs::write(folder.path().join("conf.d/more.toml"), more).unwrap();
        Self::serve(folder).await
    }

    /// The same, with these providers instead.
    pub(crate) async fn start_with(catalogue: Catalogue) -> Self {
        crate::tls::install_crypto();
        let folder = Self::folder(([127, 0, 0, 1], 9).into());
        let config = config::load(&folder.path().join("gateway.toml")).unwrap();
        Self::run(app::bind_with(&config, catalogue, Vec::new()).await.unwrap(), folder)
    }

    /// Another gateway with the keys, accounts and devices that this folder holds.
    pub(crate) async fn twin(of: &TempDir) -> Self {
        let folder = TempDir::new().unwrap();
        copy(of.path(), folder.path());
        Self::serve(folder).await
    }

    /// Without a provider that answers, by this clock.
    pub(crate) async fn start_at(clock: Clock) -> Self {
        Self::serve_at(Self::folder(([127, 0, 0, 1], 9).into()), clock).await
    }

    /// Serves from files that are there, by this clock.
    pub(crate) async fn serve_at(folder: TempDir, clock: Clock) -> Self {
        crate::tls::install_crypto();
        let config = config::load(&folder.path().join("gateway.toml")).unwrap();
        let (catalogue, processes) = catalogue::build(&config).unwrap();
        Self::run(app::bind_at(&config, catalogue, processes, clock).await.unwrap(), folder)
    }

    /// Where its keys are.
    pub(crate) fn pki(&self) -> PathBuf {
        self.folder.path().join("pki")
    }

    fn folder(provider: SocketAddr) -> TempDir {
        let folder = TempDir::new().unwrap();
        let init = Init { dir: folder.path().to_path_buf(), trust_domain: "test.internal".to_owned() };
        commands::init::run(&init).unwrap();
        std::fs::create_dir(folder.path().join("conf.d")).unwrap();
        std::fs::write(folder.path().join("api.key"), "sk-planted-key\n").unwrap();
        let text = format!(
            "listen = \"127.0.0.1:0\"\n\
             [[providers]]\nkind = \"openai\"\nbase_url = \"http://{}/v1\"\napi_key_file = \"api.key\"\nmodels = [\"big\"]\n\
             [[prices]]\nmodel = \"big\"\ninput_usd_per_mtok = 1\noutput_usd_per_mtok = \"2\"\n",
            provider
        );
        std::fs::write(folder.path().join("conf.d/test.toml"), text).unwrap();
        folder
    }

    pub(crate) async fn serve(folder: TempDir) -> Self {
        let config = config::load(&folder.path().join("gateway.toml")).unwrap();
        Self::run(app::bind(&config).await.unwrap(), folder)
    }

    fn run(bound: Bound, folder: TempDir) -> Self {
        let (address, answers) = (bound.address(), bound.answers());
        let (metrics, http) = (bound.metrics(), bound.http_address());
        let (stopping, hurrying) = (CancellationToken::new(), CancellationToken::new());
        let mut serving = JoinSet::new();
        let now = hurrying.clone().cancelled_owned();
        serving.spawn(bound.run(stopping.clone().cancelled_owned(), now));
        Self { folder, address, answers, metrics, http, stopping, hurrying, serving }
    }

    /// Stops in order and serves again from the same files, at another address.
    pub(crate) async fn restart(self) -> Self {
        let folder = self.stop().await;
        Self::serve(folder).await
    }

    /// The answers it has.
    pub(crate) fn answers(&self) -> &Answers {
        &self.answers
    }

    /// What SIGTERM begins.
    pub(crate) fn begin_stop(&self) {
        self.stopping.cancel();
    }

    /// What a second SIGTERM begins.
    pub(crate) fn hurry(&self) {
        self.hurrying.cancel();
    }

    /// Stops in order.
    pub(crate) async fn stop(mut self) -> TempDir {
        self.begin_stop();
        self.serving.join_next().await.unwrap().unwrap().unwrap();
        self.folder
    }

    /// A token for so many devices of the account "acme", which is made with the first one.
    pub(crate) async fn token_for(&self, uses: u32, ceiling_nanousd: Option<i64>) -> String {
        self.token_of("acme", uses, ceiling_nanousd).await
    }

    /// The same for another account.
    pub(crate) async fn token_of(&self, account: &str, uses: u32, ceiling_nanousd: Option<i64>) -> String {
        let name = account.to_owned();
        let mut admin = self.admin().await;
        let account = v1::CreateAccountRequest {
            name: name.clone(),
            ceiling_nanousd,
            ..v1::CreateAccountRequest::default()
        };
        // The second token finds the account there.
        let _ = admin.create_account(account).await;
        let token = v1::CreateTokenRequest { account: name, ttl_s: 60, uses };
        admin.create_token(token).await.unwrap().into_inner().token
    }

    /// What devices pin.
    pub(crate) fn ca_pem(&self) -> Vec<u8> {
        std::fs::read(self.folder.path().join("pki").join(crate::pki::SERVER_CA)).unwrap()
    }

    pub(crate) async fn admin(&self) -> GatewayAdminClient<Channel> {
        let path = self.folder.path().join("admin.sock");
        GatewayAdminClient::new(channel::connect(path).await.unwrap())
    }

    /// A token of the account "acme".
    pub(crate) async fn token(&self, ceiling_nanousd: Option<i64>) -> String {
        self.token_for(1, ceiling_nanousd).await
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let (entry, to) = (entry.unwrap(), to.to_path_buf());
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => {
                std::fs::create_dir(&target).unwrap();
                copy(&entry.path(), &target);
            }
            kind if kind.is_file() => drop(std::fs::copy(entry.path(), target).unwrap()),
            _ => {}
        }
    }
}
