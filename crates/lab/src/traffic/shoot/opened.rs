//! Sockets that a shooter keeps open from one batch to the next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::error::Result;
use crate::namespace::Namespace;

/// Sockets opened in namespaces, once in each. A socket keeps its namespace alive, so sockets in unused namespaces are
/// closed.
#[derive(Debug)]
pub(super) struct Opened<T> {
    open: fn(&Namespace) -> Result<T>,
    by_namespace: BTreeMap<u64, Arc<T>>,
}

impl<T> Opened<T> {
    pub(super) fn new(open: fn(&Namespace) -> Result<T>) -> Self {
        Self { open, by_namespace: BTreeMap::new() }
    }

    /// The sockets in the namespace, opened at the first call.
    pub(super) fn of(&mut self, namespace: &Namespace) -> Result<Arc<T>> {
        if let Some(opened) = self.by_namespace.get(&namespace.id()) {
            return Ok(Arc::clone(opened));
        }
        let opened = Arc::new((self.open)(namespace)?);
        self.by_namespace.insert(namespace.id(), Arc::clone(&opened));
        Ok(opened)
    }

    pub(super) fn close_all_but(&mut self, in_use: &BTreeSet<u64>) {
        self.by_namespace.retain(|id, _| in_use.contains(id));
    }
}
