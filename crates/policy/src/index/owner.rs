//! The owners of IPs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::input::{NamespacedName, Pod};

/// The pods with the best claim to an IP.
#[derive(Clone, Debug)]
pub(super) enum Owner {
    /// One pod.
    Pod(Arc<Pod>),
    /// Several live pods have it, none with a better claim; in the order of their names.
    Twice(Vec<Arc<Pod>>),
}

impl Owner {
    pub(super) fn pods(&self) -> &[Arc<Pod>] {
        match self {
            Self::Pod(pod) => std::slice::from_ref(pod),
            Self::Twice(pods) => pods,
        }
    }

    fn names(&self) -> impl Iterator<Item = &NamespacedName> {
        self.pods().iter().map(|pod| &pod.key)
    }

    /// Whether these are the pods of the same names.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.names().eq(other.names())
    }

    pub(super) fn is_on(&self, node: &Arc<str>) -> bool {
        self.pods().iter().any(|pod| pod.node.as_ref() == Some(node))
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, name) in self.names().enumerate() {
            write!(f, "{}{name}", if position > 0 { " and " } else { "" })?;
        }
        Ok(())
    }
}

/// The owner of an IP, and its name.
#[derive(Clone, Debug)]
pub(super) struct Owned {
    pub(super) owner: Owner,
    /// As `default/web-0`; one copy for all uses.
    pub(super) name: Arc<str>,
}

impl Owned {
    pub(super) fn new(owner: Owner) -> Self {
        Self { name: owner.to_string().into(), owner }
    }
}

/// The pods that claim each IP, in the order of their names.
#[derive(Clone, Debug, Default)]
pub(super) struct Claims {
    by_address: BTreeMap<IpAddr, Vec<Arc<Pod>>>,
    /// The IPs of this node itself, which no pod can have.
    pub(super) refused: BTreeSet<IpAddr>,
}

impl Claims {
    /// Adds a pod, or replaces the one of the same name.
    pub(super) fn add(&mut self, pod: &Arc<Pod>) {
        for address in pod.claims() {
            let claimants = self.by_address.entry(address).or_default();
            match claimants.binary_search_by(|other| other.key.cmp(&pod.key)) {
                Ok(place) => claimants.get_mut(place).into_iter().for_each(|other| *other = pod.clone()),
                // Most IPs have one pod, and need no room for more.
                Err(_) if claimants.is_empty() => *claimants = vec![pod.clone()],
                Err(place) => claimants.insert(place, pod.clone()),
            }
        }
    }

    pub(super) fn remove(&mut self, pod: &Pod) {
        for address in pod.claims() {
            if let Some(claimants) = self.by_address.get_mut(&address) {
                claimants.retain(|other| other.key != pod.key);
                if claimants.is_empty() {
                    self.by_address.remove(&address);
                }
            }
        }
    }

    /// The owner of `address`. A pod that is not terminating has a better claim than one that is; among equals, no pod
    /// owns the IP.
    pub(super) fn owner(&self, address: IpAddr) -> Option<Owner> {
        if self.refused.contains(&address) {
            return None;
        }
        let claimants = self.by_address.get(&address)?;
        if let [pod] = claimants.as_slice() {
            return Some(Owner::Pod(pod.clone()));
        }
        let staying: Vec<_> = claimants.iter().filter(|pod| !pod.terminating).cloned().collect();
        let mut best = if staying.is_empty() { claimants.clone() } else { staying };
        match best.len() {
            0 => None,
            1 => best.pop().map(Owner::Pod),
            _ => Some(Owner::Twice(best)),
        }
    }
}
