//! What a control plane promises, told on the SQLite one: exact holds under concurrency, one charge per request,
//! a chain of receipts that verifies, tokens that say why they are refused.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use synesis_ledger::{Damaged, KeyRing, Price, Rates, SigningKey, verify_chain};
use synesis_mesh::identity::{Ca, CaKind, DeviceKey, Validity};
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::sqlite::Entry;
use super::*;

const HOUR: Duration = Duration::from_secs(3600);
/// 2026-01-15, in the middle of a month.
const START_MS: i64 = 1_768_435_200_000;

/// A control plane in a scratch folder, with a clock that is turned by hand.
pub(crate) struct Plane {
    pub(crate) plane: SqliteControlPlane,
    pub(crate) now_ms: Arc<AtomicI64>,
    public: [u8; 32],
    _folder: Option<TempDir>,
}

impl Plane {
    async fn fresh() -> Self {
        let folder = TempDir::new().unwrap();
        let mut made = Self::open(folder.path(), "1", "2").await;
        made._folder = Some(folder);
        made
    }

    /// Opens the store in `folder` with these prices for the model "big".
    async fn open(folder: &Path, input: &str, output: &str) -> Self {
        let receipt_key = SigningKey::generate([7; 32]);
        let public = receipt_key.public();
        let now_ms = Arc::new(AtomicI64::new(START_MS));
        let price =
            Price { input_per_mtok: input.parse().unwrap(), output_per_mtok: output.parse().unwrap() };
        let ca = Ca::generate(CaKind::Device, &"test.internal".parse().unwrap()).unwrap();
        let settings = SqliteSettings {
            device_ca: tokio::sync::watch::channel(Arc::new(ca)).1,
            receipt_key,
            rates: Rates::default(),
            prices: BTreeMap::from([("big".to_owned(), price)]),
            clock: Clock::by_hand(Arc::clone(&now_ms)),
        };
        let (plane, _) = SqliteControlPlane::open(folder, settings).await.unwrap();
        Self { plane, now_ms, public, _folder: None }
    }

