//! `ask` and `route`.

use std::sync::Arc;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use synesis_proto::control::v1::done::Receipt;
use synesis_proto::control::v1::*;
use synesis_proto::{Problem, reason};
use tokio::sync::Notify;
use tonic::Code;

use crate::billing::{REQUEST, signed};
use crate::fake::{Asked, Fake, Script, Step, delta, done};
use crate::run::{Running, at, command, synctl, synctl_with_input};

fn local() -> Done {
    Done {
        origin: Origin::Local.into(),
        reason: "POLICY_LOCAL".into(),
        model: "smol".into(),
        usage: Some(Usage { input_tokens: 12, output_tokens: 34 }),
        first_token_ms: 0.7,
        total_ms: 850.2,
        request_id: REQUEST.into(),
        finish_reason: "stop".into(),
        ..Done::default()
    }
}

fn cloud(receipt: Receipt) -> Done {
    Done { origin: Origin::Cloud.into(), adapter_generation: 2, receipt: Some(receipt), ..local() }
}

fn answering(ask: Vec<Step<AskEvent>>) -> Fake {
    Fake::start(Script { ask, ..Script::default() })
}

fn request_of(fake: &Fake) -> AskRequest {
    match fake.asked().pop() {
        Some(Asked::Ask(request) | Asked::Route(request)) => request,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_first_words_are_printed_before_the_next_are_made() {
    let more = Arc::new(Notify::new());
    let fake = answering(vec![delta("Hel"), Step::Wait(more.clone()), delta("lo"), done(local())]);
    let mut running = Running::start(&mut command(&fake.socket, &["ask", "hi"]));
    running.expect_output("Hel");
    more.notify_one();
    let ended = running.finish().expect(0);
    assert_eq!(ended.stdout, "lo\n");
    assert_eq!(ended.stderr, "local · smol · 12 + 34 tokens · 850 ms (first after 0.7 ms)\n");
}

#[test]
fn json_streams_deltas_and_ends_with_the_whole_answer() {
    let more = Arc::new(Notify::new());
    let fake = answering(vec![delta("Hel"), Step::Wait(more.clone()), delta("lo"), done(local())]);
    let mut running = Running::start(&mut command(&fake.socket, &["ask", "hi", "--json"]));
    assert_eq!(running.line(), "{\"type\":\"delta\",\"schema\":\"synesis.ask/1\",\"text\":\"Hel\"}\n");
    more.notify_one();
    let ended = running.finish().expect(0);
    let lines = ended.objects();
    assert_eq!(lines.len(), 2, "{lines:?}");
    let expected = json!({
        "type": "done", "schema": "synesis.ask/1", "text": "Hello", "origin": "local", "reason": "POLICY_LOCAL",
        "model": "smol", "adapter": null, "adapter_generation": 0,
        "usage": {"input_tokens": 12, "output_tokens": 34}, "first_token_ms": 1, "total_ms": 851,
        "request_id": REQUEST, "finish_reason": "stop", "tool_calls": null, "mean_logprob": null, "cached_tokens": 0,
        "queued_ms": 0, "unknown_placeholders": 0, "receipt": null,
    });
    assert_eq!(lines[1], expected);
    assert_eq!(ended.stderr, "");
}

#[test]
fn a_cloud_answer_carries_its_receipt_decoded() {
    let bytes = signed(1, REQUEST).to_bytes();
    let fake = answering(vec![delta("a"), done(cloud(Receipt::SignedReceipt(bytes)))]);
    let ended = synctl(&fake.socket, &["ask", "hi", "--json"]).expect(0);
    let line = ended.objects().pop().unwrap();
    assert_eq!(*at(&line, "origin"), json!("cloud"));
    assert_eq!(*at(&line, "receipt.schema"), json!("synesis.receipt/1"));
    assert_eq!(*at(&line, "receipt.request_id"), json!(REQUEST));
    assert_eq!(*at(&line, "receipt.net_nanousd"), json!(1_030));
    let human = synctl(&fake.socket, &["ask", "hi"]).expect(0);
    assert!(human.stderr.contains("$0.00000103"), "{}", human.stderr);
}

#[test]
fn a_receipt_that_has_not_arrived_is_pending() {
    let fake = answering(vec![delta("a"), done(cloud(Receipt::Pending(true)))]);
    let ended = synctl(&fake.socket, &["ask", "hi", "--json"]).expect(0);
    assert_eq!(ended.objects().pop().unwrap()["receipt"], json!("pending"));
}

#[test]
fn an_unreadable_receipt_fails_after_the_answer_was_shown() {
    let fake = answering(vec![delta("a"), done(cloud(Receipt::SignedReceipt(vec![1, 2, 3])))]);
    let ended = synctl(&fake.socket, &["ask", "hi", "--json"]).expect(1);
    let line = ended.objects().pop().unwrap();
    assert_eq!(*at(&line, "text"), json!("a"));
    assert_eq!(*at(&line, "receipt.schema"), json!("synesis.receipt_fault/1"));
    assert_eq!(ended.error()["reason"], "RECEIPT_DAMAGED");
}

#[test]
fn an_empty_prompt_is_refused_before_anyone_is_asked() {
    let fake = answering(vec![done(local())]);
    for prompt in ["", "  \n"] {
        synctl(&fake.socket, &["ask", prompt]).expect_failure(2, "the prompt is empty");
        synctl_with_input(&fake.socket, &["ask"], prompt.as_bytes()).expect_failure(2, "the prompt is empty");
        synctl(&fake.socket, &["route", prompt]).expect_failure(2, "the prompt is empty");
    }
    assert!(fake.asked().is_empty());
}

#[test]
fn a_prompt_comes_from_standard_input() {
    let fake = answering(vec![delta("a"), done(local())]);
    for arguments in [&["ask"][..], &["ask", "-"]] {
        synctl_with_input(&fake.socket, arguments, "zwei\nZeilen\n".as_bytes()).expect(0);
        assert_eq!(request_of(&fake).messages[0].content, "zwei\nZeilen");
    }
}

#[test]
fn a_prompt_beyond_the_limit_is_refused() {
    let fake = answering(vec![]);
    let prompt = vec![b'a'; 5 << 20];
    synctl_with_input(&fake.socket, &["ask"], &prompt).expect_failure(2, "standard input is longer than");
    assert!(fake.asked().is_empty());
}

#[test]
fn every_option_reaches_the_daemon() {
    let fake = answering(vec![delta("a"), done(local())]);
    let line = "ask --cloud --adapter legal --max-tokens 9 --system terse --temperature 0.5 --top-p 0.9 --seed 7 \
                --session s1 --stop A --stop B --top-k 40 --min-p 0.1 --repeat-penalty 1.1 --logprobs 2 --deterministic \
                --adapter-scale 0.5 --json-schema {} question";
    synctl(&fake.socket, &line.split_whitespace().collect::<Vec<_>>()).expect(0);
    let message = |role: &str, content: &str| Message {
        role: role.into(),
        content: content.into(),
        ..Message::default()
    };
    let expected = AskRequest {
        messages: vec![message("system", "terse"), message("user", "question")],
        mode: Mode::Cloud.into(),
        adapter: "legal".into(),
        max_tokens: 9,
        temperature: Some(0.5),
        top_p: Some(0.9),
        seed: Some(7),
        session: "s1".into(),
        stop: vec!["A".into(), "B".into()],
        top_k: Some(40),
        min_p: Some(0.1),
        repeat_penalty: Some(1.1),
        logprobs: Some(2),
        deterministic: true,
        adapter_scale: Some(0.5),
        constraint: Some(ask_request::Constraint::JsonSchema("{}".into())),
        ..AskRequest::default()
    };
    assert_eq!(request_of(&fake), expected);
}

#[test]
fn a_schema_and_a_grammar_are_read_from_the_users_files() {
    let fake = answering(vec![delta("a"), done(local())]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("constraint");
    std::fs::write(&file, "start: /[a-z]+/").unwrap();
    let path = file.to_str().unwrap();
    synctl(&fake.socket, &["ask", "hi", "--grammar", path]).expect(0);
    let grammar = ask_request::Constraint::Grammar("start: /[a-z]+/".into());
    assert_eq!(request_of(&fake).constraint, Some(grammar));
    synctl(&fake.socket, &["ask", "hi", "--json-schema", path]).expect(0);
    let schema = ask_request::Constraint::JsonSchema("start: /[a-z]+/".into());
    assert_eq!(request_of(&fake).constraint, Some(schema), "the daemon judges it");
    synctl(&fake.socket, &["ask", "hi", "--grammar", "/does/not/exist"]).expect_failure(9, "cannot read");
}

#[test]
fn flags_that_exclude_each_other_are_refused_before_anyone_is_asked() {
    let fake = answering(vec![done(local())]);
    for line in [
        "ask hi --raw --session s",
        "ask hi --raw --system s",
        "ask hi --json-schema {} --grammar f",
        "ask hi --logprobs 21",
        "route --log hi",
        "route --log --replay",
        "route --replay f --local",
        "route hi --limit 3",
    ] {
        synctl(&fake.socket, &line.split(' ').collect::<Vec<_>>()).expect(2);
    }
    assert!(fake.asked().is_empty());
}

#[test]
fn log_probabilities_come_with_the_text_they_belong_to() {
    let top = vec![
        TokenLogprob { token: b"Hel".as_slice().into(), logprob: -0.5, top: Vec::new() },
        TokenLogprob { token: b"\xf0\x9f".as_slice().into(), logprob: -1.5, top: Vec::new() },
    ];
    let token = TokenLogprob { token: b"Hel".as_slice().into(), logprob: -0.5, top };
    let piece = Delta { text: "Hel".into(), logprobs: vec![token] };
    let piece = AskEvent { event: Some(ask_event::Event::Delta(piece)) };
    let fake = answering(vec![Step::Send(piece), done(Done { mean_logprob: Some(-0.5), ..local() })]);
    let lines = synctl(&fake.socket, &["ask", "hi", "--json", "--logprobs", "2"]).expect(0).objects();
    let expected = json!([{
        "token": "Hel", "bytes": [72, 101, 108], "logprob": -0.5,
        "top": [
            {"token": "Hel", "bytes": [72, 101, 108], "logprob": -0.5},
            {"token": "\u{fffd}", "bytes": [240, 159], "logprob": -1.5},
        ],
    }]);
    assert_eq!(lines[0]["logprobs"], expected);
    assert_eq!(*at(&lines[1], "mean_logprob"), json!(-0.5));
}

#[test]
fn a_busy_model_says_when_to_come_back() {
    let problem = Problem::new(Code::ResourceExhausted, reason::BUSY, "the queue is full", "try again later");
    let problem = problem.retry_after(std::time::Duration::from_millis(1_500));
    let fake = answering(vec![Step::Fail(problem)]);
    let ended = synctl(&fake.socket, &["ask", "hi"]).expect(1);
    assert!(ended.stderr.ends_with("next: try again later\nretry: in 1500 ms\n"), "{}", ended.stderr);
    let ended = synctl(&fake.socket, &["ask", "hi", "--json"]).expect(1);
    assert_eq!(ended.error()["retry_after_ms"], json!(1_500));
}

#[test]
fn the_mode_follows_the_flag_and_is_open_without_one() {
    let fake = answering(vec![delta("a"), done(local())]);
    let modes = [("--local", Mode::Local), ("--auto", Mode::Auto), ("--quiet", Mode::Unspecified)];
    for (flag, mode) in modes {
        synctl(&fake.socket, &["ask", "hi", flag]).expect(0);
        assert_eq!(request_of(&fake).mode(), mode, "{flag}");
    }
}

#[test]
fn quiet_leaves_only_the_answer() {
    let fake = answering(vec![delta("a\n"), done(local())]);
    let ended = synctl(&fake.socket, &["ask", "hi", "--quiet"]).expect(0);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("a\n", ""));
}

#[test]
fn an_error_in_the_middle_of_an_answer_keeps_what_came_and_fails() {
    let problem = Problem::new(Code::Internal, reason::MODEL_CRASHED, "the model process ended", "ask again");
    let fake = answering(vec![delta("half"), Step::Fail(problem)]);
    let ended = synctl(&fake.socket, &["ask", "hi"]).expect(1);
    assert_eq!(ended.stdout, "half\n");
    assert_eq!(ended.stderr, "error: the model process ended\nnext: ask again\n");
    let ended = synctl(&fake.socket, &["ask", "hi", "--json"]).expect(1);
    let expected = json!({
        "type": "error", "schema": "synesis.error/1", "reason": "MODEL_CRASHED",
        "message": "the model process ended", "next_step": "ask again", "exit_code": 1,
    });
    assert_eq!(ended.error(), expected);
    assert_eq!(ended.objects().len(), 1);
}

#[test]
fn an_answer_that_never_says_done_is_a_failure() {
    let fake = answering(vec![delta("half")]);
    synctl(&fake.socket, &["ask", "hi"]).expect_failure(1, "ended without saying so");
}

#[test]
fn a_daemon_that_dies_in_the_middle_of_an_answer_is_unreachable() {
    let mut fake = answering(vec![delta("half"), Step::Hang]);
    let mut running = Running::start(&mut command(&fake.socket, &["ask", "hi"]));
    running.expect_output("half");
    fake.kill();
    running.finish().expect_failure(3, "closed the connection");
}

#[test]
fn ctrl_c_cancels_the_answer_at_the_daemon() {
    let fake = answering(vec![delta("half"), Step::Hang]);
    let mut running = Running::start(&mut command(&fake.socket, &["ask", "hi"]));
    running.expect_output("half");
    kill(Pid::from_raw(running.child.id().cast_signed()), Signal::SIGINT).unwrap();
    running.finish().expect_failure(130, "interrupted");
    fake.wait_for_cancellation();
}

#[test]
fn a_time_limit_cancels_the_answer_at_the_daemon() {
    let fake = answering(vec![delta("half"), Step::Hang]);
    let ended = synctl(&fake.socket, &["ask", "hi", "--timeout=300ms"]);
    ended.expect_failure(124, "no complete answer within 300 ms");
    fake.wait_for_cancellation();
}

#[test]
fn a_reader_who_leaves_ends_the_answer_quietly_even_while_nothing_comes() {
    let fake = answering(vec![delta("one"), Step::Hang]);
    let mut running = Running::start(&mut command(&fake.socket, &["ask", "hi"]));
    running.expect_output("one");
    running.stdout = None;
    let ended = running.finish().expect(0);
    assert_eq!(ended.stderr, "");
    fake.wait_for_cancellation();
}

#[test]
fn route_tells_where_and_why_and_sends_the_same_request() {
    let route = RouteReply {
        decision: "cloud".into(),
        reason: "PROMPT_TOO_LONG".into(),
        explanation: "the prompt does not fit the local model".into(),
        input_tokens: 3_000,
        inputs_json: r#"{"model":"ready","memory_ppm":410000,"wait_ms":null}"#.into(),
        ..RouteReply::default()
    };
    let fake = Fake::start(Script { route, ..Script::default() });
    let object = synctl(&fake.socket, &["route", "hi", "--auto", "--json"]).expect(0).object();
    let expected = json!({
        "schema": "synesis.route/1", "decision": "cloud", "reason": "PROMPT_TOO_LONG",
        "explanation": "the prompt does not fit the local model", "next_step": null, "input_tokens": 3_000,
        "inputs": {"model": "ready", "memory_ppm": 410_000, "wait_ms": null},
    });
    assert_eq!(object, expected);
    assert_eq!(request_of(&fake).mode(), Mode::Auto);
    let human = synctl(&fake.socket, &["route", "hi"]).expect(0);
    assert!(human.stdout.starts_with("cloud  the prompt does not fit"), "{}", human.stdout);
    assert!(human.stdout.contains("memory") && human.stdout.contains("0.410"), "{}", human.stdout);
}

#[test]
fn the_log_is_printed_for_people_and_to_the_letter_for_a_replay() {
    let json = r#"{"version":1,"request_id":"01","at":"T","evidence":[],"decision":"local","reason":"local_can_answer"}"#;
    let decisions = vec![Decision { json: json.into() }];
    let fake = Fake::start(Script { decisions, ..Script::default() });
    assert_eq!(synctl(&fake.socket, &["route", "--log", "--json"]).expect(0).stdout, format!("{json}\n"));
    let human = synctl(&fake.socket, &["route", "--log", "--limit", "3"]).expect(0).stdout;
    assert!(human.starts_with("T ") && human.contains("local_can_answer"), "{human}");
}

#[test]
fn a_replay_compares_line_by_line_and_fails_when_one_differs_or_is_damaged() {
    let same = Replayed {
        request_id: "01".into(),
        recorded: "local local_can_answer".into(),
        decided: "local local_can_answer".into(),
        same: true,
        fault: String::new(),
    };
    let other = Replayed { decided: "cloud policy_cloud".into(), same: false, ..same.clone() };
    let damaged = Replayed { fault: "the line is damaged".into(), ..Replayed::default() };
    let replaying = |replayed| Fake::start(Script { replayed, ..Script::default() });

    let fake = replaying(vec![same.clone()]);
    let ended = synctl(&fake.socket, &["route", "--replay"]).expect(0);
    assert_eq!(ended.stdout, "same       01  local local_can_answer\n");

    for bad in [other, damaged] {
        let fake = replaying(vec![same.clone(), bad]);
        let ended =
            synctl_with_input(&fake.socket, &["route", "--replay", "-", "--json"], b"{}\n{}\n").expect(1);
        assert_eq!(ended.objects().len(), 2);
        assert_eq!(ended.error()["reason"], "REPLAY_DIFFERS");
    }
    synctl(&fake.socket, &["route", "--replay", "/does/not/exist"]).expect_failure(9, "cannot read");
}
