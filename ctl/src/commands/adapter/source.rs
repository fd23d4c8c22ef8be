//! What an import is given: a GGUF file, a PEFT folder, or something that is neither and gets told so.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use synesis_proto::control::v1::ImportPart;

use crate::failure::Failure;

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
const PICKLE: &str = "adapter_model.bin";

/// The files to send, in order.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) files: Vec<(ImportPart, PathBuf)>,
    /// What the adapter is called when the user does not say; none: the path does not make a name.
    pub(super) name: Option<String>,
}

impl Source {
    /// What is at `path`.
    ///
    /// # Errors
    /// Nothing is, or nothing that can be imported; the failure then says what would be.
    pub(super) async fn at(path: &Path) -> Result<Self, Failure> {
        let found = tokio::fs::metadata(path).await.map_err(|source| unreadable(path, source))?;
        if !found.is_dir() {
            return Self::file(path);
        }
        let names = names_in(path).await?;
        let has = |name: &str| names.iter().any(|known| known == name);
        if has(CONFIG) && has(WEIGHTS) {
            let files = vec![
                (ImportPart::PeftConfig, path.join(CONFIG)),
                (ImportPart::PeftWeights, path.join(WEIGHTS)),
            ];
            return Ok(Self { files, name: folder_name(path).await });
        }
        Err(not_an_adapter(path, &names))
    }

    /// A file is a GGUF file, as far as its name does not say otherwise: its content is checked by the daemon.
    fn file(path: &Path) -> Result<Self, Failure> {
        let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
        match path.extension().and_then(OsStr::to_str) {
            Some("safetensors" | "json") => Err(Failure::NotImportable {
                what: format!("{} is one of the two files of a PEFT adapter", path.display()),
                next_step: format!("import the folder with both: synctl adapter import {}", folder.display()),
            }),
            Some("bin" | "pt" | "pth" | "pkl") => Err(pickle(path, folder)),
            _ => Ok(Self {
                files: vec![(ImportPart::Gguf, path.to_owned())],
                name: path.file_stem().and_then(OsStr::to_str).map(str::to_owned),
            }),
        }
    }
}

/// Why a folder is no PEFT folder.
fn not_an_adapter(folder: &Path, names: &[String]) -> Failure {
    let (shown, has) = (folder.display(), |name: &str| names.iter().any(|known| known == name));
    let save = "save it again with PEFT's save_pretrained, or copy the file from where the adapter came from";
    let (what, next_step) = if let Some(gguf) = names.iter().find(|name| name.ends_with(".gguf")) {
        let file = folder.join(gguf);
        (
            format!("{shown} is a folder; the GGUF adapter in it is a file"),
            format!("import the file: synctl adapter import {}", file.display()),
        )
    } else if has(PICKLE) {
        return pickle(&folder.join(PICKLE), folder);
    } else if has(CONFIG) {
        (format!("{shown} has {CONFIG}, but no {WEIGHTS}"), save.to_owned())
    } else if has(WEIGHTS) {
        (format!("{shown} has {WEIGHTS}, but no {CONFIG}"), save.to_owned())
    } else {
        (
            format!("{shown} is no adapter: it has neither {CONFIG} nor {WEIGHTS}"),
            format!("name a GGUF file, or a folder with {CONFIG} and {WEIGHTS}"),
        )
    };
    Failure::NotImportable { what, next_step }
}

/// Unpickling runs whatever code the file names, so nothing here does it.
fn pickle(file: &Path, folder: &Path) -> Failure {
    let to = folder.join(WEIGHTS);
    Failure::NotImportable {
        what: format!(
            "{} is a pickle file, which can run code when it is read; it is not read",
            file.display()
        ),
        next_step: format!(
            "if you trust it, convert it once (pip install torch safetensors): python3 -c \"import torch; from \
             safetensors.torch import save_file; save_file(torch.load('{}', map_location='cpu', weights_only=True), '{}')\"; \
             then import the folder",
            file.display(),
            to.display()
        ),
    }
}

