//! One streamed cloud answer over a link that a test cuts: real binaries, a relay between them, and a provider that says
//! each word when it is told to.

use std::time::Duration;

use serde_json::Value;

use crate::ctl::{Ctl, Outcome, Streaming};
use crate::device::Device;
use crate::gateway::Gateway;
use crate::provider::{Provider, Script};
use crate::relay::Relay;

/// Words that no detector takes for a secret.
const WORDS: [&str; 12] = [
    "river", "window", "green", "slowly", "paper", "morning", "under", "yellow", "walks", "quiet", "stone",
    "again",
];

/// Device, relay, gateway and provider. The device has one account and nothing charged yet.
#[derive(Debug)]
pub struct World {
    /// Says its next word when it is told to.
    pub provider: Provider,
    /// Serves it.
    pub gateway: Gateway,
    /// What the device takes for the gateway.
    pub relay: Relay,
    /// The device, whose tunnel is up.
    pub device: Device,
}

impl World {
    /// With more tables in the gateway's configuration.
    pub fn start(seed: u64, gateway_config: &str) -> Self {
        let provider = Provider::start(Script::EchoByStep);
        let gateway = Gateway::configured(&provider, gateway_config);
        let relay = Relay::start(&gateway.address(), seed);
        let device = Device::scripted("{}", "");
        gateway.enroll_through(&device, &relay.address());
        Self { provider, gateway, relay, device }
    }

    /// Asks for an answer of so many words, and waits for the first.
    pub fn ask(&self, words: usize) -> Answering<'_> {
        let prompt: Vec<&str> = WORDS.into_iter().cycle().take(words).collect();
        let prompt = prompt.join(" ");
        let stream = self.device.ctl().stream(&["--json", "--timeout", "500s", "ask", "--cloud", &prompt]);
        let mut answering = Answering { world: self, stream, prompt, text: String::new(), left: words - 1 };
        answering.read_words(1);
        answering
    }

    /// Every receipt so far, checked.
    pub fn receipts(&self) -> Vec<Value> {
        let ctl: Ctl = self.device.ctl();
        ctl.wait_for_status("no receipt outstanding", |status| status["pending_receipts"] == 0);
        ctl.run(&["billing", "verify"]).expect_code(0);
        ctl.run(&["--json", "billing", "receipts"]).expect_code(0).json_lines()
    }

    /// Has the device dial now.
    pub fn reconnect(&self) {
        self.device.ctl().run(&["tunnel", "reconnect"]).expect_code(0);
    }

    /// Waits until the gateway has logged `text`.
    pub fn gateway_logs(&self, text: &str) {
        for _ in 0..6_000 {
            if self.gateway.log().contains(text) {
                return;
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
        panic!("the gateway never logged {text:?}:\n{}", self.gateway.log());
    }
}

/// An answer under way.
#[derive(Debug)]
pub struct Answering<'a> {
    world: &'a World,
    stream: Streaming,
    prompt: String,
    text: String,
    left: usize,
}

impl Answering<'_> {
    /// Words that the provider has not been told to say.
    pub fn left(&self) -> usize {
        self.left
    }

    /// Tells the provider to say up to `words` more.
    pub fn say(&mut self, words: usize) {
        let words = words.min(self.left);
        self.left -= words;
        for _ in 0..words {
            self.world.provider.resume();
        }
    }

    /// Reads until the user has seen so many words in all.
    pub fn read_words(&mut self, words: usize) {
        while self.text.split_whitespace().count() < words {
            let event = self.stream.next_json();
            let Some(event) = event else {
                panic!("the answer ended early: {}", self.stream.finish().stderr)
            };
            assert_eq!(event["type"], "delta", "{event}");
            self.text.push_str(event["text"].as_str().expect("text"));
        }
    }

    /// Has all of it said, and reads to the end; what the last line says.
    pub fn finish(mut self) -> Value {
        self.say(usize::MAX);
        loop {
            let event = self.stream.next_json();
            let Some(event) = event else {
                panic!("the answer ended early: {}", self.stream.finish().stderr)
            };
            if event["type"] == "delta" {
                self.text.push_str(event["text"].as_str().expect("text"));
                continue;
            }
            assert_eq!((&event["type"], event["text"].as_str()), (&"done".into(), Some(self.text.as_str())));
            assert_eq!(self.text, self.prompt, "byte for byte what the provider said");
            return event;
        }
    }

    /// Lets go of the world, for what changes it.
    pub fn detach(self) -> Detached {
        let Self { stream, prompt, text, left, .. } = self;
        Detached { stream, prompt, text, left }
    }

    /// Reads to an end that is none.
    pub fn fails(mut self) -> Outcome {
        self.stream.finish()
    }
}

/// An answer under way whose world is being changed.
#[derive(Debug)]
pub struct Detached {
    stream: Streaming,
    prompt: String,
    text: String,
    left: usize,
}

impl Detached {
    /// Back in the world.
    pub fn attach(self, world: &World) -> Answering<'_> {
        let Self { stream, prompt, text, left } = self;
        Answering { world, stream, prompt, text, left }
    }
}
