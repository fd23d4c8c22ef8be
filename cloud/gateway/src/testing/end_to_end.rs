//! The whole way: a device enrols, asks over loopback QUIC, a scripted provider answers, the receipt verifies.

use std::io::Write;
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};
use synesis_mesh::device::{EnrollError, TunnelState, enroll};
use synesis_mesh::kind::ErrorCode;
use synesis_proto::gateway::v1::{ListDevicesRequest, RevokeDeviceRequest};
use synesis_proto::mesh::v1;
use ulid::Ulid;

use super::device::TestDevice;
use super::gateway::TestGateway;
use super::scripted_http::{Reply, ScriptedHttp, openai_chunks};

pub(super) const REQUEST: Ulid = Ulid(0x0192_0000_0000_0000_0000_0000_0000_0001);

pub(super) async fn world(replies: Vec<Reply>) -> (ScriptedHttp, TestGateway, TestDevice) {
    let provider = ScriptedHttp::start(replies).await;
    let gateway = TestGateway::start(&provider).await;
    let device = TestDevice::enrol(&gateway, None).await;
    (provider, gateway, device)
}

#[tokio::test]
async fn an_enrolled_device_asks_and_gets_the_answer_and_a_receipt_that_verifies() {
    let (provider, _gateway, device) =
        world(vec![Reply::sse(openai_chunks(&["Hel", "lo", "!"], Some((11, 3))))]).await;
    let told = device.ask(REQUEST, "say hello to <EMAIL_1>").await.told().await;

    assert_eq!((told.text.as_str(), told.seqs.as_slice()), ("Hello!", &[1, 2, 3][..]));
    let accepted = told.accepted.unwrap();
    assert_eq!((accepted.model.as_str(), accepted.price_version), ("big", 1));
    let finished = told.finished.unwrap();
    assert_eq!((finished.reason.as_str(), finished.seq, finished.provider_counted), ("stop", 3, true));
    let receipt = device.verified(&told.receipt.unwrap()).receipt;
    assert_eq!((receipt.account.as_str(), receipt.seq), ("acme", 1));
    assert_eq!((receipt.input_tokens, receipt.output_tokens), (11, 3));
    // 11 + 2 x 3 micro-dollars, and 3 % on it.
    assert_eq!((receipt.cost.as_i64(), receipt.net.as_i64()), (17_000, 17_510));
    assert!(accepted.held_nanousd >= receipt.net.as_i64());
    assert_eq!(provider.request(0).await.json["messages"][0]["content"], "say hello to <EMAIL_1>");

    let balance = device.balance().await;
    assert_eq!((balance.held_nanousd, balance.unbilled_nanousd), (0, 17_510));
}

#[tokio::test]
async fn the_receipt_names_the_exact_prompt_bytes() {
    let (_provider, _gateway, device) = world(vec![Reply::sse(openai_chunks(&["x"], Some((1, 1))))]).await;
    // A field that this gateway does not know is part of what was sent.
    let mut prompt = vec![0x0a, 0x0a, 0x0a, 0x04];
    prompt.extend(b"user\x12\x02hi\x98\x06\x01");
    let start = v1::AskStart { prompt: prompt.clone().into(), ..v1::AskStart::default() };
    let told = device.ask_with(REQUEST, start).await.told().await;
    let receipt = device.verified(&told.receipt.unwrap()).receipt;
    let expected: [u8; 32] = Sha256::digest(&prompt).into();
    assert_eq!(receipt.redacted_hash, expected);
}

#[tokio::test]
async fn a_repeated_request_is_not_run_again_and_its_receipt_can_be_had() {
    let (provider, _gateway, device) = world(vec![Reply::sse(openai_chunks(&["once"], Some((5, 1))))]).await;
    let first = device.ask(REQUEST, "hi").await.told().await;
    let again = device.ask(REQUEST, "hello").await.told().await;
    assert_eq!(again.problem.unwrap().code, ErrorCode::RequestKnown.number());
    let answer = device.receipt(REQUEST).await;
    assert_eq!(answer.state, "settled");
    assert_eq!(answer.signed_receipt, first.receipt.unwrap());
    assert_eq!(provider.requests(), 1);
    assert_eq!(device.receipt(Ulid::from(99)).await.state, "unknown");
}

