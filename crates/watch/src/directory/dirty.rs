//! Turns the kernel's notifications into a list of files to read again.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::inotify::{AddWatchFlags, InotifyEvent};

use crate::manifests::is_manifest;

/// The link through which a mounted ConfigMap or Secret is swapped.
const SWAPPED_LINK: &str = "..data";

/// What to read again.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Work {
    /// Files with new content, and files that are gone.
    pub(super) files: BTreeSet<OsString>,
    /// Files whose mode changed: worth reading if they could not be read before.
    pub(super) recheck: BTreeSet<OsString>,
    /// Every file.
    pub(super) all: bool,
    /// Every file that changed since it was read, notified or not.
    pub(super) altered: bool,
    /// Files that are being written; do not read them yet.
    pub(super) in_writing: BTreeSet<OsString>,
}

/// Accumulated notifications.
#[derive(Debug)]
pub(super) struct Dirty {
    directory: PathBuf,
    work: Work,
    directory_gone: bool,
}

impl Dirty {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory, work: Work::default(), directory_gone: false }
    }

    /// Everything must be read.
    pub(super) fn everything(&mut self) {
        self.work.all = true;
    }

    /// Everything that changed must be read, including what the kernel did not notify.
    pub(super) fn altered(&mut self) {
        self.work.altered = true;
    }

    /// Takes the work so far; files that are being written stay.
    pub(super) fn take(&mut self) -> Work {
        let next = Work { in_writing: self.work.in_writing.clone(), ..Work::default() };
        std::mem::replace(&mut self.work, next)
    }

    pub(super) fn is_anything(&self) -> bool {
        let Work { files, recheck, all, altered, .. } = &self.work;
        self.directory_gone || *all || *altered || !files.is_empty() || !recheck.is_empty()
    }

    pub(super) fn directory_is_gone(&self) -> bool {
        self.directory_gone
    }

    pub(super) fn note(&mut self, events: Vec<InotifyEvent>) {
        for event in events {
            self.note_one(event.mask, event.name.as_deref());
        }
    }

    pub(super) fn note_one(&mut self, mask: AddWatchFlags, name: Option<&OsStr>) {
        let of_directory = AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_UNMOUNT
            | AddWatchFlags::IN_IGNORED;
        let complete = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE;
        if mask.intersects(of_directory) {
            self.directory_gone = true;
        }
        if mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            // Files that were being written may have been closed unseen.
            self.work.in_writing.clear();
            self.work.all = true;
        }
        let Some(name) = name else { return };
        if name == SWAPPED_LINK {
            self.work.all = true;
        }
        if !is_manifest(Path::new(name)) {
            return;
        }
        let name = name.to_owned();
        if mask.intersects(complete) {
            self.work.in_writing.remove(&name);
            self.work.files.insert(name);
        } else if mask.contains(AddWatchFlags::IN_CREATE) && is_whole(&self.directory.join(&name)) {
            self.work.files.insert(name);
        } else if mask.intersects(AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MODIFY) {
            // Its writer will close it. Until then it may be valid but incomplete.
            self.work.files.remove(&name);
            self.work.in_writing.insert(name);
        } else if mask.contains(AddWatchFlags::IN_ATTRIB) {
            self.work.recheck.insert(name);
        }
    }
}

/// Whether a name that was just created is complete: a link of either kind, or not a regular file.
fn is_whole(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| !metadata.is_file() || metadata.nlink() > 1)
}
