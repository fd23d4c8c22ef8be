//! The two files of the log: the one that grows, and the one before it. When the first is full it takes the place of
//! the second, so that between one and two times the wanted number of lines is on the disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// A line of ours is far shorter; a damaged file without line ends is read in pieces of this size.
const LONGEST: u64 = 64 * 1024;

/// Where they are and how many lines are wanted.
#[derive(Debug, Clone)]
pub(super) struct Files {
    newer: PathBuf,
    older: PathBuf,
    keep: u32,
}

impl Files {
    pub(super) fn new(folder: &Path, keep: u32) -> Self {
        Self { newer: folder.join("decisions.jsonl"), older: folder.join("decisions.1.jsonl"), keep }
    }

    pub(super) fn keep(&self) -> u32 {
        self.keep
    }

    /// Opens the file that grows.
    pub(super) fn writer(self) -> io::Result<Writer> {
        let mut file =
            OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&self.newer)?;
        let mut lines = 0;
        let mut last = b'\n';
        each(&mut BufReader::new(&mut file), |line| {
            lines += 1;
            last = line.last().copied().unwrap_or(b'\n');
            true
        })?;
        if last != b'\n' {
            // Cut short by a power cut: one damaged line must not become two.
            file.write_all(b"\n")?;
        }
        Ok(Writer { files: self, file, lines })
    }

    /// Gives the newest lines, oldest first, to `take` until it wants no more.
    pub(super) fn read(&self, limit: u32, mut take: impl FnMut(String) -> bool) -> io::Result<()> {
        let limit = if limit == 0 { self.keep } else { limit.min(self.keep) };
        // Both are opened first: the writer may rename them meanwhile.
        let mut files = Vec::new();
        for path in [&self.older, &self.newer] {
            match File::open(path) {
                Ok(file) => files.push(BufReader::new(file)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let mut all = 0_u64;
        for file in &mut files {
            each(file, |_| {
                all += 1;
                true
            })?;
            file.rewind()?;
        }
        let (mut skip, mut left) = (all.saturating_sub(limit.into()), limit);
        for file in &mut files {
            each(file, |line| {
                if skip > 0 {
                    skip -= 1;
                    return true;
                }
                // The writer may have added more since they were counted.
                let wanted = left > 0 && take(String::from_utf8_lossy(line).trim_end().to_owned());
                left = left.saturating_sub(1);
                wanted
            })?;
        }
        Ok(())
    }
}

/// The file that grows.
#[derive(Debug)]
pub(super) struct Writer {
    files: Files,
    file: File,
    lines: u32,
}

impl Writer {
    /// Adds lines, each with its end.
    pub(super) fn write(&mut self, lines: &[String]) -> io::Result<()> {
        for line in lines {
            if self.lines >= self.files.keep {
                fs::rename(&self.files.newer, &self.files.older)?;
                *self = self.files.clone().writer()?;
            }
            self.file.write_all(line.as_bytes())?;
            self.lines += 1;
        }
        Ok(())
    }
}

/// Every line with its end, or what there is of it, until `take` wants no more.
fn each(input: &mut impl BufRead, mut take: impl FnMut(&[u8]) -> bool) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if input.take(LONGEST).read_until(b'\n', &mut line)? == 0 || !take(&line) {
            return Ok(());
        }
    }
}
