//! The messages from a source to its receiver, and the receiver's requests.

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
    /// When its line or page was read; any delay after that is the receiver's.
    pub at: Instant,
    /// The event.
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
/// - A kind begins with a whole list: [`ListPart::Begin`], pages, [`ListPart::End`]. Do not act on an incomplete list: a
///   policy may be missing, and its pods would be left open.
/// - Lists of different kinds may be interleaved. Between `Begin` and `End` there is no single change of that kind, and
///   every page belongs to that list.
/// - A complete list replaces all objects of its kind; an abandoned one means nothing. Further lists come if the source
///   loses its position, on request, and periodically as a safeguard. They may differ from the state so far in any way,
///   and may even have older objects; the receiver decides whether to believe them.
/// - Events of one object arrive in order. Events of different kinds have no order: a policy may be deleted before the
///   namespace whose deletion removed it.
/// - A policy is never half-parsed. From a directory it is as written; from an API server, terms that cannot be
///   enforced match nothing and are listed in its `unenforceable`.
/// - The source waits while the channel is full and ends when the receiver is dropped.
///
/// Sources log none of this. The receiver counts and logs: changes by kind, [`Failure`] by [`Failure::reason`], rejected
/// files by path.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A part of a whole list.
    List(ListPart),
    /// Changes with one cause, such as one edit of a file. Apply them in order and commit them together. Never a list.
    Changes(Vec<Change>),
    /// The answer to [`Request::Namespace`].
    NamespaceAnswer {
        /// The namespace.
        name: Arc<str>,
        /// When the server was asked. Later events may be missing from the answer; a receiver that knows of one asks
        /// again.
        asked: Instant,
        /// The server's answer.
        answer: NamespaceAnswer,
    },
    /// The answer to [`Request::Object`].
    ObjectAnswer {
        /// The kind of the object.
        kind: Kind,
        /// The object; a namespace has no namespace.
        key: NamespacedName,
        /// When the server was asked, as with a namespace.
        asked: Instant,
        /// The server's answer.
        answer: ObjectAnswer,
    },
    /// The ranges from which the receiver's node assigns pod IPs (`spec.podCIDRs` of the Node): as soon as they are
    /// known, and again when they change.
    PodRanges(BTreeSet<IpNet>),
    /// A remark on an object that its type cannot express: an IP that was rejected, a field without effect, a term that
    /// matches nothing. Sent once, and again when it changes; from an API server one for each object.
    Warning {
        /// The object, if it has a name.
        object: Option<ObjectName>,
        /// What is wrong; of several problems, their number and the first.
        message: String,
    },
    /// The source failed and keeps trying. Assume that its earlier events still hold.
    Failed(Failure),
    /// A file was rejected. Its last good content stays in force; before the first lists, nothing is sent until it is
    /// fixed.
    FileRejected {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        errors: ManifestErrors,
    },
    /// A file that was rejected is now in force, or is gone.
    FileRecovered {
        /// The file.
        file: PathBuf,
    },
}

/// A receiver's request to an API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// List all objects of the kind again. Requests before the list begins count as one.
    List(Kind),
    /// Whether a namespace exists, and whether it is terminating. The source asks until the server answers. One
    /// [`Event::NamespaceAnswer`] answers all requests up to its `asked`.
    Namespace(Arc<str>),
    /// Whether an object exists. The source asks until the server answers, as with a namespace. The answer is
    /// [`Event::ObjectAnswer`].
    Object {
        /// The kind of the object.
        kind: Kind,
        /// The object; a namespace has no namespace.
        key: NamespacedName,
    },
    /// Write an Event on a policy.
    Notice(Notice),
}

/// An Event on a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The policy.
    pub policy: NamespacedName,
    /// The `reason` of the Event, in one word.
    pub reason: &'static str,
    /// The text.
    pub message: String,
}

/// A failure of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The resource that it could not read; `None` if it concerns all.
    pub resource: Option<Kind>,
    /// A word from a small fixed set, for a metric label: `list`, `watch`, `expired` or `directory`. `expired` is
    /// routine: the server forgot the watch's position, and a new list follows.
    pub reason: &'static str,
    /// The details.
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
