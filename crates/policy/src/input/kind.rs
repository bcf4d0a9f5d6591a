//! The kinds of objects that policies need, and an object of any kind.

use std::fmt;
use std::sync::Arc;

use super::{Change, Namespace, NamespacedName, Pod, Policy};

/// The kinds of objects that the agent reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `v1` Pod.
    Pod,
    /// `v1` Namespace.
    Namespace,
    /// `networking.k8s.io/v1` NetworkPolicy.
    NetworkPolicy,
}

impl Kind {
    /// Every kind, so that a namespace comes before the objects in it.
    pub const ALL: [Self; 3] = [Self::Namespace, Self::Pod, Self::NetworkPolicy];

    /// The kind as manifests write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pod => "Pod",
            Self::Namespace => "Namespace",
            Self::NetworkPolicy => "NetworkPolicy",
        }
    }

    /// The plural resource name, for metric labels.
    pub fn resource(self) -> &'static str {
        match self {
            Self::Pod => "pods",
            Self::Namespace => "namespaces",
            Self::NetworkPolicy => "networkpolicies",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// A pod.
    Pod(Pod),
    /// A namespace.
    Namespace(Namespace),
    /// A policy.
    Policy(Policy),
}

impl Object {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Pod(_) => Kind::Pod,
            Self::Namespace(_) => Kind::Namespace,
            Self::Policy(_) => Kind::NetworkPolicy,
        }
    }
}

impl From<Object> for Change {
    /// The object was added or changed.
    fn from(object: Object) -> Self {
        match object {
            Object::Pod(pod) => Self::Pod(pod),
            Object::Namespace(namespace) => Self::Namespace(namespace),
            Object::Policy(policy) => Self::Policy(policy),
        }
    }
}

/// A reference to an object: its kind and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    /// The kind.
    pub kind: Kind,
    /// The namespace; `None` for a Namespace.
    pub namespace: Option<Arc<str>>,
    /// The name.
    pub name: Arc<str>,
}

impl ObjectName {
    /// The name of an object.
    pub fn of(object: &Object) -> Self {
        match object {
            Object::Pod(pod) => Self::pod(&pod.key),
            Object::Namespace(namespace) => Self::namespace(&namespace.name),
            Object::Policy(policy) => Self::policy(&policy.key),
        }
    }

    /// A pod.
    pub fn pod(key: &NamespacedName) -> Self {
        Self { kind: Kind::Pod, namespace: Some(Arc::clone(&key.namespace)), name: Arc::clone(&key.name) }
    }

    /// A NetworkPolicy.
    pub fn policy(key: &NamespacedName) -> Self {
        Self { kind: Kind::NetworkPolicy, namespace: Some(Arc::clone(&key.namespace)), name: Arc::clone(&key.name) }
    }

    /// A Namespace.
    pub fn namespace(name: &Arc<str>) -> Self {
        Self { kind: Kind::Namespace, namespace: None, name: Arc::clone(name) }
    }
}

impl fmt::Display for ObjectName {
    /// `NetworkPolicy default/web`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

/// A part of the list of all objects of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListPart {
    /// A new list begins.
    Begin(Kind),
    /// Some objects of the list, all of one kind.
    Page(Vec<Object>),
    /// The list is complete.
    End(Kind),
    /// The list could not be read to its end: its objects do not count. Another list follows.
    Abandoned(Kind),
}

/// The answer of the source of objects to a question about a single object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectAnswer {
    /// It exists.
    Present,
    /// There is no object of this name.
    Absent,
    /// The agent may not ask.
    Refused,
}

/// The answer of the source of objects to a question about a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamespaceAnswer {
    /// It exists, and may be terminating.
    Present(Namespace),
    /// There is no namespace of this name.
    Absent,
    /// The agent may not ask.
    Refused,
}
