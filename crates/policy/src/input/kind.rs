//! The kinds of objects that policies speak of, and one object of any of them.

use std::fmt;

use super::{Change, Namespace, Pod, Policy};

/// The kinds of objects that are read.
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
    /// Every kind; a namespace comes before what is in it.
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
    /// What it is.
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

/// A part of a list of all objects of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListPart {
    /// Everything of the kind follows.
    Begin(Kind),
    /// Some objects of the list, all of one kind.
    Page(Vec<Object>),
    /// That was everything.
    End(Kind),
    /// The list that began could not be read to its end: what came of it counts for nothing. Another follows.
    Abandoned(Kind),
}

/// What the source of objects says when it is asked for a single object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectAnswer {
    /// It is there.
    Present,
    /// There is none of this name.
    Absent,
    /// The agent may not ask.
    Refused,
}

/// What the source of objects says when it is asked for a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamespaceAnswer {
    /// It is there, maybe terminating.
    Present(Namespace),
    /// There is none of this name.
    Absent,
    /// The agent may not ask.
    Refused,
}