async fn names_in(folder: &Path) -> Result<Vec<String>, Failure> {
    let mut entries = tokio::fs::read_dir(folder).await.map_err(|source| unreadable(folder, source))?;
    let mut names = Vec::new();
    while let Some(entry) = entries.next_entry().await.map_err(|source| unreadable(folder, source))? {
        names.extend(entry.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

/// The folder's own name, also of `.` and `..`.
async fn folder_name(folder: &Path) -> Option<String> {
    let whole = tokio::fs::canonicalize(folder).await.ok()?;
    whole.file_name().and_then(OsStr::to_str).map(str::to_owned)
}

fn unreadable(path: &Path, source: io::Error) -> Failure {
    Failure::Unreadable { what: path.display().to_string(), source }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for file in files {
            fs::write(folder.path().join(file), "x").expect("a file");
        }
        folder
    }

    async fn refusal(path: &Path) -> (String, String) {
        let failure = Source::at(path).await.expect_err("no adapter");
        assert_eq!(failure.exit().code(), 2, "{failure}");
        (failure.to_string(), failure.next_step().to_owned())
    }

    #[tokio::test]
    async fn a_peft_folder_is_sent_config_first_under_the_folders_name() {
        let parent = folder(&[]);
        let tone = parent.path().join("tone-v1.2");
        fs::create_dir(&tone).expect("a folder");
        for file in [WEIGHTS, CONFIG, "README.md", PICKLE, "tone.gguf"] {
            fs::write(tone.join(file), "x").expect("a file");
        }
        for path in [tone.clone(), tone.join("."), tone.join("../tone-v1.2/")] {
            let source = Source::at(&path).await.expect("an adapter");
            let sent: Vec<_> = source.files.iter().map(|(part, file)| (*part, file.file_name())).collect();
            let expected = [(ImportPart::PeftConfig, CONFIG), (ImportPart::PeftWeights, WEIGHTS)];
            assert_eq!(sent, expected.map(|(part, file)| (part, Some(OsStr::new(file)))));
            assert_eq!(source.name.as_deref(), Some("tone-v1.2"));
        }
    }

    #[tokio::test]
    async fn a_file_is_sent_as_gguf_under_its_stem() {
        let folder = folder(&["tone.v2.gguf"]);
        let file = folder.path().join("tone.v2.gguf");
        let source = Source::at(&file).await.expect("an adapter");
        assert_eq!(
            source,
            Source { files: vec![(ImportPart::Gguf, file)], name: Some("tone.v2".to_owned()) }
        );
    }

    #[tokio::test]
    async fn each_folder_that_is_no_adapter_is_told_what_is_missing() {
        for (files, what, next) in [
            (&[][..], "it has neither", "name a GGUF file"),
            (&["config.json", "model.safetensors"][..], "it has neither", "name a GGUF file"),
            (&[CONFIG][..], "but no adapter_model.safetensors", "save_pretrained"),
            (&[WEIGHTS][..], "but no adapter_config.json", "save_pretrained"),
            (&[CONFIG, PICKLE][..], "pickle file, which can run code", "weights_only=True"),
            (&["a.gguf", CONFIG][..], "the GGUF adapter in it is a file", "a.gguf"),
        ] {
            let folder = folder(files);
            let (said, next_step) = refusal(folder.path()).await;
            assert!(said.contains(what) && next_step.contains(next), "{files:?}: {said}; {next_step}");
        }
    }

    #[tokio::test]
    async fn a_part_of_a_peft_folder_is_told_to_import_the_folder() {
        let folder = folder(&[CONFIG, WEIGHTS, PICKLE]);
        for file in [CONFIG, WEIGHTS] {
            let (said, next_step) = refusal(&folder.path().join(file)).await;
            assert!(said.contains("one of the two files"), "{said}");
            assert!(next_step.ends_with(&folder.path().display().to_string()), "{next_step}");
        }
        let (said, _) = refusal(&folder.path().join(PICKLE)).await;
        assert!(said.contains("pickle"), "{said}");
    }

    #[tokio::test]
    async fn what_is_not_there_is_not_found() {
        let failure = Source::at(Path::new("/no/such/adapter")).await.expect_err("nothing there");
        assert_eq!(failure.exit().code(), 9);
    }
}
