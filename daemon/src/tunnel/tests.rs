//! A stored identity that cannot be read, and requests that are open when an identity is put off.

use std::fs;
use std::time::{Duration, SystemTime};

use synesis_mesh::gateway::{Accepted, Dates, GatewayEndpoint, GatewayTls};
use synesis_mesh::identity::{Ca, CaKind, DeviceKey, TrustDomain};
use synesis_proto::mesh::v1;
use synesis_supervise::{HealthBoard, State};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::journal::Intent;

const DEVICE: &str = "6f1c2a52-3a0c-4b52-9a3e-2f6d4f6f0a11";

struct Place {
    folder: TempDir,
    journal: DeviceJournal,
}

impl Place {
    async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let (journal, _) = DeviceJournal::open(folder.path()).await.unwrap();
        Self { folder, journal }
    }

    fn identity(&self) -> PathBuf {
        self.folder.path().join("identity")
    }

    fn parts(&self) -> TunnelParts {
        prepare(self.identity(), Way::default(), watch::channel(None).1, self.journal.clone())
    }

    /// Stores a whole identity.
    fn enrolled(&self) {
        let domain = "test.internal".parse().unwrap();
        let ca = Ca::generate(CaKind::Device, &domain).unwrap();
        let key = DeviceKey::generate().unwrap();
        let device_id = DEVICE.parse().unwrap();
        let chain = ca.sign_device_csr(&key.csr_der().unwrap(), device_id).unwrap().chain;
        let identity = DeviceIdentity {
            device_id,
            account: "acme".to_owned(),
            trust_domain: domain,
            key,
            ca: chain.clone(),
            chain,
            receipt_keys: Vec::new(),
            gateway: "127.0.0.1:1".to_owned(),
        };
        identity.save(&self.identity()).unwrap();
    }

    /// A request of `device` whose receipt never came.
    async fn ask(&self, device: &str) {
        let intent = Intent {
            request_id: format!("request of {device}"),
            device_id: device.to_owned(),
            redacted_hash: String::new(),
            detector_version: String::new(),
            at_ms: 0,
            most_nanousd: None,
        };
        drop(self.journal.begin(intent).await.unwrap());
    }

    fn cut_short(&self) {
        let file = self.identity().join("identity.json");
        let text = fs::read(&file).unwrap();
        fs::write(&file, &text[..text.len() / 2]).unwrap();
    }

    fn lose_the_key(&self) {
        let key = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "key");
        let files = fs::read_dir(self.identity()).unwrap().map(|entry| entry.unwrap().path());
        fs::remove_file(files.into_iter().find(key).unwrap()).unwrap();
    }
}

#[tokio::test]
async fn an_identity_that_cannot_be_read_is_told_and_refuses_enrolment_until_it_is_put_off() {
    for damage in [Place::cut_short, Place::lose_the_key] {
        let place = Place::new().await;
        place.enrolled();
        damage(&place);
        place.ask(DEVICE).await;
        let TunnelParts { identity, view, device_id, mut keeper, .. } = place.parts();
        assert_eq!(*device_id.borrow(), None);
        assert_eq!(view.borrow().state, TunnelState::Offline);

        let (board, stop) = (HealthBoard::new(), CancellationToken::new());
        let cx = Context::detached(&board, "tunnel", stop.clone());
        let mut health = board.subscribe();
        let check = async {
            let row = health.wait_for(|rows| rows.iter().any(|row| row.state == State::Degraded)).await;
            let row = row.unwrap()[0].clone();
            assert!(row.reason.starts_with("the identity cannot be read: "), "{row:?}");
            let folder = place.identity().display().to_string();
            assert!(row.next_step.contains(&folder) && row.next_step.contains("synctl unenroll"), "{row:?}");

            let refused = identity.enroll("127.0.0.1:1", b"", "token").await.unwrap_err();
            assert_eq!(refused.to_string(), row.reason);
            assert!(matches!(identity.present(), Err(EnrolmentError::Unreadable(_))));

            identity.unenroll(false).await.unwrap();
            assert!(fs::read_dir(place.identity()).unwrap().next().is_none(), "the broken files are gone");
            assert_eq!(*place.journal.pending().borrow(), 0, "nobody can settle it");
            health.wait_for(|rows| rows[0].state == State::Ready).await.unwrap();
            assert_eq!(view.borrow().state, TunnelState::Unenrolled);
            let refused = identity.enroll("127.0.0.1:1", b"no certificate", "token").await.unwrap_err();
            assert!(matches!(refused, EnrolmentError::Enroll(_)), "{refused:?}");
            stop.cancel();
        };
        let (ended, ()) = tokio::join!(keeper.run(&cx), check);
        ended.unwrap();
    }
}

