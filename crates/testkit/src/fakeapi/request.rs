//! Requests, and their record.

use std::time::Instant;

use super::http::Message;

/// The kinds of objects that are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// `v1` pods.
    Pods,
    /// `v1` namespaces.
    Namespaces,
    /// `networking.k8s.io/v1` networkpolicies.
    NetworkPolicies,
    /// `v1` nodes.
    Nodes,
    /// `v1` events: only written.
    Events,
}

impl Resource {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Pods, Self::Namespaces, Self::NetworkPolicies, Self::Nodes, Self::Events];

    /// The kinds that an agent lists and watches.
    pub const WATCHED: [Self; 3] = [Self::Namespaces, Self::Pods, Self::NetworkPolicies];

    /// As in paths.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pods => "pods",
            Self::Namespaces => "namespaces",
            Self::NetworkPolicies => "networkpolicies",
            Self::Nodes => "nodes",
            Self::Events => "events",
        }
    }

    /// As in objects.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Pods => "Pod",
            Self::Namespaces => "Namespace",
            Self::NetworkPolicies => "NetworkPolicy",
            Self::Nodes => "Node",
            Self::Events => "Event",
        }
    }

    /// The `apiVersion` of its objects.
    pub fn version(self) -> &'static str {
        if self == Self::NetworkPolicies { "networking.k8s.io/v1" } else { "v1" }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|resource| resource.name() == name)
    }

    /// The resource of an object of this kind.
    pub(super) fn of_kind(kind: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|resource| resource.kind() == kind)
    }
}

/// The kind of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// The first page of a list.
    List,
    /// A further page.
    Page,
    /// The start of a watch.
    Watch,
    /// One object is read.
    Get,
    /// One object is written.
    Create,
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::List, Self::Page, Self::Watch, Self::Get, Self::Create];
}

/// A request that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When its head had been read.
    pub at: Instant,
    /// Its kind.
    pub verb: Verb,
    /// Its resource.
    pub resource: Resource,
    /// The object's name, empty for lists and watches.
    pub name: String,
}

impl Seen {
    pub(super) fn is(&self, verb: Verb, resource: Resource) -> bool {
        self.verb == verb && self.resource == resource
    }
}

/// A request that the server understands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) verb: Verb,
    pub(super) resource: Resource,
    /// Empty for the whole cluster.
    pub(super) namespace: String,
    /// Empty for lists, watches and new objects.
    pub(super) name: String,
}

impl Target {
    /// The request, if this server can answer it.
    pub(super) fn of(message: &Message) -> Option<Self> {
        let segments: Vec<&str> = message.path.trim_matches('/').split('/').collect();
        let rest = match segments.as_slice() {
            ["api", "v1", rest @ ..] => rest,
            ["apis", "networking.k8s.io" | "events.k8s.io", "v1", rest @ ..] => rest,
            _ => return None,
        };
        let (namespace, resource, name) = match *rest {
            [resource] => ("", resource, ""),
            ["namespaces", namespace, resource] => (namespace, resource, ""),
            ["namespaces", namespace, resource, name] => (namespace, resource, name),
            [resource, name] => ("", resource, name),
            _ => return None,
        };
        let is_true = |key: &str| message.query.get(key).is_some_and(|value| value == "true" || value == "1");
        let verb = match message.method.as_str() {
            "POST" => Verb::Create,
            "GET" if !name.is_empty() => Verb::Get,
            "GET" if is_true("watch") => Verb::Watch,
            "GET" if message.query.contains_key("continue") => Verb::Page,
            "GET" => Verb::List,
            _ => return None,
        };
        let resource = Resource::named(resource)?;
        Some(Self { verb, resource, namespace: namespace.to_owned(), name: name.to_owned() })
    }
}
