//! The owners of IPs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::compile::Owner;
use crate::input::{NamespacedName, Pod, State};

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

/// The pods that claim each IP.
#[derive(Clone, Debug, Default)]
pub(super) struct Claims {
    by_address: BTreeMap<IpAddr, BTreeSet<NamespacedName>>,
    /// The IPs of this node itself, which no pod can have.
    pub(super) refused: BTreeSet<IpAddr>,
}

impl Claims {
    pub(super) fn add(&mut self, pod: &Pod) {
        for address in pod.claims() {
            self.by_address.entry(address).or_default().insert(pod.key.clone());
        }
    }

    pub(super) fn remove(&mut self, pod: &Pod) {
        for address in pod.claims() {
            if let Some(claimants) = self.by_address.get_mut(&address) {
                claimants.remove(&pod.key);
                if claimants.is_empty() {
                    self.by_address.remove(&address);
                }
            }
        }
    }

    /// The owner of `address`. A pod that is not terminating has a better claim than one that is; among equals, no pod
    /// owns the IP.
    pub(super) fn owner(&self, address: IpAddr, state: &State) -> Option<Owner> {
        if self.refused.contains(&address) {
            return None;
        }
        let claimants = self.by_address.get(&address)?;
        let is_staying = |key: &&NamespacedName| state.pods.get(*key).is_some_and(|pod| !pod.terminating);
        let staying: Vec<_> = claimants.iter().filter(is_staying).cloned().collect();
        let mut best = if staying.is_empty() { claimants.iter().cloned().collect() } else { staying };
        match best.len() {
            0 => None,
            1 => best.pop().map(Owner::Pod),
            _ => Some(Owner::Twice(best)),
        }
    }
}
