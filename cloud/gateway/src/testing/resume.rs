//! Answers that survive the connection they were asked for on: over real connections, with a real ledger, and a provider
//! that says its next word when the test wants it to.

use std::sync::Arc;
use std::time::Duration;

use synesis_mesh::kind::{ErrorCode, StreamKind};
use synesis_mesh::stream::StreamHeader;
use synesis_proto::gateway::v1::RevokeDeviceRequest;
use synesis_proto::mesh::v1::ask_down::Message as Down;
use synesis_proto::mesh::v1::{self, ask_up};
use tokio::sync::Notify;
use ulid::Ulid;

use super::device::{TestDevice, Told, start};
use super::end_to_end::{REQUEST, world};
use super::gateway::TestGateway;
use super::scripted_http::{Reply, ScriptedHttp, openai_chunks};

const WORDS: [&str; 5] = ["one ", "two ", "three ", "four ", "five"];
const PROMPT: &str = "count";
/// Acceptance, words, end, receipt.
const FRAMES: usize = 1 + WORDS.len() + 2;

async fn whole() -> (ScriptedHttp, TestGateway, TestDevice) {
    world(vec![Reply::sse(openai_chunks(&WORDS, Some((3, 5))))]).await
}

/// An answer that stops after its first word until the gate is opened.
async fn in_two() -> (ScriptedHttp, TestGateway, TestDevice, Arc<Notify>) {
    let gate = Arc::new(Notify::new());
    let chunks = openai_chunks(&WORDS, Some((3, 5)));
    let reply = Reply::sse_in_two(chunks[..1].to_vec(), Arc::clone(&gate), chunks[1..].to_vec());
    let (provider, gateway, device) = world(vec![reply]).await;
    (provider, gateway, device, gate)
}

/// The same device on another connection; the old one is cut.
async fn reconnected(device: TestDevice, gateway: &TestGateway) -> TestDevice {
    let identity = Arc::clone(&device.identity);
    drop(device);
    TestDevice::connect(identity, gateway).await
}

/// Reads on under another connection until the gateway says that there is nothing to wait for.
async fn charged_once(device: &TestDevice, request_id: Ulid) -> synesis_ledger::SignedReceipt {
    let answer = loop {
        let answer = device.receipt(request_id).await;
        if answer.state != "held" {
            break answer;
        }
    };
    assert_eq!(answer.state, "settled");
    let receipt = device.verified(&answer.signed_receipt);
    assert_eq!(receipt.receipt.seq, 1, "the first charge of this device");
    let balance = device.balance().await;
    assert_eq!((balance.held_nanousd, balance.unbilled_nanousd), (0, receipt.receipt.net.as_i64()));
    receipt
}

fn refused(told: Told) -> u32 {
    assert_eq!((told.text.as_str(), &told.receipt), ("", &None));
    told.problem.unwrap().code
}

#[tokio::test]
async fn a_cut_after_any_frame_costs_no_token_and_nothing_twice() {
    for had in 0..FRAMES {
        let (provider, gateway, device) = whole().await;
        let mut asking = device.ask(REQUEST, PROMPT).await;
        let (mut text, mut next) = (String::new(), 1);
        for _ in 0..had {
            match asking.next().await.unwrap() {
                Down::Accepted(_) => continue,
                Down::Delta(delta) => text.push_str(&delta.text),
                Down::Finished(_) | Down::Receipt(_) => {}
                Down::Problem(problem) => panic!("{problem:?}"),
            }
            next += 1;
        }
        let device = reconnected(device, &gateway).await;
        drop(asking);
        let told = match had {
            0 => device.ask(REQUEST, PROMPT).await.told().await,
            _ => device.resume(REQUEST, next, PROMPT).await.told().await,
        };
        assert_eq!(told.problem, None, "after {had} frames");
        assert_eq!(told.accepted.as_ref().unwrap().model, "big", "every stream begins with the acceptance");
        assert_eq!(text + &told.text, WORDS.concat(), "after {had} frames");
        assert_eq!(told.seqs, (next..=WORDS.len() as u64).collect::<Vec<_>>());
        assert_eq!((told.finished.is_some(), told.receipt.is_some()), (next <= 6, next <= 7));
        let receipt = charged_once(&device, REQUEST).await;
        assert!(told.receipt.is_none_or(|bytes| bytes == receipt.to_bytes()));
        assert_eq!(provider.requests(), 1);
    }
}

