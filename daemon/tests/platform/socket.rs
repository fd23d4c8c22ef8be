//! The control socket of a whole daemon: what is served, who is refused, what stopping looks like.

use std::os::unix::fs::PermissionsExt as _;

use futures_util::stream;
use serde_json::json;
use synesis_proto::control::v1::adapters_client::AdaptersClient;
use synesis_proto::control::v1::models_client::ModelsClient;
use synesis_proto::control::v1::node_client::NodeClient;
use synesis_proto::control::v1::*;
use synesis_proto::{Problem, channel};
use synesisd::app::{AppError, Daemon};
use synesisd::config::{self, Source};
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Code, Request};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};

use super::fixture::{LIMIT, Scene};

async fn connect(daemon: &Daemon) -> Channel {
    channel::connect(daemon.socket.clone()).await.unwrap()
}

#[tokio::test]
async fn status_model_vitals_and_health_are_served() {
    let scene = Scene::new(&json!({}));
    let daemon = scene.daemon("").await;
    let mode = std::fs::metadata(&daemon.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let channel = connect(&daemon).await;

    let response = NodeClient::new(channel.clone()).status(StatusRequest {}).await.unwrap();
    assert!(response.metadata().get("x-request-id").is_some_and(|id| id.len() == 26));
    let status = response.into_inner();
    let model = status.model.unwrap();
    assert_eq!((model.state.as_str(), model.name.as_str()), ("ready", "scripted"));
    assert_eq!(status.tunnel.unwrap().state, "unenrolled");
    assert_eq!(status.adapter, Some(Adapter::default()), "the base model, and there never was a swap");
    let names: Vec<&str> = status.subsystems.iter().map(|row| row.name.as_str()).collect();
    assert!(["runtime", "adapters", "vitals", "ipc"].iter().all(|name| names.contains(name)), "{names:?}");
    assert_eq!(names.last(), Some(&"ipc"));

    let info = ModelsClient::new(channel.clone()).info(ModelInfoRequest {}).await.unwrap().into_inner();
    assert_eq!((info.state.as_str(), info.context_tokens), ("ready", 2048));

    let mut vitals =
        NodeClient::new(channel.clone()).vitals(VitalsRequest { watch: false }).await.unwrap().into_inner();
    assert!(vitals.message().await.unwrap().unwrap().memory.is_some());
    assert_eq!(vitals.message().await.unwrap(), None);

    let mut health = HealthClient::new(channel);
    for service in ["", "synesis.control.v1.Node", "synesis.control.v1.Inference"] {
        let reply = health.check(HealthCheckRequest { service: service.to_owned() }).await.unwrap();
        assert_eq!(reply.into_inner().status(), ServingStatus::Serving, "{service:?}");
    }
    assert!(daemon.stop().await.is_clean());
}

#[tokio::test]
async fn an_adapter_goes_in_over_the_socket_and_shows_in_the_status() {
    let scene = Scene::new(&json!({}));
    let daemon = scene.daemon("").await;
    let mut adapters = AdaptersClient::new(connect(&daemon).await);
    let chunk = |name: &str, data: &[u8]| ImportChunk {
        name: name.to_owned(),
        data: data.to_vec(),
        ..ImportChunk::default()
    };
    let upload = stream::iter([chunk("tone", b""), chunk("", b"first "), chunk("", b"second")]);
    let record = adapters.import(upload).await.unwrap().into_inner();
    assert_eq!((record.name.as_str(), record.size_bytes, record.active), ("tone", 12, false));
    let swap =
        adapters.swap(SwapRequest { name: "tone".to_owned(), expected_generation: Some(0) }).await.unwrap();
    assert_eq!((swap.get_ref().generation, swap.get_ref().previous.as_str()), (1, ""));
    let list = adapters.list(ListAdaptersRequest {}).await.unwrap().into_inner();
    assert!(list.generation == 1 && list.adapters[0].active, "{list:?}");
    let status = NodeClient::new(connect(&daemon).await).status(StatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.adapter, Some(Adapter { name: "tone".to_owned(), generation: 1 }));

    let refused = adapters.remove(RemoveAdapterRequest { name: "tone".to_owned() }).await.unwrap_err();
    let problem = Problem::from_status(&refused);
    assert_eq!((problem.code, problem.reason.as_str()), (Code::FailedPrecondition, "ADAPTER_IN_USE"));
    assert!(!problem.next_step.is_empty());
    let refused = adapters.import(stream::iter(Vec::new())).await.unwrap_err();
    assert_eq!(Problem::from_status(&refused).reason, "BAD_REQUEST");
    daemon.stop().await;
}

#[tokio::test]
async fn a_watcher_sees_the_state_change_and_the_end() {
    let scene = Scene::new(&json!({}));
    let daemon = scene.daemon("").await;
    let mut client = NodeClient::new(connect(&daemon).await);
    let mut states = client.watch(StatusRequest {}).await.unwrap().into_inner();
    assert_eq!(states.message().await.unwrap().unwrap().model.unwrap().state, "ready");
    let watching = async {
        let mut last = String::new();
        while let Some(state) = timeout(LIMIT, states.message()).await.unwrap().unwrap() {
            last = state.state;
        }
        last
    };
    let (last, report) = tokio::join!(watching, daemon.stop());
    assert_eq!(last, "stopping");
    assert!(report.is_clean(), "{report:?}");
}

#[tokio::test]
async fn a_user_who_calls_too_often_is_told_to_wait() {
    let scene = Scene::new(&json!({}));
    let daemon = scene.daemon("[ipc]\nrequests_per_minute = 2\n").await;
    let mut client = NodeClient::new(connect(&daemon).await);
    for _ in 0..2 {
        client.status(StatusRequest {}).await.unwrap();
    }
    let problem = Problem::from_status(&client.status(StatusRequest {}).await.unwrap_err());
    assert_eq!((problem.code, problem.reason.as_str()), (Code::ResourceExhausted, "RATE_LIMITED"));
    assert!(problem.next_step.contains("ipc.requests_per_minute"), "{problem:?}");
    daemon.stop().await;
}

#[tokio::test]
async fn a_method_that_is_not_in_the_table_is_refused() {
    let scene = Scene::new(&json!({}));
    let daemon = scene.daemon("").await;
    let mut grpc = tonic::client::Grpc::new(connect(&daemon).await);
    grpc.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<StatusRequest, StatusReply>::default();
    let path = http::uri::PathAndQuery::from_static("/synesis.control.v1.Node/Reboot");
    let refused = grpc.unary(Request::new(StatusRequest {}), path, codec).await.unwrap_err();
    let problem = Problem::from_status(&refused);
    assert_eq!((problem.code, problem.reason.as_str()), (Code::PermissionDenied, "FORBIDDEN"));
    daemon.stop().await;
}

#[tokio::test]
async fn reflection_lists_the_services() {
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::{ServerReflectionRequest, server_reflection_response::MessageResponse};
    let scene = Scene::new(&json!({}));
    let daemon = scene.daemon("").await;
    let ask = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(connect(&daemon).await);
    let mut replies = client.server_reflection_info(stream::iter([ask])).await.unwrap().into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) =
        replies.message().await.unwrap().unwrap().message_response
    else {
        panic!("no list");
    };
    let names: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
    for expected in ["synesis.control.v1.Node", "synesis.control.v1.Inference", "grpc.health.v1.Health"] {
        assert!(names.iter().any(|name| name == expected), "{names:?}");
    }
    drop(replies);
    daemon.stop().await;
}

