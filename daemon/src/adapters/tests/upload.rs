//! Uploads that are refused, and what they leave behind.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use futures_util::stream;

use super::super::upload::Upload;
use super::*;

fn piece(part: Part, data: &'static [u8]) -> Option<Piece> {
    Some(Piece { part, data: Bytes::from_static(data) })
}

fn gguf(data: &'static [u8]) -> Option<Piece> {
    piece(Part::Gguf, data)
}

fn config(data: &'static [u8]) -> Option<Piece> {
    piece(Part::PeftConfig, data)
}

fn weights(data: &'static [u8]) -> Option<Piece> {
    piece(Part::PeftWeights, data)
}

async fn receive(folder: &Path, limit: u64, pieces: &[Option<Piece>]) -> Result<Upload, AdapterError> {
    Upload::receive(folder, limit, stream::iter(pieces.to_vec())).await
}

#[tokio::test]
async fn both_files_of_a_peft_adapter_are_kept_until_they_are_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let sent = [config(b"{"), config(b"}"), weights(b"abc"), weights(b""), weights(b"def")];
    let received = receive(folder.path(), 6, &sent).await.unwrap();
    let Upload::Peft { config, weights } = received else { panic!("{received:?}") };
    assert_eq!(fs::read(config.path()).unwrap(), b"{}");
    assert_eq!(fs::read(weights.path()).unwrap(), b"abcdef");
    assert_eq!(weights.id, "bef57ec7f53a6d40beb640a780a639c83bc29ac8a9816f1fc6c5c6dcd93c4721");
    drop((config, weights));
    assert_eq!(fs::read_dir(folder.path().join(".staging")).unwrap().count(), 0);
}

#[tokio::test]
async fn an_upload_that_is_refused_leaves_nothing_behind() {
    let large_config: &'static [u8] = vec![b' '; (1 << 20) + 1].leak();
    let table: &[(&str, &[Option<Piece>])] = &[
        ("the adapter file is larger than 5 bytes", &[gguf(b"abc"), gguf(b"def")]),
        ("the adapter file is empty", &[gguf(b"")]),
        ("the adapter file is empty", &[]),
        ("the upload was interrupted", &[gguf(b"abc"), None]),
        ("the upload was interrupted", &[config(b"{}"), None]),
        ("adapter_config.json is empty", &[config(b""), weights(b"a")]),
        ("adapter_model.safetensors is empty", &[config(b"{}"), weights(b"")]),
        ("adapter_config.json is larger than 1048576 bytes", &[config(large_config)]),
        ("adapter_model.safetensors is larger than 5 bytes", &[config(b"{}"), weights(b"abcdef")]),
        ("the config of a PEFT adapter came without its weights", &[config(b"{}")]),
        ("the weights of a PEFT adapter came without its config", &[weights(b"a")]),
        ("the files of the upload are out of order", &[gguf(b"a"), config(b"{}")]),
        ("the files of the upload are out of order", &[config(b"{}"), gguf(b"a")]),
        ("the files of the upload are out of order", &[config(b"{}"), weights(b"a"), config(b"{}")]),
    ];
    for (why, pieces) in table {
        let folder = tempfile::tempdir().unwrap();
        let error = receive(folder.path(), 5, pieces).await.unwrap_err();
        assert_eq!(error.to_string(), *why);
        let left = fs::read_dir(folder.path().join(".staging")).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{why}");
    }
}