#[tokio::test]
async fn a_cancel_reaches_the_provider_and_what_was_delivered_is_settled() {
    let (provider, _gateway, device) =
        world(vec![Reply::sse_then_hang(openai_chunks(&["eight by", "tes and on"], None)[..1].to_vec())])
            .await;
    let mut asking = device.ask(REQUEST, "tell me a story").await;
    assert_eq!(asking.first_delta().await.text, "eight by");
    asking.cancel().await;
    provider.client_left().await;
    let told = asking.told().await;
    let finished = told.finished.unwrap();
    assert_eq!((finished.reason.as_str(), finished.provider_counted), ("cancelled", false));
    // 15 bytes of prompt and 8 of answer, four to a token.
    let receipt = device.verified(&told.receipt.unwrap()).receipt;
    assert_eq!((receipt.input_tokens, receipt.output_tokens), (4, 2));
}

#[tokio::test]
async fn a_cancel_before_the_first_word_costs_nothing() {
    let (provider, _gateway, device) = world(vec![Reply::sse_then_hang(Vec::new())]).await;
    let mut asking = device.ask(REQUEST, "hi").await;
    provider.request(0).await;
    asking.cancel().await;
    provider.client_left().await;
    let told = asking.told().await;
    assert_eq!(told.problem.unwrap().code, ErrorCode::Cancelled.number());
    assert_eq!(device.receipt(REQUEST).await.state, "released");
    let balance = device.balance().await;
    assert_eq!((balance.held_nanousd, balance.unbilled_nanousd), (0, 0));
}

