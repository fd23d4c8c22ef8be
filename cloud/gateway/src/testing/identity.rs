//! The life of identities at a whole gateway: years pass by turning its clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use synesis_mesh::device::{TunnelConfig, TunnelState, TunnelStatus, enroll};
use synesis_mesh::identity::{DeviceIdentity, WallClock, certificates_from_pem};
use synesis_proto::gateway::v1::{
    AddAuthorityRequest, Authority, ListAuthoritiesRequest, RetireAuthorityRequest, RevokeDeviceRequest,
    SwitchAuthorityRequest,
};
use tokio::time::timeout;

use super::device::TestDevice;
use super::gateway::TestGateway;
use crate::control_plane::Clock;

const DAY_MS: i64 = 86_400_000;
const SOON: Duration = Duration::from_secs(30);

/// A gateway and the hand of its clock.
struct World {
    gateway: TestGateway,
    now_ms: Arc<AtomicI64>,
}

impl World {
    async fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let now_ms = Arc::new(AtomicI64::new(i64::try_from(now.as_millis()).unwrap()));
        Self { gateway: TestGateway::start_at(Clock::by_hand(Arc::clone(&now_ms))).await, now_ms }
    }

    fn pass_days(&self, days: i64) {
        self.now_ms.fetch_add(days * DAY_MS, Ordering::SeqCst);
    }

    async fn enrolled(&self) -> Arc<DeviceIdentity> {
        self.enrolled_with(&self.gateway.ca_pem()).await
    }

    async fn enrolled_with(&self, ca_pem: &[u8]) -> Arc<DeviceIdentity> {
        let token = self.gateway.token(None).await;
        let address = self.gateway.address.to_string();
        Arc::new(enroll(&address, ca_pem, &token, "test/1").await.unwrap())
    }

    /// A device whose clock is the gateway's.
    fn device(&self, identity: &Arc<DeviceIdentity>) -> TestDevice {
        let mut config = TunnelConfig::new("test/1", tokio::sync::watch::channel(None).1);
        config.endpoints = vec![self.gateway.address.to_string()];
        let now_ms = Arc::clone(&self.now_ms);
        config.clock = WallClock::of(move || {
            UNIX_EPOCH + Duration::from_millis(now_ms.load(Ordering::SeqCst).unsigned_abs())
        });
        TestDevice::start(Arc::clone(identity), config)
    }

    async fn authorities(&self, kind: &str) -> Vec<Authority> {
        let mut admin = self.gateway.admin().await;
        let list = admin.list_authorities(ListAuthoritiesRequest {}).await.unwrap().into_inner();
        list.authorities.into_iter().filter(|ca| ca.kind == kind).collect()
    }

    async fn add(&self, kind: &str) -> Authority {
        let mut admin = self.gateway.admin().await;
        admin.add_authority(AddAuthorityRequest { kind: kind.to_owned() }).await.unwrap().into_inner()
    }

    async fn switch(&self, kind: &str) {
        let mut admin = self.gateway.admin().await;
        admin.switch_authority(SwitchAuthorityRequest { kind: kind.to_owned() }).await.unwrap();
    }

    async fn retire(&self, kind: &str, force: bool) -> Result<Authority, String> {
        let mut admin = self.gateway.admin().await;
        let request = RetireAuthorityRequest { kind: kind.to_owned(), force };
        let answer = admin.retire_authority(request).await;
        answer.map(tonic::Response::into_inner).map_err(|status| status.message().to_owned())
    }
}

async fn status(device: &TestDevice, wanted: impl FnMut(&TunnelStatus) -> bool) -> TunnelStatus {
    let mut status = device.tunnel.status();
    timeout(SOON, status.wait_for(wanted)).await.expect("in time").unwrap().clone()
}

/// Waits until the device has another identity than this one.
async fn renewed(device: &TestDevice, former: &DeviceIdentity) -> Arc<DeviceIdentity> {
    let mut renewals = device.tunnel.renewals();
    let other = |newest: &Option<Arc<DeviceIdentity>>| {
        newest.as_ref().is_some_and(|newest| newest.chain != former.chain || newest.ca != former.ca)
    };
    timeout(SOON, renewals.wait_for(other)).await.expect("in time").unwrap().clone().unwrap()
}

#[tokio::test]
async fn after_two_thirds_of_a_year_a_device_renews_and_the_former_certificate_still_counts() {
    let world = World::new().await;
    let former = world.enrolled().await;
    world.pass_days(262);
    let device = world.device(&former);
    let newest = renewed(&device, &former).await;
    assert_eq!(newest.device_id, former.device_id);
    assert_ne!(newest.key.public_der().unwrap(), former.key.public_der().unwrap());
    assert!(newest.not_after().unwrap() > former.not_after().unwrap());
    for identity in [&newest, &former] {
        status(&world.device(identity), |status| status.state == TunnelState::Up).await;
    }
}

#[tokio::test]
async fn a_device_comes_back_by_itself_after_400_days_and_not_after_800() {
    let world = World::new().await;
    let (away, longer) = (world.enrolled().await, world.enrolled().await);
    world.pass_days(400);
    let device = world.device(&away);
    renewed(&device, &away).await;
    status(&device, |status| status.state == TunnelState::Up).await;
    world.pass_days(400);
    let device = world.device(&longer);
    let status = status(&device, |status| status.state == TunnelState::Backoff).await;
    assert!(status.next_step.unwrap().contains("new token"));
}

