//! A daemon whose identity is damaged: it starts, says so, and answers.

use std::fs;

use futures_util::StreamExt as _;
use serde_json::json;
use synesis_privacy::Message;
use synesis_proto::{Problem, channel, control::v1::*, reason};
use synesisd::ask::{Ask, AskEvent};
use synesisd::route::Mode;
use ulid::Ulid;

use super::fixture::Scene;

fn question(mode: Mode) -> Ask {
    Ask { messages: vec![Message::new("user", "hello")], mode, ..Ask::default() }
}

#[tokio::test]
async fn a_damaged_identity_does_not_keep_the_daemon_from_answering() {
    let scene = Scene::new(&json!({}));
    let folder = scene.path("state").join("identity");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("identity.json"), r#"{"format": 1, "device"#).unwrap();
    let daemon = scene.daemon("").await;

    let asker = daemon.handles.asker.clone();
    let events: Vec<_> = asker.ask(Ulid::generate(), question(Mode::Local)).collect().await;
    assert!(matches!(events.last(), Some(Ok(AskEvent::Done(_)))), "{events:?}");
    let mut events: Vec<_> = asker.ask(Ulid::generate(), question(Mode::Cloud)).collect().await;
    let refused = Problem::from(events.pop().unwrap().unwrap_err());
    assert_eq!(refused.reason, reason::NOT_ENROLLED);
    assert!(refused.message.starts_with("the identity cannot be read: "), "{refused:?}");

    let channel = channel::connect(daemon.socket.clone()).await.unwrap();
    let status = node_client::NodeClient::new(channel.clone()).status(StatusRequest {}).await.unwrap();
    let rows = status.into_inner().subsystems;
    let tunnel = rows.iter().find(|row| row.name == "tunnel").unwrap();
    assert_eq!(tunnel.state, "degraded");
    assert!(tunnel.next_step.contains("synctl unenroll"), "{tunnel:?}");

    let mut admin = admin_client::AdminClient::new(channel);
    let enroll =
        EnrollRequest { gateway: "127.0.0.1:1".to_owned(), ca_pem: String::new(), token: "token".to_owned() };
    let refused = Problem::from_status(&admin.enroll(enroll).await.unwrap_err());
    assert_eq!(refused.message, tunnel.reason);
    admin.unenroll(UnenrollRequest::default()).await.unwrap();
    assert!(!folder.join("identity.json").exists());
    assert!(daemon.stop().await.is_clean());
}
