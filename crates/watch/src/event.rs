//! What a source tells its receiver.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use ipnet::IpNet;
use palisade_policy::input::Change;

use crate::finding::{Kind, ManifestErrors, ObjectName};

/// One message of a source.
///
/// A receiver may rely on this:
///
/// - [`Event::PodRanges`] comes at most once, from an API server only, first of all or whenever they become known.
/// - Before [`Event::Synced`] the only changes are whole lists, one of each kind, and they are complete. What has not
///   synced must not be acted upon: a policy may be missing whose pods would be left open.
/// - `Synced` comes exactly once, right after the last of the three lists.
/// - A list always replaces all objects of its kind. After `Synced` one comes whenever the source had to read everything
///   anew; it may differ from the state so far in any way, also by objects that are older.
/// - Events of one object keep their order. Between objects of different kinds there is no order.
/// - A policy never comes half-read. From a directory it is as written; from an API server, terms that cannot be
///   enforced match nothing and are named in its `unenforceable`.
/// - The source waits while the channel is full and ends when the receiver is dropped.
///
/// Sources write no log lines of their own about any of this. Counting and logging is the receiver's: `Changes` by kind,
/// [`Failure`] by [`Failure::reason`], rejected files by path.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Changes with one cause, as one edit of a file: to be applied in order, and taken into effect together.
    Changes(Vec<Change>),
    /// All three lists have been sent.
    Synced,
    /// The ranges that the receiver's node gives its pods addresses from (`spec.podCIDRs` of the Node).
    PodRanges(BTreeSet<IpNet>),
    /// Something about an object that its type cannot say: an address that was refused, a field that has no effect, a
    /// term that matches nothing. Sent once, and again when it changes.
    Warning {
        /// The object, if it has a name.
        object: Option<ObjectName>,
        /// What is the matter.
        message: String,
    },
    /// The source is in trouble and goes on trying. What was sent before stays true as far as anybody knows.
    Failed(Failure),
    /// A file was not taken. Its last good content stays in force; before `Synced`, nothing is sent until it is mended.
    FileRejected {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        errors: ManifestErrors,
    },
    /// A file that was rejected is in force, or is gone.
    FileMended {
        /// The file.
        file: PathBuf,
    },
}

/// Trouble of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What it could not read; none if it concerns all.
    pub resource: Option<Kind>,
    /// A word for it, of a small fixed set, for a metric label: `list`, `watch`, `expired` or `directory`. `expired` is
    /// routine: the server forgot the place of the watch, and a new list follows.
    pub reason: &'static str,
    /// The whole story.
    pub message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.resource {
            Some(kind) => write!(f, "{}: {}", kind.resource(), self.message),
            None => f.write_str(&self.message),
        }
    }
}
