//! The index and the files beside it.

use std::fs;
use std::path::Path;

use super::super::index::Uses;
use super::super::staging::{Draft, Keep, Limit, Staged};
use super::*;

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

async fn written(folder: &Path, limit: u64, pieces: &[&[u8]]) -> Result<Staged, AdapterError> {
    let mut draft = Draft::begin(folder, Limit { what: "the file", bytes: limit }).await?;
    for piece in pieces {
        draft.write(piece).await?;
    }
    draft.finish(Keep::Durably).await
}

#[tokio::test]
async fn the_index_survives_a_restart_with_its_generation_and_the_times_of_use() {
    let folder = tempfile::tempdir().unwrap();
    let mut index = Index::open(folder.path()).unwrap();
    assert_eq!(index.snapshot(), &Snapshot::default());
    let written = snapshot(&[("a", 'a'), ("b", 'b')], Some("b"), 7);
    for digit in ['a', 'b'] {
        fs::write(index.file(&id(digit)), "gguf").unwrap();
    }
    let uses = Uses::from([(id('a'), UNIX_EPOCH + Duration::from_millis(1_700_000_000_123))]);
    index.replace(written.clone(), uses.clone()).await.unwrap();
    let again = Index::open(folder.path()).unwrap();
    assert_eq!((again.snapshot(), again.uses()), (&written, &uses));
    assert_eq!(again.damaged(), None);
}

#[tokio::test]
async fn an_index_of_the_first_version_is_read_and_written_back_as_the_newest() {
    let folder = tempfile::tempdir().unwrap();
    let old = include_str!("../index/fixtures/version-1.json");
    fs::write(folder.path().join("index.json"), old).unwrap();
    let mut index = Index::open(folder.path()).unwrap();
    assert_eq!(index.damaged(), None);
    let read = index.snapshot().clone();
    assert_eq!((read.generation, read.active().map(|adapter| adapter.rank)), (7, Some(8)));
    assert_eq!(
        read.adapters.iter().map(|adapter| adapter.name.as_str()).collect::<Vec<_>>(),
        ["json", "pirate"]
    );
    let origin = Origin {
        format: Format::Gguf,
        source: String::new(),
        base_model: String::new(),
        imported_by: None,
        weights_sha256: None,
    };
    assert!(read.adapters.iter().all(|adapter| adapter.origin == origin));
    assert!(index.uses().is_empty());

    index.replace(read.clone(), Uses::new()).await.unwrap();
    let text = fs::read_to_string(folder.path().join("index.json")).unwrap();
    assert!(text.contains("synesis.adapters/2"), "{text}");
    assert_eq!(Index::open(folder.path()).unwrap().snapshot(), &read);
}

#[tokio::test]
async fn what_a_crash_left_behind_is_deleted_and_what_was_acknowledged_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut index = Index::open(folder.path()).unwrap();
    let kept = index.file(&id('a'));
    fs::write(&kept, "gguf").unwrap();
    let before = snapshot(&[("a", 'a')], None, 1);
    index.replace(before.clone(), Uses::new()).await.unwrap();
    // Cut short while uploading, after the rename into place, and while writing the index.
    let staged = written(folder.path(), 100, &[b"half"]).await.unwrap();
    std::mem::forget(staged);
    fs::write(index.file(&id('c')), "never acknowledged").unwrap();
    fs::write(folder.path().join("index.json.new"), "{\"sch").unwrap();

    let again = Index::open(folder.path()).unwrap();
    assert_eq!(again.snapshot(), &before);
    assert_eq!(files(folder.path()), [format!("{}.gguf", id('a')), "index.json".to_owned()]);
}

#[tokio::test]
async fn an_index_that_cannot_be_understood_is_kept_aside_and_generations_never_repeat() {
    let row = r#""size_bytes":1,"rank":1,"alpha":1.0,"architecture":"x","targets":[],"imported_at":"2026-01-01T00:00:00Z""#;
    for text in [
        String::new(),
        "{".to_owned(),
        "[]".to_owned(),
        "7".to_owned(),
        r#"{"schema":"synesis.adapters/3","generation":1,"active":null,"adapters":[]}"#.to_owned(),
        r#"{"schema":"synesis.adapters/1","generation":1,"active":"gone","adapters":[]}"#.to_owned(),
        r#"{"schema":"synesis.adapters/1","generation":1,"active":null,"adapters":[7]}"#.to_owned(),
        r#"{"schema":"synesis.adapters/1","generation":1,"active":null,"adapters":{}}"#.to_owned(),
        format!(
            r#"{{"schema":"synesis.adapters/1","generation":1,"active":null,"adapters":[{{"name":"a","sha256":"../../etc/passwd",{row}}}]}}"#
        ),
        format!(
            r#"{{"schema":"synesis.adapters/2","generation":1,"active":null,"adapters":[{{"name":"a","sha256":"{}",{row}}}]}}"#,
            id('a')
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("index.json"), &text).unwrap();
        let bytes = folder.path().join(format!("{}.gguf", id('a')));
        fs::write(&bytes, "gguf").unwrap();
        let index = Index::open(folder.path()).unwrap();
        assert_eq!(fs::read_to_string(index.damaged().expect(&text)).unwrap(), text);
        let generation = index.snapshot().generation;
        assert!(generation > 1_700_000_000, "{generation}");
        drop(index);
        let again = Index::open(folder.path()).unwrap();
        assert_eq!(again.snapshot().generation, generation, "the new count is on disk at once");
        assert!(bytes.exists(), "a file whose index was lost is kept");
    }
}

#[tokio::test]
async fn a_file_is_hashed_measured_and_durable_under_a_temporary_name() {
    let folder = tempfile::tempdir().unwrap();
    let staged = written(folder.path(), 6, &[b"abc", b"", b"def"]).await.unwrap();
    assert_eq!(staged.size_bytes, 6);
    assert_eq!(staged.id, "bef57ec7f53a6d40beb640a780a639c83bc29ac8a9816f1fc6c5c6dcd93c4721");
    assert_eq!(fs::read(staged.path()).unwrap(), b"abcdef");
    let to = folder.path().join("x.gguf");
    staged.publish(&to).await.unwrap();
    assert_eq!(fs::read(to).unwrap(), b"abcdef");
}
