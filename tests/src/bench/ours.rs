//! Our side: a real daemon in a scratch folder, asked over its control socket.

use std::time::Duration;

use synesis_proto::channel;
use synesis_proto::control::v1::adapters_client::AdaptersClient;
use synesis_proto::control::v1::ask_event::Event;
use synesis_proto::control::v1::inference_client::InferenceClient;
use synesis_proto::control::v1::{AskRequest, Message, Mode, OffRequest, SwapReply, SwapRequest};
use tokio::time::Instant;
use tonic::transport::Channel;

use super::{Answer, CONTEXT_TOKENS, Question, Side, THREADS, adapters};
use crate::device::Device;

/// A running daemon and a connection to it.
#[derive(Debug)]
pub struct Ours {
    device: Device,
    channel: Channel,
}

impl Ours {
    /// With `parallel` slots, and the adapters of those names imported and loaded once; the base model is active.
    pub async fn start(parallel: u32, adapters: &[&str]) -> Self {
        Self::with_config(parallel, adapters, "").await
    }

    /// The same, with more configuration.
    pub async fn with_config(parallel: u32, adapters: &[&str], more: &str) -> Self {
        let device = Device::with_config(&format!(
            "[model]\nparallel = {parallel}\nthreads = {THREADS}\ncontext_tokens = {CONTEXT_TOKENS}\n\
             [ipc]\nrequests_per_minute = 1000000\n{more}"
        ));
        let ctl = device.ctl();
        ctl.wait_for_model();
        for name in adapters {
            let file = adapters::file(name, device.dir());
            ctl.run(&["adapter", "import", name, &file.display().to_string()]).expect_code(0);
        }
        let channel = channel::connect(device.socket()).await.expect("the daemon is ready");
        let ours = Self { device, channel };
        for name in adapters {
            ours.swap(Some(name)).await;
        }
        if !adapters.is_empty() {
            ours.swap(None).await;
        }
        // The first request of a process pays for pages that no later one does.
        ours.ask(Question::new("Hello.", 4)).await;
        ours
    }

    /// The daemon.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Tokens of a prompt with the chat template around it. The model is not run.
    pub async fn count(&self, prompt: &str) -> u32 {
        let request = request(Question::new(prompt, 1), "");
        let reply = InferenceClient::new(self.channel.clone()).route(request).await;
        reply.expect("a route").into_inner().input_tokens
    }

    /// The next turn of a session.
    pub async fn ask_in(&self, session: &str, question: Question<'_>) -> Answer {
        let mut client = InferenceClient::new(self.channel.clone());
        let request = request(question, session);
        let asked = Instant::now();
        let mut events = client.ask(request).await.expect("an answer").into_inner();
        let mut answer = Answer::default();
        while let Some(event) = events.message().await.expect("an answer that does not break off") {
            match event.event {
                Some(Event::Delta(delta)) => answer.push(&delta.text, asked),
                Some(Event::Done(done)) => {
                    let usage = done.usage.unwrap_or_default();
                    answer.input_tokens = usage.input_tokens;
                    answer.output_tokens = usage.output_tokens;
                    answer.generation = done.adapter_generation;
                }
                Some(Event::Routed(_)) | None => {}
            }
        }
        answer
    }

    /// A swap with everything the daemon says about it.
    pub async fn swap_reply(&self, adapter: Option<&str>) -> (Duration, SwapReply) {
        let mut client = AdaptersClient::new(self.channel.clone());
        let asked = Instant::now();
        let reply = match adapter {
            Some(name) => client.swap(SwapRequest { name: name.to_owned(), ..SwapRequest::default() }).await,
            None => client.off(OffRequest::default()).await,
        };
        (asked.elapsed(), reply.expect("a swap").into_inner())
    }
}

impl Side for Ours {
    async fn ask(&self, question: Question<'_>) -> Answer {
        self.ask_in("", question).await
    }

    async fn swap(&self, adapter: Option<&str>) -> Duration {
        self.swap_reply(adapter).await.0
    }
}

fn request(question: Question<'_>, session: &str) -> AskRequest {
    AskRequest {
        messages: vec![Message {
            role: "user".to_owned(),
            content: question.prompt.to_owned(),
            ..Message::default()
        }],
        mode: Mode::Local.into(),
        adapter: question.adapter.unwrap_or_default().to_owned(),
        max_tokens: question.max_tokens,
        temperature: Some(0.0),
        session: session.to_owned(),
        ..AskRequest::default()
    }
}
