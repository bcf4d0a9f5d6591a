//! The kernel's notifications about a directory.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep, timeout_at};

use super::dirty::Dirty;

/// Quiet time after which an edit of several steps counts as finished.
const QUIET: Duration = Duration::from_millis(4);
/// The longest wait for quiet.
const SETTLE: Duration = Duration::from_millis(20);
/// How often to look for a directory that vanished.
const RETURN_CHECK: Duration = Duration::from_secs(1);

/// The kernel's notifications for one directory.
#[derive(Debug)]
pub(super) struct Watch {
    inotify: AsyncFd<Notifications>,
    /// Device and inode of what was at the path just before it was watched.
    place: (u64, u64),
}

/// What is at a path, compared with what is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The directory that is watched, or it is unknown.
    Same,
    /// Something else.
    Other,
    /// Nothing.
    Nothing,
}

/// An inotify descriptor that tokio can wait for.
#[derive(Debug)]
struct Notifications(Inotify);

impl AsRawFd for Notifications {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Watch {
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let events = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        // Before: a directory that replaces it in between is noticed at the next check.
        let place = fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))?;
        inotify.add_watch(path, events)?;
        // SAFETY: the descriptor is open, belongs to the value that is registered, which never gives it away or changes
        // it, and is closed with that value, which `AsyncFd` drops after it has deregistered the descriptor.
        #[expect(unsafe_code, reason = "tokio cannot see that the descriptor lives as long as the registration")]
        let inotify = unsafe { AsyncFd::register_with_interest(Notifications(inotify), Interest::READABLE) }?;
        Ok(Self { inotify, place })
    }

    /// What is at the path now. The kernel does not notify when a symlink in the path changes, or a directory above is
    /// renamed.
    pub(super) async fn place(&self, path: &Path) -> Place {
        let (path, watched) = (path.to_owned(), self.place);
        let look = move || match fs::metadata(path) {
            Ok(metadata) if (metadata.dev(), metadata.ino()) == watched => Place::Same,
            Ok(_) => Place::Other,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Place::Nothing,
            Err(_) => Place::Same,
        };
        tokio::task::spawn_blocking(look).await.unwrap_or(Place::Same)
    }

    /// Waits until there is a directory again, and watches that one.
    pub(super) async fn of_returned(path: &Path) -> Self {
        loop {
            match Self::new(path) {
                Ok(watch) => return watch,
                Err(_) => sleep(RETURN_CHECK).await,
            }
        }
    }

    /// Waits until something must be read again, and a little longer, so that an edit of several steps is one.
    pub(super) async fn note_next(&self, dirty: &mut Dirty) -> io::Result<()> {
        while !dirty.is_anything() {
            dirty.note(self.events().await?);
        }
        let end = Instant::now() + SETTLE;
        while !dirty.directory_is_gone() {
            let quiet = (Instant::now() + QUIET).min(end);
            match timeout_at(quiet, self.events()).await {
                Ok(events) => dirty.note(events?),
                Err(_quiet) => break,
            }
        }
        Ok(())
    }

    /// Takes the available events; waits for the first.
    async fn events(&self) -> io::Result<Vec<InotifyEvent>> {
        loop {
            let mut guard = self.inotify.readable().await?;
            if let Ok(events) = guard.try_io(|inotify| Ok(inotify.get_ref().0.read_events()?)) {
                return events;
            }
        }
    }
}
