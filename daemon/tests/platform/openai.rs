//! OpenAI's API of a whole daemon, over its socket and its port: what is answered, what is refused, and what becomes of
//! an answer when one of the two ends goes.

mod client;

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use synesis_proto::channel;
use synesis_proto::control::v1::StatusRequest;
use synesis_proto::control::v1::node_client::NodeClient;
use synesisd::adapters::{Import, Part, Piece};
use synesisd::app::Daemon;
use synesisd::openai::SOCKET;
use tokio::time::timeout;

use super::fixture::{LIMIT, Scene};
use client::{Connection, Said, get, post};

const CHAT: &str = "/v1/chat/completions";

fn socket(daemon: &Daemon) -> PathBuf {
    daemon.socket.with_file_name(SOCKET)
}

async fn ask(daemon: &Daemon, request: http::Request<http_body_util::Full<Bytes>>) -> Said {
    Connection::unix(&socket(daemon)).await.say(request).await
}

fn chat(model: &str, text: &str, more: Value) -> Value {
    let mut body = json!({"model": model, "messages": [{"role": "user", "content": text}]});
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

#[tokio::test]
async fn a_chat_is_answered_whole_and_in_a_stream() {
    let scene = Scene::new(&json!({}));
    let daemon = scene.daemon("").await;
    let mode = std::fs::metadata(socket(&daemon)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);

    let whole = ask(&daemon, post(CHAT, chat("synesis", "hello there", json!({})))).await;
    assert_eq!((whole.status, &whole.headers["content-type"]), (200, &"application/json".parse().unwrap()));
    let body = whole.json();
    assert_eq!(body["choices"][0]["message"]["content"], "base: hello there");
    assert_eq!(body["choices"][0]["finish_reason"], "stop");
    assert_eq!((&body["object"], &body["model"]), (&"chat.completion".into(), &"synesis".into()));
    let usage = &body["usage"];
    assert_eq!(usage["total_tokens"], 5, "two in, three out: {usage}");
    assert_eq!(
        (&body["synesis"]["origin"], &body["synesis"]["model"]),
        (&"local".into(), &"scripted".into())
    );
    let id = whole.headers["x-request-id"].to_str().unwrap();
    assert_eq!(body["synesis"]["request_id"], id);
    assert_eq!(body["id"], format!("chatcmpl-{id}"));

    let wanted = json!({"stream": true, "stream_options": {"include_usage": true}});
    let streamed = ask(&daemon, post(CHAT, chat("local", "hello there", wanted))).await;
    assert_eq!(streamed.headers["content-type"], "text/event-stream");
    let events = streamed.events();
    let (done, chunks) = events.split_last().unwrap();
    assert_eq!(*done, "[DONE]");
    let chunks: Vec<Value> = chunks.iter().map(|chunk| serde_json::from_str(chunk).unwrap()).collect();
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    let text: String =
        chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, "base: hello there");
    let [.., finish, last] = &chunks[..] else { panic!("{chunks:?}") };
    assert_eq!((&finish["choices"][0]["finish_reason"], &finish["usage"]), (&"stop".into(), &Value::Null));
    assert_eq!((&last["choices"], &last["usage"]), (&json!([]), usage));
    assert!(daemon.stop().await.is_clean());
    assert!(!scene.path("run").join(SOCKET).exists());
}

#[tokio::test]
async fn models_and_adapters_have_names_and_answer_to_them() {
    let scene = Scene::new(&json!({}));
    let daemon = scene.daemon("").await;
    let bytes = stream::iter([Some(Piece { part: Part::Gguf, data: Bytes::from_static(b"ahoy") })]);
    let import = Import { name: "pirate".to_owned(), ..Import::default() };
    let adapter = daemon.handles.adapters.import(import, bytes).await.unwrap();

    let list = ask(&daemon, get("/v1/models")).await.json();
    let ids: Vec<&str> =
        list["data"].as_array().unwrap().iter().filter_map(|model| model["id"].as_str()).collect();
    assert_eq!(ids, ["synesis", "local", "scripted", "pirate"], "no cloud: this device is not enrolled");
    assert!(
        list["data"].as_array().unwrap().iter().all(|model| model["created"].as_u64() > Some(1_600_000_000))
    );
    let one = ask(&daemon, get("/v1/models/pirate")).await.json();
    assert_eq!((&one["object"], &one["owned_by"]), (&"model".into(), &"device".into()));
    assert_eq!(ask(&daemon, get("/v1/models/gpt-4o")).await.refused(), (404, "model_not_found".to_owned()));

    for (model, who) in [("pirate", &adapter.id[..8]), ("scripted", "base"), ("auto", "base")] {
        let said = ask(&daemon, post(CHAT, chat(model, "hi", json!({})))).await.json();
        assert_eq!(said["choices"][0]["message"]["content"], format!("{who}: hi"), "{model}");
    }
    daemon.handles.adapters.swap("pirate", None).await.unwrap();
    let said = ask(&daemon, post(CHAT, chat("local", "hi", json!({})))).await.json();
    assert_eq!(
        (&said["synesis"]["adapter"], &said["synesis"]["adapter_generation"]),
        (&"pirate".into(), &1.into())
    );
    assert_eq!(said["system_fingerprint"], "fp_scripted_g1");
    daemon.stop().await;
}

