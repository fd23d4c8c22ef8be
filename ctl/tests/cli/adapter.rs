//! `adapter`.

use serde_json::json;
use synesis_proto::control::v1::*;
use synesis_proto::{Problem, reason};
use tonic::Code;

use crate::fake::{Asked, Fake, Script, Step};
use crate::run::{at, synctl};

fn record() -> AdapterRecord {
    AdapterRecord {
        name: "legal".into(),
        sha256: "ab".repeat(32),
        size_bytes: 2_140_000,
        rank: 8,
        alpha: 16.0,
        architecture: "llama".into(),
        targets: vec!["attn_q".into(), "attn_v".into()],
        imported_at: "2026-01-01T00:00:00Z".into(),
        active: true,
        ..AdapterRecord::default()
    }
}

#[test]
fn a_file_arrives_whole_in_chunks_under_the_name_of_its_stem() {
    let fake = Fake::start(Script { record: record(), ..Script::default() });
    let content: Vec<u8> = (0..600_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let path = fake.file("contracts.v2.gguf", &content);
    let ended = synctl(&fake.socket, &["adapter", "import", path.to_str().unwrap(), "--json"]).expect(0);
    let object = ended.object();
    assert_eq!(*at(&object, "schema"), json!("synesis.adapter/1"));
    assert_eq!(*at(&object, "name"), json!("contracts.v2"));
    assert_eq!(*at(&object, "rank"), json!(8));
    let Some(Asked::Imported { name, source, parts, chunks }) = fake.asked().pop() else {
        panic!("{:?}", fake.asked())
    };
    assert_eq!((name.as_str(), chunks), ("contracts.v2", 3));
    assert_eq!(source, path.to_str().unwrap(), "where it came from is told as the user said it");
    assert!(parts == [(ImportPart::Gguf, content)], "the bytes differ");
}

#[test]
fn a_peft_folder_arrives_as_its_two_files_under_the_folders_name() {
    let fake = Fake::start(Script { record: record(), ..Script::default() });
    let folder = fake.dir.path().join("tone.v2");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("adapter_config.json"), "{}").unwrap();
    let weights = vec![7; 300_000];
    std::fs::write(folder.join("adapter_model.safetensors"), &weights).unwrap();
    synctl(&fake.socket, &["adapter", "import", folder.to_str().unwrap()]).expect(0);
    let Some(Asked::Imported { name, parts, .. }) = fake.asked().pop() else { panic!("{:?}", fake.asked()) };
    assert_eq!(name, "tone.v2");
    assert!(parts == [(ImportPart::PeftConfig, b"{}".to_vec()), (ImportPart::PeftWeights, weights)]);
}

#[test]
fn an_empty_part_is_sent_too_so_that_the_daemon_can_say_what_is_wrong() {
    let fake = Fake::start(Script { record: record(), ..Script::default() });
    let folder = fake.dir.path().join("hollow");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("adapter_config.json"), "").unwrap();
    std::fs::write(folder.join("adapter_model.safetensors"), "").unwrap();
    synctl(&fake.socket, &["adapter", "import", folder.to_str().unwrap()]).expect(0);
    let Some(Asked::Imported { parts, .. }) = fake.asked().pop() else { panic!("{:?}", fake.asked()) };
    assert_eq!(parts, [(ImportPart::PeftConfig, vec![]), (ImportPart::PeftWeights, vec![])]);
}

#[test]
fn a_name_may_be_given_and_an_empty_file_is_still_sent() {
    let fake = Fake::start(Script { record: record(), ..Script::default() });
    let path = fake.file("x.gguf", b"");
    let ended = synctl(&fake.socket, &["adapter", "import", "mine", path.to_str().unwrap()]).expect(0);
    assert!(ended.stdout.starts_with("mine  rank 8, alpha 16, 2.1 MB, for llama\n"), "{}", ended.stdout);
    assert!(ended.stderr.starts_with("importing "), "{}", ended.stderr);
    let asked = fake.asked().pop();
    assert!(matches!(&asked, Some(Asked::Imported { name, chunks: 1, .. }) if name == "mine"), "{asked:?}");
}

