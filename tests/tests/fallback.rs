//! A firewall lets no UDP through: a device enrols and asks over TCP, and goes back to QUIC when the firewall opens.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use synesis_tests::device::Device;
use synesis_tests::gateway::{Gateway, MODEL};
use synesis_tests::provider::{Provider, Script};

/// Where the device sends its UDP. Drops it, until it is opened; then it goes to the gateway and back.
struct Firewall {
    address: String,
    open: Arc<AtomicBool>,
}

impl Firewall {
    /// Its threads end with the test's process.
    fn shut(gateway: String) -> Self {
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
        let (address, open) = (socket.local_addr().unwrap().to_string(), Arc::new(AtomicBool::new(false)));
        let opened = open.clone();
        std::thread::spawn(move || forward(&socket, &gateway, &opened));
        Self { address, open }
    }
}

fn forward(socket: &Arc<UdpSocket>, gateway: &str, open: &AtomicBool) {
    let mut ways: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut bytes = [0; 2048];
    while let Ok((len, device)) = socket.recv_from(&mut bytes) {
        if !open.load(Ordering::Relaxed) {
            continue;
        }
        let way = ways.entry(device).or_insert_with(|| {
            let way = Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
            way.connect(gateway).unwrap();
            let (back, socket) = (way.clone(), socket.clone());
            std::thread::spawn(move || {
                let mut bytes = [0; 2048];
                while let Ok(len) = back.recv(&mut bytes) {
                    let _ = socket.send_to(&bytes[..len], device);
                }
            });
            way
        });
        let _ = way.send(&bytes[..len]);
    }
}

fn free_tcp_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn without_udp_a_device_enrols_and_asks_over_tcp_until_udp_is_back() {
    let provider = Provider::start(Script::Echo);
    let tcp = free_tcp_port();
    let gateway = Gateway::start(&format!(
        "listen_tcp = \"127.0.0.1:{tcp}\"\n\
         [[providers]]\nkind = \"openai\"\nbase_url = \"{}\"\nmodels = [\"{MODEL}\"]\n",
        provider.base_url()
    ));
    let firewall = Firewall::shut(gateway.address());
    let device = Device::with_config(&format!("[gateway]\nfallback_port = {tcp}\n"));
    let ctl = device.ctl();

    gateway.account("acme", &["--tier", "managed", "--ceiling", "5"]);
    let (token, ca) = (gateway.token_file("acme", &[]), gateway.ca());
    let (token, ca) = (token.to_str().unwrap(), ca.to_str().unwrap());
    ctl.run(&["enroll", "--gateway", &firewall.address, "--ca", ca, "--token-file", token]).expect_code(0);
    let tunnel = ctl.wait_for_tunnel()["tunnel"].clone();
    assert_eq!(tunnel["transport"], "tcp");
    let reason = format!("UDP to {} got no answer; connected over TCP, trying UDP again", firewall.address);
    assert_eq!(tunnel["reason"], reason);
    let human = ctl.run(&["tunnel", "status"]).expect_code(0).stdout;
    assert!(
        human.contains("over TCP") && human.contains(&reason) && human.contains("next: open UDP"),
        "{human}"
    );
    let subsystems = ctl.json(&["status"])["subsystems"].clone();
    let health = subsystems.as_array().unwrap().iter().find(|part| part["name"] == "tunnel").unwrap();
    assert_eq!(health["state"], "ready");

    let asked = ctl.run(&["ask", "--cloud", "over the fallback"]).expect_code(0);
    assert!(asked.stdout.contains("over the fallback"), "{asked:?}");

    firewall.open.store(true, Ordering::Relaxed);
    let healed = ctl.wait_for_status("a tunnel over QUIC", |status| status["tunnel"]["transport"] == "quic");
    assert_eq!(healed["tunnel"]["state"], "up");
    assert!(healed["tunnel"]["reason"].is_null(), "{healed:#}");
    let asked = ctl.run(&["ask", "--cloud", "over QUIC again"]).expect_code(0);
    assert!(asked.stdout.contains("over QUIC again"), "{asked:?}");
}
