//! `enroll`, `unenroll` and `tunnel`.

use std::path::Path;

use serde_json::json;
use synesis_proto::control::v1::*;
use synesis_proto::{Problem, reason};
use tonic::Code;

use crate::fake::{Asked, Fake, Script};
use crate::run::{Ended, synctl};

const CA: &str = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
const TOKEN: &str = "one-time-token-7d1f";

fn script() -> Script {
    let enroll = EnrollReply {
        device_id: "d-1".into(),
        account: "acme".into(),
        gateway: "gw.example:4433".into(),
        expires_at: "2027-01-01T00:00:00Z".into(),
    };
    Script { enroll, ..Script::default() }
}

fn enroll(fake: &Fake, ca: &Path, token: &Path, more: &[&str]) -> Ended {
    let (ca, token) = (ca.to_str().unwrap(), token.to_str().unwrap());
    let mut arguments = vec!["enroll", "--gateway", "gw.example:4433", "--ca", ca, "--token-file", token];
    arguments.extend(more);
    synctl(&fake.socket, &arguments)
}

#[test]
fn enrolling_sends_ca_and_trimmed_token_and_never_shows_the_token() {
    let fake = Fake::start(script());
    let (ca, token) = (fake.file("ca.pem", CA), fake.file("token", format!("  {TOKEN}\n")));
    for more in [&["--json"][..], &[]] {
        let ended = enroll(&fake, &ca, &token, more).expect(0);
        assert!(!ended.stdout.contains(TOKEN) && !ended.stderr.contains(TOKEN), "{ended:?}");
    }
    let object = enroll(&fake, &ca, &token, &["--json"]).object();
    let expected = json!({
        "schema": "synesis.enroll/1", "device_id": "d-1", "account": "acme", "gateway": "gw.example:4433",
        "expires_at": "2027-01-01T00:00:00Z",
    });
    assert_eq!(object, expected);
    let Some(Asked::Enroll(request)) = fake.asked().pop() else { panic!("{:?}", fake.asked()) };
    assert_eq!((request.token.as_str(), request.ca_pem.as_str()), (TOKEN, CA));
}

#[test]
fn files_that_do_not_do_are_named_before_anyone_is_asked() {
    let fake = Fake::start(script());
    let (ca, token) = (fake.file("ca.pem", CA), fake.file("token", TOKEN));
    let (empty, missing) = (fake.file("empty", " \n"), fake.dir.path().join("missing"));
    let folder = fake.dir.path().to_owned();
    enroll(&fake, &missing, &token, &[]).expect_failure(9, "missing");
    enroll(&fake, &ca, &missing, &[]).expect_failure(9, "missing");
    enroll(&fake, &folder, &token, &[]).expect_failure(1, "cannot read");
    enroll(&fake, &token, &token, &[]).expect_failure(2, "holds no PEM certificate");
    enroll(&fake, &ca, &empty, &[]).expect_failure(2, "holds no token");
    assert!(fake.asked().is_empty());
}

#[test]
fn a_refused_enrolment_ends_with_the_code_of_its_reason() {
    let table = [
        (reason::TOKEN_REFUSED, 4),
        (reason::TOKEN_EXPIRED, 4),
        (reason::GATEWAY_UNTRUSTED, 4),
        (reason::GATEWAY_UNREACHABLE, 6),
        (reason::ALREADY_ENROLLED, 1),
        (reason::FORBIDDEN, 5),
    ];
    for (reason, code) in table {
        let refuse = Some(Problem::new(Code::FailedPrecondition, reason, "no enrolment", "do this"));
        let fake = Fake::start(Script { refuse, ..script() });
        let (ca, token) = (fake.file("ca.pem", CA), fake.file("token", TOKEN));
        let ended = enroll(&fake, &ca, &token, &[]).expect_failure(code, "no enrolment");
        assert!(!ended.stderr.contains(TOKEN));
    }
}

#[test]
fn unenrolling_says_so() {
    let fake = Fake::start(script());
    let object = synctl(&fake.socket, &["unenroll", "--json"]).expect(0).object();
    assert_eq!(object, json!({"schema": "synesis.unenroll/1", "enrolled": false}));
    assert!(matches!(fake.asked()[..], [Asked::Unenrolled]));
}

