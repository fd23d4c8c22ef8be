//! The connection to the daemon: one unix socket, one client for each service of control.v1.

use std::io;
use std::path::{Path, PathBuf};

use synesis_proto::channel;
use synesis_proto::control::v1::adapters_client::AdaptersClient;
use synesis_proto::control::v1::admin_client::AdminClient;
use synesis_proto::control::v1::billing_client::BillingClient;
use synesis_proto::control::v1::inference_client::InferenceClient;
use synesis_proto::control::v1::models_client::ModelsClient;
use synesis_proto::control::v1::node_client::NodeClient;
use synesis_proto::control::v1::privacy_client::PrivacyClient;
use tokio::sync::Notify;
use tonic::transport::Channel;

use crate::failure::Failure;

/// A preview repeats its text and adds a span for each find, so the answer may be much larger than the question.
const MAX_PREVIEW_BYTES: usize = 64 << 20;

/// Where the daemon is, and whether it was asked yet: the time limit counts from there, not from the start of a
/// prompt that is still being typed.
#[derive(Debug)]
pub(crate) struct Context {
    socket: PathBuf,
    asked: Notify,
}

impl Context {
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self { socket, asked: Notify::new() }
    }

    /// Connects to the daemon's control socket.
    ///
    /// # Errors
    /// [`Failure::SocketDenied`] when this user may not, [`Failure::NotRunning`] when nothing answers there.
    pub(crate) async fn connect(&self) -> Result<Daemon, Failure> {
        self.asked.notify_one();
        match channel::connect(self.socket.clone()).await {
            Ok(channel) => Ok(Daemon { channel }),
            Err(source) => Err(explain(&self.socket, source)),
        }
    }

    /// Resolves once the daemon is asked something. For one waiter.
    pub(crate) async fn asked(&self) {
        self.asked.notified().await;
    }
}

/// A daemon that accepted the connection.
#[derive(Debug, Clone)]
pub(crate) struct Daemon {
    channel: Channel,
}

impl Daemon {
    pub(crate) fn adapters(&self) -> AdaptersClient<Channel> {
        AdaptersClient::new(self.channel.clone())
    }

    pub(crate) fn admin(&self) -> AdminClient<Channel> {
        AdminClient::new(self.channel.clone())
    }

    pub(crate) fn billing(&self) -> BillingClient<Channel> {
        BillingClient::new(self.channel.clone())
    }

    pub(crate) fn inference(&self) -> InferenceClient<Channel> {
        InferenceClient::new(self.channel.clone())
    }

    pub(crate) fn models(&self) -> ModelsClient<Channel> {
        ModelsClient::new(self.channel.clone())
    }

    pub(crate) fn node(&self) -> NodeClient<Channel> {
        NodeClient::new(self.channel.clone())
    }

    pub(crate) fn privacy(&self) -> PrivacyClient<Channel> {
        PrivacyClient::new(self.channel.clone()).max_decoding_message_size(MAX_PREVIEW_BYTES)
    }
}

fn explain(socket: &Path, source: io::Error) -> Failure {
    let socket = socket.to_owned();
    match source.kind() {
        io::ErrorKind::PermissionDenied => Failure::SocketDenied { socket, source },
        // The kernel's limit for the path of a socket is 107 bytes.
        io::ErrorKind::InvalidInput => Failure::Usage {
            message: format!("{} cannot be the path of a socket: {source}", socket.display()),
            next_step: "give a shorter path with --socket PATH",
        },
        _ => Failure::NotRunning { socket, source },
    }
}
