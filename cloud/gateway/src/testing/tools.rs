//! Calls of tools on their way through the whole gateway: told once and whole, held and charged like text.

use prost::Message as _;
use serde_json::{Value, json};
use synesis_mesh::kind::ErrorCode;
use synesis_proto::mesh::v1;

use super::end_to_end::{REQUEST, world};
use super::scripted_http::Reply;

const TOOLS: &str = r#"[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}]"#;

fn start() -> v1::AskStart {
    let message = |role: &str, content: &str| v1::PromptMessage {
        role: role.to_owned(),
        content: content.to_owned(),
        ..v1::PromptMessage::default()
    };
    let calls = r#"[{"id":"c0","type":"function","function":{"name":"f","arguments":"{}"}}]"#;
    let prompt = v1::Prompt {
        messages: vec![
            message("user", "call it"),
            v1::PromptMessage { tool_calls_json: calls.to_owned(), ..message("assistant", "") },
            v1::PromptMessage { tool_call_id: "c0".to_owned(), ..message("tool", "again") },
        ],
        tools_json: TOOLS.to_owned(),
        json_schema: String::new(),
    };
    v1::AskStart { prompt: prompt.encode_to_vec().into(), max_tokens: 100, ..v1::AskStart::default() }
}

fn chunk(delta: &Value, finish: Option<&str>) -> String {
    format!("data: {}", json!({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}))
}

fn call(arguments: &Value) -> Value {
    json!({"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "f", "arguments": arguments}}]})
}

#[tokio::test]
async fn calls_arrive_with_the_end_and_are_charged() {
    let chunks = vec![chunk(&call(&json!("{\"a\":")), None), chunk(&call(&json!("1}")), Some("tool_calls"))];
    let (provider, _gateway, device) = world(vec![Reply::sse(chunks)]).await;
    let told = device.ask_with(REQUEST, start()).await.told().await;
    let finished = told.finished.unwrap();
    assert_eq!((finished.reason.as_str(), finished.seq, told.text.as_str()), ("tool_calls", 0, ""));
    let calls: Value = serde_json::from_str(&finished.tool_calls_json).unwrap();
    assert_eq!(
        calls,
        json!([{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}}])
    );
    // Nothing was counted: four bytes a token, 10 of the call, and all of the prompt with its tools.
    let receipt = device.verified(&told.receipt.unwrap()).receipt;
    let prompt =
        ["call it", "c0", "f", "{}", "c0", "again", TOOLS].map(str::len).iter().sum::<usize>() as u64;
    assert_eq!((receipt.input_tokens, receipt.output_tokens), (prompt.div_ceil(4), 10_u64.div_ceil(4)));
    let asked = provider.request(0).await.json;
    assert_eq!(asked["tools"], serde_json::from_str::<Value>(TOOLS).unwrap());
    assert_eq!(asked["messages"][2], json!({"role": "tool", "content": "again", "tool_call_id": "c0"}));
}

#[tokio::test]
async fn tools_are_a_part_of_the_worst_case() {
    let end = || Reply::sse(vec![chunk(&json!({"content": "x"}), Some("stop"))]);
    let (_provider, _gateway, device) = world(vec![end(), end()]).await;
    let with = device.ask_with(REQUEST, start()).await.told().await.accepted.unwrap().held_nanousd;
    let without =
        device.ask(ulid::Ulid::from(7), "call it").await.told().await.accepted.unwrap().held_nanousd;
    // A dollar for a million tokens, and 3 %: each byte is held as a token.
    assert!(with > without + TOOLS.len() as i64 * 1_030, "{with} {without}");
}

#[tokio::test]
async fn calls_that_make_no_sense_fail_the_answer_and_only_what_was_said_is_charged() {
    let broken = || chunk(&call(&json!({"not": "text"})), None);
    let said = vec![chunk(&json!({"content": "eight by"}), None), broken()];
    let (_provider, _gateway, device) = world(vec![Reply::sse(vec![broken()]), Reply::sse(said)]).await;
    let nothing = device.ask_with(REQUEST, start()).await.told().await;
    assert_eq!(nothing.problem.unwrap().code, ErrorCode::ProviderRejected.number());
    assert_eq!(device.receipt(REQUEST).await.state, "released");

    let told = device.ask_with(ulid::Ulid::from(7), start()).await.told().await;
    let finished = told.finished.unwrap();
    assert_eq!((finished.reason.as_str(), finished.tool_calls_json.as_str()), ("provider_error", ""));
    assert_eq!(device.verified(&told.receipt.unwrap()).receipt.output_tokens, 2);
    assert_eq!(device.balance().await.held_nanousd, 0);
}

#[tokio::test]
async fn tools_that_are_none_are_refused_before_anything_is_held() {
    let (provider, _gateway, device) = world(Vec::new()).await;
    let message =
        v1::PromptMessage { content: "hi".to_owned(), role: "user".to_owned(), ..Default::default() };
    let prompt = v1::Prompt { messages: vec![message], tools_json: "{}".to_owned(), ..Default::default() };
    let start = v1::AskStart { prompt: prompt.encode_to_vec().into(), ..v1::AskStart::default() };
    let told = device.ask_with(REQUEST, start).await.told().await;
    assert_eq!(told.problem.unwrap().code, ErrorCode::BadFrame.number());
    assert_eq!((provider.requests(), device.receipt(REQUEST).await.state.as_str()), (0, "unknown"));
}
