use std::time::Duration;

use ulid::Ulid;

use super::*;
use crate::ask::{Receipt, Route};
use crate::route::{CloudWhy, LocalWhy};

pub(in crate::openai::reply) fn head() -> Head {
    Head { request: Ulid(7), created: 1_700_000_000, model: "synesis".to_owned() }
}

pub(in crate::openai::reply) fn done() -> Done {
    Done {
        route: Route::Local(LocalWhy::Requested),
        model: "smol".to_owned(),
        adapter: "pirate".to_owned(),
        adapter_generation: 3,
        input_tokens: 10,
        output_tokens: 2,
        to_first: Duration::ZERO,
        total: Duration::ZERO,
        finish_reason: "stop".to_owned(),
        receipt: Receipt::Free,
        unknown_placeholders: 0,
        tool_calls: None,
        mean_logprob: None,
        cached_tokens: 4,
        queued: Duration::ZERO,
    }
}

fn stream(mut reply: ChatReply, deltas: &[&str], done: Done) -> String {
    let mut bytes = reply.begin().to_vec();
    for delta in deltas {
        bytes.extend(reply.piece(Delta::from((*delta).to_owned())));
    }
    bytes.extend(reply.end(done));
    String::from_utf8(bytes).unwrap()
}

const START: &str = r#"{"id":"chatcmpl-00000000000000000000000007","object":"chat.completion.chunk","created":1700000000,"model":"synesis","#;
const EXTRA: &str = r#""synesis":{"origin":"local","reason":"REASON","model":"smol","adapter":"pirate","adapter_generation":3,"request_id":"00000000000000000000000007","receipt":null}}"#;

fn extra() -> String {
    EXTRA.replace("REASON", done().route.reason())
}

#[test]
fn a_stream_is_these_bytes() {
    let expected = format!(
        "data: {START}\"choices\":[{{\"index\":0,\"delta\":{{\"role\":\"assistant\",\"content\":\"\"}},\"logprobs\":null,\"finish_reason\":null}}]}}\n\n\
         data: {START}\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"Hel\\n\"}},\"logprobs\":null,\"finish_reason\":null}}]}}\n\n\
         data: {START}\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"lo\"}},\"logprobs\":null,\"finish_reason\":null}}]}}\n\n\
         data: {START}\"system_fingerprint\":\"fp_smol_g3\",\"choices\":[{{\"index\":0,\"delta\":{{}},\"logprobs\":null,\"finish_reason\":\"stop\"}}],{}\n\n\
         data: [DONE]\n\n",
        extra()
    );
    assert_eq!(stream(ChatReply::new(head(), Vec::new(), false), &["Hel\n", "", "lo"], done()), expected);
}

#[test]
fn with_usage_every_chunk_has_the_field_and_one_more_chunk_has_the_numbers() {
    let expected = format!(
        "data: {START}\"choices\":[{{\"index\":0,\"delta\":{{\"role\":\"assistant\",\"content\":\"\"}},\"logprobs\":null,\"finish_reason\":null}}],\"usage\":null}}\n\n\
         data: {START}\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"Hi\"}},\"logprobs\":null,\"finish_reason\":null}}],\"usage\":null}}\n\n\
         data: {START}\"system_fingerprint\":\"fp_smol_g3\",\"choices\":[{{\"index\":0,\"delta\":{{}},\"logprobs\":null,\"finish_reason\":\"length\"}}],\"usage\":null}}\n\n\
         data: {START}\"choices\":[],\"usage\":{{\"prompt_tokens\":10,\"completion_tokens\":2,\"total_tokens\":12,\"prompt_tokens_details\":{{\"cached_tokens\":4}}}},{}\n\n\
         data: [DONE]\n\n",
        extra()
    );
    let cut = Done { finish_reason: "length".to_owned(), ..done() };
    assert_eq!(stream(ChatReply::new(head(), Vec::new(), true), &["Hi"], cut), expected);
}