#[tokio::test]
async fn a_failing_provider_is_a_problem_that_can_be_retried_under_the_same_id() {
    let (_provider, _gateway, device) = world(vec![
        Reply::status(500, r#"{"error":{"message":"boom"}}"#),
        Reply::sse(openai_chunks(&["fine"], Some((1, 1)))),
    ])
    .await;
    let failed = device.ask(REQUEST, "hi").await.told().await;
    let problem = failed.problem.unwrap();
    assert_eq!(problem.code, ErrorCode::ProviderUnavailable.number());
    assert!(problem.message.contains("boom") && !problem.next_step.is_empty(), "{problem:?}");
    assert_eq!(device.balance().await.held_nanousd, 0);
    let retried = device.ask(REQUEST, "hi").await.told().await;
    assert_eq!(retried.text, "fine");
    assert!(retried.receipt.is_some());
}

#[tokio::test]
async fn a_provider_that_breaks_off_is_paid_for_what_it_delivered() {
    let chunks = openai_chunks(&["eight by", "lost"], None)[..1].to_vec();
    let (_provider, _gateway, device) = world(vec![Reply::sse(chunks)]).await;
    let told = device.ask(REQUEST, "hi").await.told().await;
    assert_eq!(told.finished.unwrap().reason, "provider_error");
    assert_eq!(device.verified(&told.receipt.unwrap()).receipt.output_tokens, 2);
}

#[tokio::test]
async fn a_provider_that_reports_more_than_was_held_is_cut_to_the_hold() {
    let (_provider, _gateway, device) =
        world(vec![Reply::sse(openai_chunks(&["x"], Some((1_000_000, 1_000_000))))]).await;
    let told = device.ask(REQUEST, "hi").await.told().await;
    let receipt = device.verified(&told.receipt.unwrap()).receipt;
    assert_eq!(receipt.net.as_i64(), told.accepted.unwrap().held_nanousd);
}

#[tokio::test]
async fn a_request_over_the_ceiling_never_reaches_the_provider() {
    let provider = ScriptedHttp::start(Vec::new()).await;
    let gateway = TestGateway::start(&provider).await;
    let device = TestDevice::enrol(&gateway, Some(100)).await;
    let told = device.ask(REQUEST, "hi").await.told().await;
    assert_eq!(told.problem.unwrap().code, ErrorCode::CeilingReached.number());
    assert_eq!(provider.requests(), 0);
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused_and_the_tunnel_stays_up() {
    let (provider, _gateway, device) = world(Vec::new()).await;
    let unknown = v1::AskStart {
        model: "surprise".to_owned(),
        prompt: vec![0x0a, 0x0a, 0x0a, 0x04, b'u', b's', b'e', b'r', 0x12, 0x02, b'h', b'i'].into(),
        ..v1::AskStart::default()
    };
    let problem = device.ask_with(REQUEST, unknown).await.told().await.problem.unwrap();
    assert_eq!(problem.code, ErrorCode::ModelUnknown.number());
    assert!(problem.next_step.contains("big"), "{problem:?}");
    let empty = device.ask(REQUEST, "  ").await.told().await.problem.unwrap();
    assert_eq!(empty.code, ErrorCode::BadFrame.number());
    assert_eq!(provider.requests(), 0);
    assert_eq!(device.balance().await.account, "acme");
}

#[tokio::test]
async fn a_wrong_token_enrols_nobody() {
    let provider = ScriptedHttp::start(Vec::new()).await;
    let gateway = TestGateway::start(&provider).await;
    let address = gateway.address.to_string();
    let refused = enroll(&address, &gateway.ca_pem(), "syn1_wrong", "test/1").await.unwrap_err();
    assert!(
        matches!(refused, EnrollError::Refused { code: Some(ErrorCode::TokenInvalid), .. }),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_revocation_closes_the_live_connection_at_once_and_for_good() {
    let (_provider, gateway, device) = world(Vec::new()).await;
    let mut admin = gateway.admin().await;
    let listed = admin.list_devices(ListDevicesRequest {}).await.unwrap().into_inner().devices;
    assert_eq!((listed.len(), listed[0].connected, listed[0].state.as_str()), (1, true, "enrolled"));
    let id = device.identity.device_id.to_string();
    let reply = admin.revoke_device(RevokeDeviceRequest { id }).await.unwrap().into_inner();
    assert!(reply.was_connected);
    device.reaches(TunnelState::Revoked).await;
    // Coming back does not help.
    device.tunnel.set_identity(Some(Arc::clone(&device.identity)));
    device.reaches(TunnelState::Connecting).await;
    device.reaches(TunnelState::Revoked).await;
    let listed = admin.list_devices(ListDevicesRequest {}).await.unwrap().into_inner().devices;
    assert_eq!((listed[0].connected, listed[0].state.as_str()), (false, "revoked"));
}

/// Collects the log.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_log_holds_no_prompt_no_answer_no_token_and_no_key() {
    let lines = Lines::default();
    let writer = lines.clone();
    // Everything of ours at the finest level; this test's runtime stays on this thread.
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(
            "synesis_gateway=trace,synesis_mesh=trace,synesis_store=trace,synesis_supervise=trace",
        )
        .with_writer(move || writer.clone())
        .finish();
    // With one subscriber in the process, tracing asks the thread that meets a log line first whether anybody wants it, and
    // remembers the answer; that may be another test's thread. With two it asks both.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let _guard = tracing::subscriber::set_default(subscriber);
    let provider = ScriptedHttp::start(vec![
        Reply::sse(openai_chunks(&["planted-answer"], Some((1, 1)))),
        Reply::status(400, r#"{"error":{"message":"planted-prompt is bad, sk-planted-key"}}"#),
    ])
    .await;
    let gateway = TestGateway::start(&provider).await;
    let token = gateway.token(None).await;
    let address = gateway.address.to_string();
    let identity = enroll(&address, &gateway.ca_pem(), &token, "test/1").await.unwrap();
    let device = TestDevice::connect(Arc::new(identity), &gateway).await;
    device.ask(REQUEST, "planted-prompt").await.told().await;
    let refused = device.ask(Ulid::from(2), "planted-prompt").await.told().await;
    assert_eq!(refused.problem.unwrap().code, ErrorCode::ProviderRejected.number());
    drop(device);
    gateway.stop().await;
    let log = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("ask settled") && log.contains("ask released"), "{log}");
    for secret in ["planted", token.as_str()] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
}
