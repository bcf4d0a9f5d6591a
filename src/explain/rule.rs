//! `palisade explain rule`: the policies and pods behind a name or a line of a listing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use palisade_policy::compile::Group;
use palisade_policy::index::{Index, NodePolicy};
use palisade_policy::input::{Direction, State};
use palisade_policy::nearest;
use palisade_ruleset::model::{Element, Expression, Key, Ruleset, Verdict};
use palisade_ruleset::name::{MAX_NAME, Name};
use palisade_ruleset::paste::{Pasted, Place, leading_to, names, users};
use palisade_ruleset::render::{Established, Options, Reason, render, verdict_map};
use palisade_ruleset::text;
use serde_json::{Value, json};

use super::origin::{Origin, origins};
use crate::cli::{ExplainRuleArgs, TraceOutput};
use crate::output::{self, Failure};
use crate::source;

/// How many answers, and names in each, the text spells out; JSON has all.
const ANSWERS: usize = 8;
const NAMES: usize = 12;

/// How many nodes are rendered without `--node`.
const NODES: usize = 64;

/// What was pasted, as the nodes have it.
#[derive(Debug, Default)]
struct Found {
    /// The rule or element, or the description of the object.
    text: Option<String>,
    nodes: BTreeSet<String>,
    directions: BTreeSet<&'static str>,
    policies: BTreeSet<String>,
    /// The rules of policies that it comes from, or that use it.
    rules: BTreeSet<Origin>,
    pods: BTreeSet<String>,
    /// The pods in a set.
    elements: BTreeSet<String>,
}

pub(super) fn run(arguments: &ExplainRuleArgs) -> Result<(), Failure> {
    let pasted = Pasted::read(&arguments.text.join(" ")).map_err(|error| Failure::usage(error.to_string()))?;
    let state = source::read(&arguments.source)?;
    let on: BTreeSet<_> = state.every_pod().filter_map(|pod| pod.node.as_deref()).collect();
    let wanted = |node: &&&str| arguments.node.as_deref().is_none_or(|only| only == **node);
    let nodes: Vec<_> = on.iter().filter(wanted).take(NODES).collect();
    if nodes.is_empty() {
        let hint =
            "a ruleset needs pods with a node and an IP: read the cluster, or what kubectl get -o yaml printed of it";
        let node = arguments.node.as_ref().map_or_else(|| "a node".to_owned(), |node| format!("node {node}"));
        return Err(Failure::new(format!("no pod that was read is on {node}")).hint(hint));
    }
    let (mut found, mut near) = (BTreeMap::new(), BTreeSet::new());
    for node in &nodes {
        let of = Rendered::of(node, &state, arguments.source.allow_egress_to_own_node);
        let places = pasted.find(&of.ruleset);
        places.iter().for_each(|place| of.add(place, &mut found));
        // A longer text is no name.
        if found.is_empty() && pasted.name().len() <= MAX_NAME {
            near.extend(nearest(pasted.name(), names(&of.ruleset)).map(ToOwned::to_owned));
        }
    }
    if found.is_empty() {
        let hint = nearest(pasted.name(), near.iter().map(String::as_str));
        let hint = hint.map(|name| format!("; did you mean {name}?")).unwrap_or_default();
        let only = if on.len() > NODES && arguments.node.is_none() {
            format!(" (of the {} nodes, {NODES} were rendered; --node names another)", on.len())
        } else {
            String::new()
        };
        let message = format!("no node's ruleset has {:?}{only}{hint}", pasted.name());
        return Err(Failure::new(message).hint("the objects may have changed since, or the agent has other flags"));
    }
    match arguments.output {
        TraceOutput::Text => output::block(&text(&found)),
        form => super::print(form, &found.iter().map(as_json).collect::<Value>()),
    }
}

