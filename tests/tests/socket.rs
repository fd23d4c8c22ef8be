//! What any gRPC client finds on the control socket: reflection, health, and the systemd handshake.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use synesis_proto::channel;
use synesis_tests::device::Device;
use tokio_stream::StreamExt;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

#[tokio::test]
async fn reflection_lists_the_services() {
    let device = tokio::task::spawn_blocking(|| Device::scripted("{}", "")).await.unwrap();
    let channel = channel::connect(device.socket()).await.expect("connects");
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut replies = ServerReflectionClient::new(channel)
        .server_reflection_info(tokio_stream::iter([request]))
        .await
        .expect("reflection answers")
        .into_inner();
    let reply = replies.next().await.expect("one reply").expect("no error");
    let Some(MessageResponse::ListServicesResponse(list)) = reply.message_response else {
        panic!("not a list: {reply:?}");
    };
    let names: Vec<&str> = list.service.iter().map(|service| service.name.as_str()).collect();
    for service in ["Node", "Inference", "Privacy", "Billing", "Adapters", "Models", "Admin"] {
        let name = format!("synesis.control.v1.{service}");
        assert!(names.contains(&name.as_str()), "{name} is not among {names:?}");
    }
    assert!(names.contains(&"grpc.health.v1.Health"), "{names:?}");
}
