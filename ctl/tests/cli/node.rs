//! `status`, `vitals` and `model info`.

use serde_json::json;
use synesis_proto::control::v1::*;

use crate::fake::{Fake, Script, Step};
use crate::run::{at, synctl};

fn healthy() -> StatusReply {
    StatusReply {
        state: "ready".into(),
        subsystems: vec![Subsystem { name: "journal".into(), state: "ready".into(), ..Subsystem::default() }],
        tunnel: Some(Tunnel {
            state: "up".into(),
            gateway: "gw.example:4433".into(),
            rtt_ms: Some(0.4),
            connected_since: "2026-01-01T00:00:00Z".into(),
            ..Tunnel::default()
        }),
        model: Some(Model {
            state: "ready".into(),
            name: "smol".into(),
            makes_embeddings: true,
            ..Model::default()
        }),
        adapter: Some(Adapter { name: "legal".into(), generation: 3 }),
        device_id: "d-1".into(),
        version: "0.1.0".into(),
        started_at: "2026-01-01T00:00:00Z".into(),
        pending_receipts: 2,
    }
}

fn troubled() -> StatusReply {
    StatusReply {
        state: "degraded".into(),
        subsystems: vec![Subsystem {
            name: "runtime".into(),
            state: "degraded".into(),
            reason: "the model process was killed by signal 9".into(),
            next_step: "it restarts by itself in 2 s".into(),
        }],
        tunnel: Some(Tunnel {
            state: "backoff".into(),
            // A stale measurement must not look like a live one.
            rtt_ms: Some(7.0),
            reason: "connection refused".into(),
            next_step: "check that the gateway runs".into(),
            retry_in_ms: Some(2_000),
            ..Tunnel::default()
        }),
        model: Some(Model {
            state: "failed".into(),
            reason: "the file is truncated".into(),
            next_step: "fetch it again".into(),
            ..Model::default()
        }),
        version: "0.1.0".into(),
        ..StatusReply::default()
    }
}

fn status(reply: StatusReply) -> Script {
    Script { status: reply, ..Script::default() }
}

#[test]
fn status_has_the_keys_of_the_contract() {
    let fake = Fake::start(status(healthy()));
    let object = synctl(&fake.socket, &["status", "--json"]).expect(0).object();
    let expected = [
        ("schema", json!("synesis.status/1")),
        ("state", json!("ready")),
        ("subsystems", json!([{"name": "journal", "state": "ready", "reason": null, "next_step": null}])),
        ("tunnel.state", json!("up")),
        ("tunnel.gateway", json!("gw.example:4433")),
        ("tunnel.rtt_ms", json!(1)),
        ("tunnel.rtt_us", json!(400)),
        ("tunnel.connected_since", json!("2026-01-01T00:00:00Z")),
        ("model.name", json!("smol")),
        ("model.state", json!("ready")),
        ("adapter.name", json!("legal")),
        ("adapter.generation", json!(3)),
        ("device_id", json!("d-1")),
        ("version", json!("0.1.0")),
        ("pending_receipts", json!(2)),
    ];
    for (path, value) in expected {
        assert_eq!(*at(&object, path), value, "{path}");
    }
}

#[test]
fn status_prints_null_for_what_is_absent_and_still_succeeds() {
    let fake = Fake::start(status(troubled()));
    let object = synctl(&fake.socket, &["status", "--json"]).expect(0).object();
    for path in [
        "tunnel.rtt_ms",
        "tunnel.connected_since",
        "tunnel.gateway",
        "model.name",
        "adapter.name",
        "device_id",
    ] {
        assert!(at(&object, path).is_null(), "{path}");
    }
    assert_eq!(*at(&object, "adapter.generation"), json!(0));
    assert_eq!(*at(&object, "tunnel.retry_in_ms"), json!(2_000));
}

#[test]
fn every_degraded_line_of_the_screen_carries_its_reason_and_next_step() {
    let fake = Fake::start(status(troubled()));
    let ended = synctl(&fake.socket, &["status"]).expect(0);
    for line in [
        "why: the model process was killed by signal 9",
        "next: it restarts by itself in 2 s",
        "why: connection refused",
        "next: check that the gateway runs",
        "why: the file is truncated",
        "next: fetch it again",
    ] {
        assert!(ended.stdout.lines().any(|shown| shown.trim() == line), "{line}\n{}", ended.stdout);
    }
    assert!(ended.stdout.contains("not enrolled"), "{}", ended.stdout);
    assert!(!ended.stdout.contains('\x1b'), "colours in a pipe: {}", ended.stdout);
    assert_eq!(ended.stderr, "");
}

