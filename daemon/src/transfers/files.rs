//! The jobs on the disk: one small file each, replaced as a whole, and the parts of what is pulled.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Job;
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

    /// Forgets a job.
    pub(super) async fn forget(&self, job: &Job) {
        for path in [self.job(&job.id), self.part(&job.sha256)] {
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
