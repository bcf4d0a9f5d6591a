//! Keeps a ruleset equal to the compiled policy, change by change.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use palisade_policy::compile::{Group, PeerSelector};
use palisade_policy::index::{Dirty, NodePolicy};
use palisade_policy::input::{Direction, Family};
use palisade_policy::{Pulse, Users};

use super::Options;
use super::elements::{Touched, touch_subjects};
use super::layout::{link_scope_chains, skeleton};
use super::names::{Names, SetKey};
use super::objects::{Brought, brought_by};
use super::parts::{gates, interface_elements, pod_interfaces};
use super::starting::{starting, starting_chain};
use crate::change::{Patch, SetChange, Transaction, element_changes};
use crate::model::{Ruleset, SetKind};
use crate::name::Name;

/// The ruleset of a node, and the state for rendering it incrementally.
#[derive(Clone, Debug)]
pub struct Renderer {
    pub(super) options: Options,
    pub(super) ruleset: Ruleset,
    /// Nothing was rendered yet, not even the skeleton.
    fresh: bool,
    /// The families of local pods; no packet would meet the chains and sets of another.
    pub(super) families: Vec<Family>,
    pub(super) names: Names,
    /// The names of each group's objects.
    pub(super) groups: BTreeMap<Group, Brought>,
    /// Groups whose objects the kernel rejected.
    pub(super) quarantined: BTreeSet<Group>,
    /// The groups that use each shared set, and each chain or map that is named by its content.
    pub(super) set_users: Users<SetKey>,
    pub(super) content_users: Users<Name>,
    /// The sets that contain a selector's members.
    pub(super) sets_of: BTreeMap<Arc<PeerSelector>, BTreeSet<SetKey>>,
    /// The number of sets that are verdict maps.
    maps: usize,
    pub(super) pulse: Pulse,
}

/// The sizes of a ruleset, for gauges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ObjectCounts {
    /// Chains.
    pub chains: usize,
    /// Sets that are not verdict maps.
    pub sets: usize,
    /// Verdict maps.
    pub maps: usize,
    /// Groups whose objects the kernel rejected.
    pub quarantined: usize,
}