#[tokio::test]
async fn an_identity_with_open_receipts_is_not_put_off_but_those_of_a_gone_one_do_not_count() {
    let place = Place::new().await;
    place.enrolled();
    place.ask(DEVICE).await;
    place.ask("an older identity").await;
    let TunnelParts { identity, .. } = place.parts();
    let refused = identity.unenroll(false).await.unwrap_err();
    assert!(matches!(refused, EnrolmentError::ReceiptsOpen(1)), "{refused:?}");
    assert!(
        identity.watch().borrow().is_some() && DeviceIdentity::load(&place.identity()).unwrap().is_some()
    );
    assert_eq!(*place.journal.pending().borrow(), 2);

    let settled = crate::journal::OutcomeKind::Released;
    place.journal.close(&format!("request of {DEVICE}"), settled).await.unwrap();
    identity.unenroll(false).await.unwrap();
    assert_eq!(*place.journal.pending().borrow(), 0);
    assert!(DeviceIdentity::load(&place.identity()).unwrap().is_none());
}

#[tokio::test]
async fn receipts_of_a_gateway_that_is_gone_for_good_can_be_given_up() {
    let place = Place::new().await;
    place.enrolled();
    place.ask(DEVICE).await;
    let TunnelParts { identity, .. } = place.parts();
    identity.unenroll(false).await.unwrap_err();
    identity.unenroll(true).await.unwrap();
    assert_eq!(*place.journal.pending().borrow(), 0);
    assert!(DeviceIdentity::load(&place.identity()).unwrap().is_none());
}

/// A gateway that welcomes everybody and renews what it is asked to.
async fn renewing(endpoint: GatewayEndpoint, ca: Ca) {
    let ca = Arc::new(ca);
    let mut devices = JoinSet::new();
    while let Some(incoming) = endpoint.accept().await {
        let ca = Arc::clone(&ca);
        devices.spawn(async move {
            let Ok(Accepted::Device(mut device)) = incoming.handshake().await else { return };
            device.hello().await.unwrap();
            let session = device.welcome(v1::Welcome::default()).await.unwrap();
            while let Some(renewing) = session.renewal().await {
                let chain = ca.sign_device_csr(&renewing.csr_der, session.device_id()).unwrap().chain;
                let certificate_chain = chain.iter().map(|der| der.to_vec().into()).collect();
                let _ = renewing.answer(v1::Renewed { certificate_chain, ..v1::Renewed::default() }).await;
            }
        });
    }
}

#[tokio::test]
async fn a_certificate_that_is_due_is_renewed_and_stored() {
    let place = Place::new().await;
    let domain: TrustDomain = "test.internal".parse().unwrap();
    let (server_ca, ca) =
        (Ca::generate(CaKind::Server, &domain).unwrap(), Ca::generate(CaKind::Device, &domain).unwrap());
    let server = server_ca.issue_server(&[]).unwrap();
    let tls = GatewayTls {
        chain_pem: server.chain_pem,
        key_pem: server.key_pem,
        also: Vec::new(),
        device_ca_pem: ca.certificate_pem(),
        trust_domain: domain.clone(),
        dates: Dates::default(),
        reset_seed: None,
    };
    let endpoint = GatewayEndpoint::bind(&tls, ([127, 0, 0, 1], 0).into()).unwrap();
    let (key, device_id) = (DeviceKey::generate().unwrap(), DEVICE.parse().unwrap());
    let made = SystemTime::now() - Duration::from_secs(300 * 86_400);
    let former = DeviceIdentity {
        device_id,
        account: "acme".to_owned(),
        trust_domain: domain,
        chain: ca.sign_device_csr_at(&key.csr_der().unwrap(), device_id, made).unwrap().chain,
        key,
        ca: vec![server_ca.certificate().clone()],
        receipt_keys: Vec::new(),
        gateway: endpoint.local_addr().unwrap().to_string(),
    };
    former.save(&place.identity()).unwrap();
    let mut gateway = JoinSet::new();
    gateway.spawn(renewing(endpoint, ca));

    let TunnelParts { identity, view, mut keeper, .. } = place.parts();
    let (board, stop) = (HealthBoard::new(), CancellationToken::new());
    let cx = Context::detached(&board, "tunnel", stop.clone());
    let check = async {
        let mut watching = identity.watch();
        let other =
            |now: &Option<Arc<DeviceIdentity>>| now.as_ref().is_some_and(|now| now.chain != former.chain);
        let renewed = watching.wait_for(other).await.unwrap().clone().unwrap();
        let stored = DeviceIdentity::load(&place.identity()).unwrap().unwrap();
        assert_eq!(stored.chain, renewed.chain);
        assert_eq!(stored.key.public_der().unwrap(), renewed.key.public_der().unwrap());
        let until = renewed.not_after().unwrap();
        let shown =
            |view: &TunnelView| view.certificate_until == Some(until) && view.state == TunnelState::Up;
        let mut view = view.clone();
        view.wait_for(shown).await.unwrap();
        stop.cancel();
    };
    let (ended, ()) = tokio::join!(keeper.run(&cx), check);
    ended.unwrap();
}
