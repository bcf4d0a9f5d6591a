//! A change touches only what changed: operations counted on a full node (250 local pods, 5,000 cluster pods, 500
//! policies), where one needless pass over a set or a chain would cost hundreds.
//!
//! The numbers are calculated by hand from `palisade_testkit::cluster`: pod *p* is in namespace *p* mod 50 and has app
//! (*p*/50) mod 10 and tier app mod 3; policy *n* selects app (*n*/50) mod 10 of namespace *n* mod 50, isolates for
//! egress if 3 divides *n*, and names pods of the next app, of team *n* mod 7 and tier *n* mod 3, and for egress all
//! pods of its namespace by their port `http`. So each policy below 250 has one local pod and its own group. Everything
//! exists once for each family.
//!
//! Seen to fail when: the renderer writes a set's elements whole; the index compiles, and the renderer writes, all
//! groups of a policy's namespace. (Index and renderer each skip what has not changed: a fault in one alone has no
//! effect.)

use std::time::{Duration, Instant};

use crate::common::objects::key;
use palisade_policy::index::Index;
use palisade_policy::input::{Change, Namespace, Pod};
use palisade_ruleset::change::{Operation, Transaction};
use palisade_ruleset::render::{Options, Renderer};
use palisade_ruleset::text;
use palisade_testkit::cluster::{FULL_NODE, cluster, pod};

struct Node {
    index: Index,
    renderer: Renderer,
}

impl Node {
    fn full() -> Self {
        let mut index = Index::build("node-0", &cluster(FULL_NODE));
        index.take_dirty();
        let mut renderer = Renderer::new(Options::default());
        renderer.follow(index.compiled(), &index.compiled().everything());
        Self { index, renderer }
    }

    /// At most two: an isolated pod that leaves opens nothing before it has left its peers.
    fn apply(&mut self, change: Change) -> Vec<Transaction> {
        self.index.apply(change);
        let due = self.index.due();
        self.index.forgotten(&due);
        let dirty = self.index.take_dirty();
        let transactions = self.renderer.follow(self.index.compiled(), &dirty);
        assert!(transactions.len() <= 2, "{}", printed(&transactions));
        transactions
    }
}

fn operations(transactions: &[Transaction]) -> usize {
    transactions.iter().map(Transaction::operations).sum()
}

/// One line for each operation.
fn printed(transactions: &[Transaction]) -> String {
    transactions.iter().map(text::transaction).collect::<Vec<_>>().join("# another transaction\n")
}

#[track_caller]
fn assert_operations(transactions: &[Transaction], expected: usize) {
    let found = operations(transactions);
    assert!(found == expected, "{found} operations instead of {expected}\n{}", printed(transactions));
}

#[track_caller]
fn assert_elements(transactions: &[Transaction], expected: usize) {
    assert_operations(transactions, expected);
    assert!(only_elements(transactions), "not only elements change\n{}", printed(transactions));
}

fn only_elements(transactions: &[Transaction]) -> bool {
    let is_element =
        |operation: &Operation| matches!(operation, Operation::AddElements(..) | Operation::DeleteElements(..));
    transactions.iter().flat_map(Transaction::batches).flat_map(|batch| &batch.operations).all(is_element)
}

fn with_app(mut pod: Pod, app: u32) -> Pod {
    pod.labels = [("app".to_owned(), format!("app-{app}")), ("tier".to_owned(), format!("tier-{}", app % 3))].into();
    pod
}

#[test]
fn a_remote_pod_is_a_few_elements() {
    let mut node = Node::full();
    // Namespace 11, app 4, tier 1, team 4. Sets with it: app 4 of its namespace (policy 161), its whole namespace (111),
    // team 4 and tier 1 (4 and every 21st after), port http.
    let subject = pod(FULL_NODE, 4711);
    let gone = node.apply(Change::PodGone(subject.key.clone()));
    assert_elements(&gone, 2 * 4);
    let back = node.apply(Change::Pod(subject.clone()));
    assert_elements(&back, 2 * 4);
    // To app 5 and tier 2: out of two sets, into app 5 of its namespace (policy 211) and team 4 and tier 2 (11, 32...).
    let moved = node.apply(Change::Pod(with_app(subject.clone(), 5)));
    assert_elements(&moved, 2 * 4);
    // A label without a selector changes nothing.
    let mut labelled = with_app(subject, 5);
    labelled.labels.insert("version".into(), "2".into());
    assert_operations(&node.apply(Change::Pod(labelled)), 0);
}