#[tokio::test]
async fn an_answer_goes_on_while_nobody_reads_and_is_there_for_who_comes_back() {
    let (provider, gateway, device, gate) = in_two().await;
    let mut asking = device.ask(REQUEST, PROMPT).await;
    assert_eq!(asking.first_delta().await.seq, 1);
    let device = reconnected(device, &gateway).await;
    gate.notify_one();
    // The charge is final before anybody has read the rest.
    charged_once(&device, REQUEST).await;
    let told = device.resume(REQUEST, 2, PROMPT).await.told().await;
    assert_eq!((told.text.as_str(), told.receipt.is_some()), ("two three four five", true));
    assert_eq!(provider.requests(), 1);
}

#[tokio::test]
async fn a_second_stream_takes_over_and_the_first_is_told() {
    let (_provider, _gateway, device, gate) = in_two().await;
    let mut old = device.ask(REQUEST, PROMPT).await;
    assert_eq!(old.first_delta().await.seq, 1);
    let new = device.resume(REQUEST, 2, PROMPT).await;
    assert_eq!(old.told().await.problem.unwrap().code, ErrorCode::Superseded.number());
    gate.notify_one();
    let told = new.told().await;
    assert_eq!((told.text.as_str(), told.receipt.is_some()), ("two three four five", true));
}

#[tokio::test]
async fn an_old_stream_that_is_reset_after_it_was_taken_over_cancels_nothing() {
    let (_provider, _gateway, device, gate) = in_two().await;
    let mut old = device.ask(REQUEST, PROMPT).await;
    old.first_delta().await;
    let mut new = device.resume(REQUEST, 2, PROMPT).await;
    assert!(matches!(new.next().await, Some(Down::Accepted(_))));
    drop(old);
    gate.notify_one();
    assert_eq!(new.told().await.finished.unwrap().reason, "stop");
}

#[tokio::test]
async fn the_same_bytes_are_the_same_request_and_others_are_not() {
    let (provider, _gateway, device) = whole().await;
    let first = device.ask(REQUEST, PROMPT).await.told().await;
    let again = device.ask(REQUEST, PROMPT).await.told().await;
    assert_eq!((&again.text, &again.receipt), (&first.text, &first.receipt));
    for other in [start("another prompt"), v1::AskStart { max_tokens: 99, ..start(PROMPT) }] {
        let told = device.ask_with(REQUEST, other).await.told().await;
        assert_eq!(refused(told), ErrorCode::RequestKnown.number());
    }
    assert_eq!(provider.requests(), 1);
    charged_once(&device, REQUEST).await;
}

#[tokio::test]
async fn another_devices_answer_another_prompts_and_one_that_never_was_are_equally_unknown() {
    let (_provider, gateway, device) = whole().await;
    device.ask(REQUEST, PROMPT).await.told().await;
    let other = TestDevice::enrol(&gateway, None).await;
    let unknown = ErrorCode::ResumeUnknown.number();
    let problem = |told: Told| told.problem.unwrap();
    let stranger = problem(other.resume(REQUEST, 1, PROMPT).await.told().await);
    let never = problem(other.resume(Ulid(99), 1, PROMPT).await.told().await);
    assert_eq!((stranger.code, &stranger), (unknown, &never), "not even a hint");
    for (from, prompt) in [(1, "another prompt"), (0, PROMPT), (9, PROMPT), (u64::MAX, PROMPT)] {
        assert_eq!(refused(device.resume(REQUEST, from, prompt).await.told().await), unknown);
    }
    assert_eq!(device.resume(REQUEST, 1, PROMPT).await.told().await.text, WORDS.concat(), "it is there");
}

#[tokio::test]
async fn a_device_that_has_everything_says_so_and_the_gateway_forgets() {
    let (provider, gateway, device) = whole().await;
    let mut asking = device.ask(REQUEST, PROMPT).await;
    while asking.next().await.is_some() {}
    asking.done().await;
    // Forgotten as soon as it is heard: then the ledger is the one that knows the request.
    while gateway.answers().count() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(
        refused(device.resume(REQUEST, 1, PROMPT).await.told().await),
        ErrorCode::ResumeUnknown.number()
    );
    assert_eq!(refused(device.ask(REQUEST, PROMPT).await.told().await), ErrorCode::RequestKnown.number());
    assert_eq!(provider.requests(), 1);
}

