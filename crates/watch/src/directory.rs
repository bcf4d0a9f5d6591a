//! A directory of manifests as a source of objects.
//!
//! It reads the files directly in it whose names end in `.yaml`, `.yml` or `.json`, except hidden ones, when their
//! writer closes them or moves them into place, never in between. A mounted ConfigMap works: its files are links
//! through `..data`, which is swapped as a whole.

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

/// How often the path is checked: a directory above may be renamed, which the kernel does not notify.
const LOOK: Duration = Duration::from_secs(2);

/// How many checks of the path there are to one check of each file: some file systems do not notify at all, such as
/// those of a network.
const FILES_EVERY: u32 = 30;

/// A directory of manifests that is watched for changes.
///
/// - A file is rejected ([`Event::FileRejected`]) if it is not YAML, an API server would reject an object in it, or it has
///   an object that another file has. Its previous content stays in force.
/// - At the start nothing is sent while any file is rejected.
/// - If the directory goes away, or the path leads to another one, all content stays until there is a directory with at
///   least one manifest. A symlink in the path that is switched is followed at once.
/// - Files that are not regular, or too large, are rejected, and never waited for: the limits are 16 MiB each and 256 MiB
///   together. While there are more than 10,000 files nothing changes: [`Event::Failed`].
#[derive(Debug)]
pub struct ManifestDirectory {
    path: PathBuf,
    watch: Watch,
}

impl ManifestDirectory {
    /// Begins to watch the directory; nothing is read yet. To be called in a tokio runtime with I/O and time.
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
    /// The kernel's notifications cannot be read any more.
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

/// When to check for changes that were not notified.
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
