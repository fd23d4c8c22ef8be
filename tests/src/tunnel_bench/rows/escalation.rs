//! A whole escalation: from the application to a provider that answers at once, and back. What is measured is what is
//! added to asking the provider directly.

use serde_json::json;
use synesis_proto::channel;
use synesis_proto::control::v1::ask_event::Event;
use synesis_proto::control::v1::inference_client::InferenceClient;
use synesis_proto::control::v1::{AskRequest, Done, Message, Mode};
use tokio::time::Instant;
use tonic::transport::Channel;

use super::super::Bench;
use super::super::gateway::Gateway;
use super::super::litellm::LiteLlm;
use crate::bench::http::post;
use crate::bench::statistics::{median, percentile};
use crate::bench::{Goal, Row};
use crate::device::Device;
use crate::gateway::MODEL;
use crate::provider::{Provider, Script};

/// One after the other, in each repetition.
const ASKS: usize = 200;
const WARM_UP: usize = 20;
const MAX_TOKENS: u32 = 64;
/// Something to redact, and something to leave alone.
const PROMPT: &str = "Write to ada.lovelace@example.org that the invoice for card 4111 1111 1111 1111 is paid, \
    and that the meeting about the new pump moves to Thursday at ten in the small room on the second floor.";
const MORE: &str = "[billing]\ndaily_limit_usd = \"1000\"\n[ipc]\nrequests_per_minute = 1000000\n";

pub(super) async fn added(bench: &Bench) -> Vec<Row> {
    let provider = Provider::start(Script::Echo);
    let scratch = tempfile::Builder::new().prefix("syn-gw-").tempdir().expect("scratch folder");
    let gateway = Gateway::start(scratch.path(), &provider.base_url());
    let device = Device::scripted("{}", MORE);
    enrol(&gateway, &device);
    let ours = InferenceClient::new(channel::connect(device.socket()).await.expect("the daemon listens"));
    let proxy = LiteLlm::start(bench, &provider);
    let direct = provider.base_url().trim_start_matches("http://").trim_end_matches("/v1").to_owned();

    let mut sides = vec![Side::Http(direct), Side::Tunnel(Box::new(ours))];
    sides.extend(proxy.as_ref().ok().map(|proxy| Side::Http(proxy.address())));
    for side in &sides {
        block(side, WARM_UP).await;
    }
    let mut millis = vec![(Vec::new(), Vec::new()); sides.len()];
    for time in 0..bench.scale.times {
        for step in 0..sides.len() {
            let side = (time + step) % sides.len();
            let taken = block(&sides[side], ASKS).await;
            millis[side].0.push(percentile(&taken, 0.5));
            millis[side].1.push(percentile(&taken, 0.99));
        }
    }
    let p50: Vec<f64> = millis.iter().map(|(p50, _)| median(p50)).collect();
    let p99: Vec<f64> = millis.iter().map(|(_, p99)| median(p99)).collect();
    let row = |name: &str, values: &[f64]| Row {
        what: format!(
            "whole escalation with redaction, ledger and receipt: {name} of {ASKS} above asking the provider directly \
             ({:.2} ms), median of {}",
            values[0], bench.scale.times
        ),
        ours: values[1] - values[0],
        peer: values.get(2).map(|proxy| proxy - values[0]),
        peer_name: LiteLlm::name(&proxy),
        unit: "ms",
        goal: Goal::RatioAtMost(0.5),
    };
    vec![row("p50", &p50), row("p99", &p99)]
}

fn enrol(gateway: &Gateway, device: &Device) {
    gateway.admin(&["account", "create", "acme", "--ceiling", "1000"]).expect_code(0);
    let token = gateway.admin(&["token", "create", "--account", "acme"]).expect_code(0).stdout;
    let file = device.dir().join("token");
    std::fs::write(&file, token).expect("scratch folder");
    let (address, ca) = (gateway.address(), gateway.ca());
    let (ca, file) = (ca.to_str().expect("UTF-8"), file.to_str().expect("UTF-8"));
    device.ctl().run(&["enroll", "--gateway", &address, "--ca", ca, "--token-file", file]).expect_code(0);
    device.ctl().wait_for_tunnel();
}

enum Side {
    /// Whoever speaks the OpenAI API at this address.
    Http(String),
    /// The daemon, its gateway behind it.
    Tunnel(Box<InferenceClient<Channel>>),
}

/// Milliseconds of so many asks.
async fn block(side: &Side, asks: usize) -> Vec<f64> {
    let mut taken = Vec::with_capacity(asks);
    for _ in 0..asks {
        let begun = match side {
            Side::Http(address) => through_http(address).await,
            Side::Tunnel(client) => through_tunnel(client).await,
        };
        taken.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    taken
}

/// When it was sent, on a connection that was open already, like the daemon's.
async fn through_http(address: &str) -> Instant {
    let request = json!({
        "model": MODEL,
        "messages": [{ "role": "user", "content": PROMPT }],
        "max_tokens": MAX_TOKENS,
        "stream": true,
    });
    let mut lines = post(address, "/v1/chat/completions", &request).await;
    let mut text = String::new();
    while let Some(event) = lines.next_event().await {
        text.push_str(event["choices"][0]["delta"]["content"].as_str().unwrap_or_default());
    }
    assert_eq!(text, PROMPT, "the provider echoes");
    lines.sent
}

/// When it was sent.
async fn through_tunnel(client: &InferenceClient<Channel>) -> Instant {
    let message = Message { role: "user".to_owned(), content: PROMPT.to_owned(), ..Message::default() };
    let request = AskRequest {
        messages: vec![message],
        mode: Mode::Cloud.into(),
        max_tokens: MAX_TOKENS,
        ..AskRequest::default()
    };
    let sent = Instant::now();
    let mut events = client.clone().ask(request).await.expect("the daemon answers").into_inner();
    let (mut text, mut done) = (String::new(), None::<Done>);
    while let Some(event) = events.message().await.expect("the answer goes on") {
        match event.event {
            Some(Event::Delta(delta)) => text.push_str(&delta.text),
            Some(Event::Done(end)) => done = Some(end),
            Some(Event::Routed(_)) | None => {}
        }
    }
    assert_eq!(text, PROMPT, "restored on the device");
    let receipt = done.and_then(|done| done.receipt);
    assert!(
        matches!(receipt, Some(synesis_proto::control::v1::done::Receipt::SignedReceipt(_))),
        "with its receipt: {receipt:?}"
    );
    sent
}