#[test]
fn the_tunnel_shows_its_state_and_why_it_is_not_up() {
    let tunnel = Tunnel {
        state: "backoff".into(),
        gateway: "gw.example:4433".into(),
        reason: "connection refused".into(),
        next_step: "check that the gateway runs".into(),
        retry_in_ms: Some(1_500),
        certificate_until: "2027-11-30T12:00:00Z".into(),
        ..Tunnel::default()
    };
    let fake = Fake::start(Script { tunnel, ..Script::default() });
    let object = synctl(&fake.socket, &["tunnel", "status", "--json"]).expect(0).object();
    let expected = json!({
        "schema": "synesis.tunnel/1", "state": "backoff", "gateway": "gw.example:4433", "transport": null,
        "rtt_ms": null, "rtt_us": null, "connected_since": null, "retry_in_ms": 1_500, "reason": "connection refused",
        "next_step": "check that the gateway runs", "rebinds": 0, "certificate_until": "2027-11-30T12:00:00Z",
        "clock_offset_ms": null,
    });
    assert_eq!(object, expected);
    let human = synctl(&fake.socket, &["tunnel", "status"]).expect(0);
    assert!(human.stdout.contains("\ncertificate valid until 2027-11-30T12:00:00Z\n"), "{human:?}");
    assert!(
        human.stdout.ends_with("why: connection refused\nnext: check that the gateway runs\n"),
        "{human:?}"
    );
}

#[test]
fn a_tunnel_over_tcp_is_up_and_says_why_it_is_not_over_quic() {
    let tunnel = Tunnel {
        state: "up".into(),
        gateway: "gw.example:4433".into(),
        transport: "tcp".into(),
        reason: "UDP to gw.example:4433 got no answer; connected over TCP, trying UDP again".into(),
        next_step: "open UDP to gw.example:4433 in the firewall".into(),
        ..Tunnel::default()
    };
    let fake = Fake::start(Script { tunnel, ..Script::default() });
    let object = synctl(&fake.socket, &["tunnel", "status", "--json"]).expect(0).object();
    assert_eq!((&object["state"], &object["transport"]), (&json!("up"), &json!("tcp")));
    let human = synctl(&fake.socket, &["tunnel", "status"]).expect(0).stdout;
    assert!(human.contains("gw.example:4433, over TCP\n"), "{human}");
    assert!(human.ends_with("next: open UDP to gw.example:4433 in the firewall\n"), "{human}");
}

#[test]
fn a_tunnel_whose_path_is_being_probed_says_so() {
    let reason = "the network changed; the path was bound anew (2 times) and is being probed";
    let tunnel = Tunnel {
        state: "up".into(),
        gateway: "gw.example:4433".into(),
        reason: reason.into(),
        rebinds: 2,
        ..Tunnel::default()
    };
    let fake = Fake::start(Script { tunnel, ..Script::default() });
    let object = synctl(&fake.socket, &["tunnel", "status", "--json"]).expect(0).object();
    assert_eq!((&object["rebinds"], &object["reason"]), (&json!(2), &json!(reason)));
    let human = synctl(&fake.socket, &["tunnel", "status"]).expect(0);
    assert!(human.stdout.contains("gw.example:4433, rebound 2 times\n"), "{human:?}");
    assert!(human.stdout.ends_with(&format!("why: {reason}\n")), "{human:?}");
}

#[test]
fn a_ping_shows_the_round_trip() {
    let ping = TunnelPingReply { rtt_ms: 12.345, gateway: "gw.example:4433".into() };
    let fake = Fake::start(Script { ping, ..Script::default() });
    let object = synctl(&fake.socket, &["tunnel", "ping", "--json"]).expect(0).object();
    let expected = json!({
        "schema": "synesis.ping/1", "rtt_ms": 13, "rtt_us": 12_345, "gateway": "gw.example:4433",
    });
    assert_eq!(object, expected);
    let human = synctl(&fake.socket, &["tunnel", "ping"]).expect(0);
    assert_eq!(human.stdout, "gw.example:4433 answered in 12 ms\n");
}

#[test]
fn reconnect_dials_now() {
    let fake = Fake::start(Script::default());
    synctl(&fake.socket, &["tunnel", "reconnect"]).expect(0);
    assert!(matches!(fake.asked()[..], [Asked::Reconnect]));
}
