//! The cases without a cluster: by the evaluator, and by the packet walk through the rendered rulesets.

use std::fs;
use std::path::PathBuf;

use palisade_policy::flow::{Endpoint, Flow, NodeFacts, Transport as FlowTransport, Verdict};
use palisade_policy::input::{Family, NamespacedName, State};
use palisade_policy::reference::Reference;
use palisade_testkit::walking::Nodes;

use crate::conformance::cluster::{Cluster, Plan, SIX_ONLY};
use crate::conformance::table::{Case, Expect, PODS, Step, Transport, Way};

/// Judges all cases; returns the failures as text.
pub(crate) fn failures(cases: &[Case], way: Way) -> Vec<String> {
    let mut failures = Vec::new();
    let mut judged = 0;
    let cases = cases.iter().filter(|case| case.ways.contains(&way));
    for (case, stack) in cases.flat_map(|case| case.stacks.iter().map(move |stack| (case, *stack))) {
        let mut cluster = Cluster::new(stack, "case", &plan(), &case.steps);
        for (number, step) in case.steps.iter().enumerate() {
            cluster.apply(step);
            let Step::Expect(expect) = step else { continue };
            let judge = Judge::new(state(&cluster, &case.name, way), way);
            for ((from, to), expected) in &expect.reaches {
                for family in families(&cluster, from, to) {
                    judged += 1;
                    let flow = flow(&cluster, expect, from, to, family);
                    if let Err(found) = judge.hold(&flow, *expected) {
                        let place = format!("{}, {}, step {}", case.name, stack.name(), number + 1);
                        failures.push(format!("{place}: {} {from} to {to}, {family}: {found}", expect.transport));
                    }
                }
            }
        }
    }
    println!("{judged} verdicts by {way:?}");
    failures
}

/// IPs as the lab would assign them.
fn plan() -> Plan {
    let mut plan = Plan::new();
    for (number, pod) in (2u16..).zip(PODS) {
        let node = u16::try_from(crate::conformance::cluster::node_of(pod)).unwrap();
        let v4 = [10, 42, u8::try_from(node).unwrap(), u8::try_from(number).unwrap()];
        plan.insert(pod.to_owned(), vec![v4.into(), [0xfd42, node, 0, 0, 0, 0, 0, number].into()]);
    }
    for (name, v4, v6) in [
        ("node-1", "172.30.0.11", "fd00:30::b"),
        ("node-2", "172.30.0.12", "fd00:30::c"),
        ("world", "203.0.113.7", "2001:db8::7"),
    ] {
        plan.insert(name.to_owned(), vec![v4.parse().unwrap(), v6.parse().unwrap()]);
    }
    for (name, address) in SIX_ONLY {
        plan.insert(name.to_owned(), vec![address.parse().unwrap()]);
    }
    plan
}

/// The state in the manifests.
fn state(cluster: &Cluster, case: &str, way: Way) -> State {
    let name = format!("palisade-conformance-{}-{way:?}-{case}-{}.yaml", std::process::id(), cluster.stack.name());
    let file: PathBuf = std::env::temp_dir().join(name);
    fs::write(&file, cluster.manifests()).unwrap();
    let read = palisade_watch::read_manifests(std::slice::from_ref(&file));
    fs::remove_file(&file).ok();
    read.unwrap_or_else(|errors| panic!("{case}: {errors}")).into()
}

/// The families that two ends share.
pub(crate) fn families(cluster: &Cluster, from: &str, to: &str) -> Vec<Family> {
    let has = |name: &str, family: Family| cluster.addresses(name).iter().any(|address| Family::of(*address) == family);
    Family::ALL.into_iter().filter(|family| has(from, *family) && has(to, *family)).collect()
}

fn flow(cluster: &Cluster, expect: &Expect, from: &str, to: &str, family: Family) -> Flow {
    let endpoint = |name: &str, opens: bool| match name.split_once('/') {
        Some((namespace, pod)) => Endpoint::Pod(NamespacedName::new(cluster.namespace(namespace), pod)),
        None if opens && name.starts_with("node-") => Endpoint::Node(name.into()),
        None => {
            let mut addresses = cluster.addresses(name).iter();
            Endpoint::Address(*addresses.find(|address| Family::of(**address) == family).unwrap())
        }
    };
    let transport = match expect.transport {
        Transport::Port(protocol, port) => FlowTransport::Port(protocol, port),
        Transport::Ping => FlowTransport::Portless,
    };
    Flow { from: endpoint(from, true), to: endpoint(to, false), transport, family: Some(family) }
}

/// One state, and one way to judge flows in it.
struct Judge {
    state: State,
    facts: NodeFacts,
    nodes: Option<Nodes>,
}

impl Judge {
    fn new(state: State, way: Way) -> Self {
        let facts = NodeFacts::default();
        let nodes = (way == Way::Walk).then(|| Nodes::render(&state, &facts));
        Self { state, facts, nodes }
    }

    /// Checks that a flow is allowed or denied as expected; otherwise returns the difference.
    fn hold(&self, flow: &Flow, expected: bool) -> Result<(), String> {
        let reference = Reference::new(&self.state, &self.facts);
        let Some(nodes) = &self.nodes else {
            let judgement = reference.evaluate(flow).map_err(|error| error.to_string())?;
            let allowed = judgement.verdict == Verdict::Allow;
            return if allowed == expected { Ok(()) } else { Err(format!("{judgement:?}")) };
        };
        let ends = reference.ends(flow).map_err(|error| error.to_string())?;
        let ways = nodes.send(flow, &ends).map_err(|error| format!("{error:?}"))?;
        for way in ways.ok_or("an end has no address of its own")? {
            if (way.verdict == Verdict::Allow) != expected {
                return Err(format!("{}\n{}", way.verdict, way.steps.join("\n")));
            }
        }
        Ok(())
    }
}