#[tokio::test]
async fn what_cannot_be_answered_has_a_status_and_an_envelope() {
    let scene = Scene::new(&json!({}));
    let daemon = scene.daemon("").await;
    let cloud = chat("cloud", "hi", json!({}));
    for (request, status, code) in [
        (post(CHAT, "not json"), 400, "bad_request"),
        (post(CHAT, json!({"messages": []})), 400, "missing_parameter"),
        (post(CHAT, chat("local", " ", json!({}))), 400, "empty_prompt"),
        (post(CHAT, chat("local", "hi", json!({"temperature": 9}))), 400, "bad_request"),
        (post(CHAT, chat("local", "hi", json!({"n": 2}))), 400, "unsupported"),
        (post(CHAT, chat("local", "hi", json!({"stream": true, "temperature": 9}))), 400, "bad_request"),
        (post(CHAT, chat("local", &"word ".repeat(3000), json!({}))), 400, "context_length_exceeded"),
        (post(CHAT, &cloud), 403, "not_enrolled"),
        (post(CHAT, chat("gpt-4o", "hi", json!({}))), 404, "model_not_found"),
        (post("/v1/completions", json!({"model": "cloud", "prompt": "x"})), 400, "unsupported"),
        (post("/v1/embeddings", json!({"model": "local", "input": "x"})), 400, "no_embeddings"),
        (post("/v1/embeddings", json!({"model": "local", "input": [1]})), 400, "invalid_value"),
        (post("/v1/images/generations", json!({})), 404, "unknown_url"),
        (get(CHAT), 405, "method_not_allowed"),
        (post(CHAT, "x".repeat(3 << 20)), 413, "request_too_large"),
    ] {
        let what = format!("{request:?}").chars().take(300).collect::<String>();
        assert_eq!(ask(&daemon, request).await.refused(), (status, code.to_owned()), "{what}");
    }
    let said = ask(&daemon, post(CHAT, chat("local", "hi", json!({"stop": [1]})))).await.json();
    assert_eq!(said["error"]["param"], "stop");
    let health = ask(&daemon, get("/health")).await;
    assert_eq!((health.status, health.json()), (200, json!({"status": "ok", "model": "ready"})));
    daemon.stop().await;
}