    fn advance(&self, by: Duration) {
        self.now_ms.fetch_add(i64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }

    async fn account(&self, tier: Tier, ceiling: Option<i64>, quota: Option<i64>) -> AccountRecord {
        let [ceiling, quota] = [ceiling, quota].map(|amount| amount.map(NanoUsd::from_i64));
        let new = NewAccount { name: format!("{tier}"), tier, ceiling, quota };
        self.plane.create_account(new).await.unwrap()
    }

    async fn token(&self, account: &AccountRecord, uses: u32) -> Secret {
        self.plane.create_token(&account.name, HOUR, uses).await.unwrap().token
    }

    async fn device(&self, account: &AccountRecord) -> Uuid {
        let token = self.token(account, 1).await;
        self.plane.enrol(token.expose(), &csr(), "test/1").await.unwrap().device
    }

    /// A managed account without limits, and a device of it.
    async fn simple() -> (Self, Uuid) {
        let made = Self::fresh().await;
        let account = made.account(Tier::Managed, None, None).await;
        let device = made.device(&account).await;
        (made, device)
    }
}

impl Plane {
    /// One more device in the account of `device`.
    pub(crate) async fn another_device(&self, device: Uuid) -> Uuid {
        let account = self.plane.device(device).await.unwrap().account;
        let token = self.plane.create_token(&account, HOUR, 1).await.unwrap().token;
        self.plane.enrol(token.expose(), &csr(), "test/1").await.unwrap().device
    }
}

/// Two accounts, and a device of each.
pub(crate) async fn two_accounts() -> (Plane, Uuid, Uuid) {
    let made = Plane::fresh().await;
    let (managed, byok) =
        (made.account(Tier::Managed, None, None).await, made.account(Tier::Byok, None, None).await);
    let devices = (made.device(&managed).await, made.device(&byok).await);
    (made, devices.0, devices.1)
}

fn csr() -> Vec<u8> {
    DeviceKey::generate().unwrap().csr_der().unwrap()
}

fn key(device: Uuid, n: u128) -> RequestKey {
    RequestKey { device, request_id: Ulid::from(n) }
}

/// At 1 and 2 dollars a million: 1,000 + 2 x 500 micro-dollars = 0.002 dollars, and 3 % on it.
fn reserve(request: RequestKey) -> Reserve {
    Reserve { request, model: "big".to_owned(), input_tokens: 1_000, output_tokens: 500, max_charge: None }
}

const WORST_CASE: i64 = 2_060_000;

fn settle(request: RequestKey, input_tokens: u64, output_tokens: u64) -> Settle {
    Settle {
        request,
        input_tokens,
        output_tokens,
        provider_counted: true,
        adapter_generation: 3,
        redacted_hash: [9; 32],
    }
}

async fn money(plane: &SqliteControlPlane, device: Uuid) -> Account {
    plane.balance(device).await.unwrap().money
}

#[tokio::test]
async fn what_is_not_used_of_a_hold_is_free_again() {
    let (made, device) = Plane::simple().await;
    let hold = made.plane.reserve(reserve(key(device, 1))).await.unwrap();
    assert_eq!(hold, Hold { amount: NanoUsd::from_i64(WORST_CASE), price_version: 1 });
    assert_eq!(money(&made.plane, device).await.held.as_i64(), WORST_CASE);

    let settled = made.plane.settle(settle(key(device, 1), 100, 50)).await.unwrap();
    assert_eq!(settled.cut, None);
    let after = money(&made.plane, device).await;
    assert_eq!((after.held.as_i64(), after.unbilled.as_i64()), (0, 206_000));
}

#[tokio::test]
async fn a_settle_that_is_repeated_gives_the_same_receipt_bytes_and_one_charge() {
    let (made, device) = Plane::simple().await;
    made.plane.reserve(reserve(key(device, 1))).await.unwrap();
    let first = made.plane.settle(settle(key(device, 1), 100, 50)).await.unwrap();
    made.advance(HOUR);
    let again = made.plane.settle(settle(key(device, 1), 999, 499)).await.unwrap();
    assert_eq!(again.receipt.to_bytes(), first.receipt.to_bytes());
    assert_eq!(money(&made.plane, device).await.unbilled.as_i64(), 206_000);
    let RequestState::Settled(stored) = made.plane.request_state(&key(device, 1)).await.unwrap() else {
        panic!("not settled");
    };
    assert_eq!(stored, first.receipt.to_bytes());
}

#[tokio::test]
async fn concurrent_holds_never_pass_the_ceiling() {
    let made = Plane::fresh().await;
    // Room for seven and a half worst cases, asked for by four devices at once.
    let ceiling = WORST_CASE * 15 / 2;
    let account = made.account(Tier::Managed, Some(ceiling), None).await;
    let mut asking = JoinSet::new();
    for _ in 0..4 {
        let device = made.device(&account).await;
        for n in 0..8 {
            let plane = made.plane.clone();
            asking.spawn(async move { plane.reserve(reserve(key(device, n))).await });
        }
    }
    let outcomes = asking.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 7);
    for refused in outcomes.into_iter().filter_map(Result::err) {
        assert!(matches!(refused, ControlError::Refused(_)), "{refused:?}");
    }
}

#[tokio::test]
async fn the_free_tier_is_refused_when_its_month_is_used_up_and_served_in_the_next() {
    let made = Plane::fresh().await;
    let account = made.account(Tier::Free, None, Some(2_000_000)).await;
    let device = made.device(&account).await;
    made.plane.reserve(reserve(key(device, 1))).await.unwrap();
    let settled = made.plane.settle(settle(key(device, 1), 1_000, 500)).await.unwrap();
    assert_eq!(settled.receipt.receipt.net, NanoUsd::ZERO);
    let refused = made.plane.reserve(reserve(key(device, 2))).await.unwrap_err();
    assert!(
        matches!(refused, ControlError::Refused(synesis_ledger::Refused::QuotaExhausted { .. })),
        "{refused:?}"
    );

    made.advance(Duration::from_secs(31 * 86_400));
    assert_eq!(money(&made.plane, device).await.quota_left(), Some(NanoUsd::from_i64(2_000_000)));
    made.plane.reserve(reserve(key(device, 2))).await.unwrap();
}

#[tokio::test]
async fn usage_above_the_hold_is_cut_to_it_and_both_numbers_are_told() {
    let (made, device) = Plane::simple().await;
    made.plane.reserve(reserve(key(device, 1))).await.unwrap();
    let settled = made.plane.settle(settle(key(device, 1), 2_000, 1_000)).await.unwrap();
    let cut = settled.cut.unwrap();
    assert_eq!((cut.reported, cut.held.as_i64()), (Some(NanoUsd::from_i64(2 * WORST_CASE)), WORST_CASE));
    assert_eq!(settled.receipt.receipt.net.as_i64(), WORST_CASE);
    // What does not even fit an amount is cut the same way.
    made.plane.reserve(reserve(key(device, 2))).await.unwrap();
    let absurd = made.plane.settle(settle(key(device, 2), u64::MAX, u64::MAX)).await.unwrap();
    assert_eq!(absurd.cut, Some(Cut { reported: None, held: NanoUsd::from_i64(WORST_CASE) }));
}

