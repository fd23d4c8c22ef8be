//! What the store of adapters promises, on a real control plane and real files.

use std::time::SystemTime;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::*;
use crate::control_plane::AdapterFacts;
use crate::control_plane::tests::{Plane, two_accounts};

/// A store with two accounts of one device each.
struct World {
    store: AdapterStore,
    ann: Uuid,
    bob: Uuid,
    folder: TempDir,
    plane: Plane,
}

impl World {
    async fn new() -> Self {
        Self::limited(1 << 20, 2 << 20).await
    }

    async fn limited(max_bytes: u64, quota: u64) -> Self {
        let (plane, ann, bob) = two_accounts().await;
        let folder = TempDir::new().unwrap();
        let limits = Limits { max_bytes, quota: AdapterQuota { bytes: quota, entries: 4 } };
        let shared: Arc<dyn ControlPlane> = Arc::new(plane.plane.clone());
        let store = AdapterStore::new(folder.path().to_owned(), limits, shared);
        Self { store, ann, bob, folder, plane }
    }

    async fn begin(&self, device: Uuid, name: &str, bytes: &[u8]) -> Receiving {
        match self.store.receive(device, new(name, bytes)).await.unwrap() {
            Begun::Receiving(receiving) => *receiving,
            Begun::Here(record) => panic!("it is here: {record:?}"),
        }
    }

    async fn push(&self, device: Uuid, name: &str, bytes: &[u8]) -> Result<AdapterRecord, AdapterStoreError> {
        match self.store.receive(device, new(name, bytes)).await? {
            Begun::Here(record) => Ok(record),
            Begun::Receiving(receiving) => {
                let have = receiving.have();
                let rest = Bytes::copy_from_slice(&bytes[have as usize..]);
                self.store.complete(receiving.append(have, rest).await?).await
            }
        }
    }

    fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        for account in std::fs::read_dir(self.folder.path()).unwrap() {
            for file in std::fs::read_dir(account.unwrap().path()).unwrap() {
                found.push(file.unwrap().path().extension().unwrap().to_string_lossy().into_owned());
            }
        }
        found.sort();
        found
    }

    /// The folder of the one account that has files.
    fn account(&self) -> PathBuf {
        let mut folders = std::fs::read_dir(self.folder.path()).unwrap();
        folders.next().unwrap().unwrap().path()
    }
}

fn digest(bytes: &[u8]) -> AdapterDigest {
    AdapterDigest::parse(&hex::encode(Sha256::digest(bytes))).unwrap()
}

fn new(name: &str, bytes: &[u8]) -> NewAdapter {
    let (sha256, size_bytes) = (digest(bytes), bytes.len() as u64);
    NewAdapter { name: name.to_owned(), sha256, size_bytes, facts: AdapterFacts::default() }
}

fn file(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n % 251) as u8).collect()
}

#[tokio::test]
async fn a_file_that_is_cut_anywhere_goes_on_from_there_and_is_the_same_file() {
    let world = World::new().await;
    let bytes = file(10_000);
    for cut in [0, 1, 4_096, 9_999] {
        let receiving = world.begin(world.ann, "tone", &bytes).await;
        let have = receiving.have() as usize;
        if cut > have {
            receiving.append(have as u64, Bytes::copy_from_slice(&bytes[have..cut])).await.unwrap();
        }
    }
    assert_eq!(world.begin(world.ann, "tone", &bytes).await.have(), 9_999);
    let record = world.push(world.ann, "tone", &bytes).await.unwrap();
    assert_eq!(record.adapter.name, "tone");
    let (found, path) = world.store.find(world.ann, &Wanted::Name("tone".to_owned())).await.unwrap();
    assert_eq!(found, record);
    assert_eq!(std::fs::read(path).unwrap(), bytes);
    assert_eq!(world.files(), ["gguf"]);
}

