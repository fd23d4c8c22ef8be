//! A gRPC client of the daemon, for suites that ask more than `synctl` processes could.

use std::path::PathBuf;
use std::time::Duration;

use synesis_proto::control::v1::adapters_client::AdaptersClient;
use synesis_proto::control::v1::ask_event::Event;
use synesis_proto::control::v1::inference_client::InferenceClient;
use synesis_proto::control::v1::node_client::NodeClient;
use synesis_proto::control::v1::{
    AskRequest, Message, Mode, OffRequest, StatusReply, StatusRequest, SwapReply, SwapRequest,
};
use synesis_proto::{Problem, channel};
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Code, Streaming};

/// A connection to one daemon. Clones share it.
#[derive(Debug, Clone)]
pub struct Client {
    channel: Channel,
}

/// A finished answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// All its pieces.
    pub text: String,
    /// Its tokens.
    pub tokens: u32,
    /// The adapter it was made with; empty: the base model.
    pub adapter: String,
    /// Swaps before it.
    pub generation: u64,
}

impl Client {
    /// Connects to the control socket at `path`.
    ///
    /// # Panics
    /// When nothing listens there.
    pub async fn connect(path: PathBuf) -> Self {
        Self { channel: channel::connect(path).await.expect("the daemon listens") }
    }

    /// A greedy local answer of the active adapter.
    ///
    /// # Errors
    /// What the daemon says instead, as a client sees it.
    pub async fn ask(&self, prompt: &str, max_tokens: u32) -> Result<Said, Problem> {
        let message = Message { role: "user".to_owned(), content: prompt.to_owned(), ..Message::default() };
        let request = AskRequest {
            messages: vec![message],
            mode: Mode::Local.into(),
            max_tokens,
            temperature: Some(0.0),
            ..AskRequest::default()
        };
        let answer = InferenceClient::new(self.channel.clone()).ask(request).await;
        let mut events = answer.map_err(|status| Problem::from_status(&status))?.into_inner();
        let mut text = String::new();
        while let Some(event) = events.message().await.map_err(|status| Problem::from_status(&status))? {
            match event.event {
                Some(Event::Delta(delta)) => text.push_str(&delta.text),
                Some(Event::Done(done)) => {
                    return Ok(Said {
                        text,
                        tokens: done.usage.unwrap_or_default().output_tokens,
                        adapter: done.adapter,
                        generation: done.adapter_generation,
                    });
                }
                Some(Event::Routed(_)) | None => {}
            }
        }
        Err(Problem::new(Code::DataLoss, "", "the answer ended without saying so", ""))
    }

    /// The same, and an error without a reason when it takes longer than `limit`.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn ask_within(&self, limit: Duration, prompt: &str, max_tokens: u32) -> Result<Said, Problem> {
        timeout(limit, self.ask(prompt, max_tokens)).await.unwrap_or_else(|_| {
            Err(Problem::new(Code::DeadlineExceeded, "", format!("no end of the answer in {limit:?}"), ""))
        })
    }

    /// Makes `adapter` (none: the base model) the active one.
    ///
    /// # Panics
    /// When the daemon refuses.
    pub async fn swap(&self, adapter: Option<&str>) -> SwapReply {
        let mut client = AdaptersClient::new(self.channel.clone());
        let reply = match adapter {
            Some(name) => client.swap(SwapRequest { name: name.to_owned(), ..SwapRequest::default() }).await,
            None => client.off(OffRequest::default()).await,
        };
        reply.unwrap_or_else(|status| panic!("a swap to {adapter:?}: {status}")).into_inner()
    }

    /// The status now, and at every change.
    ///
    /// # Panics
    /// When the daemon refuses.
    pub async fn watch(&self) -> Streaming<StatusReply> {
        let reply = NodeClient::new(self.channel.clone()).watch(StatusRequest {}).await;
        reply.expect("everyone may watch").into_inner()
    }
}
