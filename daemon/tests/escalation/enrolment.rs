//! Enrolment by the daemon, and callers who do not wait for its end.

use synesis_mesh::device::TunnelState;
use synesis_mesh::gateway::Accepted;
use synesis_mesh::identity::DeviceIdentity;
use synesis_mesh::kind::ErrorCode;
use synesis_supervise::{Context, HealthBoard, Subsystem as _};
use synesisd::journal::{DeviceJournal, Intent};
use synesisd::tunnel::{self, EnrolmentError, TunnelParts};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::fixture::{Realm, admit, let_in, newcomer};

#[tokio::test]
async fn a_caller_who_leaves_in_the_middle_does_not_burn_the_token() {
    let Realm { endpoint, device_ca, ca_pem, address, key } = Realm::new();
    let folder = TempDir::new().unwrap();
    let (journal, _) = DeviceJournal::open(folder.path()).await.unwrap();
    let (_, vitals) = watch::channel(None);
    let at = folder.path().join("identity");
    let parts = tunnel::prepare(at.clone(), tunnel::Way::default(), vitals, journal.clone());
    let TunnelParts { identity, .. } = parts;

    let mut newcomer = tokio::select! {
        _ = identity.enroll(&address, ca_pem.as_bytes(), "token") => panic!("nobody has answered"),
        newcomer = newcomer(&endpoint) => newcomer,
    };
    let request = newcomer.request().await.unwrap();
    newcomer.reply(admit(&request, &device_ca, key.public())).await.unwrap();
    identity.watch().wait_for(Option::is_some).await.unwrap();
    assert!(DeviceIdentity::load(&at).unwrap().is_some());
    assert_eq!(journal.receipt_keys().len(), 1, "pinned before the identity was stored");
    let again = identity.enroll(&address, ca_pem.as_bytes(), "token").await;
    assert!(matches!(again, Err(EnrolmentError::AlreadyEnrolled(_))), "{again:?}");

    identity.unenroll(false).await.unwrap();
    assert!(DeviceIdentity::load(&at).unwrap().is_none());
    assert!(matches!(identity.unenroll(false).await, Err(EnrolmentError::NotEnrolled)));
    assert_eq!(journal.receipt_keys().len(), 1, "receipts stay provable");
}

#[tokio::test]
async fn a_revoked_identity_is_put_off_with_its_open_requests() {
    let Realm { endpoint, device_ca, ca_pem, address, key } = Realm::new();
    let folder = TempDir::new().unwrap();
    let (journal, _) = DeviceJournal::open(folder.path()).await.unwrap();
    let (_, vitals) = watch::channel(None);
    let parts =
        tunnel::prepare(folder.path().join("identity"), tunnel::Way::default(), vitals, journal.clone());
    let TunnelParts { identity, handle, mut keeper, .. } = parts;

    let stop = CancellationToken::new();
    let cx = Context::detached(&HealthBoard::new(), "tunnel", stop.clone());
    let check = async {
        let (enrolled, ()) = tokio::join!(
            identity.enroll(&address, ca_pem.as_bytes(), "token"),
            let_in(&endpoint, &device_ca, key.public())
        );
        let device_id = enrolled.unwrap().device_id.to_string();
        let intent = Intent {
            request_id: "r".to_owned(),
            device_id,
            redacted_hash: String::new(),
            detector_version: String::new(),
            at_ms: 0,
            most_nanousd: None,
        };
        drop(journal.begin(intent).await.unwrap());
        let refused = identity.unenroll(false).await;
        assert!(matches!(refused, Err(EnrolmentError::ReceiptsOpen(1))), "{refused:?}");

        match endpoint.accept().await.unwrap().handshake().await.unwrap() {
            Accepted::Device(device) => device.refuse(ErrorCode::Revoked, "no more"),
            Accepted::Enroll(_) => panic!("enrolled already"),
        }
        handle.status().wait_for(|status| status.state == TunnelState::Revoked).await.unwrap();
        identity.unenroll(false).await.unwrap();
        assert_eq!(*journal.pending().borrow(), 0);
        stop.cancel();
    };
    let (ended, ()) = tokio::join!(keeper.run(&cx), check);
    ended.unwrap();
}