#[tokio::test]
async fn a_second_daemon_is_refused_by_name_and_the_first_goes_on() {
    let scene = Scene::new(&json!({}));
    let daemon = scene.daemon("").await;
    let config = |text: String| {
        std::fs::write(scene.path("second.toml"), text).unwrap();
        config::load(&Source::File(scene.path("second.toml")), []).unwrap().config
    };
    let (state, run) = (scene.path("state"), scene.path("run"));
    let same_state =
        config(format!("[paths]\nstate_dir = {state:?}\nruntime_dir = {:?}", scene.path("run2")));
    let error = Daemon::start_until(same_state, std::future::pending()).await.err().unwrap();
    assert!(matches!(&error, AppError::Folder(_)), "{error}");
    assert!(error.to_string().contains("another synesisd is using"), "{error}");
    let same_socket =
        config(format!("[paths]\nstate_dir = {:?}\nruntime_dir = {run:?}", scene.path("state2")));
    let error = Daemon::start_until(same_socket, std::future::pending()).await.err().unwrap();
    assert!(matches!(&error, AppError::Socket(_)), "{error}");
    assert!(error.to_string().contains("another daemon is already running on"), "{error}");
    NodeClient::new(connect(&daemon).await).status(StatusRequest {}).await.unwrap();
    daemon.stop().await;
}
