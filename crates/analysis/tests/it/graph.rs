//! The tables and the links of a graph have exactly what the reference evaluator allows, for every two pods.
//!
//! Seen to fail when: a rule's ports were those of the client; a workload of two pods was no peer of itself; a namespace
//! was one end although one of its workloads is denied.

use std::cell::Cell;
use std::collections::BTreeMap;

use palisade_analysis::graph::{End, Graph, Scope, Vertex, graph, links};
use palisade_analysis::reach::{PortSet, Reach};
use palisade_policy::flow::NodeFacts;
use palisade_policy::input::{Direction, Family, NamespacedName};
use palisade_testkit::generate::{Case, arb_case_with};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

/// The workloads that an end of a link stands for, as a client (egress) or as a server (ingress).
fn workloads(graph: &Graph, end: &End, direction: Direction) -> Vec<usize> {
    let all = graph.workloads.iter().enumerate();
    let is_it = |number: usize, vertex: &Vertex| match end {
        End::Workload(own) => *own == number,
        End::Namespace(namespace, but) => vertex.namespace == *namespace && !but.contains(&number),
        End::Every => true,
        End::Anyone => !vertex.side(direction).is_isolated(),
        End::Block(_) | End::Blocks(_) => false,
    };
    all.filter(|(number, vertex)| is_it(*number, vertex)).map(|(number, _)| number).collect()
}

/// The links between workloads.
fn drawn(graph: &Graph) -> BTreeMap<(usize, usize), PortSet> {
    let mut drawn: BTreeMap<(usize, usize), PortSet> = BTreeMap::new();
    for link in links(graph, Scope::All) {
        for from in workloads(graph, &link.from, Direction::Egress) {
            for to in workloads(graph, &link.to, Direction::Ingress) {
                let known = drawn.entry((from, to)).or_default();
                *known = known.or(&link.ports);
            }
        }
    }
    drawn
}

/// What a workload's rules allow with another, in a family.
fn allowed(vertex: &Vertex, direction: Direction, peer: usize, family: Family) -> PortSet {
    let side = vertex.side(direction);
    if !side.is_isolated() {
        return PortSet::everything();
    }
    let is_of = |own: Option<Family>| own.is_none_or(|own| own == family);
    let grants = side.grants.iter().filter(|grant| is_of(grant.family) && grant.peers.contains(&peer));
    grants.fold(PortSet::nothing(), |all, grant| all.or(&grant.ports))
}

/// The families that both pods have an IP of; both families if an end has none yet.
fn families(case: &Case, one: &NamespacedName, two: &NamespacedName) -> Vec<Family> {
    let has = |key: &NamespacedName, family| {
        let addresses = case.state.pods.get(key).unwrap().addresses;
        addresses.is_empty() || addresses.of(family).is_some()
    };
    Family::ALL.into_iter().filter(|family| has(one, *family) && has(two, *family)).collect()
}

fn compare(case: &Case, compared: &Cell<usize>) -> Result<(), TestCaseError> {
    let facts = NodeFacts { pod_ranges: [].into(), ..case.facts.clone() };
    let graph = graph(&case.state, &facts);
    let (reach, drawn) = (Reach::new(&case.state, &facts), drawn(&graph));
    for (number, one) in graph.workloads.iter().enumerate() {
        for (other, two) in graph.workloads.iter().enumerate() {
            let is_decided = one.side(Direction::Egress).is_isolated() || two.side(Direction::Ingress).is_isolated();
            for (from, to) in one.pods.iter().flat_map(|from| two.pods.iter().map(move |to| (from, to))) {
                if from.key == to.key || from.unclear || to.unclear {
                    continue;
                }
                compared.set(compared.get() + 1);
                let families = families(case, &from.key, &to.key);
                if families.is_empty() {
                    continue;
                }
                let asked = reach.between(&from.key, &to.key);
                let mut either = PortSet::nothing();
                for family in families {
                    let [four, six] = &asked;
                    let expected = if family == Family::V4 { four } else { six };
                    let egress = allowed(one, Direction::Egress, other, family);
                    let found = egress.and(&allowed(two, Direction::Ingress, number, family));
                    prop_assert_eq!(&found, expected, "{} to {} over {}", from.key, to.key, family);
                    either = either.or(expected);
                }
                let shown = drawn.get(&(number, other)).cloned().unwrap_or_default();
                let expected = if is_decided { either } else { PortSet::nothing() };
                prop_assert_eq!(shown, expected, "the link from {} to {}", from.key, to.key);
            }
        }
    }
    Ok(())
}

#[test]
fn tables_and_links_are_what_the_evaluator_allows() {
    let compared = Cell::new(0);
    let mut runner = TestRunner::new(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() });
    let done = runner.run(&arb_case_with(1..2), |case| compare(&case, &compared));
    done.unwrap();
    assert!(compared.get() > 10_000, "only {} pairs of pods were compared", compared.get());
}
