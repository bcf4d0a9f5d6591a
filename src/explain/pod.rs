//! `palisade explain pod`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use palisade_analysis::reach::{ByFamily, PortSet, Reach, Workload, World, by_family, join, name, spelled, workloads};
use palisade_policy::input::{Direction, NamespacedName, Pod, State};
use serde_json::{Value, json};

use super::node::Node;
use crate::cli::{ExplainPodArgs, TraceOutput};
use crate::output::{self, Failure};
use crate::source;

/// How many lines of peers the text spells out for a direction; JSON has all.
const LINES: usize = 40;

/// A direction of a pod.
struct OneWay {
    direction: Direction,
    policies: Vec<NamespacedName>,
    /// The other ends, and what may pass: workloads, then ranges of the world.
    peers: Vec<(String, String)>,
    chains: Vec<String>,
}

pub(super) fn run(arguments: &ExplainPodArgs) -> Result<(), Failure> {
    let ExplainPodArgs { source, pod, output } = arguments;
    let state = source::read(source)?;
    let pod = super::named("pod", pod, source.how.namespace.as_deref(), &state.pods)?;
    let facts = source::facts(source.allow_egress_to_own_node, &[]);
    let node = Node::of(pod, &state, &facts);
    let reach = Reach::new(&state, &facts);
    let (workloads, world) = (workloads(&[&state]), World::of(&[&state], &facts));
    let ways = Direction::ALL.map(|direction| one_way(&reach, &workloads, &world, pod, direction, node.as_ref()));
    match output {
        TraceOutput::Text => output::block(&text(&state, pod, &ways)),
        form => super::print(*form, &as_json(&state, pod, &ways)),
    }
}

fn one_way(
    reach: &Reach<'_>,
    workloads: &[Workload],
    world: &World,
    pod: &Pod,
    direction: Direction,
    node: Option<&Node<'_>>,
) -> OneWay {
    let mut peers: BTreeMap<String, ByFamily> = BTreeMap::new();
    for workload in workloads {
        // Itself always; another pod of its workload may be another matter.
        let Some(other) = workload.pods.iter().find(|other| **other != pod.key) else { continue };
        let allowed = match direction {
            Direction::Egress => reach.between(&pod.key, other),
            Direction::Ingress => reach.between(other, &pod.key),
        };
        // Workloads of one name that policies treat differently: what any of them may.
        peers
            .entry(workload.key.to_string())
            .and_modify(|known| *known = by_family(known, &allowed, PortSet::or))
            .or_insert_with(|| allowed.clone());
    }
    let of_pods = peers.into_iter().filter_map(|(name, allowed)| Some((name, in_words(&allowed)?)));
    // An IP of a family that the pod does not have is allowed nothing.
    let of_world = join(world.ranges([reach], &pod.key, direction)).into_iter();
    let of_world = of_world.filter(|(_, [ports])| !ports.is_empty());
    let of_world = of_world.map(|(range, [ports])| (format!("world {}", spelled(range)), ports.to_string()));
    let chains = node.into_iter().flat_map(|node| pod.claims().filter_map(|address| node.chain(direction, address)));
    let chains = chains.map(ToString::to_string);
    let mut chains: Vec<_> = chains.collect();
    chains.dedup();
    let policies = reach.isolating(pod, direction).into_iter().map(|policy| policy.key.clone()).collect();
    OneWay { direction, policies, peers: of_pods.chain(of_world).collect(), chains }
}

/// What is allowed, if anything is.
fn in_words([four, six]: &ByFamily) -> Option<String> {
    match (four.is_empty(), six.is_empty()) {
        (true, true) => None,
        (false, true) => Some(four.to_string()),
        (true, false) => Some(six.to_string()),
        (false, false) if four == six => Some(four.to_string()),
        (false, false) => Some(format!("IPv4 {four}; IPv6 {six}")),
    }
}

/// Why policies may not apply to the pod as expected.
fn warnings(state: &State, pod: &Pod) -> Vec<String> {
    let mut warnings = Vec::new();
    if pod.host_network {
        warnings.push("it is on its node's network: no policy selects it".to_owned());
    }
    if pod.phase.is_terminal() {
        warnings.push("it has finished: no policy selects it".to_owned());
    }
    let is_same = |other: &&Pod| other.key != pod.key && !other.terminating && !pod.terminating;
    for address in pod.claims() {
        let others = state.every_pod().filter(is_same).filter(|other| other.claims().any(|claim| claim == address));
        warnings.extend(others.map(|other| {
            format!("{address} is also the IP of pod {}: if one of them is isolated, nothing is allowed", other.key)
        }));
    }
    if pod.is_live() && pod.node.is_some() && pod.claims().next().is_none() {
        warnings.push("it has no IP yet: it is starting, or the manifest is of a workload".to_owned());
    }
    warnings
}

fn text(state: &State, pod: &Pod, ways: &[OneWay; 2]) -> String {
    let list = |all: Vec<String>| if all.is_empty() { "none".to_owned() } else { all.join(", ") };
    let mut text = format!("{}\n", pod.key);
    // Writing to a String cannot fail.
    _ = writeln!(text, "  workload   {}", name(pod));
    _ = writeln!(
        text,
        "  labels     {}",
        list(pod.labels.iter().map(|(key, value)| format!("{key}={value}")).collect())
    );
    _ = writeln!(text, "  node       {}", pod.node.as_deref().unwrap_or("none"));
    _ = writeln!(text, "  IPs        {}", list(pod.addresses.iter().map(|address| address.to_string()).collect()));
    for warning in warnings(state, pod) {
        _ = writeln!(text, "  warning    {warning}");
    }
    for OneWay { direction, policies, peers, chains } in ways {
        let (relation, others) = match direction {
            Direction::Egress => ("may reach", "every destination"),
            Direction::Ingress => ("may be reached by", "every source"),
        };
        if policies.is_empty() {
            _ = writeln!(text, "\n{direction}: not isolated; its own policies allow {others}");
        } else {
            _ = writeln!(
                text,
                "\n{direction}: isolated by {}",
                list(policies.iter().map(ToString::to_string).collect())
            );
        }
        for chain in chains {
            _ = writeln!(text, "  chain {chain}");
        }
        _ = writeln!(text, "  {relation}, with the other end's policies taken into account:");
        if peers.is_empty() {
            _ = writeln!(text, "    nothing");
        }
        let width = peers.iter().take(LINES).map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, ports) in peers.iter().take(LINES) {
            _ = writeln!(text, "    {name:width$}  {ports}");
        }
        if peers.len() > LINES {
            _ = writeln!(text, "    … {} more; -o json has all", peers.len() - LINES);
        }
    }
    text
}

fn as_json(state: &State, pod: &Pod, ways: &[OneWay; 2]) -> Value {
    let of_way = |way: &OneWay| {
        let peers: Vec<_> = way.peers.iter().map(|(name, ports)| json!({ "peer": name, "ports": ports })).collect();
        json!({
            "isolatedBy": way.policies.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "peers": peers, "chains": way.chains,
        })
    };
    let [egress, ingress] =
        Direction::ALL.map(|direction| ways.iter().find(|way| way.direction == direction).map_or(Value::Null, of_way));
    json!({
        "pod": pod.key.to_string(), "workload": name(pod).to_string(), "labels": *pod.labels,
        "node": pod.node.as_deref(), "addresses": pod.addresses.iter().collect::<Vec<_>>(),
        "warnings": warnings(state, pod), "egress": egress, "ingress": ingress,
    })
}