#[test]
fn a_file_that_cannot_be_read_is_never_taken_for_a_whole_one() {
    let fake = Fake::start(Script { record: record(), ..Script::default() });
    let missing = fake.dir.path().join("missing.gguf");
    synctl(&fake.socket, &["adapter", "import", missing.to_str().unwrap()]).expect_failure(9, "missing.gguf");
    // One that is there and fails while it is read: after the call began.
    synctl(&fake.socket, &["adapter", "import", "memory", "/proc/self/mem"]).expect_failure(1, "cannot read");
    let folder = fake.dir.path().to_str().unwrap();
    synctl(&fake.socket, &["adapter", "import", "folder", folder]).expect_failure(2, "is no adapter");
    assert!(!fake.asked().iter().any(|asked| matches!(asked, Asked::Imported { .. })), "{:?}", fake.asked());
}

#[test]
fn the_list_shows_which_one_is_active() {
    let list = ListAdaptersReply { adapters: vec![record()], generation: 4, ..ListAdaptersReply::default() };
    let fake = Fake::start(Script { list, ..Script::default() });
    let object = synctl(&fake.socket, &["adapter", "list", "--json"]).expect(0).object();
    assert_eq!(*at(&object, "generation"), json!(4));
    assert_eq!(object["adapters"][0]["name"], "legal");
    assert_eq!(object["adapters"][0]["active"], json!(true));
    let human = synctl(&fake.socket, &["adapter", "list"]).expect(0);
    assert!(human.stdout.contains("active, generation 4"), "{}", human.stdout);
    let none = Fake::start(Script::default());
    assert!(synctl(&none.socket, &["adapter", "list"]).expect(0).stdout.starts_with("no adapters"));
}

#[test]
fn the_list_shows_where_each_one_came_from_and_why_one_cannot_be_used() {
    let other = AdapterRecord {
        name: "medical".into(),
        active: false,
        loaded: true,
        source: "/home/ann/medical".into(),
        format: "peft".into(),
        base_model: "org/base".into(),
        imported_by_uid: Some(0),
        source_sha256: "cd".repeat(32),
        last_used_at: "2026-01-02T03:04:05.6Z".into(),
        unusable: "it was made for gemma3 models, the loaded model is llama".into(),
        ..record()
    };
    let list =
        ListAdaptersReply { adapters: vec![record(), other], generation: 4, ..ListAdaptersReply::default() };
    let fake = Fake::start(Script { list, ..Script::default() });
    let object = synctl(&fake.socket, &["adapter", "list", "--json"]).expect(0).object();
    let (plain, other) = (&object["adapters"][0], &object["adapters"][1]);
    assert!(["source", "imported_by_uid", "last_used_at", "unusable"].iter().all(|key| plain[key].is_null()));
    assert_eq!((&other["format"], &other["base_model"]), (&json!("peft"), &json!("org/base")));
    assert_eq!((&other["loaded"], &other["imported_by_uid"]), (&json!(true), &json!(0)));
    assert_eq!(other["source_sha256"], json!("cd".repeat(32)));
    let human = synctl(&fake.socket, &["adapter", "list"]).expect(0).stdout;
    for shown in ["never", "2026-01-02 03:04 UTC", "/home/ann/medical", "unusable", "made for gemma3"] {
        assert!(human.contains(shown), "{shown}: {human}");
    }
}

#[test]
fn a_swap_prints_name_generation_previous_and_time() {
    let swap = SwapReply {
        name: "legal".into(),
        generation: 5,
        previous: "medical".into(),
        swap_ms: 9.7,
        warmed: false,
    };
    let fake = Fake::start(Script { swap, ..Script::default() });
    let arguments = ["adapter", "swap", "legal", "--expect-generation", "4", "--json"];
    let object = synctl(&fake.socket, &arguments).expect(0).object();
    let expected = json!({
        "schema": "synesis.swap/1", "name": "legal", "generation": 5, "previous": "medical", "swap_ms": 10,
        "swap_us": 9_700, "warmed": false,
    });
    assert_eq!(object, expected);
    let Some(Asked::Swap(request)) = fake.asked().pop() else { panic!("{:?}", fake.asked()) };
    assert_eq!(request, SwapRequest { name: "legal".into(), expected_generation: Some(4) });
}