#[tokio::test]
async fn receipts_chain_per_device_and_verify() {
    let (made, device) = Plane::simple().await;
    let mut receipts = Vec::new();
    for n in 1..=3 {
        made.plane.reserve(reserve(key(device, n))).await.unwrap();
        receipts.push(made.plane.settle(settle(key(device, n), 10, 10)).await.unwrap().receipt);
    }
    let mut ring = KeyRing::new();
    ring.insert(made.public).unwrap();
    let verification = verify_chain(receipts.into_iter().map(Ok::<_, Damaged>), &ring);
    assert!(verification.chain_ok && verification.signatures_ok, "{verification:?}");
    assert_eq!(verification.receipts, 3);
}

#[tokio::test]
async fn a_known_request_is_not_served_twice_but_a_released_one_may_be_tried_again() {
    let (made, device) = Plane::simple().await;
    let request = key(device, 1);
    made.plane.reserve(reserve(request)).await.unwrap();
    let held = made.plane.reserve(reserve(request)).await.unwrap_err();
    assert!(matches!(held, ControlError::RequestKnown { state: "held" }), "{held:?}");

    made.plane.release(&request).await.unwrap();
    made.plane.release(&request).await.unwrap();
    assert_eq!(money(&made.plane, device).await.held, NanoUsd::ZERO);
    assert!(matches!(made.plane.settle(settle(request, 1, 1)).await, Err(ControlError::NotHeld)));

    made.plane.reserve(reserve(request)).await.unwrap();
    made.plane.settle(settle(request, 1, 1)).await.unwrap();
    let settled = made.plane.reserve(reserve(request)).await.unwrap_err();
    assert!(matches!(settled, ControlError::RequestKnown { state: "settled" }), "{settled:?}");
}

#[tokio::test]
async fn one_devices_request_means_nothing_to_another() {
    let made = Plane::fresh().await;
    let account = made.account(Tier::Managed, None, None).await;
    let (owner, stranger) = (made.device(&account).await, made.device(&account).await);
    made.plane.reserve(reserve(key(owner, 1))).await.unwrap();
    made.plane.settle(settle(key(owner, 1), 1, 1)).await.unwrap();
    let state = made.plane.request_state(&key(stranger, 1)).await.unwrap();
    assert!(matches!(state, RequestState::Unknown), "{state:?}");
}

#[tokio::test]
async fn the_devices_own_limit_is_kept() {
    let (made, device) = Plane::simple().await;
    let limited =
        |n, limit| Reserve { max_charge: Some(NanoUsd::from_i64(limit)), ..reserve(key(device, n)) };
    let refused = made.plane.reserve(limited(1, WORST_CASE - 1)).await.unwrap_err();
    assert!(matches!(refused, ControlError::OverDeviceLimit { .. }), "{refused:?}");
    made.plane.reserve(limited(2, WORST_CASE)).await.unwrap();
}

#[tokio::test]
async fn a_model_without_a_price_and_an_absurd_amount_are_refused() {
    let (made, device) = Plane::simple().await;
    let unknown = Reserve { model: "surprise".to_owned(), ..reserve(key(device, 1)) };
    assert!(matches!(made.plane.reserve(unknown).await, Err(ControlError::NoPrice(_))));
    let absurd = Reserve { input_tokens: u64::MAX, ..reserve(key(device, 1)) };
    assert!(matches!(made.plane.reserve(absurd).await, Err(ControlError::Overflow(_))));
    assert_eq!(money(&made.plane, device).await.held, NanoUsd::ZERO);
}

#[tokio::test]
async fn wrong_expired_and_used_up_tokens_are_told_apart() {
    let made = Plane::fresh().await;
    let account = made.account(Tier::Managed, None, None).await;
    let token = made.token(&account, 1).await;
    assert!(token.expose().starts_with("syn1_") && token.expose().len() == 5 + 43);
    let wrong = made.plane.enrol("syn1_wrong", &csr(), "").await.unwrap_err();
    assert!(matches!(wrong, ControlError::TokenInvalid), "{wrong:?}");

    made.plane.enrol(token.expose(), &csr(), "").await.unwrap();
    let used = made.plane.enrol(token.expose(), &csr(), "").await.unwrap_err();
    assert!(matches!(used, ControlError::TokenUsed), "{used:?}");

    let late = made.token(&account, 1).await;
    made.advance(HOUR);
    let expired = made.plane.enrol(late.expose(), &csr(), "").await.unwrap_err();
    assert!(matches!(expired, ControlError::TokenExpired), "{expired:?}");
}