impl Renderer {
    /// A renderer that has rendered nothing: the first patch creates everything.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            ruleset: Ruleset::default(),
            fresh: true,
            families: Vec::new(),
            names: Names::default(),
            groups: BTreeMap::new(),
            quarantined: BTreeSet::new(),
            set_users: Users::default(),
            content_users: Users::default(),
            sets_of: BTreeMap::new(),
            maps: 0,
            pulse: Pulse::default(),
        }
    }

    /// Like [`Renderer::new`], and increments a counter while it works.
    #[must_use]
    pub fn with_pulse(self, pulse: Pulse) -> Self {
        Self { pulse, ..self }
    }

    /// The ruleset as last rendered.
    pub fn ruleset(&self) -> &Ruleset {
        &self.ruleset
    }

    /// The ruleset as last rendered.
    pub fn into_ruleset(self) -> Ruleset {
        self.ruleset
    }

    /// The sizes, kept up to date without counting.
    pub fn counts(&self) -> ObjectCounts {
        ObjectCounts {
            chains: self.ruleset.chains.len(),
            sets: self.ruleset.sets.len().saturating_sub(self.maps),
            maps: self.maps,
            quarantined: self.quarantined.len(),
        }
    }

    /// The ranges from which the node assigns pod IPs.
    pub fn pod_ranges(&self) -> &BTreeSet<IpNet> {
        &self.options.pod_ranges
    }

    /// Quarantines the groups that use an object which the kernel rejected: their policies allow nothing, their pods
    /// stay isolated, and other groups are not affected. A quarantine ends when the group's policies change, or with
    /// [`Renderer::end_quarantine`]. Returns the groups.
    pub fn quarantine(&mut self, policy: &NodePolicy, object: &Name) -> Vec<Group> {
        let Some(identity) = self.names.identity(object) else { return Vec::new() };
        let brought = self.groups.iter().filter(|(group, brought)| {
            !self.quarantined.contains(*group) && brought_by(group, brought, identity, object)
        });
        let groups: Vec<Group> = brought.map(|(group, _)| group.clone()).collect();
        self.quarantined.extend(groups.iter().cloned());
        let mut patch = Patch::default();
        self.update_groups(policy, &groups.iter().cloned().collect(), &mut patch);
        self.take_over(&patch);
        groups
    }

    /// The groups in quarantine.
    pub fn quarantined(&self) -> impl Iterator<Item = &Group> {
        self.quarantined.iter()
    }

    /// Restores the rules of a quarantined group, to try whether the kernel accepts them now. Returns the difference,
    /// which is empty if the group is not quarantined.
    pub fn end_quarantine(&mut self, policy: &NodePolicy, group: &Group) -> Patch {
        let mut patch = Patch::default();
        if self.quarantined.remove(group) {
            self.update_groups(policy, &BTreeSet::from([group.clone()]), &mut patch);
            self.take_over(&patch);
        }
        patch
    }

    /// Applies changes of the policy. Returns the transactions, in the order in which they must be committed.
    pub fn follow(&mut self, policy: &NodePolicy, dirty: &Dirty) -> Vec<Transaction> {
        let patch = self.update_policy(policy, dirty);
        let mut transactions = self.plan(patch, dirty.order.events());
        let patch = self.update_starting(policy);
        transactions.extend(self.plan(patch, None));
        transactions
    }

    /// Applies changes of the policy, without a plan. Returns the differences, in the order in which they must be
    /// committed; none is empty.
    pub fn update(&mut self, policy: &NodePolicy, dirty: &Dirty) -> Vec<Patch> {
        let patches = [self.update_policy(policy, dirty), self.update_starting(policy)];
        patches.into_iter().filter(|patch| !patch.is_empty()).collect()
    }

    /// The transactions that bring the last patch to the kernel. `events` has the IPs of each event, in order, if
    /// nothing else changed.
    pub fn plan(&self, patch: Patch, events: Option<&[BTreeSet<IpAddr>]>) -> Vec<Transaction> {
        let parts = patch.around(&gates(&self.options));
        let plans = parts.iter().flat_map(|part| part.plan_in_order(events, &self.ruleset, &self.pulse));
        plans.filter(|transaction| transaction.batches().next().is_some()).collect()
    }

    /// Applies changes of the policy, except those of starting pods.
    fn update_policy(&mut self, policy: &NodePolicy, dirty: &Dirty) -> Patch {
        self.quarantined.retain(|group| !dirty.groups.contains(group));
        let families = families(policy);
        if families != self.families && !self.groups.is_empty() {
            return self.render_all(policy, families);
        }
        self.families = families;
        self.update_in_quarantine(policy, dirty)
    }

    fn update_in_quarantine(&mut self, policy: &NodePolicy, dirty: &Dirty) -> Patch {
        let mut patch = Patch::default();
        self.add_skeleton(&mut patch);
        let created = self.update_groups(policy, &dirty.groups, &mut patch);
        let mut touched = Touched::new();
        self.update_peers(policy, dirty, &created, &mut touched);
        self.update_named_ports(policy, dirty, &created, &mut touched);
        self.pulse.beat();
        touch_subjects(&mut self.names, policy, dirty, &mut touched);
        self.put_elements(touched, &mut patch);
        self.update_link_scope(policy, &mut patch);
        self.take_over(&patch);
        patch
    }

    /// Applies whether isolated pods are starting. This is committed after [`Renderer::update_policy`], which isolates
    /// a pod that has just got its IP: until then the pod is blocked as an unknown IP.
    fn update_starting(&mut self, policy: &NodePolicy) -> Patch {
        let mut patch = Patch::default();
        for direction in Direction::ALL {
            let held = policy.starting.values().any(|isolates| isolates.in_direction(direction));
            let (name, chain) = (starting_chain(direction), starting(&self.options, direction, held));
            // The chain exists only if the node's pod ranges are known.
            if self.ruleset.chains.contains_key(&name) {
                patch.put_chain(&self.ruleset, &name, chain);
            }
        }
        self.take_over(&patch);
        patch
    }

    /// Applies a patch to the ruleset.
    fn take_over(&mut self, patch: &Patch) {
        for (name, change) in &patch.sets {
            match change {
                SetChange::Create(set) if set.kind == SetKind::VerdictMap => self.maps += 1,
                SetChange::Delete if self.ruleset.sets.get(name).is_some_and(|set| set.kind == SetKind::VerdictMap) => {
                    self.maps = self.maps.saturating_sub(1);
                }
                _ => {}
            }
        }
        patch.apply(&mut self.ruleset);
        self.pulse.beat();
    }

    /// Sets [`Options::pod_ranges`] when they become known.
    pub fn set_pod_ranges(&mut self, policy: &NodePolicy, ranges: BTreeSet<IpNet>) {
        self.options.pod_ranges = ranges;
        if !self.fresh {
            self.render_all(policy, families(policy));
        }
    }

    /// Sets the interfaces that lead to pods.
    pub fn update_pod_interfaces(&mut self, interfaces: &BTreeSet<String>) -> Patch {
        let mut patch = Patch::default();
        self.options.pod_interfaces.clone_from(interfaces);
        if let Some(set) = self.ruleset.sets.get(&pod_interfaces()) {
            patch.put_set(&pod_interfaces(), element_changes(&set.elements, &interface_elements(interfaces)));
        }
        self.take_over(&patch);
        patch
    }

    /// Renders every group again, because a family was added or removed. Names and quarantines are kept, so unchanged
    /// objects stay the same.
    fn render_all(&mut self, policy: &NodePolicy, families: Vec<Family>) -> Patch {
        let (names, pulse) = (self.names.clone(), self.pulse.clone());
        let quarantined = self.quarantined.iter().filter(|group| policy.groups.contains_key(*group)).cloned().collect();
        let mut rendered = Self { families, names, quarantined, pulse, ..Self::new(self.options.clone()) };
        rendered.update_in_quarantine(policy, &policy.everything());
        rendered.update_starting(policy);
        let ruleset = &rendered.ruleset;
        rendered.names.retain(|name| ruleset.sets.contains_key(name) || ruleset.chains.contains_key(name));
        // A name identifies one object, and an object's structure follows from its identity: nothing can be
        // incompatible.
        let patch = crate::change::diff(&self.ruleset, &rendered.ruleset).unwrap_or_default();
        *self = rendered;
        patch
    }

    fn add_skeleton(&mut self, patch: &mut Patch) {
        if !self.fresh {
            return;
        }
        self.fresh = false;
        let skeleton = skeleton(&self.options);
        patch.counters.extend(skeleton.counters);
        for (name, set) in skeleton.sets {
            // Created empty in the patch and filled by what follows.
            self.ruleset.sets.insert(name.clone(), set.clone());
            patch.put_set(&name, SetChange::Create(set));
        }
        for (name, chain) in skeleton.chains {
            patch.put_chain(&self.ruleset, &name, chain);
        }
    }

    fn update_link_scope(&self, policy: &NodePolicy, patch: &mut Patch) {
        let any_starting = !self.options.pod_ranges.is_empty() && !policy.starting.is_empty();
        for (name, chain) in link_scope_chains(!policy.subjects.is_empty() || any_starting) {
            patch.put_chain(&self.ruleset, &name, chain);
        }
    }
}

fn families(policy: &NodePolicy) -> Vec<Family> {
    let first6 = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let any4 = policy.local.range(IpAddr::V4(Ipv4Addr::UNSPECIFIED)..first6).next().is_some();
    let any6 = policy.local.range(first6..).next().is_some();
    [(any4, Family::V4), (any6, Family::V6)].into_iter().filter(|(any, _)| *any).map(|(_, family)| family).collect()
}
