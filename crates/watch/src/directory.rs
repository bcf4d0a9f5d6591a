//! A directory of manifests as a source of objects.
//!
//! It reads the files directly in the directory whose names end in `.yaml`, `.yml` or `.json`, except hidden ones. It
//! reads a file when its writer closes it or moves it into place, never before. A mounted ConfigMap works: its files
//! are links through `..data`, which the kubelet swaps atomically.

mod dirty;
mod inotify;
mod links;
mod store;
mod watch;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::mpsc::Sender;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::error::SourceError;
use crate::event::{Arrival, Event, Failure};
use dirty::{Dirty, Work};
use store::Store;
use watch::{Place, Watch};

/// How often the path is checked: the kernel sends no notification if a parent directory is renamed.
const LOOK: Duration = Duration::from_secs(2);

/// After this many checks of the path, every file is checked: some file systems, such as those of a network, send no
/// notifications.
const FILES_EVERY: u32 = 30;

/// A directory of manifests that is watched for changes.
///
/// - A file is rejected ([`Event::FileRejected`]) if it is not YAML, an API server would reject an object in it, or it has
///   an object that another file has. Its previous content stays in force.
/// - At the start, nothing is sent while any file is rejected.
/// - If the directory disappears, or the path leads to another one, all content stays in force until a directory with
///   at least one manifest is there. If a symlink in the path is switched, the new path is read at once.
/// - Files that are not regular or are too large are rejected without waiting. The limits are 16 MiB each and 256 MiB
///   together. With more than 10,000 files, nothing changes, and [`Event::Failed`] is sent.
#[derive(Debug)]
pub struct ManifestDirectory {
    path: PathBuf,
    watch: Watch,
}

impl ManifestDirectory {
    /// Begins to watch the directory; reads nothing yet. Call it in a tokio runtime with I/O and time.
    ///
    /// # Errors
    /// The path is not a directory, cannot be read, or inotify is at its limit.
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
    /// The kernel's notifications can no longer be read.
    pub async fn run(self, tx: Sender<Arrival>) -> Result<(), SourceError> {
        let Self { path, mut watch } = self;
        let failed = |source| SourceError::Directory { path: path.clone(), source };
        let mut store = Store::new(path.clone());
        let mut dirty = Dirty::new(path.clone());
        dirty.everything();
        let mut looks = Looks::new();
        loop {
            let (returned, events) = scan(store, dirty.take()).await.map_err(failed)?;
            store = returned;
            for event in events {
                if tx.send(Arrival::now(event)).await.is_err() {
                    return Ok(());
                }
            }
            let place = tokio::select! {
                place = looks.wait(&mut watch, &mut dirty) => place.map_err(failed)?,
                () = tx.closed() => return Ok(()),
            };
            match place {
                Place::Same => continue,
                Place::Other => {}
                Place::Nothing => {
                    if tx.send(Arrival::now(gone(&path))).await.is_err() {
                        return Ok(());
                    }
                }
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

/// When to check for changes without notifications.
#[derive(Debug)]
struct Looks {
    clock: Interval,
    number: u32,
}

impl Looks {
    fn new() -> Self {
        let mut clock = interval(LOOK);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { clock, number: 0 }
    }

    /// Waits until something can be read, or the path leads to another directory.
    async fn wait(&mut self, watch: &mut Watch, dirty: &mut Dirty) -> io::Result<Place> {
        loop {
            tokio::select! {
                place = watch.next(dirty) => return place,
                _ = self.clock.tick() => {
                    let place = watch.place().await;
                    self.number = self.number.wrapping_add(1);
                    if self.number.is_multiple_of(FILES_EVERY) {
                        dirty.altered();
                    }
                    if place != Place::Same {
                        return Ok(place);
                    }
                }
            }
        }
    }
}

fn gone(path: &Path) -> Event {
    let message = format!("the directory {} is gone; its last content stays in force", path.display());
    Event::Failed(Failure { resource: None, reason: "directory", message })
}

/// Reads what is dirty on a thread that may block.
async fn scan(mut store: Store, work: Work) -> io::Result<(Store, Vec<Event>)> {
    let task = tokio::task::spawn_blocking(move || {
        let events = store.refresh(&work);
        (store, events)
    });
    task.await.map_err(io::Error::other)
}

#[cfg(test)]
mod tests;
