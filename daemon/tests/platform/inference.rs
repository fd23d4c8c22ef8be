//! `Inference` over the control socket, beside what the command line shows of it: embeddings, decisions and their replay.

use futures_util::{StreamExt as _, stream};
use serde_json::json;
use synesis_proto::control::v1::inference_client::InferenceClient;
use synesis_proto::control::v1::*;
use synesis_proto::{Problem, channel};
use synesisd::app::Daemon;
use tonic::Status;
use tonic::transport::Channel;

use super::fixture::Scene;

async fn connect(daemon: &Daemon) -> InferenceClient<Channel> {
    InferenceClient::new(channel::connect(daemon.socket.clone()).await.unwrap())
}

fn texts(inputs: &[&str]) -> EmbedRequest {
    EmbedRequest { inputs: inputs.iter().map(|text| (*text).to_owned()).collect() }
}

#[track_caller]
fn reason(refused: Result<impl std::fmt::Debug, Status>) -> String {
    Problem::from_status(&refused.unwrap_err()).reason
}

#[tokio::test]
async fn each_text_has_its_vector_where_the_model_makes_them() {
    let scene = Scene::new(&json!({ "embeddings": [0.5, 0.25] }));
    let daemon = scene.daemon("").await;
    let mut inference = connect(&daemon).await;
    let reply = inference.embed(texts(&["one two", "three"])).await.unwrap().into_inner();
    let vectors: Vec<_> = reply.embeddings.iter().map(|embedding| embedding.values.as_slice()).collect();
    assert_eq!(vectors, [[0.5, 0.25], [0.5, 0.25]]);
    assert_eq!(reply.usage, Some(Usage { input_tokens: 3, output_tokens: 0 }));
    assert!(!reply.model.is_empty());

    assert_eq!(reason(inference.embed(texts(&[])).await), "BAD_REQUEST");
    assert_eq!(reason(inference.embed(texts(&["one", ""])).await), "BAD_REQUEST");
    assert_eq!(reason(inference.embed(texts(&["x"; 257])).await), "BAD_REQUEST");
    assert_eq!(reason(inference.embed(texts(&["x".repeat(600 << 10).as_str(); 2])).await), "BAD_REQUEST");
    daemon.stop().await;
}

#[tokio::test]
async fn a_model_that_only_makes_embeddings_is_none_for_a_prompt() {
    let scene = Scene::new(&json!({ "embeddings": [1.0], "embeddings_only": true }));
    let daemon = scene.daemon("").await;
    let mut inference = connect(&daemon).await;
    assert_eq!(inference.embed(texts(&["one"])).await.unwrap().into_inner().embeddings.len(), 1);

    let messages = vec![Message { role: "user".into(), content: "hello".into(), ..Message::default() }];
    let asked = inference.ask(AskRequest { messages, ..AskRequest::default() }).await;
    let refused = match asked {
        Ok(answer) => answer.into_inner().next().await.unwrap().unwrap_err(),
        Err(refused) => refused,
    };
    let problem = Problem::from_status(&refused);
    assert_eq!(problem.reason, "NO_MODEL");
    assert!(problem.message.contains("writes no text"), "{problem}");
    daemon.stop().await;
}

#[tokio::test]
async fn a_model_without_embeddings_says_so() {
    let scene = Scene::new(&json!({}));
    let daemon = scene.daemon("").await;
    assert_eq!(reason(connect(&daemon).await.embed(texts(&["one"])).await), "NO_EMBEDDINGS");
    daemon.stop().await;
}

#[tokio::test]
async fn decisions_come_back_as_they_were_made_and_a_line_that_is_none_ends_nothing() {
    let scene = Scene::new(&json!({}));
    let daemon = scene.daemon("").await;
    let mut inference = connect(&daemon).await;
    for _ in 0..3 {
        let messages = vec![Message { role: "user".into(), content: "hello".into(), ..Message::default() }];
        let answer =
            inference.ask(AskRequest { messages, ..AskRequest::default() }).await.unwrap().into_inner();
        assert!(answer.map(Result::unwrap).count().await > 1);
    }
    let newest = |limit| DecisionsRequest { limit };
    let two = inference.decisions(newest(2)).await.unwrap().into_inner().map(Result::unwrap);
    let mut lines: Vec<Decision> = two.collect().await;
    assert_eq!(lines.len(), 2);
    assert_eq!(inference.decisions(newest(0)).await.unwrap().into_inner().count().await, 3);

    lines.insert(1, Decision { json: "{\"version\":9}".into() });
    let replayed = inference.replay(stream::iter(lines)).await.unwrap().into_inner().map(Result::unwrap);
    let replayed: Vec<Replayed> = replayed.collect().await;
    let same: Vec<bool> = replayed.iter().map(|line| line.same).collect();
    assert_eq!(same, [true, false, true]);
    assert!(replayed[1].fault.contains("version 9"), "{}", replayed[1].fault);
    assert_eq!(replayed[0].decided, "local local_can_answer");
    daemon.stop().await;
}
