//! The objects to check, with the reader's findings about them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use palisade_policy::input::{ObjectName, Protocol, State};

/// The objects, including those with mistakes if they could be read.
#[derive(Clone, Debug)]
pub struct Input<'a> {
    /// The objects. A namespace may be here only because an object is in it.
    pub state: &'a State,
    /// Every object that is written, rather than only mentioned.
    pub written: BTreeMap<&'a ObjectName, ObjectFacts<'a>>,
    /// Whether these are all objects of a cluster. If not, nothing is concluded from missing objects in namespaces
    /// whose pods are not in the input.
    pub whole: bool,
    /// The namespaces with objects of custom kinds, whose controllers may create pods outside the input.
    pub custom: &'a BTreeSet<Arc<str>>,
}

/// The reader's findings about an object, beyond its meaning.
#[derive(Clone, Copy, Debug)]
pub struct ObjectFacts<'a> {
    /// It has no mistakes.
    pub sound: bool,
    /// Of a pod, the ports that its containers and sidecars declare, with or without a name.
    pub ports: &'a [(Protocol, u16)],
}

/// The namespaces that every cluster has.
const OF_EVERY_CLUSTER: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// Whether objects are a cluster's dump rather than an application's manifests: they include the namespaces that every
/// cluster has, which no application writes.
pub fn is_whole_cluster<'a>(written: impl IntoIterator<Item = &'a ObjectName>) -> bool {
    let is_of_cluster = |name: &&ObjectName| name.namespace.is_none() && OF_EVERY_CLUSTER.contains(&&*name.name);
    let found: BTreeSet<_> = written.into_iter().filter(is_of_cluster).map(|name| &*name.name).collect();
    found.len() == OF_EVERY_CLUSTER.len()
}
