//! The hub: two of its HTTP endpoints, which `hf-hub` 1.0 would wrap in 68 further crates, a second TLS library among them.
//! One lists a repository's files at a revision, with sizes and digests; the other has their bytes.
//!
//! Source: <https://huggingface.co/docs/hub/api>, `GET /api/models/{repo}/revision/{rev}?blobs=true`, and
//! `GET /{repo}/resolve/{commit}/{file}`.

use reqwest::Url;
use serde::Deserialize;
use thiserror::Error;

use super::source::HubSource;

const MAIN: &str = "main";
/// What is taken when nobody says: small with little loss first, then what is closest to it.
const PREFERRED: &[&str] = &["Q4_K_M", "Q4_K_S", "Q4_0", "Q4_1", "Q5_K_M", "Q8_0"];
/// Candidates named in an error.
const SHOWN: usize = 12;

/// A repository at one commit.
#[derive(Debug, Deserialize)]
pub(super) struct Repository {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Debug, Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    lfs: Option<Lfs>,
}

#[derive(Debug, Deserialize)]
struct Lfs {
    sha256: Option<String>,
    oid: Option<String>,
    size: Option<u64>,
}

/// The file that was meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HubFile {
    pub(super) name: String,
    pub(super) commit: String,
    pub(super) size: Option<u64>,
    pub(super) sha256: Option<String>,
}

/// No file, or too many.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ChoiceError {
    /// Not a repository of GGUF files.
    #[error("the repository has no GGUF file")]
    NoFile,
    /// None of that quantisation.
    #[error("the repository has no file \"{wanted}\"; it has {candidates}")]
    NotThere {
        /// What was asked for.
        wanted: String,
        /// What there is.
        candidates: String,
    },
    /// More than one.
    #[error("several files could be meant: {candidates}")]
    Several {
        /// Which.
        candidates: String,
    },
    /// In more than one piece.
    #[error("\"{0}\" is one piece of a model that is split into several, which are not put together here")]
    Split(String),
    /// The hub's answer has no commit to pin.
    #[error("the hub did not say which commit it answered for")]
    NoCommit,
}

/// Where the list of a repository's files is.
pub(super) fn listing(hub: &Url, source: &HubSource) -> Option<Url> {
    let revision = source.revision.as_deref().unwrap_or(MAIN);
    let mut url = hub.clone();
    url.path_segments_mut().ok()?.pop_if_empty().extend([
        "api",
        "models",
        &source.organisation,
        &source.repository,
        "revision",
        revision,
    ]);
    url.query_pairs_mut().append_pair("blobs", "true");
    Some(url)
}

/// Where a file's bytes are.
pub(super) fn bytes(hub: &Url, source: &HubSource, file: &HubFile) -> Option<Url> {
    let mut url = hub.clone();
    url.path_segments_mut()
        .ok()?
        .pop_if_empty()
        .extend([&source.organisation, &source.repository, "resolve", &file.commit])
        .extend(file.name.split('/'));
    Some(url)
}

impl Repository {
    /// The file that `quant` means: a quantisation, a file's name, or, when it is none, the preferred one.
    pub(super) fn choose(&self, quant: Option<&str>) -> Result<HubFile, ChoiceError> {
        let commit =
            Some(&self.sha).filter(|sha| !sha.is_empty() && sha.bytes().all(|b| b.is_ascii_hexdigit()));
        let commit = commit.ok_or(ChoiceError::NoCommit)?.clone();
        let files: Vec<&Sibling> = self.siblings.iter().filter(|file| file.is_model()).collect();
        let chosen = match quant {
            Some(wanted) => wanted_file(&files, wanted)?,
            None => preferred_file(&files)?,
        };
        if chosen.is_split() {
            return Err(ChoiceError::Split(chosen.rfilename.clone()));
        }
        let lfs = chosen.lfs.as_ref();
        let digest = lfs.and_then(|lfs| lfs.sha256.as_ref().or(lfs.oid.as_ref()));
        Ok(HubFile {
            name: chosen.rfilename.clone(),
            commit,
            size: lfs.and_then(|lfs| lfs.size).or(chosen.size),
            sha256: digest.map(|text| text.trim_start_matches("sha256:").to_ascii_lowercase()),
        })
    }
}

