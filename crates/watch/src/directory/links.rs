//! The symlinks in a path. The kernel sends no notification when a path leads elsewhere, but it sends one when the
//! directory of a link changes.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use nix::sys::inotify::{AddWatchFlags, InotifyEvent, WatchDescriptor};

use super::inotify::{COME_AND_GO, Notifier};

/// How many symlinks in a path the kernel follows (path_resolution(7)).
const MOST: usize = 40;

/// How often to resolve a path that keeps changing.
const TRIES: usize = 5;

/// The links in a path, watched.
#[derive(Debug)]
pub(super) struct Links {
    path: PathBuf,
    notifier: Notifier,
    steps: Vec<Step>,
    /// For each step, the watch of its directory; none if that cannot be watched.
    watches: Vec<Option<WatchDescriptor>>,
}

/// An entry of a directory that decides where a path leads.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    directory: PathBuf,
    name: OsString,
}

impl Links {
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let notifier = Notifier::new()?;
        let mut links = Self { path: path.to_owned(), notifier, steps: Vec::new(), watches: Vec::new() };
        links.refresh();
        Ok(links)
    }

    /// Watches the links that are in the path now. Links that cannot be watched are left to regular checks.
    pub(super) fn refresh(&mut self) {
        let before = std::mem::take(&mut self.watches);
        for _ in 0..TRIES {
            self.steps = steps(&self.path);
            let watch = |step: &Step| self.notifier.add(&step.directory, COME_AND_GO).ok();
            self.watches.extend(self.steps.iter().map(watch));
            // Changes before the watch caused no notification.
            if steps(&self.path) == self.steps {
                break;
            }
            self.watches.clear();
        }
        let kept = self.watches.iter().flatten().copied().collect::<Vec<_>>();
        for watch in before.into_iter().flatten().filter(|watch| !kept.contains(watch)) {
            self.notifier.remove(watch);
        }
    }

    /// Waits until the path may lead elsewhere. Cancellation loses nothing.
    pub(super) async fn changed(&self) -> io::Result<()> {
        while !self.notifier.events().await?.iter().any(|event| self.is_about_a_step(event)) {}
        Ok(())
    }

    fn is_about_a_step(&self, event: &InotifyEvent) -> bool {
        let mut of_directory = self.steps.iter().zip(&self.watches).filter(|(_, watch)| **watch == Some(event.wd));
        event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW)
            || of_directory.any(|(step, _)| event.name.as_ref().is_none_or(|name| *name == step.name))
    }
}

/// The links in the path, in order, and the missing entry if there is one.
fn steps(path: &Path) -> Vec<Step> {
    let mut steps = Vec::new();
    // The resolved part of the path, without links.
    let mut reached = PathBuf::from(".");
    let mut ahead: VecDeque<OsString> = components(path).collect();
    while let Some(name) = ahead.pop_front() {
        let next = reached.join(&name);
        let is_plain = Path::new(&name).components().any(|part| matches!(part, Component::Normal(_)));
        if !is_plain {
            reached = next;
            continue;
        }
        let link = match fs::symlink_metadata(&next) {
            Ok(metadata) if metadata.is_symlink() => fs::read_link(&next).ok(),
            Ok(_) => {
                reached = next;
                continue;
            }
            Err(_) => None,
        };
        steps.push(Step { directory: reached.clone(), name });
        match link {
            Some(target) if steps.len() < MOST => {
                for part in components(&target).collect::<Vec<_>>().into_iter().rev() {
                    ahead.push_front(part);
                }
            }
            _ => break,
        }
    }
    steps
}

fn components(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().map(|part| OsStr::to_owned(part.as_os_str()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_link_and_the_missing_entry_of_a_path_are_found() {
        let root = std::env::temp_dir().join(format!("palisade-links-{}", std::process::id()));
        fs::create_dir_all(root.join("releases/42/manifests")).unwrap();
        // An absolute link to a relative one that leads up.
        symlink(root.join("stable"), root.join("current")).unwrap();
        symlink("releases/../releases/42", root.join("stable")).unwrap();
        let found = |path: &str| {
            let name = |step: Step| step.directory.join(step.name).strip_prefix(&root).unwrap().to_owned();
            steps(&root.join(path)).into_iter().map(name).collect::<Vec<_>>()
        };
        let expected = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(found("releases/42"), expected(&[]));
        assert_eq!(found("current/manifests"), expected(&["current", "stable"]));
        symlink("gone/manifests", root.join("dangling")).unwrap();
        assert_eq!(found("dangling/x"), expected(&["dangling", "gone"]));
        symlink("loop", root.join("loop")).unwrap();
        assert_eq!(steps(&root.join("loop/x")).len(), MOST);
        fs::remove_dir_all(&root).unwrap();
    }
}