#[test]
fn off_goes_back_to_the_base_model_which_has_no_name() {
    let swap = SwapReply {
        name: String::new(),
        generation: 6,
        previous: "legal".into(),
        swap_ms: 0.1,
        warmed: false,
    };
    let fake = Fake::start(Script { swap, ..Script::default() });
    let object = synctl(&fake.socket, &["adapter", "off", "--json"]).expect(0).object();
    assert!(at(&object, "name").is_null());
    assert!(matches!(fake.asked().pop(), Some(Asked::Off(OffRequest { expected_generation: None }))));
    let human = synctl(&fake.socket, &["adapter", "off"]).expect(0);
    assert!(human.stdout.starts_with("the base model answers from now on"), "{}", human.stdout);
}

#[test]
fn an_unknown_adapter_is_not_found() {
    let refuse =
        Problem::new(Code::NotFound, reason::ADAPTER_NOT_FOUND, "no adapter x", "synctl adapter list");
    let fake = Fake::start(Script { refuse: Some(refuse), ..Script::default() });
    synctl(&fake.socket, &["adapter", "swap", "x"]).expect_failure(9, "no adapter x");
    synctl(&fake.socket, &["adapter", "rm", "x"]).expect_failure(9, "no adapter x");
}

#[test]
fn a_refused_import_ends_with_its_reason() {
    let refuse = Problem::new(
        Code::InvalidArgument,
        reason::ADAPTER_INVALID,
        "the file is truncated",
        "copy it again",
    );
    let fake = Fake::start(Script { refuse: Some(refuse), ..Script::default() });
    // Larger than the flow-control window: the refusal comes while chunks are still to be sent.
    let path = fake.file("big.gguf", vec![7; 8 << 20]);
    synctl(&fake.socket, &["adapter", "import", path.to_str().unwrap()])
        .expect_failure(1, "the file is truncated");
}

#[test]
fn a_removed_adapter_is_named() {
    let fake = Fake::start(Script::default());
    let object = synctl(&fake.socket, &["adapter", "rm", "legal", "--json"]).expect(0).object();
    assert_eq!(*at(&object, "removed"), json!("legal"));
    assert!(matches!(&fake.asked()[..], [Asked::Removed(name)] if name == "legal"));
}

fn transfer(state: &str) -> Transfer {
    Transfer {
        id: "01JD000000000000000000000A".into(),
        direction: "push".into(),
        name: "legal".into(),
        sha256: "ab".repeat(32),
        size_bytes: 1_000,
        moved_bytes: 400,
        state: state.into(),
        reason: if state == "waiting" { "offline: no route".into() } else { String::new() },
        begun_at: "2026-01-02T03:04:05Z".into(),
        ..Transfer::default()
    }
}

fn event(event: transfer_event::Event) -> Step<TransferEvent> {
    Step::Send(TransferEvent { event: Some(event) })
}

#[test]
fn a_push_tells_how_far_it_is_and_how_it_ended() {
    use transfer_event::Event;
    let started = PullStarted { source: "legal".into(), total_bytes: 1_000, resumed_bytes: 400 };
    let progress = |received_bytes, phase: &str| PullProgress {
        received_bytes,
        total_bytes: 1_000,
        phase: phase.into(),
    };
    let steps = vec![
        event(Event::Started(started)),
        event(Event::Progress(progress(400, "waiting"))),
        event(Event::Progress(progress(700, "sending"))),
        event(Event::Done(transfer("done"))),
    ];
    let fake = Fake::start(Script { transfer: steps, ..Script::default() });
    let lines = synctl(&fake.socket, &["adapter", "push", "legal", "--json"]).expect(0).objects();
    assert_eq!(lines.len(), 4);
    assert_eq!((&lines[0]["type"], &lines[0]["received_bytes"]), (&json!("started"), &json!(400)));
    assert_eq!((&lines[1]["phase"], &lines[2]["phase"]), (&json!("waiting"), &json!("sending")));
    assert_eq!((&lines[3]["schema"], &lines[3]["state"]), (&json!("synesis.adapter_push/1"), &json!("done")));
    let human = synctl(&fake.socket, &["adapter", "push", "legal"]).expect(0);
    assert!(human.stdout.starts_with("legal is at the gateway"), "{}", human.stdout);
    assert!(
        human.stderr.contains("waiting") && human.stderr.contains("--cloud --adapter legal"),
        "{}",
        human.stderr
    );
    let Some(Asked::Push(request)) = fake.asked().pop() else { panic!("{:?}", fake.asked()) };
    assert_eq!(request, PushAdapterRequest { name: "legal".into(), detach: false });
}