fn wanted_file<'a>(files: &[&'a Sibling], wanted: &str) -> Result<&'a Sibling, ChoiceError> {
    if files.is_empty() {
        return Err(ChoiceError::NoFile);
    }
    if let Some(exact) = files.iter().find(|file| file.rfilename == wanted) {
        return Ok(exact);
    }
    let matching: Vec<&Sibling> = files.iter().copied().filter(|file| file.has_quant(wanted)).collect();
    match matching.as_slice() {
        [one] => Ok(one),
        [] => Err(ChoiceError::NotThere { wanted: wanted.to_owned(), candidates: names(files) }),
        [first, ..] if first.is_split() => Err(ChoiceError::Split(first.rfilename.clone())),
        several => Err(ChoiceError::Several { candidates: names(several) }),
    }
}

fn preferred_file<'a>(files: &[&'a Sibling]) -> Result<&'a Sibling, ChoiceError> {
    match files {
        [] => return Err(ChoiceError::NoFile),
        [one] => return Ok(one),
        _ => {}
    }
    let whole: Vec<&Sibling> = files.iter().copied().filter(|file| !file.is_split()).collect();
    for quant in PREFERRED {
        let matching: Vec<&Sibling> = whole.iter().copied().filter(|file| file.has_quant(quant)).collect();
        match matching.as_slice() {
            [] => {}
            [one] => return Ok(one),
            several => return Err(ChoiceError::Several { candidates: names(several) }),
        }
    }
    Err(ChoiceError::Several { candidates: names(files) })
}

fn names(files: &[&Sibling]) -> String {
    let mut text =
        files.iter().take(SHOWN).map(|file| file.rfilename.as_str()).collect::<Vec<_>>().join(", ");
    if files.len() > SHOWN {
        text += &format!(" and {} more", files.len() - SHOWN);
    }
    text
}

impl Sibling {
    /// A GGUF that is a language model: not a vision projector, and not an importance matrix.
    fn is_model(&self) -> bool {
        let name = self.rfilename.to_ascii_lowercase();
        let safe = !name.split('/').any(|part| part.is_empty() || part == "." || part == "..");
        safe && name.ends_with(".gguf") && !name.contains("mmproj") && !name.contains("imatrix")
    }

    /// `NAME-00001-of-00003.gguf`.
    fn is_split(&self) -> bool {
        let stem = self.stem();
        let Some((before, count)) = stem.rsplit_once("-OF-") else { return false };
        let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        number(count) && before.rsplit_once('-').is_some_and(|(_, piece)| number(piece))
    }

    /// Whether the name has this quantisation, as a whole word: `Q4_K` is not in `Q4_K_M`.
    fn has_quant(&self, quant: &str) -> bool {
        let (stem, quant) = (self.stem(), quant.to_ascii_uppercase());
        stem.match_indices(&quant).any(|(at, _)| {
            let before = stem.get(..at).and_then(|text| text.chars().next_back());
            let after = stem.get(at + quant.len()..).and_then(|text| text.chars().next());
            before.is_none_or(|c| matches!(c, '-' | '.' | '_' | '/'))
                && after.is_none_or(|c| matches!(c, '-' | '.' | '/'))
        })
    }