#[tokio::test]
async fn a_request_that_cannot_be_signed_costs_no_use() {
    let made = Plane::fresh().await;
    let account = made.account(Tier::Managed, None, None).await;
    let token = made.token(&account, 1).await;
    let mut tampered = csr();
    let last = tampered.len() - 1;
    tampered[last] ^= 1;
    for bad in [b"garbage".to_vec(), tampered] {
        let refused = made.plane.enrol(token.expose(), &bad, "").await.unwrap_err();
        assert!(matches!(refused, ControlError::Csr(_)), "{refused:?}");
    }
    made.plane.enrol(token.expose(), &csr(), "").await.unwrap();
}

#[tokio::test]
async fn a_device_is_renewed_as_itself_and_what_it_had_before_is_remembered() {
    let (made, device) = Plane::simple().await;
    let serial = |chain: &[Vec<u8>]| Validity::of(&chain[0].clone().into()).unwrap().serial;
    let second = made.plane.renew(device, &csr(), None).await.unwrap();
    assert_eq!((second.device, second.account.as_str()), (device, "managed"));
    let third = made.plane.renew(device, &csr(), Some(&serial(&second.chain))).await.unwrap();
    assert_ne!(serial(&second.chain), serial(&third.chain));
    // The answer may have been lost: the certificate before the latest renews too.
    made.plane.renew(device, &csr(), Some(&serial(&second.chain))).await.unwrap();
    let foreign = made.plane.renew(device, &csr(), Some("00ff")).await.unwrap_err();
    assert!(matches!(foreign, ControlError::CertificateUnknown), "{foreign:?}");
    let nobody = made.plane.renew(Uuid::from_u128(1), &csr(), None).await.unwrap_err();
    assert!(matches!(nobody, ControlError::DeviceUnknown), "{nobody:?}");
    made.plane.revoke(device).await.unwrap();
    let revoked = made.plane.renew(device, &csr(), None).await.unwrap_err();
    assert!(matches!(revoked, ControlError::DeviceRevoked), "{revoked:?}");
}

#[tokio::test]
async fn a_device_is_given_only_so_many_certificates_in_a_day() {
    let (made, device) = Plane::simple().await;
    for _ in 1..10 {
        made.plane.renew(device, &csr(), None).await.unwrap();
    }
    let refused = made.plane.renew(device, &csr(), None).await.unwrap_err();
    assert!(matches!(refused, ControlError::RenewedTooOften(10)), "{refused:?}");
    made.advance(24 * HOUR);
    made.plane.renew(device, &csr(), None).await.unwrap();
}