#[tokio::test]
async fn a_revoked_device_neither_comes_back_nor_renews() {
    let world = World::new().await;
    let identity = world.enrolled().await;
    let id = identity.device_id.to_string();
    world.gateway.admin().await.revoke_device(RevokeDeviceRequest { id }).await.unwrap();
    status(&world.device(&identity), |status| status.state == TunnelState::Revoked).await;
    world.pass_days(400);
    let device = world.device(&identity);
    status(&device, |status| status.state == TunnelState::Revoked).await;
    assert!(device.tunnel.renewals().borrow().is_none());
}

#[tokio::test]
async fn a_connection_does_not_outlive_its_certificate() {
    let world = World::new().await;
    let identity = world.enrolled().await;
    world.pass_days(364);
    let device = world.device(&identity);
    // It renews at once, and the connection of the former certificate is left; one that stays is ended.
    renewed(&device, &identity).await;
    status(&device, |status| status.state == TunnelState::Up).await;
    let until = identity.not_after().unwrap();
    let clock = Clock::by_hand(Arc::clone(&world.now_ms));
    let left = crate::session::renew::end_of(until, &clock) - tokio::time::Instant::now();
    assert!(left < Duration::from_secs(86_400) && left > Duration::from_secs(86_000), "{left:?}");
}

#[tokio::test]
async fn the_device_ca_is_changed_without_a_person_at_any_device() {
    let world = World::new().await;
    let identity = world.enrolled().await;
    world.add("device").await;
    world.switch("device").await;
    let refused = world.retire("device", false).await.unwrap_err();
    assert!(refused.contains("1 of 1 enrolled devices"), "{refused}");
    // Both count: the device comes in with the former one, and is renewed by the next.
    world.pass_days(262);
    let device = world.device(&identity);
    let newest = renewed(&device, &identity).await;
    let devices: Vec<u64> = world.authorities("device").await.iter().map(|ca| ca.devices).collect();
    assert_eq!(devices, [0, 1]);
    let retired = world.retire("device", false).await.unwrap();
    assert_eq!(retired.state, "retired");
    assert!(!world.gateway.pki().join(format!("{}.key", retired.name)).exists());
    status(&world.device(&newest), |status| status.state == TunnelState::Up).await;
    let device = world.device(&identity);
    let refused = status(&device, |status| status.state == TunnelState::Backoff).await;
    assert!(refused.reason.unwrap().contains("not signed by a CA of this gateway"));
}

#[tokio::test]
async fn the_server_ca_is_changed_with_a_device_online_and_one_that_was_away() {
    let world = World::new().await;
    let (online, away) = (world.enrolled().await, world.enrolled().await);
    let first = world.device(&online);
    status(&first, |status| status.state == TunnelState::Up).await;
    let next = world.add("server").await;
    let online = renewed(&first, &online).await;
    assert_eq!(online.ca.len(), 2, "told over the live connection");
    world.switch("server").await;
    let refused = world.retire("server", false).await.unwrap_err();
    assert!(refused.contains("of 2 enrolled devices have not confirmed"), "{refused}");

    // Away while it happened: it knows only the former CA, gets in, and learns the next one.
    let second = world.device(&away);
    let away = renewed(&second, &away).await;
    assert_eq!(away.ca.len(), 2);
    // Enrolling with the next one's file works too.
    let pem = std::fs::read(world.gateway.pki().join(format!("{}.pem", next.name))).unwrap();
    let third = world.device(&world.enrolled_with(&pem).await);
    status(&third, |status| status.state == TunnelState::Up).await;
    // Each says that it trusts both with its next connection, within seconds.
    let everybody = async {
        while world.authorities("server").await.iter().any(|ca| ca.name == next.name && ca.devices < 3) {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, everybody).await.expect("all confirm");
    world.retire("server", false).await.unwrap();
    let last = certificates_from_pem(&pem).unwrap();
    for device in [&first, &second, &third] {
        let mut renewals = device.tunnel.renewals();
        let forgot = |newest: &Option<Arc<DeviceIdentity>>| newest.as_ref().is_some_and(|id| id.ca == last);
        timeout(SOON, renewals.wait_for(forgot)).await.expect("the former one is forgotten").unwrap();
        status(device, |status| status.state == TunnelState::Up).await;
    }
}

#[tokio::test]
async fn a_rotation_survives_a_restart_and_the_gateway_keeps_its_name() {
    let world = World::new().await;
    let identity = world.enrolled().await;
    let name = |status: TunnelStatus| status.welcome.unwrap().gateway_id.clone();
    let before = name(status(&world.device(&identity), |status| status.welcome.is_some()).await);
    world.add("server").await;
    world.switch("server").await;
    let World { gateway, now_ms } = world;
    let gateway = TestGateway::serve_at(gateway.stop().await, Clock::by_hand(Arc::clone(&now_ms))).await;
    let world = World { gateway, now_ms };
    let states: Vec<String> = world.authorities("server").await.into_iter().map(|ca| ca.state).collect();
    assert_eq!(states, ["trusted", "issuing"]);
    let after = name(status(&world.device(&identity), |status| status.welcome.is_some()).await);
    assert_eq!(before, after);
}