#[tokio::test]
async fn an_answer_nobody_comes_back_for_is_cut_after_the_grace_and_what_was_made_is_settled() {
    let chunks = openai_chunks(&["eight by", "more"], None)[..1].to_vec();
    let provider = ScriptedHttp::start(vec![Reply::sse_then_hang(chunks)]).await;
    let gateway = TestGateway::start_configured(&provider, "[resume]\ngrace = \"1s\"\n").await;
    let device = TestDevice::enrol(&gateway, None).await;
    let mut asking = device.ask(REQUEST, "hi").await;
    asking.first_delta().await;
    let device = reconnected(device, &gateway).await;
    provider.client_left().await;
    assert_eq!(charged_once(&device, REQUEST).await.receipt.output_tokens, 2);
    let told = device.resume(REQUEST, 2, "hi").await.told().await;
    assert_eq!(told.finished.unwrap().reason, "cancelled", "who comes too late hears how it ended");
}

#[tokio::test]
async fn a_cancel_over_another_connection_reaches_the_provider() {
    let chunks = openai_chunks(&["eight by", "more"], None)[..1].to_vec();
    let (provider, gateway, device) = world(vec![Reply::sse_then_hang(chunks)]).await;
    let mut asking = device.ask(REQUEST, "hi").await;
    asking.first_delta().await;
    let device = reconnected(device, &gateway).await;
    let mut stream = device.tunnel.open(StreamHeader::new(StreamKind::Ask, REQUEST)).await.unwrap();
    let cancel = ask_up::Message::Cancel(v1::AskCancel {});
    stream.tx.write(&v1::AskUp { message: Some(cancel) }).await.unwrap();
    provider.client_left().await;
    assert_eq!(charged_once(&device, REQUEST).await.receipt.output_tokens, 2);
}

#[tokio::test]
async fn another_device_cannot_cancel_it() {
    let (_provider, gateway, device, gate) = in_two().await;
    let mut asking = device.ask(REQUEST, PROMPT).await;
    asking.first_delta().await;
    let other = TestDevice::enrol(&gateway, None).await;
    let mut stream = other.tunnel.open(StreamHeader::new(StreamKind::Ask, REQUEST)).await.unwrap();
    let cancel = ask_up::Message::Cancel(v1::AskCancel {});
    stream.tx.write(&v1::AskUp { message: Some(cancel) }).await.unwrap();
    // The gateway ends the stream when it has heard it.
    while let Ok(Some(_)) = stream.rx.read::<v1::AskDown>().await {}
    gate.notify_one();
    assert_eq!(asking.told().await.finished.unwrap().reason, "stop");
}

#[tokio::test]
async fn a_revocation_ends_answers_that_nobody_reads_too() {
    let chunks = openai_chunks(&["eight by", "more"], None)[..1].to_vec();
    let (provider, gateway, device) = world(vec![Reply::sse_then_hang(chunks)]).await;
    let mut asking = device.ask(REQUEST, "hi").await;
    asking.first_delta().await;
    let id = device.identity.device_id.to_string();
    drop(device);
    let mut admin = gateway.admin().await;
    admin.revoke_device(RevokeDeviceRequest { id }).await.unwrap();
    provider.client_left().await;
    drop(asking);
}

#[tokio::test]
async fn a_finished_answer_outlives_the_process_and_is_charged_once() {
    let (provider, gateway, device) = whole().await;
    let mut asking = device.ask(REQUEST, PROMPT).await;
    assert_eq!(asking.first_delta().await.seq, 1);
    let identity = Arc::clone(&device.identity);
    // The connection goes; a stream that is reset on it would be a cancel.
    drop(device);
    let gateway = gateway.restart().await;
    drop(asking);
    let device = TestDevice::connect(identity, &gateway).await;
    let told = device.resume(REQUEST, 2, PROMPT).await.told().await;
    assert_eq!((told.text.as_str(), told.receipt.is_some()), ("two three four five", true));
    let again = device.ask(REQUEST, PROMPT).await.told().await;
    assert_eq!(again.text, WORDS.concat());
    charged_once(&device, REQUEST).await;
    assert_eq!(provider.requests(), 1);
}

#[tokio::test]
async fn an_answer_that_runs_without_a_reader_is_finished_before_the_gateway_stops() {
    let (provider, gateway, device, gate) = in_two().await;
    let mut asking = device.ask(REQUEST, PROMPT).await;
    asking.first_delta().await;
    let identity = Arc::clone(&device.identity);
    drop(device);
    gateway.begin_stop();
    gate.notify_one();
    let gateway = gateway.restart().await;
    drop(asking);
    let device = TestDevice::connect(identity, &gateway).await;
    let told = device.resume(REQUEST, 2, PROMPT).await.told().await;
    assert_eq!((told.text.as_str(), told.receipt.is_some()), ("two three four five", true));
    charged_once(&device, REQUEST).await;
    assert_eq!(provider.requests(), 1);
}