#[test]
fn watching_prints_one_line_per_snapshot_until_the_daemon_stops() {
    let watch = vec![Step::Send(healthy()), Step::Send(troubled())];
    let fake = Fake::start(Script { watch, ..Script::default() });
    let ended = synctl(&fake.socket, &["status", "--watch", "--json"]).expect(3);
    let states: Vec<_> = ended.objects().iter().map(|object| object["state"].clone()).collect();
    assert_eq!(states, ["ready", "degraded"]);
    assert_eq!(ended.error()["reason"], "STOPPING");
}

fn vitals() -> Vitals {
    Vitals {
        cpu: Some(0.25),
        memory: Some(0.5),
        uptime_s: Some(4_000),
        gpus: vec![Gpu { name: "Orin".into(), utilization: Some(0.75), ..Gpu::default() }],
        sampled_at: "2026-01-01T00:00:00Z".into(),
        ..Vitals::default()
    }
}

#[test]
fn vitals_have_the_keys_of_the_contract_and_null_for_what_cannot_be_read() {
    let fake = Fake::start(Script { vitals: vec![Step::Send(vitals()), Step::Hang], ..Script::default() });
    let object = synctl(&fake.socket, &["vitals", "--json"]).expect(0).object();
    let expected = json!({
        "schema": "synesis.vitals/1", "cpu": 0.25, "memory": 0.5, "disk": null, "temperature_c": null, "load": null,
        "gpus": [{"name": "Orin", "utilization": 0.75, "memory": null, "temperature_c": null}],
        "uptime_s": 4_000, "sampled_at": "2026-01-01T00:00:00Z",
    });
    assert_eq!(object, expected);
}

#[test]
fn vitals_for_people_say_what_cannot_be_read() {
    let fake = Fake::start(Script { vitals: vec![Step::Send(vitals())], ..Script::default() });
    let ended = synctl(&fake.socket, &["vitals"]).expect(0);
    assert!(ended.stdout.contains("cpu          25 %"), "{}", ended.stdout);
    assert!(ended.stdout.contains("disk         cannot be read here"), "{}", ended.stdout);
}

#[test]
fn watched_vitals_stream_every_sample() {
    let steps = vec![Step::Send(vitals()), Step::Send(vitals()), Step::Send(vitals())];
    let fake = Fake::start(Script { vitals: steps, ..Script::default() });
    let ended = synctl(&fake.socket, &["vitals", "--watch", "--json"]).expect(3);
    assert_eq!(ended.objects().len(), 3);
}

#[test]
fn model_info_shows_what_is_known_and_null_for_the_rest() {
    let model = ModelInfoReply {
        name: "smol".into(),
        state: "ready".into(),
        context_tokens: 2_048,
        has_chat_template: true,
        ..ModelInfoReply::default()
    };
    let fake = Fake::start(Script { model, ..Script::default() });
    let object = synctl(&fake.socket, &["model", "info", "--json"]).expect(0).object();
    assert_eq!(*at(&object, "schema"), json!("synesis.model/1"));
    assert_eq!(*at(&object, "context_tokens"), json!(2_048));
    assert!(at(&object, "parameters").is_null());
    assert_eq!(*at(&object, "makes_embeddings"), json!(false));
    assert!(at(&object, "embedding_width").is_null());
    let human = synctl(&fake.socket, &["model", "info"]).expect(0);
    assert!(human.stdout.contains("context       2048 tokens"), "{}", human.stdout);
    assert!(!human.stdout.contains("embeddings"), "{}", human.stdout);
}

#[test]
fn model_info_says_what_vectors_the_model_makes_and_whether_it_does_nothing_else() {
    let model = ModelInfoReply {
        name: "minilm".into(),
        state: "ready".into(),
        makes_embeddings: true,
        embeddings_only: true,
        embedding_width: 384,
        ..ModelInfoReply::default()
    };
    let fake = Fake::start(Script { model, ..Script::default() });
    let object = synctl(&fake.socket, &["model", "info", "--json"]).expect(0).object();
    assert_eq!(*at(&object, "embedding_width"), json!(384));
    assert_eq!(
        (at(&object, "makes_embeddings"), at(&object, "embeddings_only")),
        (&json!(true), &json!(true))
    );
    let human = synctl(&fake.socket, &["model", "info"]).expect(0);
    assert!(
        human.stdout.contains("embeddings    yes, 384 numbers each; it writes no text"),
        "{}",
        human.stdout
    );
}