#[tokio::test]
async fn a_text_is_continued_and_texts_become_vectors() {
    let scene = Scene::new(&json!({"embeddings": [0.5, -1.0]}));
    let daemon = scene.daemon("").await;
    let said = ask(&daemon, post("/v1/completions", json!({"model": "synesis", "prompt": ["Once upon"]})))
        .await
        .json();
    assert_eq!(
        (&said["object"], &said["choices"][0]["text"]),
        (&"text_completion".into(), &"base: Once upon".into())
    );
    let body = json!({"model": "local", "input": ["one two", "three"]});
    let said = ask(&daemon, post("/v1/embeddings", body)).await.json();
    assert_eq!(said["data"][1], json!({"object": "embedding", "index": 1, "embedding": [0.5, -1.0]}));
    assert_eq!(said["usage"]["prompt_tokens"], 3);
    for (dimensions, status) in [(2, 200), (3, 400)] {
        let body = json!({"model": "local", "input": "one", "dimensions": dimensions});
        let said = ask(&daemon, post("/v1/embeddings", body)).await;
        assert_eq!(said.status, status, "{dimensions} dimensions");
        if status == 400 {
            assert_eq!(said.json()["error"]["param"], "dimensions");
        }
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_call_of_a_tool_is_told_apart_from_the_text() {
    let call =
        ["<tool_", "call>\n{\"name\": \"weather\", ", "\"arguments\": {\"city\": \"Oslo\"}}\n</tool_call>"];
    let scene = Scene::new(&json!({"answers": [{"match": "Oslo", "say": call}]}));
    let daemon = scene.daemon("").await;
    let tools = json!({"tools": [{"type": "function", "function": {"name": "weather"}}]});
    let said = ask(&daemon, post(CHAT, chat("local", "weather in Oslo", tools))).await.json();
    let choice = &said["choices"][0];
    assert_eq!(
        (&choice["finish_reason"], &choice["message"]["content"]),
        (&"tool_calls".into(), &Value::Null)
    );
    let function = &choice["message"]["tool_calls"][0]["function"];
    assert_eq!(function, &json!({"name": "weather", "arguments": "{\"city\": \"Oslo\"}"}));
    let plain = ask(&daemon, post(CHAT, chat("local", "weather in Oslo", json!({})))).await.json();
    assert_eq!(plain["choices"][0]["message"]["content"], call.concat(), "without tools it is text");
    daemon.stop().await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_says_so_and_has_no_mark_of_the_end() {
    let scene = Scene::new(&json!({}));
    let go = scene.fifo();
    let deadly =
        json!({"match": "die", "say": ["al", "most"], "wait_after": 2, "wait_on": go, "then": "abort"});
    scene.rewrite(&json!({"answers": [deadly]}));
    let daemon = scene.daemon("").await;
    let mut connection = Connection::unix(&socket(&daemon)).await;
    let asked = connection.send(post(CHAT, chat("local", "die", json!({"stream": true}))));
    let mut body = asked.await.into_body();
    let mut text = String::new();
    while !text.contains("most") {
        let frame = timeout(LIMIT, body.frame()).await.unwrap().unwrap().unwrap();
        text += std::str::from_utf8(frame.data_ref().unwrap()).unwrap();
    }
    drop(timeout(LIMIT, tokio::fs::OpenOptions::new().write(true).open(&go)).await.unwrap().unwrap());
    let rest = timeout(LIMIT, body.collect()).await.unwrap().unwrap().to_bytes();
    let error = std::str::from_utf8(&rest).unwrap().strip_prefix("data: ").unwrap();
    let error: Value = serde_json::from_str(error).unwrap();
    assert_eq!(error["error"]["code"], "model_crashed", "and nothing after it");
    daemon.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_answer() {
    let scene = Scene::new(&json!({}));
    let go = scene.fifo();
    let endless =
        json!({"match": "for ever", "say": ["and"], "wait_after": 0, "wait_on": go, "then": "hang"});
    scene.rewrite(&json!({"answers": [endless]}));
    let daemon = scene.daemon("").await;
    for stream in [true, false] {
        let mut leaving = Connection::unix(&socket(&daemon)).await;
        let wanted = json!({"stream": stream, "session": "s"});
        let mut asked = Box::pin(leaving.send(post(CHAT, chat("local", "for ever", wanted))));
        // Opens when the model process reads it: it works on the answer.
        let mut writing = tokio::fs::OpenOptions::new();
        let reached = timeout(LIMIT, writing.write(true).open(&go));
        tokio::select! {
            _ = &mut asked => panic!("it has no end"),
            reached = reached => drop(reached.unwrap().unwrap()),
        }
        if stream {
            let mut body = asked.await.into_body();
            assert!(timeout(LIMIT, body.frame()).await.unwrap().is_some(), "it began");
        } else {
            drop(asked);
        }
        drop(leaving);
        // Their session is free again.
        let next = ask(&daemon, post(CHAT, chat("local", "next", json!({"session": "s"})))).await.json();
        assert!(next["choices"][0]["message"]["content"].as_str().unwrap().contains("next"), "{next}");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_stopping_daemon_ends_its_answers_with_an_error_and_in_good_order() {
    let scene = Scene::new(&json!({"answers": [{"match": "for ever", "say": ["and"], "then": "hang"}]}));
    let daemon = scene.daemon("").await;
    let mut connection = Connection::unix(&socket(&daemon)).await;
    let _idle = Connection::unix(&socket(&daemon)).await;
    let asked = connection.send(post(CHAT, chat("local", "for ever", json!({"stream": true}))));
    let body = asked.await.into_body();
    let (rest, report) = tokio::join!(timeout(LIMIT, body.collect()), daemon.stop());
    let rest = String::from_utf8(rest.unwrap().unwrap().to_bytes().to_vec()).unwrap();
    assert!(rest.contains(r#""code":"stopping""#) && !rest.contains("[DONE]"), "{rest}");
    assert!(report.is_clean(), "{report:?}");
}

#[tokio::test]
async fn a_user_has_one_allowance_for_both_doors() {
    let scene = Scene::new(&json!({}));
    let daemon = scene.daemon("[ipc]\nrequests_per_minute = 2\n").await;
    let mut grpc = NodeClient::new(channel::connect(daemon.socket.clone()).await.unwrap());
    grpc.status(StatusRequest {}).await.unwrap();
    assert_eq!(ask(&daemon, get("/v1/models")).await.status, 200);
    let refused = ask(&daemon, get("/v1/models")).await;
    assert_eq!(refused.refused(), (429, "rate_limit_exceeded".to_owned()));
    let seconds: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=30).contains(&seconds), "{seconds}");
    assert!(grpc.status(StatusRequest {}).await.is_err(), "and the other way round");
    daemon.stop().await;
}

#[tokio::test]
async fn one_user_s_connections_are_bounded() {
    let scene = Scene::new(&json!({}));
    let daemon = scene.daemon("").await;
    let mut open = Vec::new();
    for _ in 0..64 {
        let mut connection = Connection::unix(&socket(&daemon)).await;
        assert_eq!(connection.say(get("/health")).await.status, 200);
        open.push(connection);
    }
    let one_more = Connection::unix(&socket(&daemon)).await.say(get("/health")).await;
    assert_eq!(one_more.refused(), (503, "busy".to_owned()));
    daemon.stop().await;
}

/// A port that was free a moment ago.
fn free_port() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[tokio::test]
async fn the_port_opens_to_who_has_the_token_and_comes_under_its_own_name() {
    let scene = Scene::new(&json!({}));
    let address = free_port();
    let daemon = scene.daemon(&format!("[openai]\nlisten = \"{address}\"\n")).await;
    let file = scene.path("state/openai-token");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let token = std::fs::read_to_string(&file).unwrap();
    let with = |key: Option<&str>, host: &str, path: &str| {
        let mut request = get(path);
        request.headers_mut().insert("host", host.parse().unwrap());
        if let Some(key) = key {
            request.headers_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
        }
        request
    };
    let key = Some(token.trim());
    for (request, status) in [
        (with(key, &address, "/v1/models"), 200),
        (with(key, "localhost", "/v1/models"), 200),
        (with(None, &address, "/health"), 200),
        (with(None, &address, "/v1/models"), 401),
        (with(Some("sk-synesis-0"), &address, "/v1/models"), 401),
        (with(key, "evil.example", "/v1/models"), 403),
        (with(None, "evil.example", "/health"), 403),
    ] {
        let what = format!("{:?} {:?}", request.uri(), request.headers().get("host"));
        let said = Connection::port(&address).await.say(request).await;
        assert_eq!(said.status, status, "{what}: {}", said.text);
        if status == 401 {
            assert_eq!(said.refused().1, "invalid_api_key");
            assert_eq!(said.headers["www-authenticate"], "Bearer");
        }
        assert!(said.headers.keys().all(|name| !name.as_str().starts_with("access-control")));
    }
    let mut asked = post(CHAT, chat("local", "hi", json!({})));
    asked.headers_mut().insert("authorization", format!("Bearer {}", token.trim()).parse().unwrap());
    let said = Connection::port(&address).await.say(asked).await.json();
    assert_eq!(said["choices"][0]["message"]["content"], "base: hi");
    assert!(daemon.stop().await.is_clean());
}

#[tokio::test]
async fn a_port_that_is_taken_degrades_the_endpoint_and_its_socket_answers() {
    let scene = Scene::new(&json!({}));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let daemon = scene.daemon(&format!("[openai]\nlisten = \"{address}\"\n")).await;
    let row = daemon.handles.node.snapshot().subsystems.into_iter().find(|row| row.name == "openai").unwrap();
    assert!(row.reason.contains(&address.to_string()), "{row:?}");
    assert!(row.next_step.contains("openai.listen"), "{row:?}");
    assert_eq!(ask(&daemon, get("/health")).await.json()["status"], "degraded");
    daemon.stop().await;
}

#[tokio::test]
async fn switched_off_there_is_no_socket() {
    let scene = Scene::new(&json!({}));
    let daemon = scene.daemon("[openai]\nenabled = false\n").await;
    assert!(!socket(&daemon).exists());
    daemon.stop().await;
}
