//! A directory of manifests as a source of objects.
//!
//! The files directly in it count whose names end in `.yaml`, `.yml` or `.json`; hidden ones do not. They are read when
//! whoever writes them closes them or moves them into place, never in between. A mounted ConfigMap works: its files are
//! links through `..data`, which is swapped as a whole.

mod dirty;
mod inotify;
mod store;

use std::io;
use std::path::{Path, PathBuf};

use tokio::sync::mpsc::Sender;

use crate::error::SourceError;
use crate::event::{Arrival, Event, Failure};
use dirty::{Dirty, Work};
use inotify::Watch;
use store::Store;

/// A directory of manifests that is watched for changes.
///
/// - A file that cannot be taken, because it is not YAML, an API server would refuse an object in it, or it holds an
///   object that another file holds, is rejected: [`Event::FileRejected`], and what it held before stays.
/// - At the start nothing is sent while any file is rejected.
/// - If the directory itself goes away, all content stays until it is back with at least one manifest in it.
#[derive(Debug)]
pub struct ManifestDirectory {
    path: PathBuf,
    watch: Watch,
}

impl ManifestDirectory {
    /// Begins to watch the directory; nothing is read yet. To be called within a tokio runtime with I/O and time.
    ///
    /// # Errors
    /// The path is not a directory, cannot be read, or the limits of inotify are reached.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, SourceError> {
        let path = path.into();
        match Watch::new(&path) {
            Ok(watch) => Ok(Self { path, watch }),
            Err(source) => Err(SourceError::Directory { path, source }),
        }
    }

    /// Sends the objects of the directory and then every change, until the receiver is dropped.
    ///
    /// # Errors
    /// The kernel's notifications cannot be read any more.
    pub async fn run(self, tx: Sender<Arrival>) -> Result<(), SourceError> {
        let Self { path, mut watch } = self;
        let failed = |source| SourceError::Directory { path: path.clone(), source };
        let mut store = Store::new(path.clone());
        let mut dirty = Dirty::new(path.clone());
        dirty.everything();
        loop {
            let (returned, events) = scan(store, dirty.take()).await.map_err(failed)?;
            store = returned;
            for event in events {
                if tx.send(Arrival::now(event)).await.is_err() {
                    return Ok(());
                }
            }
            tokio::select! {
                noted = watch.note_next(&mut dirty) => noted.map_err(failed)?,
                () = tx.closed() => return Ok(()),
            }
            if !dirty.directory_is_gone() {
                continue;
            }
            if tx.send(Arrival::now(gone(&path))).await.is_err() {
                return Ok(());
            }
            watch = tokio::select! {
                returned = Watch::of_returned(&path) => returned,
                () = tx.closed() => return Ok(()),
            };
            store.directory_returned();
            dirty = Dirty::new(path.clone());
            dirty.everything();
        }
    }
}

fn gone(path: &Path) -> Event {
    let message = format!("the directory {} is gone; its last content stays in force", path.display());
    Event::Failed(Failure { resource: None, reason: "directory", message })
}

/// Reads what is dirty on a thread where blocking is allowed.
async fn scan(mut store: Store, work: Work) -> io::Result<(Store, Vec<Event>)> {
    let task = tokio::task::spawn_blocking(move || {
        let events = store.refresh(&work);
        (store, events)
    });
    task.await.map_err(io::Error::other)
}

#[cfg(test)]
mod tests;