    /// Upper case, without the extension.
    fn stem(&self) -> String {
        let upper = self.rfilename.to_ascii_uppercase();
        upper.strip_suffix(".GGUF").map(str::to_owned).unwrap_or(upper)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(files: &[&str]) -> Repository {
        let sibling = |name: &&str| Sibling { rfilename: (*name).to_owned(), size: Some(1), lfs: None };
        Repository { sha: "abc123".to_owned(), siblings: files.iter().map(sibling).collect() }
    }

    fn name(files: &[&str], quant: Option<&str>) -> Result<String, ChoiceError> {
        repository(files).choose(quant).map(|file| file.name)
    }

    const TYPICAL: &[&str] = &[
        ".gitattributes",
        "README.md",
        "M-Q4_K_M.gguf",
        "M-Q4_K_S.gguf",
        "M-Q8_0.gguf",
        "M-f16.gguf",
        "M.imatrix.gguf",
        "mmproj-M-f16.gguf",
    ];

    #[test]
    fn a_quantisation_picks_its_file_in_any_case_and_as_a_whole_word() {
        for (quant, file) in [("q4_k_m", "M-Q4_K_M.gguf"), ("Q8_0", "M-Q8_0.gguf"), ("F16", "M-f16.gguf")] {
            assert_eq!(name(TYPICAL, Some(quant)).unwrap(), file);
        }
        assert!(matches!(name(TYPICAL, Some("Q4_K")), Err(ChoiceError::NotThere { .. })));
        assert_eq!(name(&["m.Q4_0.gguf"], Some("Q4_0")).unwrap(), "m.Q4_0.gguf");
        assert_eq!(name(TYPICAL, Some("M-Q8_0.gguf")).unwrap(), "M-Q8_0.gguf", "a file's name is as good");
    }

    #[test]
    fn without_one_the_preferred_file_is_taken_or_the_only_one() {
        assert_eq!(name(TYPICAL, None).unwrap(), "M-Q4_K_M.gguf");
        assert_eq!(name(&["M-Q8_0.gguf", "M-F32.gguf"], None).unwrap(), "M-Q8_0.gguf");
        assert_eq!(name(&["strange.gguf", "x.bin"], None).unwrap(), "strange.gguf");
    }

    #[test]
    fn what_cannot_be_decided_names_the_candidates() {
        let none = name(TYPICAL, Some("Q2_K")).unwrap_err().to_string();
        assert!(none.contains("M-Q4_K_M.gguf") && !none.contains("mmproj"), "{none}");
        let several = name(&["a-Q4_K_M.gguf", "b-Q4_K_M.gguf"], Some("Q4_K_M")).unwrap_err();
        assert_eq!(several, ChoiceError::Several { candidates: "a-Q4_K_M.gguf, b-Q4_K_M.gguf".to_owned() });
        assert!(matches!(name(&["a.gguf", "b.gguf"], None), Err(ChoiceError::Several { .. })));
        assert_eq!(name(&["model.safetensors"], None), Err(ChoiceError::NoFile));
        assert_eq!(name(&[], Some("Q4_K_M")), Err(ChoiceError::NoFile));
        let many: Vec<String> = (0..40).map(|n| format!("m{n}.gguf")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(name(&many, None).unwrap_err().to_string().ends_with("and 28 more"));
    }

    #[test]
    fn a_split_model_is_said_to_be_one() {
        let pieces = ["M-Q8_0-00001-of-00002.gguf", "M-Q8_0-00002-of-00002.gguf"];
        assert!(matches!(name(&pieces, Some("Q8_0")), Err(ChoiceError::Split(_))));
        assert!(matches!(name(&pieces[..1], None), Err(ChoiceError::Split(_))));
        let mixed = ["M-Q4_K_M.gguf", pieces[0], pieces[1]];
        assert_eq!(name(&mixed, None).unwrap(), "M-Q4_K_M.gguf");
    }

    #[test]
    fn a_name_that_climbs_out_of_its_folder_is_no_candidate() {
        assert_eq!(name(&["../../M-Q4_K_M.gguf", "/M-Q4_K_M.gguf"], None), Err(ChoiceError::NoFile));
    }

    #[test]
    fn size_and_digest_are_those_of_the_large_file_and_the_commit_is_pinned() {
        let text = format!(
            r#"{{"sha":"0a1b","private":false,"siblings":[{{"rfilename":"m-Q8_0.gguf","size":133,"blobId":"x",
            "lfs":{{"sha256":"{}","size":9,"pointerSize":133}}}}]}}"#,
            "F".repeat(64)
        );
        let repository: Repository = serde_json::from_str(&text).unwrap();
        let file = repository.choose(None).unwrap();
        assert_eq!((file.commit.as_str(), file.size), ("0a1b", Some(9)));
        assert_eq!(file.sha256, Some("f".repeat(64)));
        for sha in ["", "main", "../x"] {
            let repository = Repository { sha: sha.to_owned(), siblings: Vec::new() };
            assert_eq!(repository.choose(None), Err(ChoiceError::NoCommit));
        }
    }

    #[test]
    fn the_two_addresses_are_below_the_hub_and_encoded() {
        let hub = Url::parse("http://127.0.0.1:9/prefix").unwrap();
        let source = HubSource::parse("a/b@refs/pr/1").unwrap();
        let list = listing(&hub, &source).unwrap();
        assert_eq!(
            list.as_str(),
            "http://127.0.0.1:9/prefix/api/models/a/b/revision/refs%2Fpr%2F1?blobs=true"
        );
        let file =
            HubFile { name: "sub/m x.gguf".to_owned(), commit: "c0".to_owned(), size: None, sha256: None };
        let file = bytes(&hub, &source, &file).unwrap();
        assert_eq!(file.as_str(), "http://127.0.0.1:9/prefix/a/b/resolve/c0/sub/m%20x.gguf");
    }
}
