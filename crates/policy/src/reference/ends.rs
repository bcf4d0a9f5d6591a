//! Resolves the ends of a flow: family, IP, pod.

use std::net::IpAddr;

use crate::flow::{Endpoint, Flow, FlowError};
use crate::input::{Family, NamespacedName, Pod};

use super::Reference;

/// One resolved end of a flow.
#[derive(Clone, Debug)]
pub struct End<'a> {
    /// The live pod at this end: none for everything else, several if pods with equal claims have the IP.
    pub pods: Vec<&'a Pod>,
    /// The IP in the family of the flow; a pod may have none yet, and a node's may be unknown.
    pub address: Option<IpAddr>,
    /// The node whose own traffic this is, if the flow names a node or a hostNetwork pod.
    pub node: Option<&'a str>,
    /// The known IPs of that node; its name may be missing.
    pub host_addresses: Vec<IpAddr>,
}

/// The resolved ends of a flow.
#[derive(Clone, Debug)]
pub struct Ends<'a> {
    /// The family of both IPs; `None` if neither end has one.
    pub family: Option<Family>,
    /// The client.
    pub from: End<'a>,
    /// The server.
    pub to: End<'a>,
}

impl<'a> End<'a> {
    /// The live pod at this end, if there is exactly one.
    pub fn the_pod(&self) -> Option<&'a Pod> {
        match self.pods.as_slice() {
            [pod] => Some(pod),
            _ => None,
        }
    }
}

/// The families that an end can have.
enum Families {
    /// Exactly these, in order of preference.
    Only(Vec<Family>),
    /// Any, because no IP is known; these first.
    Any(Vec<Family>),
}

impl Families {
    fn admits(&self, family: Family) -> bool {
        match self {
            Self::Only(families) => families.contains(&family),
            Self::Any(_) => true,
        }
    }

    /// All families that the end can have, in order of preference.
    fn in_order(&self) -> Vec<Family> {
        match self {
            Self::Only(families) => families.clone(),
            Self::Any(first) => first.iter().copied().chain(Family::ALL).collect(),
        }
    }

    /// Whether no IP is known.
    fn is_unknown(&self) -> bool {
        matches!(self, Self::Any(first) if first.is_empty())
    }
}

impl<'a> Reference<'a> {
    /// Resolves the ends of a flow.
    pub fn ends<'s>(&'s self, flow: &'s Flow) -> Result<Ends<'s>, FlowError>
    where
        'a: 's,
    {
        if let Endpoint::Node(name) = &flow.to {
            return Err(FlowError::NodeAsDestination(name.clone()));
        }
        let family = self.family(flow)?;
        Ok(Ends { family, from: self.end(&flow.from, family)?, to: self.end(&flow.to, family)? })
    }

    /// The requested family, or the first of the client's that the server has too. An end without a known IP accepts
    /// the other's.
    fn family(&self, flow: &Flow) -> Result<Option<Family>, FlowError> {
        let from = self.families(&flow.from)?;
        let to = self.families(&flow.to)?;
        if let Some(asked) = flow.family {
            for (end, families) in [(&flow.from, &from), (&flow.to, &to)] {
                if !families.admits(asked) {
                    return Err(FlowError::FamilyMissing { end: end.to_string(), family: asked });
                }
            }
            return Ok(Some(asked));
        }
        if from.is_unknown() && to.is_unknown() {
            return Ok(None);
        }
        // If the client has no preference, the server's order decides.
        let order = if from.is_unknown() { to.in_order() } else { from.in_order() };
        let shared = order.into_iter().find(|family| from.admits(*family) && to.admits(*family));
        let none = || FlowError::NoSharedFamily { from: flow.from.to_string(), to: flow.to.to_string() };
        shared.map(Some).ok_or_else(none)
    }

    fn families(&self, endpoint: &Endpoint) -> Result<Families, FlowError> {
        Ok(match endpoint {
            Endpoint::Address(address) => Families::Only(vec![Family::of(*address)]),
            Endpoint::Pod(key) => {
                let addresses = self.pod(key)?.addresses;
                let families: Vec<_> = addresses.iter().map(Family::of).collect();
                if families.is_empty() { Families::Any(families) } else { Families::Only(families) }
            }
            // Some IPs of a node may be unknown (an old kubelet reports one family), so no family is ruled out.
            Endpoint::Node(name) => {
                let known = |family: &Family| self.node_address(name, *family).is_some();
                Families::Any(Family::ALL.into_iter().filter(known).collect())
            }
        })
    }

    fn end<'s>(&'s self, endpoint: &'s Endpoint, family: Option<Family>) -> Result<End<'s>, FlowError> {
        Ok(match endpoint {
            Endpoint::Address(address) => {
                let pods = self.owners(*address);
                End { pods, address: Some(*address), node: None, host_addresses: Vec::new() }
            }
            Endpoint::Pod(key) => {
                let pod = self.pod(key)?;
                let address = family.and_then(|family| pod.addresses.of(family));
                let pods = match address {
                    // Section 4: the IP decides whose traffic it is, not the name: a finished pod's IP may belong to
                    // another pod by now, a terminating pod may have lost it, two pods may have it.
                    Some(address) => self.owners(address),
                    // 1.5: a pod without an IP is judged by its labels.
                    None if pod.is_live() => vec![pod],
                    None => Vec::new(),
                };
                // Section 4: traffic of a hostNetwork pod is node-originated.
                let host = pod.host_network.then_some(pod);
                End {
                    pods,
                    address,
                    node: host.and_then(|pod| pod.node.as_deref()),
                    host_addresses: host.map(|pod| pod.host_addresses.clone()).unwrap_or_default(),
                }
            }
            // Section 4, "node-originated": the IP is the node's, even if a pod's status has it too.
            Endpoint::Node(name) => {
                let address = family.and_then(|family| self.node_address(name, family));
                let host_addresses = self.node_addresses.get(&**name).into_iter().flatten().copied().collect();
                End { pods: Vec::new(), address, node: Some(name), host_addresses }
            }
        })
    }

    /// Section 4, "two live pods with one IP": a live pod wins over terminating ones; of equals, all.
    fn owners(&self, address: IpAddr) -> Vec<&'a Pod> {
        let claimants = self.claimants.get(&address).map(Vec::as_slice).unwrap_or_default();
        let staying: Vec<&'a Pod> = claimants.iter().copied().filter(|pod| !pod.terminating).collect();
        if staying.is_empty() { claimants.to_vec() } else { staying }
    }

    /// The smallest known IP of a node.
    fn node_address(&self, node: &str, family: Family) -> Option<IpAddr> {
        self.node_addresses.get(node)?.iter().copied().find(|address| Family::of(*address) == family)
    }

    fn pod(&self, key: &NamespacedName) -> Result<&'a Pod, FlowError> {
        self.state.pod(key).ok_or_else(|| FlowError::UnknownPod(key.clone()))
    }
}
