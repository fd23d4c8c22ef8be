//! One process of `make bench-tunnel`: `synesis-load ROLE JSON` plays the devices, or one of those the tunnel is measured
//! beside. It says one JSON object when it is ready, answers each line of JSON on its standard input with another, and
//! ends when that input does, so that nothing is left of a bench that was cut short.

#![allow(clippy::expect_used, clippy::panic, reason = "a bench fails by panicking")]

mod ask;
mod enrol;
mod fleet;
mod grpc;
mod guard;
mod identities;
mod lines;
mod mesh;
mod mqtt;
mod pki;
mod push;
mod quic;
mod relay;
mod tcp;
mod visits;

use serde_json::Value;

const USAGE: &str = "usage: synesis-load pki|serve|ask|push|fleet|visits|enrol|relay|guard JSON";

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (role, settings) = (arguments.next().expect(USAGE), arguments.next().expect(USAGE));
    let settings: Value = serde_json::from_str(&settings).expect(USAGE);
    // One thread: findings are per process, and two endpoints scale better than two threads.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(play(&role, settings));
    // Threads that look up names have nothing left to do.
    runtime.shutdown_background();
}

async fn play(role: &str, settings: Value) {
    match role {
        "pki" => pki::make(settings),
        "serve" => serve(settings).await,
        "ask" => ask::run(lines::parse(settings)).await,
        "push" => push::run(lines::parse(settings)).await,
        "fleet" => fleet::run(lines::parse(settings)).await,
        "visits" => visits::run(lines::parse(settings)).await,
        "enrol" => enrol::run(lines::parse(settings)).await,
        "relay" => relay::run(lines::parse(settings)).await,
        "guard" => guard::run(lines::parse(settings)).await,
        other => panic!("{other} is no role; {USAGE}"),
    }
}

/// The far end of a transport, for as long as somebody holds our standard input.
async fn serve(settings: Value) {
    let pki = pki::Pki::open(settings["pki"].as_str().expect("a folder"));
    let server = async {
        let transport: Transport = lines::parse(settings["transport"].clone());
        match transport {
            Transport::Mesh => mesh::serve(&pki).await,
            Transport::Quic => quic::serve(&pki).await,
            Transport::Grpc => grpc::serve(&pki).await,
            Transport::Tcp => tcp::serve(&pki).await,
            Transport::Mqtt => panic!("mosquitto is a program of its own"),
        }
    };
    let mut input = lines::Lines::of_stdin();
    tokio::select! {
        () = server => {}
        () = async { while input.next().await.is_some() {} } => {}
    }
}

/// What carries the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Transport {
    /// The tunnel itself.
    Mesh,
    /// Bare quinn.
    Quic,
    /// tonic over TCP and mutual TLS.
    Grpc,
    /// TCP and mutual TLS, length-delimited.
    Tcp,
    /// MQTT 3.1.1 over TCP and mutual TLS.
    Mqtt,
}
