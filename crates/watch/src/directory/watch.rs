//! The watch of the directory at a path.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::inotify::AddWatchFlags;
use tokio::time::{Instant, sleep, timeout_at};

use super::dirty::Dirty;
use super::inotify::{COME_AND_GO, Notifier};
use super::links::Links;

/// Quiet time after which an edit of several steps counts as finished.
const QUIET: Duration = Duration::from_millis(4);
/// The longest wait for quiet.
const SETTLE: Duration = Duration::from_millis(20);
/// How often to look for a directory that vanished, in case the kernel sends no notification of its return.
const RETURN_CHECK: Duration = Duration::from_secs(2);

/// The kernel's notifications for the directory at a path.
#[derive(Debug)]
pub(super) struct Watch {
    path: PathBuf,
    notifier: Notifier,
    links: Links,
    /// Device and inode of what was at the path just before it was watched.
    place: (u64, u64),
}

/// What is at a path, compared with what is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The watched directory, or unknown.
    Same,
    /// Something else.
    Other,
    /// Nothing.
    Nothing,
}

impl Watch {
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        let notifier = Notifier::new()?;
        let written = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_ATTRIB | AddWatchFlags::IN_CLOSE_WRITE;
        // In this order: if the directory is replaced in between, the watch of its link or the next check notices.
        let links = Links::of(path)?;
        let place = fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))?;
        notifier.add(path, COME_AND_GO | written)?;
        Ok(Self { path: path.to_owned(), notifier, links, place })
    }

    /// What is at the path now. The kernel sends no notification if a parent directory is renamed.
    pub(super) async fn place(&self) -> Place {
        let (path, watched) = (self.path.clone(), self.place);
        let look = move || match fs::metadata(path) {
            Ok(metadata) if (metadata.dev(), metadata.ino()) == watched => Place::Same,
            Ok(_) => Place::Other,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Place::Nothing,
            Err(_) => Place::Same,
        };
        tokio::task::spawn_blocking(look).await.unwrap_or(Place::Same)
    }

    /// Waits until the directory is back, and watches it.
    pub(super) async fn of_returned(path: &Path) -> Self {
        let mut links = Links::of(path).ok();
        loop {
            if let Ok(watch) = Self::new(path) {
                return watch;
            }
            tokio::select! {
                () = changed(links.as_ref()) => {}
                () = sleep(RETURN_CHECK) => {}
            }
            links.iter_mut().for_each(Links::refresh);
        }
    }

    /// Waits until something must be read again, or the path may lead elsewhere. Returns what is at the path then: if
    /// that is not the watched directory, ignore its notifications.
    pub(super) async fn next(&mut self, dirty: &mut Dirty) -> io::Result<Place> {
        tokio::select! {
            noted = note_next(&self.notifier, dirty) => noted?,
            changed = self.links.changed() => {
                changed?;
                // A link that is not switched atomically is gone for a moment.
                sleep(QUIET).await;
                self.links.refresh();
            }
        }
        // A directory that was gone and is back needs a new watch.
        Ok(match self.place().await {
            Place::Same if dirty.directory_is_gone() => Place::Other,
            place => place,
        })
    }
}

async fn changed(links: Option<&Links>) {
    if let Some(links) = links
        && links.changed().await.is_ok()
    {
        return;
    }
    std::future::pending::<()>().await;
}

/// Waits until something must be read again, and then for quiet, so that an edit in several steps is read once.
async fn note_next(notifier: &Notifier, dirty: &mut Dirty) -> io::Result<()> {
    while !dirty.is_anything() {
        dirty.note(notifier.events().await?);
    }
    let end = Instant::now() + SETTLE;
    while !dirty.directory_is_gone() {
        let quiet = (Instant::now() + QUIET).min(end);
        match timeout_at(quiet, notifier.events()).await {
            Ok(events) => dirty.note(events?),
            Err(_quiet) => break,
        }
    }
    Ok(())
}
