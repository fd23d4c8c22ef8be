//! The jobs on the disk: one small file each, replaced as a whole, and the parts of what is pulled.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Direction, Job, Transfer};
use crate::durable;
use crate::models::digest::is_sha256;

/// Jobs that are over and still shown.
pub(super) const KEPT: usize = 16;

/// The folder.
#[derive(Debug, Clone)]
pub(super) struct Files {
    folder: PathBuf,
}

impl Files {
    /// Reads the jobs of `folder`, oldest first, and deletes parts that belong to none. A job that cannot be read is put
    /// aside: it can be asked for again.
    pub(super) fn open(folder: &Path) -> io::Result<(Self, Vec<Job>)> {
        fs::create_dir_all(folder)?;
        let files = Self { folder: folder.to_owned() };
        let (mut jobs, mut parts) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("json") => match serde_json::from_slice::<Job>(&fs::read(&path)?) {
                    // Both become file names.
                    Ok(job) if path == files.job(&job.id) && is_sha256(&job.sha256) => jobs.push(job),
                    _ => {
                        tracing::error!(file = %path.display(), "a transfer cannot be read; ask for it again");
                        fs::rename(&path, path.with_extension("damaged"))?;
                    }
                },
                Some("part") => parts.push(path),
                // Half of a job that was never promised.
                Some("new") => fs::remove_file(&path)?,
                _ => {}
            }
        }
        jobs.sort_by(|a, b| a.id.cmp(&b.id));
        for part in parts {
            let wanted = jobs.iter().any(|job| job.ending.is_none() && files.part(&job.sha256) == part);
            if !wanted {
                fs::remove_file(&part)?;
            }
        }
        Ok((files, jobs))
    }

    /// Keeps a job, durably.
    pub(super) async fn save(&self, job: &Job) -> io::Result<()> {
        let (path, bytes) = (self.job(&job.id), serde_json::to_vec_pretty(job)?);
        let written = tokio::task::spawn_blocking(move || durable::replace(&path, &bytes));
        written.await.map_err(io::Error::other)?
    }

    /// Forgets a job, and what a pull has of its bytes unless another of the `known` jobs goes on with them: two names
    /// for one content share a part.
    pub(super) async fn forget(&self, job: &Job, known: &[Transfer]) {
        let goes_on = |other: &Job| {
            let pull = other.direction == Direction::Pull && other.ending.is_none();
            pull && other.id != job.id && other.sha256 == job.sha256
        };
        let shared = known.iter().any(|transfer| goes_on(&transfer.job));
        let part = (job.direction == Direction::Pull && !shared).then(|| self.part(&job.sha256));
        for path in [Some(self.job(&job.id)), part].into_iter().flatten() {
            match tokio::fs::remove_file(&path).await {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(%error, file = %path.display(), "a file of a transfer was not deleted");
                }
                _ => {}
            }
        }
    }

    /// Where the bytes of what is pulled are until they are complete.
    pub(super) fn part(&self, sha256: &str) -> PathBuf {
        self.folder.join(format!("{sha256}.part"))
    }

    fn job(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{id}.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(id: &str, direction: Direction) -> Job {
        Job {
            id: id.to_owned(),
            direction,
            name: id.to_owned(),
            sha256: "ab".repeat(32),
            size_bytes: 1,
            architecture: String::new(),
            rank: 1,
            alpha: 1.0,
            base_model: String::new(),
            device: String::new(),
            pushed_by: String::new(),
            uid: None,
            begun_at_ms: 0,
            ending: None,
        }
    }

    #[tokio::test]
    async fn a_part_stays_while_another_pull_goes_on_with_it() {
        let folder = tempfile::TempDir::new().unwrap();
        let (files, _) = Files::open(folder.path()).unwrap();
        let (one, two, push) =
            (job("1", Direction::Pull), job("2", Direction::Pull), job("3", Direction::Push));
        let part = files.part(&one.sha256);
        fs::write(&part, "bytes").unwrap();
        let known = [&one, &two, &push].map(|job| Transfer::new(job.clone()));
        files.forget(&push, &known).await;
        files.forget(&two, &known).await;
        assert!(part.exists(), "the first pull is not over");
        files.forget(&one, &known[2..]).await;
        assert!(!part.exists(), "a push of the same content needs none");
    }
}
