//! Enrolment by the daemon, and callers who do not wait for its end.

use synesis_mesh::identity::DeviceIdentity;
use synesisd::journal::DeviceJournal;
use synesisd::tunnel::{self, EnrolmentError, TunnelParts};
use tempfile::TempDir;
use tokio::sync::watch;

use crate::fixture::{Realm, admit, newcomer};

#[tokio::test]
async fn a_caller_who_leaves_in_the_middle_does_not_burn_the_token() {
    let Realm { endpoint, device_ca, ca_pem, address, key } = Realm::new();
    let folder = TempDir::new().unwrap();
    let (journal, _) = DeviceJournal::open(folder.path()).await.unwrap();
    let (_, vitals) = watch::channel(None);
    let at = folder.path().join("identity");
    let parts = tunnel::prepare(at.clone(), Vec::new(), vitals, journal.clone());
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

    identity.unenroll().await.unwrap();
    assert!(DeviceIdentity::load(&at).unwrap().is_none());
    assert!(matches!(identity.unenroll().await, Err(EnrolmentError::NotEnrolled)));
    assert_eq!(journal.receipt_keys().len(), 1, "receipts stay provable");
}