#[test]
fn a_local_pod_of_a_known_group_is_a_few_elements() {
    let mut node = Node::full();
    // Another pod like number 17: namespace 17, app 0, tier 0, team 3. In the sets of isolated pods, of all pods and of
    // pods with themselves, and in the ingress map; in the sets of its whole namespace (policy 117), of team 3 and tier
    // 0 (policy 3), and of port http. Policy 17 does not isolate for egress, and only policy 467, which has no local
    // pod, names app 0 of namespace 17.
    let mut twin = pod(FULL_NODE, 17);
    twin.key = key("namespace-17/twin");
    twin.addresses.v4 = Some([10, 99, 0, 1].into());
    twin.addresses.v6 = Some([0xfd99, 0, 0, 0, 0, 0, 0, 1].into());
    let come = node.apply(Change::Pod(twin.clone()));
    assert_elements(&come, 2 * 7);
    let gone = node.apply(Change::PodGone(twin.key));
    assert_elements(&gone, 2 * 7);
}

#[test]
fn the_last_pod_of_a_group_takes_its_chain_along() {
    let mut node = Node::full();
    let subject = pod(FULL_NODE, 17);
    // The fourteen elements; the chain flushed and deleted; the set of app 1 of its namespace, which nothing else uses.
    let gone = node.apply(Change::PodGone(subject.key.clone()));
    assert_operations(&gone, 14 + 2 + 2);
    // The fourteen elements; the chain with its rules (app 1; for each of two ports team and tier, and of both halves of the
    // IPv4 block; the pod itself by family; drop); the set with the ten pods of app 1.
    let back = node.apply(Change::Pod(subject));
    assert_operations(&back, 14 + (1 + 2 + 2 * (2 + 2) + 2 + 1) + 2 * (1 + 10));
}

#[test]
fn a_policy_is_its_own_chain() {
    let mut node = Node::full();
    let mut edited = node.index.state().policies.get(&key("namespace-17/policy-17")).unwrap().clone();
    let before = edited.clone();
    // Its second rule without its second port.
    if let Some(palisade_policy::input::Ports::Of(ports)) = edited.ingress.get_mut(1).map(|rule| &mut rule.ports) {
        ports.truncate(1);
    }
    let less = node.apply(Change::Policy(edited));
    assert_operations(&less, 1 + (2 + (2 + 2) + 2 + 1));
    let more = node.apply(Change::Policy(before.clone()));
    assert_operations(&more, 1 + (2 + 2 * (2 + 2) + 2 + 1));
    // The same again, and a policy that selects no local pod (app 9 of namespace 0).
    assert_operations(&node.apply(Change::Policy(before)), 0);
    assert_operations(&node.apply(Change::PolicyGone(key("namespace-0/policy-450"))), 0);
}

#[test]
fn a_namespace_label_without_a_selector_changes_nothing() {
    let mut node = Node::full();
    let labels = [("team".to_owned(), "team-3".to_owned()), ("owner".to_owned(), "somebody".to_owned())].into();
    assert_operations(&node.apply(Change::Namespace(Namespace::new("namespace-17", labels))), 0);
}

#[test]
fn one_pod_takes_no_longer_than_its_share() {
    let mut node = Node::full();
    let subject = pod(FULL_NODE, 4711);
    let started = Instant::now();
    let rounds: u32 = 200;
    for _ in 0..rounds {
        node.apply(Change::PodGone(subject.key.clone()));
        node.apply(Change::Pod(subject.clone()));
    }
    let each = started.elapsed() / (2 * rounds);
    println!("one remote pod: {each:?} from event to plan");
    // Some 50 times the usual time: only work that grows with the cluster takes that long.
    assert!(each < Duration::from_millis(5), "{each:?}");
}
