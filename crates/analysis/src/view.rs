//! The objects as the checks see them, with the policies' pods.
//!
//! Each selector is compared once with the pods that have a label it demands; `work` counts the comparisons.

use std::borrow::Cow;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use palisade_policy::compile::{Namespaces, PeerSelector};
use palisade_policy::input::{
    ContainerPort, Direction, Kind, LabelSelector, METADATA_NAME, Namespace, NamespaceScope, ObjectName, Operator,
    Peer, Pod, Policy, Protocol, Rule, State, without_unknown,
};

use crate::input::Input;
use crate::labelled::Labelled;

/// Above this number of namespaces, pods are looked up in all namespaces at once.
const FEW_NAMESPACES: usize = 8;

/// The objects, with what is known about them beyond the state.
pub(crate) struct View<'a> {
    /// The objects, those with mistakes included.
    pub(crate) state: &'a State,
    /// The policies without mistakes. A policy with mistakes is not in force, so its effect does not matter.
    pub(crate) policies: Vec<&'a Policy>,
    input: &'a Input<'a>,
    knows_namespaces: bool,
    pods: Labelled<'a, Pod>,
    by_namespace: BTreeMap<&'a str, Labelled<'a, Pod>>,
    namespaces: Labelled<'a, Namespace>,
    selections: RefCell<BTreeMap<PeerSelector, Rc<Selected<'a>>>>,
    matching: RefCell<BTreeMap<LabelSelector, Rc<Vec<&'a Namespace>>>>,
    work: Cell<u64>,
}

/// The pods that a selector matches, grouped by how policies treat them.
#[derive(Debug, Default)]
pub(crate) struct Selected<'a> {
    /// Those that it selects.
    pub(crate) live: Vec<&'a Pod>,
    /// Pods that it would match if they were not on the host's network.
    pub(crate) on_host: Vec<&'a Pod>,
    /// Whether it matches any finished pods.
    pub(crate) finished: bool,
    ports: OnceCell<PortsOf<'a>>,
}

/// The ports of some pods.
#[derive(Clone, Debug, Default)]
pub(crate) struct PortsOf<'a> {
    /// Those that containers declare, with or without a name.
    pub(crate) declared: BTreeSet<(Protocol, u16)>,
    /// Those with a name.
    pub(crate) named: BTreeSet<&'a ContainerPort>,
    /// Whether there are any pods.
    pub(crate) any: bool,
    /// Whether one of the pods declares no port, so that it may serve any.
    pub(crate) any_silent: bool,
}

impl<'a> PortsOf<'a> {
    /// Adds those of other pods.
    pub(crate) fn add(&mut self, other: &Self) {
        self.declared.extend(&other.declared);
        self.named.extend(&other.named);
        self.any |= other.any;
        self.any_silent |= other.any_silent;
    }

    /// Adds those of a pod.
    pub(crate) fn take(&mut self, view: &View<'a>, pod: &'a Pod) {
        let declared = view.ports(pod);
        self.declared.extend(declared);
        self.named.extend(&pod.ports);
        self.any = true;
        self.any_silent |= declared.is_empty();
    }
}

impl<'a> Selected<'a> {
    /// Not even a pod that policies ignore.
    pub(crate) fn is_empty(&self) -> bool {
        self.live.is_empty() && self.on_host.is_empty() && !self.finished
    }

    /// The ports of the selected pods.
    pub(crate) fn ports(&self, view: &View<'a>) -> &PortsOf<'a> {
        self.ports.get_or_init(|| {
            let mut ports = PortsOf::default();
            view.count(self.live.len());
            self.live.iter().for_each(|pod| ports.take(view, pod));
            ports
        })
    }
}

impl<'a> FromIterator<&'a Pod> for Selected<'a> {
    fn from_iter<I: IntoIterator<Item = &'a Pod>>(pods: I) -> Self {
        let mut selected = Self::default();
        for pod in pods {
            if pod.is_live() {
                selected.live.push(pod);
            } else if pod.phase.is_terminal() {
                selected.finished = true;
            } else {
                selected.on_host.push(pod);
            }
        }
        selected
    }
}

