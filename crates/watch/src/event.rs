//! What a source tells its receiver, and what a receiver may ask of it.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use ipnet::IpNet;
use palisade_policy::input::{Change, Kind, NamespacedName};
pub use palisade_policy::input::{ListPart, NamespaceAnswer, ObjectAnswer};

use crate::finding::{ManifestErrors, ObjectName};

/// An event, and when the source read it.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrival {
    /// When the line or the page that it comes from was read; what a receiver takes longer is its own delay.
    pub at: Instant,
    /// What it says.
    pub event: Event,
}

impl Arrival {
    /// An event that was read just now.
    pub fn now(event: Event) -> Self {
        Self { at: Instant::now(), event }
    }
}

/// One message of a source.
///
/// A receiver may rely on this:
///
/// - A kind begins with a whole list: [`ListPart::Begin`], pages, [`ListPart::End`]. What has not been listed to its end
///   must not be acted upon: a policy may be missing whose pods would be left open.
/// - Lists of different kinds may come interleaved. Between `Begin` and `End` no single change of that kind comes, and every
///   page in between belongs to that list.
/// - A list that ended replaces all objects of its kind; one that was abandoned says nothing. Further lists come when the
///   source lost its place, when it was asked for one, and once in a while to be sure. They may differ from the state so far
///   in any way, also by objects that are older, and whether to believe them is the receiver's affair.
/// - Events of one object keep their order. Between objects of different kinds there is no order: a policy may be seen to go
///   before the namespace whose deletion took it away.
/// - A policy never comes half-read. From a directory it is as written; from an API server, terms that cannot be
///   enforced match nothing and are named in its `unenforceable`.
/// - The source waits while the channel is full and ends when the receiver is dropped.
///
/// Sources write no log lines of their own about any of this. Counting and logging is the receiver's: changes by kind,
/// [`Failure`] by [`Failure::reason`], rejected files by path.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A part of a whole list.
    List(ListPart),
    /// Changes with one cause, as one edit of a file: to be applied in order, and taken into effect together. Never a list.
    Changes(Vec<Change>),
    /// The answer to [`Request::Namespace`].
    NamespaceAnswer {
        /// The namespace.
        name: Arc<str>,
        /// When the server was asked. It may not have known then what was heard of later; who learned of something since
        /// asks again.
        asked: Instant,
        /// What the server says of it.
        answer: NamespaceAnswer,
    },
    /// The answer to [`Request::Object`].
    ObjectAnswer {
        /// Of what kind it is.
        kind: Kind,
        /// The object; a namespace has no namespace.
        key: NamespacedName,
        /// When the server was asked, as with a namespace.
        asked: Instant,
        /// What the server says of it.
        answer: ObjectAnswer,
    },
    /// The ranges that the receiver's node gives its pods addresses from (`spec.podCIDRs` of the Node): as soon as they are
    /// known, and again when they differ.
    PodRanges(BTreeSet<IpNet>),
    /// Something about an object that its type cannot say: an address that was refused, a field that has no effect, a
    /// term that matches nothing. Sent once, and again when it changes; from an API server one for each object.
    Warning {
        /// The object, if it has a name.
        object: Option<ObjectName>,
        /// What is the matter; of several things how many, and the first.
        message: String,
    },
    /// The source is in trouble and goes on trying. What was sent before stays true as far as anybody knows.
    Failed(Failure),
    /// A file was not taken. Its last good content stays in force; before the first lists, nothing is sent until it is
    /// mended.
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

/// What a receiver may ask of an API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// List all objects of the kind again. Several requests before the list begins are one.
    List(Kind),
    /// Whether a namespace is there, and whether it is terminating. The server is asked until it answers; the answer is
    /// [`Event::NamespaceAnswer`], one for all requests up to the time of its `asked`.
    Namespace(Arc<str>),
    /// Whether an object is there. The server is asked until it answers, as with a namespace; the answer is
    /// [`Event::ObjectAnswer`].
    Object {
        /// Of what kind it is.
        kind: Kind,
        /// The object; a namespace has no namespace.
        key: NamespacedName,
    },
    /// Tell the owners of a policy something, by an Event on it.
    Notice(Notice),
}

/// An Event on a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The policy.
    pub policy: NamespacedName,
    /// Why, in one word, as Events have it.
    pub reason: &'static str,
    /// The text.
    pub message: String,
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