#[test]
fn a_call_streams_as_a_call_and_is_the_reason_for_the_end() {
    let reply = ChatReply::new(head(), vec!["time".to_owned()], false);
    let got = stream(
        reply,
        &["<tool_", "call>{\"name\": \"time\", ", "\"arguments\": {\"tz\": 1}}</tool_call>"],
        done(),
    );
    let events: Vec<&str> = got.split("\n\n").collect();
    assert_eq!(events.len(), 5, "begin, call, end, mark, and nothing: {got}");
    let call = r#""delta":{"tool_calls":[{"index":0,"id":"call_00000000000000000000000007_0","type":"function","function":{"name":"time","arguments":"{\"tz\": 1}"}}]}"#;
    assert!(events[1].contains(call), "{}", events[1]);
    assert!(events[2].contains(r#""finish_reason":"tool_calls""#), "{}", events[2]);
}

#[test]
fn calls_that_came_apart_from_the_text_are_given_too() {
    let told = r#"[{"id":"x","type":"function","function":{"name":"time","arguments":"{}"}},{"broken":1},{"function":{"name":"late"}}]"#;
    let cloud = Done {
        route: Route::Cloud(CloudWhy::Requested),
        tool_calls: Some(told.to_owned()),
        finish_reason: "tool_calls".to_owned(),
        receipt: Receipt::Pending,
        ..done()
    };
    let whole = ChatReply::new(head(), vec!["time".to_owned()], false).whole(
        String::new(),
        Vec::new(),
        cloud.clone(),
    );
    let whole: serde_json::Value = serde_json::from_slice(&whole).unwrap();
    let message = &whole["choices"][0]["message"];
    assert_eq!(message["content"], serde_json::Value::Null);
    assert_eq!(message["tool_calls"][0]["function"]["name"], "time");
    assert_eq!(message["tool_calls"][1]["id"], "call_00000000000000000000000007_1");
    assert!(message["tool_calls"][0].get("index").is_none(), "{message}");
    assert_eq!(whole["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(
        (&whole["synesis"]["origin"], &whole["synesis"]["receipt"]),
        (&"cloud".into(), &"pending".into())
    );
    let streamed = stream(ChatReply::new(head(), Vec::new(), false), &[], cloud);
    assert!(streamed.contains(r#""index":1,"id":"call_00000000000000000000000007_1""#), "{streamed}");
}

#[test]
fn a_whole_answer_is_this_object() {
    let tokens = vec![TokenLogprob { token: b"Hi".to_vec(), logprob: -0.5, top: Vec::new() }];
    let whole = ChatReply::new(head(), Vec::new(), false).whole("Hi".to_owned(), tokens, done());
    let expected = format!(
        concat!(
            r#"{{"id":"chatcmpl-00000000000000000000000007","object":"chat.completion","created":1700000000,"model":"synesis","#,
            r#""system_fingerprint":"fp_smol_g3","choices":[{{"index":0,"message":{{"role":"assistant","content":"Hi","refusal":null}},"#,
            r#""logprobs":{{"content":[{{"token":"Hi","logprob":-0.5,"bytes":[72,105],"top_logprobs":[]}}],"refusal":null}},"finish_reason":"stop"}}],"#,
            r#""usage":{{"prompt_tokens":10,"completion_tokens":2,"total_tokens":12,"prompt_tokens_details":{{"cached_tokens":4}}}},{}"#
        ),
        extra()
    );
    assert_eq!(String::from_utf8(whole.to_vec()).unwrap(), expected);
}

#[test]
fn log_probabilities_of_text_that_is_held_back_are_not() {
    let mut reply = ChatReply::new(head(), vec!["time".to_owned()], false);
    let token = TokenLogprob { token: b"<".to_vec(), logprob: -1.0, top: Vec::new() };
    let held = reply.piece(Delta { text: "<".to_owned(), logprobs: vec![token] });
    let held = String::from_utf8(held.to_vec()).unwrap();
    assert!(held.contains(r#""delta":{"content":""},"logprobs":{"content":[{"token":"<""#), "{held}");
}
