//! Enforcement on a node of the lab, in the order in which the agent does it, without the agent around it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use palisade_dataplane::conntrack;
use palisade_dataplane::table::{Ownership, Table};
use palisade_lab::{Layout, Node};
use palisade_policy::index::Index;
use palisade_policy::input::{Change, State};
use palisade_ruleset::change::{Transaction, diff};
use palisade_ruleset::render::{Options, Renderer};

/// What the agent of one node holds.
pub(crate) struct Enforcer {
    /// The node.
    pub(crate) node: Node,
    /// The objects, compiled.
    pub(crate) index: Index,
    /// The ruleset.
    pub(crate) renderer: Renderer,
    /// The kernel's table. Its socket was opened in the node's namespace and stays there.
    pub(crate) table: Table,
    /// Commit what belongs in several batches in one: a fault, to see tests fail.
    pub(crate) one_batch: bool,
    /// Forget the flows of addresses that leave their pods; not to do so is a fault, too.
    pub(crate) forgets: bool,
}

impl Enforcer {
    /// Enforces nothing yet, but the table is there with its base chains.
    pub(crate) fn start(node: &Node) -> Self {
        Self::start_with(node, &State::default(), &Options::default())
    }

    /// Enforces this state.
    pub(crate) fn start_with(node: &Node, state: &State, options: &Options) -> Self {
        let table = node.run(|| Table::open(Ownership::Plain)).unwrap().unwrap();
        let mut renderer = Renderer::new(Options { pod_ports: pod_ports(node), ..options.clone() });
        let mut index = Index::build(node.name(), state);
        index.take_dirty();
        renderer.update(index.compiled(), &index.compiled().everything());
        renderer.update_starting(index.compiled());
        let mut enforcer = Self { node: node.clone(), index, renderer, table, one_batch: false, forgets: true };
        enforcer.table.replace(enforcer.renderer.ruleset()).unwrap();
        enforcer
    }

    /// Turns to an unrelated state by difference, as an agent does that adopts the table of another.
    pub(crate) fn turn_to(&mut self, state: &State, options: &Options) {
        let mut index = Index::build(self.node.name(), state);
        index.take_dirty();
        let mut renderer = Renderer::new(Options { pod_ports: pod_ports(&self.node), ..options.clone() });
        renderer.update(index.compiled(), &index.compiled().everything());
        renderer.update_starting(index.compiled());
        match diff(self.renderer.ruleset(), renderer.ruleset()) {
            Ok(patch) => self.table.commit_transaction(&patch.plan(renderer.ruleset())).unwrap(),
            Err(_) => self.table.replace(renderer.ruleset()).unwrap(),
        };
        self.index = index;
        self.renderer = renderer;
    }

    /// Applies events as one change and commits it. Returns what was committed.
    pub(crate) fn apply(&mut self, changes: impl IntoIterator<Item = Change>) -> Transaction {
        self.index.apply_all(changes);
        // Before its new owner is let in anywhere, nothing may be left of the flows of an address's old one.
        let (before, after): (BTreeSet<_>, BTreeSet<_>) =
            self.index.due_now().into_iter().partition(|address| self.index.is_owned(*address));
        self.forget(&before);
        let dirty = self.index.take_dirty();
        let patch = self.renderer.update(self.index.compiled(), &dirty);
        let transaction = patch.plan(self.renderer.ruleset());
        if self.one_batch {
            let everything: Vec<_> = transaction.batches().flat_map(|batch| &batch.operations).cloned().collect();
            self.table.commit(&everything).unwrap();
        } else {
            self.table.commit_transaction(&transaction).unwrap();
        }
        self.forget(&after);
        transaction
    }

    fn forget(&mut self, addresses: &BTreeSet<IpAddr>) {
        if self.forgets && !addresses.is_empty() {
            self.node.run(|| conntrack::forget(addresses)).unwrap().unwrap();
        }
        self.index.forgotten(addresses);
    }
}

/// The interfaces that lead to the node's pods.
fn pod_ports(node: &Node) -> BTreeSet<String> {
    match node.layout() {
        Layout::Bridge => BTreeSet::from(["cni0".to_owned()]),
        Layout::Routed => node.pods().iter().map(|pod| pod.host_interface().to_owned()).collect(),
    }
}
