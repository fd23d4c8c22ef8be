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
        "request_id": REQUEST, "finish_reason": "stop", "unknown_placeholders": 0, "receipt": null,
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
                --session s1 --stop A --stop B question";
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
        ..AskRequest::default()
    };
    assert_eq!(request_of(&fake), expected);
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
        ..RouteReply::default()
    };
    let fake = Fake::start(Script { route, ..Script::default() });
    let object = synctl(&fake.socket, &["route", "hi", "--auto", "--json"]).expect(0).object();
    let expected = json!({
        "schema": "synesis.route/1", "decision": "cloud", "reason": "PROMPT_TOO_LONG",
        "explanation": "the prompt does not fit the local model", "next_step": null, "input_tokens": 3_000,
    });
    assert_eq!(object, expected);
    assert_eq!(request_of(&fake).mode(), Mode::Auto);
    let human = synctl(&fake.socket, &["route", "hi"]).expect(0);
    assert!(human.stdout.starts_with("cloud  the prompt does not fit"), "{}", human.stdout);
}