/// The kind and the name of an object, and the line if it is a part of one.
type Heads = (&'static str, String, Option<String>);

/// The ruleset of a node, with what it was rendered from.
struct Rendered {
    node: String,
    index: Index,
    ruleset: Ruleset,
    /// The chains of groups, with their directions and the keys of their pods.
    groups: BTreeMap<Name, (Direction, Vec<Key>)>,
}

impl Rendered {
    fn of(node: &str, state: &State, allow_egress_to_own_node: bool) -> Self {
        let index = Index::build(node, state);
        // All that an agent may have: its flags and the node's ranges are not known here.
        let options = Options {
            allow_egress_to_own_node,
            judge_untracked: true,
            established: Established::Remember,
            pod_ranges: [ipnet::IpNet::from(std::net::IpAddr::from([0, 0, 0, 0]))].into(),
            ..Options::default()
        };
        let ruleset = render(index.compiled(), &options);
        let mut groups: BTreeMap<Name, (Direction, Vec<Key>)> = BTreeMap::new();
        for (direction, family) in Direction::ALL
            .into_iter()
            .flat_map(|direction| palisade_policy::input::Family::ALL.map(|family| (direction, family)))
        {
            let map = ruleset.sets.get(&verdict_map(direction, family));
            for (key, element) in map.into_iter().flat_map(|map| &map.elements) {
                if let Some(Verdict::Jump(chain)) = &element.verdict {
                    groups.entry(chain.clone()).or_insert((direction, Vec::new())).1.push(key.clone());
                }
            }
        }
        Self { node: node.to_owned(), index, ruleset, groups }
    }

    /// Adds what this node has at the place.
    fn add(&self, place: &Place, all: &mut BTreeMap<Heads, Found>) {
        let chain_of = |name: &Name| self.ruleset.chains.get(name);
        let (kind, name, line) = match place {
            Place::Chain(name) => ("chain", name, None),
            Place::Set(name) => ("set", name, None),
            Place::Counter(name) => ("counter", name, None),
            Place::Rule(name, position) => {
                let rule = chain_of(name).and_then(|chain| chain.rules.get(*position));
                ("rule", name, rule.map(text::rule))
            }
            Place::Element(name, key) => {
                let element = self.ruleset.sets.get(name).and_then(|set| set.elements.get(key));
                ("element", name, element.map(|element| text::element(key, element)))
            }
        };
        let found = all.entry((kind, name.to_string(), line)).or_default();
        found.nodes.insert(self.node.clone());
        match place {
            Place::Chain(name) => {
                found.text = chain_of(name).and_then(|chain| chain.comment.clone());
                self.add_groups(name, found);
            }
            Place::Rule(name, position) => {
                let rule = chain_of(name).and_then(|chain| chain.rules.get(*position));
                self.add_groups(name, found);
                let comment = rule.and_then(|rule| rule.comment.as_deref()).unwrap_or_default();
                found.rules.extend(origins(comment, self.namespace(name).as_deref()));
                let mut counters =
                    rule.into_iter().flat_map(|rule| &rule.expressions).filter_map(|expression| match expression {
                        Expression::CountIn(counter) => Some(counter),
                        _ => None,
                    });
                found.text = counters.find_map(counter);
            }
            Place::Set(name) => {
                let set = self.ruleset.sets.get(name);
                found.text = set.and_then(|set| set.comment.clone());
                let comments = set.into_iter().flat_map(|set| set.elements.values());
                found.elements.extend(comments.filter_map(comment_of));
                for (chain, rule) in users(&self.ruleset, name).into_iter().filter(|_| is_of_policies(name)) {
                    self.add_groups(chain, found);
                    let comment = rule.comment.as_deref().unwrap_or_default();
                    found.rules.extend(origins(comment, self.namespace(chain).as_deref()));
                }
            }
            Place::Element(name, key) => {
                let element = self.ruleset.sets.get(name).and_then(|set| set.elements.get(key));
                if let Some(Verdict::Jump(chain) | Verdict::Goto(chain)) =
                    element.and_then(|element| element.verdict.as_ref())
                {
                    self.add_groups(chain, found);
                    found.pods.clear();
                }
                found.pods.extend(element.and_then(comment_of));
            }
            Place::Counter(name) => found.text = counter(name),
        }
    }

    /// Adds the groups whose chains are this one or lead to it.
    fn add_groups(&self, chain: &Name, found: &mut Found) {
        if !self.groups.contains_key(chain) && !is_of_policies(chain) {
            return;
        }
        for group in leading_to(&self.ruleset, chain) {
            let Some((direction, keys)) = self.groups.get(&group) else { continue };
            found.directions.insert(direction.name());
            for key in keys {
                let (owner, policies) = subject(self.index.compiled(), key, *direction);
                found.pods.extend(owner);
                found.policies.extend(policies);
            }
        }
    }

    /// The namespace of the policies of a group's chain, or of a chain that only such chains lead to.
    fn namespace(&self, chain: &Name) -> Option<String> {
        let mut groups =
            leading_to(&self.ruleset, chain).into_iter().filter_map(|name| self.groups.get(&name).cloned());
        let (direction, keys) = groups.next()?;
        let (_, policies) = subject(self.index.compiled(), keys.first()?, direction);
        policies.first()?.split_once('/').map(|(namespace, _)| namespace.to_owned())
    }
}

/// The pod that has an IP, and the policies that isolate it in a direction.
fn subject(compiled: &NodePolicy, key: &Key, direction: Direction) -> (Option<String>, Vec<String>) {
    let Key::Address(address) = key else { return (None, Vec::new()) };
    let Some(subject) = compiled.subjects.get(address) else { return (None, Vec::new()) };
    let group = match direction {
        Direction::Egress => &subject.egress,
        Direction::Ingress => &subject.ingress,
    };
    let policies = group.iter().flat_map(Group::policies).map(|policy| policy.to_string());
    (Some(subject.owner.to_string()), policies.collect())
}

/// Whether an object exists for rules of policies, other than the chain of a group.
fn is_of_policies(name: &Name) -> bool {
    ["pods/", "cidrs/", "named-ports/", "ports/", "ingress/", "egress/"]
        .iter()
        .any(|head| name.as_str().starts_with(head))
}

fn comment_of(element: &Element) -> Option<String> {
    element.comment.as_deref().map(ToOwned::to_owned)
}

/// What a named counter counts.
fn counter(name: &Name) -> Option<String> {
    let reason = Reason::ALL.into_iter().find(|reason| name.as_str().starts_with(&format!("{reason}/")))?;
    Some(match reason {
        Reason::Policy(direction) => format!("dropped packets of pods isolated for {direction}: no policy allows them"),
        Reason::Untracked(direction) => {
            format!("dropped packets of pods isolated for {direction}: conntrack does not track them")
        }
        Reason::Invalid(direction) => {
            format!("dropped packets of pods isolated for {direction}: conntrack considers them invalid")
        }
        Reason::UnknownPodIp(direction) => {
            format!("dropped packets of IPs that no known pod has, while a pod isolated for {direction} is starting")
        }
        Reason::LinkScope => "dropped packets with link scope, while a pod of the node is isolated".to_owned(),
        Reason::ReversedPickup => {
            "dropped TCP segments that would pick up a lost connection the wrong way round".to_owned()
        }
    })
}

fn text(found: &BTreeMap<Heads, Found>) -> String {
    let mut text = String::new();
    for ((kind, name, line), found) in found.iter().take(ANSWERS) {
        let gap = if text.is_empty() { "" } else { "\n" };
        let of = if line.is_some() { format!("{kind} of {name}") } else { format!("{kind} {name}") };
        // Writing to a String cannot fail.
        _ = writeln!(text, "{gap}{of}, on {}", some(&found.nodes));
        for line in line.iter().chain(&found.text) {
            _ = writeln!(text, "  {line}");
        }
        let word = if *kind == "set" { "used by" } else { "from" };
        row(&mut text, word, &found.rules);
        row(&mut text, "direction", &found.directions);
        row(&mut text, "policies", &found.policies);
        row(&mut text, "pods", &found.pods);
        row(&mut text, "elements", &found.elements);
    }
    if found.len() > ANSWERS {
        _ = writeln!(text, "\n… {} more places; -o json has all", found.len() - ANSWERS);
    }
    text
}

fn row<T: std::fmt::Display>(text: &mut String, word: &str, names: &BTreeSet<T>) {
    if !names.is_empty() {
        _ = writeln!(text, "  {word:9} {}", some(names));
    }
}

fn some<T: std::fmt::Display>(all: &BTreeSet<T>) -> String {
    let mut text = all.iter().take(NAMES).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if all.len() > NAMES {
        _ = write!(text, ", … {} more", all.len() - NAMES);
    }
    text
}

fn as_json(((kind, name, line), found): (&Heads, &Found)) -> Value {
    let rules: Vec<_> = found.rules.iter().map(Origin::as_json).collect();
    json!({
        "kind": kind, "name": name, "line": line, "text": found.text, "nodes": found.nodes,
        "directions": found.directions, "policies": found.policies,
        "rules": rules, "pods": found.pods, "elements": found.elements,
    })
}
