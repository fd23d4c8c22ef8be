//! What is on disk after every way an import or a swap can be cut short, and who may be unloaded when.

use std::fs;
use std::path::Path;
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use futures_util::stream;

use super::loaded::Board;
use super::staging::Staged;
use super::*;

fn name(text: &str) -> AdapterName {
    AdapterName::try_from(text.to_owned()).unwrap()
}

fn adapter(text: &str, digit: char) -> Adapter {
    Adapter {
        name: name(text),
        id: digit.to_string().repeat(64),
        size_bytes: 3,
        rank: 8,
        alpha: 16.0,
        architecture: "llama".to_owned(),
        targets: vec!["attn_q".to_owned()],
        imported_at: UNIX_EPOCH + Duration::from_secs(1_700_000_000),
    }
}

fn snapshot(names: &[(&str, char)], active: Option<&str>, generation: u64) -> Snapshot {
    Snapshot {
        adapters: names.iter().map(|(text, digit)| adapter(text, *digit)).collect(),
        generation,
        active: active.map(name),
    }
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

async fn receive(
    folder: &Path,
    limit: u64,
    chunks: Vec<Option<&'static [u8]>>,
) -> Result<Staged, AdapterError> {
    let chunks = stream::iter(chunks.into_iter().map(|chunk| chunk.map(Bytes::from_static)));
    Staged::receive(folder, limit, chunks).await
}

#[tokio::test]
async fn the_index_survives_a_restart_with_its_generation() {
    let folder = tempfile::tempdir().unwrap();
    let mut index = Index::open(folder.path()).unwrap();
    assert_eq!(index.snapshot(), &Snapshot::default());
    let written = snapshot(&[("a", 'a'), ("b", 'b')], Some("b"), 7);
    for digit in ['a', 'b'] {
        fs::write(index.file(&digit.to_string().repeat(64)), "gguf").unwrap();
    }
    index.replace(written.clone()).await.unwrap();
    let again = Index::open(folder.path()).unwrap();
    assert_eq!(again.snapshot(), &written);
    assert_eq!(again.damaged(), None);
}

#[tokio::test]
async fn what_a_crash_left_behind_is_deleted_and_what_was_acknowledged_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut index = Index::open(folder.path()).unwrap();
    let kept = index.file(&"a".repeat(64));
    fs::write(&kept, "gguf").unwrap();
    let before = snapshot(&[("a", 'a')], None, 1);
    index.replace(before.clone()).await.unwrap();
    // Cut short while uploading, after the rename into place, and while writing the index.
    let staged = receive(folder.path(), 100, vec![Some(b"half")]).await.unwrap();
    std::mem::forget(staged);
    fs::write(index.file(&"c".repeat(64)), "never acknowledged").unwrap();
    fs::write(folder.path().join("index.json.new"), "{\"sch").unwrap();

    let again = Index::open(folder.path()).unwrap();
    assert_eq!(again.snapshot(), &before);
    assert_eq!(files(folder.path()), [format!("{}.gguf", "a".repeat(64)), "index.json".to_owned()]);
}

#[tokio::test]
async fn an_index_that_cannot_be_understood_is_kept_aside_and_generations_never_repeat() {
    for text in [
        "",
        "{",
        "[]",
        r#"{"schema":"synesis.adapters/2","generation":1,"active":null,"adapters":[]}"#,
        r#"{"schema":"synesis.adapters/1","generation":1,"active":"gone","adapters":[]}"#,
        r#"{"schema":"synesis.adapters/1","generation":1,"active":null,"adapters":[{"name":"a","sha256":"../../etc/passwd",
            "size_bytes":1,"rank":1,"alpha":1.0,"architecture":"x","targets":[],"imported_at":"2026-01-01T00:00:00Z"}]}"#,
    ] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("index.json"), text).unwrap();
        let bytes = folder.path().join(format!("{}.gguf", "a".repeat(64)));
        fs::write(&bytes, "gguf").unwrap();
        let index = Index::open(folder.path()).unwrap();
        assert_eq!(fs::read_to_string(index.damaged().unwrap()).unwrap(), text);
        let generation = index.snapshot().generation;
        assert!(generation > 1_700_000_000, "{generation}");
        drop(index);
        let again = Index::open(folder.path()).unwrap();
        assert_eq!(again.snapshot().generation, generation, "the new count is on disk at once");
        assert!(bytes.exists(), "a file whose index was lost is kept");
    }
}

#[tokio::test]
async fn an_upload_is_hashed_measured_and_durable_under_a_temporary_name() {
    let folder = tempfile::tempdir().unwrap();
    let staged = receive(folder.path(), 6, vec![Some(b"abc"), Some(b""), Some(b"def")]).await.unwrap();
    assert_eq!(staged.size_bytes, 6);
    assert_eq!(staged.id, "bef57ec7f53a6d40beb640a780a639c83bc29ac8a9816f1fc6c5c6dcd93c4721");
    assert_eq!(fs::read(staged.path()).unwrap(), b"abcdef");
    let to = folder.path().join("x.gguf");
    staged.publish(&to).await.unwrap();
    assert_eq!(fs::read(to).unwrap(), b"abcdef");
}

#[tokio::test]
async fn an_upload_that_is_refused_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let too_large = receive(folder.path(), 5, vec![Some(b"abc"), Some(b"def")]).await.unwrap_err();
    assert!(matches!(too_large, AdapterError::TooLarge { limit: 5 }), "{too_large}");
    let empty = receive(folder.path(), 5, vec![Some(b"")]).await.unwrap_err();
    assert!(matches!(empty, AdapterError::Empty), "{empty}");
    let broken_off = receive(folder.path(), 5, vec![Some(b"abc"), None]).await.unwrap_err();
    assert!(matches!(broken_off, AdapterError::Interrupted), "{broken_off}");
    assert!(files(&folder.path().join(".staging")).is_empty());
}

#[test]
fn an_adapter_in_use_or_active_is_never_evicted() {
    let names: Vec<(String, char)> = ('a'..='g').map(|digit| (digit.to_string(), digit)).collect();
    let names: Vec<(&str, char)> = names.iter().map(|(text, digit)| (text.as_str(), *digit)).collect();
    let state = snapshot(&names, Some("a"), 3);
    let board = Board::new(state.clone());
    let active = board.active().unwrap();
    assert_eq!((active.name.as_str(), active.generation), ("a", 3));
    drop(active);
    let used = board.hold(&state.adapters[1]);
    for adapter in &state.adapters[2..] {
        drop(board.hold(adapter));
    }
    let oldest_unused: Vec<String> = ['c', 'd', 'e'].map(|digit| digit.to_string().repeat(64)).to_vec();
    assert_eq!(board.evict(), oldest_unused);
    assert!(board.evict().is_empty());
    assert!(!board.release(&used.id), "an answer still runs on it");
    drop(used);
    assert!(board.release(&"b".repeat(64)));
}

#[test]
fn a_request_keeps_the_adapter_and_generation_it_started_with() {
    let board = Board::new(snapshot(&[("a", 'a'), ("b", 'b')], Some("a"), 1));
    let before = board.active().unwrap();
    board.publish(snapshot(&[("a", 'a'), ("b", 'b')], Some("b"), 2));
    let after = board.active().unwrap();
    assert_eq!((before.name.as_str(), before.generation), ("a", 1));
    assert_eq!((after.name.as_str(), after.generation), ("b", 2));
    board.publish(snapshot(&[("a", 'a'), ("b", 'b')], None, 3));
    assert!(board.active().is_none());
}