#[tokio::test]
async fn what_enrolled_devices_depend_on_is_known() {
    let (made, device) = Plane::simple().await;
    let depends = made.plane.dependencies().await.unwrap();
    assert_eq!(depends.len(), 1);
    assert!(depends[0].pinned.is_empty());
    for pins in [vec![[1; 32], [2; 32]], vec![[2; 32]]] {
        made.plane.pinned(device, &pins).await.unwrap();
        assert_eq!(made.plane.dependencies().await.unwrap()[0].pinned, pins);
    }
    assert_eq!(made.plane.dependencies().await.unwrap()[0].issuer, depends[0].issuer);
    made.plane.revoke(device).await.unwrap();
    assert!(made.plane.dependencies().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_wrong_token_does_not_queue_with_those_who_write() {
    let made = Plane::fresh().await;
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    let (end, over) = std::sync::mpsc::channel();
    let mut writing = JoinSet::new();
    let plane = made.plane.clone();
    writing.spawn(async move { plane.occupied(begun, over).await });
    has_begun.await.unwrap();
    let csr = csr();
    let refused = made.plane.enrol("syn1_wrong", &csr, "");
    let refused = tokio::time::timeout(Duration::from_secs(10), refused).await;
    end.send(()).unwrap();
    assert!(matches!(refused.unwrap().unwrap_err(), ControlError::TokenInvalid));
}

#[tokio::test]
async fn a_token_enrols_as_many_devices_as_it_says_even_at_once() {
    let made = Plane::fresh().await;
    let account = made.account(Tier::Managed, None, None).await;
    let token = made.token(&account, 3).await;
    let mut enrolling = JoinSet::new();
    for _ in 0..6 {
        let (plane, token) = (made.plane.clone(), token.clone());
        enrolling.spawn(async move { plane.enrol(token.expose(), &csr(), "").await });
    }
    let outcomes = enrolling.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 3);
    assert_eq!(made.plane.devices().await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_revoked_device_may_not_ask_and_its_record_says_so() {
    let (made, device) = Plane::simple().await;
    made.plane.revoke(device).await.unwrap();
    made.plane.revoke(device).await.unwrap();
    assert_eq!(made.plane.device(device).await.unwrap().state, DeviceState::Revoked);
    assert!(matches!(made.plane.reserve(reserve(key(device, 1))).await, Err(ControlError::DeviceRevoked)));
    assert!(matches!(made.plane.balance(device).await, Err(ControlError::DeviceRevoked)));
    assert!(matches!(made.plane.revoke(Uuid::nil()).await, Err(ControlError::DeviceUnknown)));
}

#[tokio::test]
async fn an_account_name_is_unique_and_printable() {
    let made = Plane::fresh().await;
    made.account(Tier::Managed, None, None).await;
    let new =
        |name: &str| NewAccount { name: name.to_owned(), tier: Tier::Managed, ceiling: None, quota: None };
    assert!(matches!(made.plane.create_account(new("managed")).await, Err(ControlError::AccountExists(_))));
    for bad in ["", " ", "a\nb", &"x".repeat(65)] {
        assert!(
            matches!(made.plane.create_account(new(bad)).await, Err(ControlError::AccountName(_))),
            "{bad:?}"
        );
    }
    let unknown = made.plane.create_token("nobody", HOUR, 1).await.unwrap_err();
    assert!(matches!(unknown, ControlError::AccountUnknown(_)), "{unknown:?}");
}

#[tokio::test]
async fn a_new_price_is_a_new_version_and_an_old_hold_keeps_its_price() {
    let folder = TempDir::new().unwrap();
    let first = Plane::open(folder.path(), "1", "2").await;
    assert_eq!(first.plane.price_version(), 1);
    let account = first.account(Tier::Managed, None, None).await;
    let device = first.device(&account).await;
    first.plane.reserve(reserve(key(device, 1))).await.unwrap();
    first.plane.close().await;
    let same = Plane::open(folder.path(), "1", "2").await;
    assert_eq!(same.plane.price_version(), 1);
    same.plane.close().await;
    let dearer = Plane::open(folder.path(), "10", "20").await;
    assert_eq!(dearer.plane.price_version(), 2);
    let receipt = dearer.plane.settle(settle(key(device, 1), 1_000, 500)).await.unwrap().receipt.receipt;
    assert_eq!((receipt.net.as_i64(), receipt.price_version), (WORST_CASE, 1));
}

#[tokio::test]
async fn holds_that_a_killed_gateway_left_are_released_at_the_next_start() {
    let folder = TempDir::new().unwrap();
    let killed = Plane::open(folder.path(), "1", "2").await;
    let account = killed.account(Tier::Managed, None, None).await;
    let device = killed.device(&account).await;
    for n in 1..=2 {
        killed.plane.reserve(reserve(key(device, n))).await.unwrap();
    }
    killed.plane.settle(settle(key(device, 1), 1, 1)).await.unwrap();
    killed.plane.close().await;
    let next = Plane::open(folder.path(), "1", "2").await;
    assert_eq!(next.plane.release_orphans().await.unwrap(), [key(device, 2)]);
    assert_eq!(money(&next.plane, device).await.held, NanoUsd::ZERO);
    assert!(next.plane.release_orphans().await.unwrap().is_empty());
}

#[tokio::test]
async fn the_chained_entries_add_up_to_the_balance() {
    let (made, device) = Plane::simple().await;
    for n in 1..=6 {
        made.plane.reserve(reserve(key(device, n))).await.unwrap();
        match n % 3 {
            0 => made.plane.release(&key(device, n)).await.unwrap(),
            1 => drop(made.plane.settle(settle(key(device, n), 100 * n as u64, 7)).await.unwrap()),
            _ => {}
        }
    }
    // Repeats append nothing.
    made.plane.settle(settle(key(device, 1), 1, 1)).await.unwrap();
    made.plane.release(&key(device, 3)).await.unwrap();
    let entries = made.plane.entries().await;
    assert_eq!(entries.len(), 6 + 2 + 2);
    let (mut held, mut unbilled) = (0, 0);
    for entry in entries {
        match entry {
            Entry::Hold { amount, .. } => held += amount.as_i64(),
            Entry::Release { amount, .. } => held -= amount.as_i64(),
            Entry::Settle { held: hold, net, .. } => {
                held -= hold.as_i64();
                unbilled += net.as_i64();
            }
        }
    }
    let balance = money(&made.plane, device).await;
    assert_eq!((balance.held.as_i64(), balance.unbilled.as_i64()), (held, unbilled));
}
