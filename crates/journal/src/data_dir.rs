//! Where a data directory keeps what, and that only one process uses it.
//!
//! ```text
//! <data>/LOCK                          held while a process uses the directory; its text says which
//! <data>/journal/<position>.journal    the journal
//! <data>/snapshots/<position>.snapshot snapshots of the state
//! <data>/settled/<id>.settled          what outlived the journal files it was in
//! <data>/record/<id>.record            what became of messages
//! ```

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use waystation_base::disk::{Disk, LockError};

/// A data directory that this process uses alone, until this is dropped.
pub struct DataDir {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    _lock: Box<dyn Send + Sync>,
}

/// Why a data directory could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process uses it.
    #[error("data directory {} is in use by {owner}", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
        /// What the other process says of itself.
        owner: String,
    },
    /// The system refused.
    #[error("{what} {} failed: {error}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

impl DataDir {
    /// Makes the directory if need be and locks it; `owner` tells the next process who has it, such as
    /// `pid 123 since 2026-01-01T00:00:00Z`.
    pub fn open(disk: Arc<dyn Disk>, path: &Path, owner: &str) -> Result<DataDir, DataDirError> {
        let failed = |what, path: &Path| {
            let path = path.to_owned();
            move |error| DataDirError::Io { what, path, error }
        };
        disk.create_dir_all(path).map_err(failed("creating", path))?;
        let lock_path = path.join("LOCK");
        let lock = match disk.lock(&lock_path, owner) {
            Ok(lock) => lock,
            Err(LockError::Held(owner)) if owner.is_empty() => {
                return Err(DataDirError::InUse {
                    path: path.to_owned(),
                    owner: "another process".to_owned(),
                });
            }
            Err(LockError::Held(owner)) => return Err(DataDirError::InUse { path: path.to_owned(), owner }),
            Err(LockError::Io(error)) => return Err(failed("locking", &lock_path)(error)),
        };
        let data_dir = DataDir { disk, path: path.to_owned(), _lock: lock };
        for dir in [data_dir.journal(), data_dir.snapshots(), data_dir.settled(), data_dir.record()] {
            data_dir.disk.create_dir_all(&dir).map_err(failed("creating", &dir))?;
        }
        data_dir.disk.sync_dir(path).map_err(failed("syncing", path))?;
        Ok(data_dir)
    }

    /// The disk that it is on.
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of the journal.
    pub fn journal(&self) -> PathBuf {
        self.path.join("journal")
    }

    /// The folder of the snapshots.
    pub fn snapshots(&self) -> PathBuf {
        self.path.join("snapshots")
    }

    /// The folder of the settled files.
    pub fn settled(&self) -> PathBuf {
        self.path.join("settled")
    }

    /// The folder of the record files.
    pub fn record(&self) -> PathBuf {
        self.path.join("record")
    }
}

#[cfg(test)]
mod tests {
    use waystation_base::os::OsDisk;

    use super::*;

    #[test]
    fn the_second_process_learns_who_is_first() {
        let dir = tempfile::tempdir().expect("a folder");
        let first = DataDir::open(Arc::new(OsDisk), dir.path(), "pid 1 since noon").expect("free");
        let Err(second) = DataDir::open(Arc::new(OsDisk), dir.path(), "pid 2") else { panic!("taken twice") };
        let expected = format!("data directory {} is in use by pid 1 since noon", dir.path().display());
        assert_eq!(second.to_string(), expected);
        drop(first);
        assert!(DataDir::open(Arc::new(OsDisk), dir.path(), "pid 2").is_ok());
    }
}
