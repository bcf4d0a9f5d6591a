//! `palisade explain flow`.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt::Write as _;
use std::process::ExitCode;

use palisade_analysis::flow::{Explanation, Nearest, OneWay, explain};
use palisade_policy::flow::{NodeFacts, Reason, Verdict};
use palisade_policy::input::{Direction, Pod, State};
use palisade_policy::reference::{Reference, Side};
use serde_json::{Value, json};

use super::node::Node;
use crate::cli::{ExplainFlowArgs, TraceOutput};
use crate::ends::{Flows, Names};
use crate::output::{self, Failure, color};
use crate::source;
use crate::trace::request::Request;
use crate::trace::status;

/// How many rules the text spells out; JSON has all.
const RULES: usize = 24;

/// Where a node has what decides: the node, the chain, and the rule if one allows the flow.
struct Place {
    node: String,
    chain: String,
    rule: Option<String>,
}

pub(super) fn run(arguments: &ExplainFlowArgs) -> Result<ExitCode, Failure> {
    let ExplainFlowArgs { source, from, to, port, protocol, family, .. } = arguments;
    let request = Request::of(from, to, protocol, port.as_deref(), family.as_deref());
    let namespace = source.how.namespace.as_deref();
    // Report what is wrong with the request itself before reading any objects.
    Names::check(&request, namespace).map_err(Failure::new)?;
    let (state, services) = source::read_with_services(source)?;
    let Flows { flows, meant } =
        Names { state: &state, services: &services, namespace }.flows(&request).map_err(Failure::new)?;
    let facts = source::facts(source.allow_egress_to_own_node, &arguments.node_addresses);
    let mut nodes = Nodes { state: &state, facts: &facts, known: BTreeMap::new() };
    let reference = Reference::new(&state, &facts);
    let mut all = Vec::new();
    for flow in &flows {
        let considered = reference.consider(flow).map_err(|error| Failure::new(error.to_string()))?;
        let judgement = considered.judgement();
        let reasons = [(Direction::Egress, &judgement.egress.reason), (Direction::Ingress, &judgement.ingress.reason)];
        let places = reasons.map(|(direction, reason)| nodes.place(considered.side(direction), reason));
        all.push((explain(&state, flow, &considered, &judgement), places));
    }
    match arguments.output {
        TraceOutput::Text => {
            let texts = all.iter().map(|(explanation, places)| text(explanation, places));
            let head = (!meant.is_empty()).then(|| meant.join("\n") + "\n");
            output::block(&color::verdicts(&head.into_iter().chain(texts).collect::<Vec<_>>().join("\n")))?;
        }
        form => {
            let flows: Vec<_> = all.iter().map(|(explanation, places)| as_json(explanation, places)).collect();
            let answer = json!({ "meant": meant, "flows": flows });
            output::block(&if form == TraceOutput::Json { format!("{answer}\n") } else { output::yaml(&answer) })?;
        }
    }
    let denied = all.iter().any(|(explanation, _)| explanation.verdict == Verdict::Deny);
    Ok(status(denied))
}

/// The rulesets of the nodes that were asked about, each rendered once.
struct Nodes<'a> {
    state: &'a State,
    facts: &'a NodeFacts,
    known: BTreeMap<&'a str, Node<'a>>,
}

impl<'a> Nodes<'a> {
    /// Where the node of the judged pod has what decides.
    fn place(&mut self, side: Side<'_>, reason: &Reason) -> Option<Place> {
        let (key, address) = (&side.subject.the_pod()?.key, side.subject.address?);
        let node = self.of(self.state.pod(key)?)?;
        let chain = node.chain(side.direction, address)?;
        let rule = match reason {
            Reason::Rule { policy, direction, index } => node.rule(chain, &format!("{policy} {direction}[{index}]")),
            _ => None,
        };
        Some(Place { node: node.name.to_owned(), chain: chain.to_string(), rule })
    }

    fn of(&mut self, pod: &'a Pod) -> Option<&Node<'a>> {
        match self.known.entry(pod.node.as_deref()?) {
            Entry::Occupied(known) => Some(known.into_mut()),
            Entry::Vacant(free) => Some(free.insert(Node::of(pod, self.state, self.facts)?)),
        }
    }
}

fn text(explanation: &Explanation, places: &[Option<Place>]) -> String {
    let mut text = format!("{}\n", explanation.line);
    for (one_way, place) in explanation.directions.iter().zip(places) {
        let OneWay { direction, verdict, reason, .. } = one_way;
        // Writing to a String cannot fail.
        _ = writeln!(text, "\n{direction}: {verdict}: {reason}");
        rules(&mut text, one_way);
        if let Some(nearest) = &one_way.nearest {
            // A rule that is listed above is marked there.
            if !nearest.is_listed {
                _ = writeln!(text, "  nearest miss: {}", nearest.miss);
            }
            _ = writeln!(text, "  to allow it: {}", nearest.change);
        }
        if let Some(Place { node, chain, rule }) = place {
            let rule = rule.as_ref().map(|rule| format!("\n                {rule}")).unwrap_or_default();
            _ = writeln!(text, "  on {node}: chain {chain}{rule}");
        }
    }
    text
}

/// The rules of the policies that isolate the pod, a line each.
fn rules(text: &mut String, one_way: &OneWay) {
    let direction = one_way.direction;
    let all = one_way.policies.iter().flat_map(|of| {
        let empty = of.rules.is_empty().then(|| format!("  {}: no {direction} rules", of.policy));
        let lines = of.rules.iter().enumerate().map(|(index, rule)| {
            let is_it = |nearest: &Nearest| nearest.is_listed && nearest.policy == of.policy && nearest.index == index;
            let mark = if one_way.nearest.as_ref().is_some_and(is_it) { "  ← nearest miss" } else { "" };
            format!("  {} {direction}[{index}]: {}{mark}", of.policy, rule.text)
        });
        empty.into_iter().chain(lines).collect::<Vec<_>>()
    });
    let lines: Vec<_> = all.collect();
    for line in lines.iter().take(RULES) {
        _ = writeln!(text, "{line}");
    }
    if lines.len() > RULES {
        _ = writeln!(text, "  … {} more; -o json has all", lines.len() - RULES);
    }
}

fn as_json(explanation: &Explanation, places: &[Option<Place>]) -> Value {
    let of_direction = |(one_way, place): (&OneWay, &Option<Place>)| {
        let policies: Vec<_> = one_way
            .policies
            .iter()
            .map(|of| {
                let rules: Vec<_> = of
                    .rules
                    .iter()
                    .map(|rule| json!({ "peer": rule.peer, "port": rule.port, "text": rule.text }))
                    .collect();
                json!({ "policy": of.policy.to_string(), "rules": rules })
            })
            .collect();
        let nearest = one_way.nearest.as_ref().map(|nearest| {
            json!({
                "policy": nearest.policy.to_string(), "rule": nearest.index,
                "miss": nearest.miss, "change": nearest.change,
            })
        });
        let node =
            place.as_ref().map(|Place { node, chain, rule }| json!({ "name": node, "chain": chain, "rule": rule }));
        json!({
            "verdict": one_way.verdict.to_string(), "reason": one_way.reason, "policies": policies,
            "otherPolicies": one_way.others, "nearest": nearest, "node": node,
        })
    };
    let [egress, ingress] = &explanation.directions;
    let mut places = places.iter();
    let mut next = |one_way| of_direction((one_way, places.next().unwrap_or(&None)));
    json!({
        "verdict": explanation.verdict.to_string(), "flow": explanation.line,
        "egress": next(egress), "ingress": next(ingress),
    })
}