#[tokio::test]
async fn bytes_of_another_digest_are_deleted() {
    let world = World::new().await;
    let bytes = file(100);
    let receiving = world.begin(world.ann, "tone", &bytes).await;
    let wrong = receiving.append(0, Bytes::from(vec![9; 100])).await.unwrap();
    let error = world.store.complete(wrong).await.unwrap_err();
    assert!(matches!(error, AdapterStoreError::Mismatch), "{error}");
    assert_eq!(world.files(), Vec::<String>::new());
    assert_eq!(world.begin(world.ann, "tone", &bytes).await.have(), 0, "it begins anew");
}

#[tokio::test]
async fn chunks_that_do_not_follow_are_refused() {
    let world = World::new().await;
    let bytes = file(100);
    for (offset, length) in [(1, 10), (0, 101), (0, 0), (u64::MAX, 1)] {
        let receiving = world.begin(world.ann, "tone", &bytes).await;
        let refused = receiving.append(offset, Bytes::from(vec![0; length])).await.err();
        assert!(matches!(refused, Some(AdapterStoreError::Gap)), "{offset} {length}");
    }
}

#[tokio::test]
async fn a_file_that_a_crash_left_between_its_name_and_its_record_is_listed_without_being_sent_again() {
    let world = World::new().await;
    let bytes = file(100);
    drop(world.begin(world.ann, "tone", &bytes).await);
    std::fs::write(world.account().join(format!("{}.gguf", digest(&bytes))), &bytes).unwrap();
    let begun = world.store.receive(world.ann, new("tone", &bytes)).await.unwrap();
    assert!(matches!(begun, Begun::Here(_)));
    assert_eq!(world.store.all(world.ann).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_damaged_file_without_a_record_is_not_believed() {
    let world = World::new().await;
    let bytes = file(100);
    drop(world.begin(world.ann, "tone", &bytes).await);
    std::fs::write(world.account().join(format!("{}.gguf", digest(&bytes))), vec![0; 100]).unwrap();
    assert_eq!(world.begin(world.ann, "tone", &bytes).await.have(), 0);
}

#[tokio::test]
async fn the_same_content_is_not_sent_again_and_a_name_may_have_several_contents() {
    let world = World::new().await;
    let (one, two) = (file(100), file(200));
    world.push(world.ann, "tone", &one).await.unwrap();
    assert!(matches!(world.store.receive(world.ann, new("voice", &one)).await.unwrap(), Begun::Here(_)));
    world.plane.now_ms.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    world.push(world.ann, "tone", &two).await.unwrap();
    let named = |name: &str| Wanted::Name(name.to_owned());
    let (newest, _) = world.store.find(world.ann, &named("tone")).await.unwrap();
    assert_eq!(newest.adapter.sha256, digest(&two), "a name means its newest content");
    let (older, _) = world.store.find(world.ann, &Wanted::Digest(digest(&one))).await.unwrap();
    assert_eq!(older.adapter.sha256, digest(&one));

    world.store.remove(world.ann, &named("tone")).await.unwrap();
    assert_eq!(world.files(), ["gguf"], "another name still means the first");
    assert!(world.store.find(world.ann, &named("tone")).await.is_err());
    world.store.remove(world.ann, &Wanted::Digest(digest(&one))).await.unwrap();
    assert_eq!(world.files(), Vec::<String>::new());
}

#[tokio::test]
async fn an_account_never_learns_of_anothers_adapter() {
    let world = World::new().await;
    let bytes = file(100);
    world.push(world.ann, "tone", &bytes).await.unwrap();
    for wanted in [Wanted::Name("tone".to_owned()), Wanted::Digest(digest(&bytes))] {
        let found = world.store.find(world.bob, &wanted).await.unwrap_err();
        let unknown = matches!(found, AdapterStoreError::Control(ControlError::AdapterUnknown(_)));
        assert!(unknown, "{found}");
        assert!(world.store.remove(world.bob, &wanted).await.is_err());
    }
    assert_eq!(world.store.all(world.bob).await.unwrap(), []);
    // The same file of another account has to be sent: having it once is no proof of having it.
    assert_eq!(world.begin(world.bob, "tone", &bytes).await.have(), 0);
    world.push(world.bob, "tone", &bytes).await.unwrap();
    world.store.remove(world.bob, &Wanted::Name("tone".to_owned())).await.unwrap();
    assert!(world.store.find(world.ann, &Wanted::Name("tone".to_owned())).await.is_ok());
}

#[tokio::test]
async fn what_is_too_large_or_over_the_quota_is_refused_before_a_byte_is_sent() {
    let world = World::limited(1_000, 1_500).await;
    let refused = |bytes: Vec<u8>| {
        let store = &world.store;
        async move { store.receive(world.ann, new("tone", &bytes)).await.err() }
    };
    assert!(matches!(refused(file(1_001)).await, Some(AdapterStoreError::TooLarge { limit: 1_000, .. })));
    assert!(matches!(refused(Vec::new()).await, Some(AdapterStoreError::Empty)));
    world.push(world.ann, "one", &file(1_000)).await.unwrap();
    let over = Some(AdapterStoreError::Control(ControlError::AdapterQuota {
        needed: 501,
        used: 1_000,
        quota: AdapterQuota { bytes: 1_500, entries: 4 },
    }));
    assert_eq!(refused(file(501)).await.map(|e| e.to_string()), over.map(|e| e.to_string()));
    // What is on its way counts as if it were here.
    drop(world.begin(world.ann, "two", &file(300)).await);
    assert!(refused(file(201)).await.is_some());
    world.push(world.ann, "two", &file(300)).await.unwrap();
    world.push(world.bob, "one", &file(1_000)).await.unwrap();
}

#[tokio::test]
async fn there_are_not_endlessly_many_small_ones() {
    let world = World::new().await;
    for n in 1..=4 {
        world.push(world.ann, &format!("a{n}"), &file(n)).await.unwrap();
    }
    let refused = world.push(world.ann, "a5", &file(5)).await.unwrap_err();
    assert!(refused.to_string().contains("4 adapters"), "{refused}");
    assert_eq!(world.files().len(), 4, "what is not listed does not stay");
    world.push(world.ann, "a4", &file(4)).await.unwrap();
}

#[tokio::test]
async fn two_pushes_of_one_file_are_one_after_the_other_and_the_second_finds_it_there() {
    let world = World::new().await;
    let bytes = file(100);
    let first = world.begin(world.ann, "tone", &bytes).await;
    // Another device of the same account.
    let other = world.plane.another_device(world.ann).await;
    let mut second = std::pin::pin!(world.store.receive(other, new("tone", &bytes)));
    assert!(futures_util::poll!(&mut second).is_pending());
    let whole = first.append(0, Bytes::from(bytes.clone())).await.unwrap();
    world.store.complete(whole).await.unwrap();
    assert!(matches!(second.await.unwrap(), Begun::Here(_)));
}

#[tokio::test]
async fn a_sweep_deletes_what_is_old_and_belongs_to_nobody() {
    let world = World::new().await;
    world.push(world.ann, "tone", &file(100)).await.unwrap();
    drop(world.begin(world.ann, "part", &file(200)).await);
    std::fs::write(world.account().join(format!("{}.gguf", digest(b"orphan"))), b"orphan").unwrap();
    world.store.sweep(SystemTime::now()).await.unwrap();
    assert_eq!(world.files(), ["gguf", "gguf", "part"], "nothing is old yet");
    let later = SystemTime::now() + sweep::EXPIRY + std::time::Duration::from_secs(60);
    let in_use = world.begin(world.ann, "busy", &file(300)).await;
    world.store.sweep(later).await.unwrap();
    assert_eq!(world.files(), ["gguf", "part"], "what is listed stays, and what is in use");
    drop(in_use);
    world.store.sweep(later).await.unwrap();
    assert_eq!(world.files(), ["gguf"]);
}
