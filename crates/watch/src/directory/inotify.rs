//! The kernel's notifications about directories.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::Path;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// An inotify instance.
#[derive(Debug)]
pub(super) struct Notifier(AsyncFd<Descriptor>);

/// An inotify descriptor that tokio can wait for.
#[derive(Debug)]
struct Descriptor(Inotify);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// A directory entry, or the directory itself, appears or disappears.
pub(super) const COME_AND_GO: AddWatchFlags = AddWatchFlags::IN_CREATE
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_MOVED_FROM)
    .union(AddWatchFlags::IN_MOVED_TO)
    .union(AddWatchFlags::IN_DELETE_SELF)
    .union(AddWatchFlags::IN_MOVE_SELF);

impl Notifier {
    pub(super) fn new() -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        // SAFETY: the descriptor is open, belongs to the value that is registered, which never gives it away or changes
        // it, and is closed with that value, which `AsyncFd` drops after it has deregistered the descriptor.
        #[expect(unsafe_code, reason = "tokio cannot see that the descriptor lives as long as the registration")]
        let inotify = unsafe { AsyncFd::register_with_interest(Descriptor(inotify), Interest::READABLE) }?;
        Ok(Self(inotify))
    }

    /// Watches a directory.
    pub(super) fn add(&self, directory: &Path, events: AddWatchFlags) -> io::Result<WatchDescriptor> {
        Ok(self.0.get_ref().0.add_watch(directory, events | AddWatchFlags::IN_ONLYDIR)?)
    }

    /// Stops watching a directory. The kernel may have ended the watch already, with the directory.
    pub(super) fn remove(&self, watch: WatchDescriptor) {
        if self.0.get_ref().0.rm_watch(watch).is_err() {
            tracing::trace!("a watched directory was already gone");
        }
    }

    /// Takes the available events; waits for the first. Cancellation loses nothing.
    pub(super) async fn events(&self) -> io::Result<Vec<InotifyEvent>> {
        loop {
            let mut guard = self.0.readable().await?;
            if let Ok(events) = guard.try_io(|inotify| Ok(inotify.get_ref().0.read_events()?)) {
                return events;
            }
        }
    }
}