#[test]
fn a_detached_push_returns_at_once_and_says_that_it_goes_on() {
    let steps = vec![event(transfer_event::Event::Done(transfer("sending")))];
    let fake = Fake::start(Script { transfer: steps, ..Script::default() });
    let human = synctl(&fake.socket, &["adapter", "push", "legal", "--detach"]).expect(0);
    assert!(human.stdout.contains("goes on by itself"), "{}", human.stdout);
    let Some(Asked::Push(request)) = fake.asked().pop() else { panic!("{:?}", fake.asked()) };
    assert!(request.detach);
    let cancelled =
        synctl(&fake.socket, &["adapter", "push", "legal", "--cancel", "--json"]).expect(0).object();
    assert_eq!(cancelled["cancelled"]["direction"], json!("push"));
    synctl(&fake.socket, &["adapter", "push", "legal", "--cancel", "--detach"]).expect(2);
}

#[test]
fn a_pull_names_what_is_wanted_and_what_to_call_it() {
    let steps =
        vec![event(transfer_event::Event::Done(Transfer { direction: "pull".into(), ..transfer("done") }))];
    let fake = Fake::start(Script { transfer: steps, ..Script::default() });
    let human = synctl(&fake.socket, &["adapter", "pull", "legal", "--name", "law"]).expect(0);
    assert!(human.stdout.starts_with("legal is on this device"), "{}", human.stdout);
    let Some(Asked::Pull(request)) = fake.asked().pop() else { panic!("{:?}", fake.asked()) };
    assert_eq!((request.wanted.as_str(), request.name.as_str()), ("legal", "law"));
}

#[test]
fn the_list_shows_transfers_and_what_keeps_them() {
    let list = ListAdaptersReply { transfers: vec![transfer("waiting")], ..ListAdaptersReply::default() };
    let fake = Fake::start(Script { list, ..Script::default() });
    let object = synctl(&fake.socket, &["adapter", "list", "--json"]).expect(0).object();
    let shown = &object["transfers"][0];
    assert_eq!((&shown["state"], &shown["reason"]), (&json!("waiting"), &json!("offline: no route")));
    assert_eq!((&shown["moved_bytes"], &shown["next_step"]), (&json!(400), &serde_json::Value::Null));
    let human = synctl(&fake.socket, &["adapter", "list"]).expect(0).stdout;
    for part in ["TRANSFER", "push", "legal", "offline: no route", "2026-01-02 03:04 UTC"] {
        assert!(human.contains(part), "{part}: {human}");
    }
}

#[test]
fn the_gateways_adapters_are_listed_and_removed_on_their_own() {
    let adapter = CloudAdapter {
        name: "legal".into(),
        sha256: "ab".repeat(32),
        size_bytes: 1_000,
        rank: 8,
        pushed_by: "6f1c2a52-3a0c-4b52-9a3e-2f6d4f6f0a11".into(),
        pushed_at: "2026-01-02T03:04:05Z".into(),
        here: true,
        ..CloudAdapter::default()
    };
    let cloud = ListCloudReply { adapters: vec![adapter] };
    let fake = Fake::start(Script { cloud, ..Script::default() });
    let object = synctl(&fake.socket, &["adapter", "list", "--cloud", "--json"]).expect(0).object();
    assert_eq!(object["schema"], json!("synesis.cloud_adapters/1"));
    assert_eq!((&object["adapters"][0]["here"], &object["adapters"][0]["rank"]), (&json!(true), &json!(8)));
    let human = synctl(&fake.socket, &["adapter", "list", "--cloud"]).expect(0).stdout;
    assert!(human.contains("legal") && human.contains("yes") && human.contains("abababababab"), "{human}");
    let removed = synctl(&fake.socket, &["adapter", "rm", "--cloud", "legal", "--json"]).expect(0).object();
    assert_eq!(removed["removed"][0]["name"], json!("legal"));
    assert!(matches!(fake.asked().pop(), Some(Asked::Removed(name)) if name == "legal"));
}