impl<'a> View<'a> {
    pub(crate) fn new(input: &'a Input<'a>) -> Self {
        let state = input.state;
        let mut view = Self {
            state,
            policies: Vec::new(),
            input,
            knows_namespaces: input.written.keys().any(|name| name.kind == Kind::Namespace),
            pods: Labelled::default(),
            by_namespace: BTreeMap::new(),
            namespaces: Labelled::default(),
            selections: RefCell::default(),
            matching: RefCell::default(),
            work: Cell::new(0),
        };
        for pod in state.every_pod() {
            view.pods.add(pod);
            view.by_namespace.entry(&pod.key.namespace).or_default().add(pod);
        }
        state.namespaces.values().for_each(|namespace| view.namespaces.add(namespace));
        let sound = state.policies.values().filter(|policy| view.is_sound(&ObjectName::policy(&policy.key)));
        view.policies = sound.collect();
        view
    }

    /// Counts comparisons, or other work that takes as long.
    pub(crate) fn count(&self, comparisons: usize) {
        self.work.set(self.work.get().saturating_add(u64::try_from(comparisons).unwrap_or(u64::MAX)));
    }

    /// The comparisons so far.
    pub(crate) fn work(&self) -> u64 {
        self.work.get()
    }

    /// Whether there are any pods; without them, a selector without a match proves nothing.
    pub(crate) fn knows_pods(&self) -> bool {
        !self.state.pods.is_empty()
    }

    /// Whether the objects are all objects of a cluster.
    pub(crate) fn is_whole(&self) -> bool {
        self.input.whole
    }

    /// Whether all pods of a namespace are in the input. In a part of a cluster, a namespace with workloads has all of
    /// its pods, unless another object in it may create the pods that a selector means.
    pub(crate) fn has_all_pods_of(&self, namespace: &str) -> bool {
        self.is_whole() || (self.by_namespace.contains_key(namespace) && !self.input.custom.contains(namespace))
    }

    /// Whether every pod that a peer can mean is in the input.
    pub(crate) fn has_all_pods_of_peer(&self, policy: &Policy, peer: &Peer) -> bool {
        match peer {
            Peer::Pods { namespaces: NamespaceScope::Own, .. } => self.has_all_pods_of(&policy.key.namespace),
            Peer::Pods { namespaces: NamespaceScope::Matching(selector), .. } => {
                let names = selector.requirements.iter().find_map(|requirement| match &requirement.operator {
                    Operator::In(values) if requirement.key == METADATA_NAME => Some(values),
                    _ => None,
                });
                self.is_whole() || names.is_some_and(|names| names.iter().all(|name| self.has_all_pods_of(name)))
            }
            Peer::IpBlock(_) => self.is_whole(),
            Peer::Unmatchable => true,
        }
    }

    /// Whether the object has no mistakes.
    pub(crate) fn is_sound(&self, name: &ObjectName) -> bool {
        self.input.written.get(name).is_some_and(|written| written.sound)
    }

    /// Whether the object is written, rather than only mentioned.
    pub(crate) fn is_written(&self, name: &ObjectName) -> bool {
        self.input.written.contains_key(name)
    }

    /// The ports that a pod declares, with or without a name.
    pub(crate) fn ports(&self, pod: &Pod) -> &'a [(Protocol, u16)] {
        self.input.written.get(&ObjectName::pod(&pod.key)).map(|written| written.ports).unwrap_or_default()
    }

    /// The pods that a policy's `podSelector` matches.
    pub(crate) fn selected(&self, policy: &Policy) -> Rc<Selected<'a>> {
        self.selection(PeerSelector::of(&NamespaceScope::Own, &policy.pod_selector, &policy.key.namespace))
    }

    /// The pods that a peer matches; `None` if it has no selectors.
    pub(crate) fn peer(&self, policy: &Policy, peer: &Peer) -> Option<Rc<Selected<'a>>> {
        peer_selector(policy, peer).map(|selector| self.selection(selector))
    }

    /// All pods.
    pub(crate) fn everything(&self) -> Rc<Selected<'a>> {
        let namespaces = Namespaces::Matching(LabelSelector::everything());
        self.selection(PeerSelector { namespaces, pods: LabelSelector::everything() })
    }

    /// The pods that a selector matches.
    fn selection(&self, selector: PeerSelector) -> Rc<Selected<'a>> {
        if let Some(known) = self.selections.borrow().get(&selector) {
            return Rc::clone(known);
        }
        let candidates = match &selector.namespaces {
            Namespaces::Named(name) => self.pods_of(name).map_or_else(Vec::new, |pods| pods.candidates(&selector.pods)),
            Namespaces::Matching(namespaces) => {
                let namespaces = self.matching(namespaces);
                if namespaces.len() <= FEW_NAMESPACES {
                    let there = namespaces.iter().filter_map(|namespace| self.pods_of(&namespace.name));
                    there.flat_map(|pods| pods.candidates(&selector.pods)).collect()
                } else {
                    self.pods.candidates(&selector.pods)
                }
            }
        };
        self.count(1 + candidates.len());
        let is_meant = |pod: &&Pod| {
            let namespace = self.state.namespaces.get(&pod.key.namespace);
            match without_unknown(&selector.pods, &pod.labels) {
                Cow::Borrowed(_) => selector.selects(pod, namespace),
                Cow::Owned(pods) => {
                    PeerSelector { namespaces: selector.namespaces.clone(), pods }.selects(pod, namespace)
                }
            }
        };
        let selected: Rc<Selected<'a>> = Rc::new(candidates.into_iter().filter(is_meant).collect());
        self.selections.borrow_mut().insert(selector, Rc::clone(&selected));
        selected
    }

    /// The pods of a namespace, by label.
    pub(crate) fn pods_of(&self, namespace: &str) -> Option<&Labelled<'a, Pod>> {
        self.by_namespace.get(namespace)
    }

    /// The namespaces with pods.
    pub(crate) fn namespaces_with_pods(&self) -> impl Iterator<Item = &'a str> {
        self.by_namespace.keys().copied()
    }

    /// The namespaces, by label.
    pub(crate) fn labelled_namespaces(&self) -> &Labelled<'a, Namespace> {
        &self.namespaces
    }

    /// The namespaces that a selector selects.
    pub(crate) fn matching(&self, selector: &LabelSelector) -> Rc<Vec<&'a Namespace>> {
        if let Some(known) = self.matching.borrow().get(selector) {
            return Rc::clone(known);
        }
        let candidates = self.namespaces.candidates(selector);
        self.count(1 + candidates.len());
        let found = candidates.into_iter().filter(|namespace| selector.selects(&namespace.labels));
        let found: Rc<Vec<_>> = Rc::new(found.collect());
        self.matching.borrow_mut().insert(selector.clone(), Rc::clone(&found));
        found
    }

    /// Whether it is known which namespaces a selector selects. If no Namespace is written, only the names are known.
    pub(crate) fn can_judge(&self, selector: &LabelSelector) -> bool {
        self.knows_namespaces || selector.requirements.iter().all(|requirement| requirement.key == METADATA_NAME)
    }
}

/// A peer with selectors, whatever policy it is from.
pub(crate) fn peer_selector(policy: &Policy, peer: &Peer) -> Option<PeerSelector> {
    let Peer::Pods { namespaces, pods } = peer else { return None };
    Some(PeerSelector::of(namespaces, pods, &policy.key.namespace))
}

/// The rules of a policy that have an effect, with their fields.
pub(crate) fn rules(policy: &Policy) -> impl Iterator<Item = (Direction, String, &Rule)> {
    let directions = Direction::ALL.into_iter().filter(|direction| policy.isolates.in_direction(*direction));
    directions.flat_map(|direction| {
        let rules = policy.rules(direction).iter().enumerate();
        rules.map(move |(index, rule)| (direction, format!("spec.{direction}[{index}]"), rule))
    })
}

/// The listed peers of a rule, with their fields.
pub(crate) fn peers<'r>(direction: Direction, field: &str, rule: &'r Rule) -> impl Iterator<Item = (String, &'r Peer)> {
    let key = match direction {
        Direction::Ingress => "from",
        Direction::Egress => "to",
    };
    rule.peers.list().iter().enumerate().map(move |(index, peer)| (format!("{field}.{key}[{index}]"), peer))
}
