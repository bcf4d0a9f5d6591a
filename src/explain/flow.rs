//! `palisade explain flow`.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::process::ExitCode;

use palisade_analysis::flow::{Explanation, Nearest, OneWay, explain};
use palisade_analysis::untracked::{NOTE, may_be_dropped};
use palisade_policy::flow::{NodeFacts, Reason, Verdict};
use palisade_policy::input::{Direction, Pod, State};
use palisade_policy::reference::{Reference, Side};
use palisade_ruleset::model::Hook;
use palisade_ruleset::walk::Packet;
use serde_json::{Value, json};

use super::node::Node;
use crate::cli::{ExplainFlowArgs, TraceOutput};
use crate::ends::{Flows, Names};
use crate::output::{self, Failure, color};
use crate::source;
use crate::trace::request::Request;
use crate::trace::status;
use crate::untracked::Assumption;

/// How many rules the text spells out; JSON has all.
const RULES: usize = 24;

/// Where a node has what decides: the node, the chain, and the rule if one allows the flow.
struct Place {
    node: String,
    chain: String,
    rule: Option<String>,
}

/// A flow explained, and what is said beside its directions.
struct Explained {
    explanation: Explanation,
    places: [Option<Place>; 2],
    /// The verdict on the reply, if packets are untracked.
    reply: Option<crate::untracked::OneWay>,
    note: Option<&'static str>,
}

pub(super) fn run(arguments: &ExplainFlowArgs) -> Result<ExitCode, Failure> {
    let ExplainFlowArgs { source, from, to, port, protocol, family, .. } = arguments;
    let request = Request::of(from, to, protocol, port.as_deref(), family.as_deref());
    let namespace = source.how.namespace.as_deref();
    // Report what is wrong with the request itself before reading any objects.
    Names::check(&request, namespace).map_err(Failure::new)?;
    let (state, services) = source::read_with_services(source)?;
    let names = Names { state: &state, services: &services, namespace, translates: arguments.untracked.is_none() };
    let Flows { flows, meant } = names.flows(&request).map_err(Failure::new)?;
    let facts = source::facts(source.allow_egress_to_own_node, &arguments.node_addresses);
    let mut nodes = Nodes { state: &state, facts: &facts, known: BTreeMap::new() };
    let reference = Reference::new(&state, &facts);
    let untracked = arguments.untracked.map(|how| Assumption::new(how, &state, &services, &reference, &facts));
    let mut all = Vec::new();
    for flow in &flows {
        let considered = reference.consider(flow).map_err(|error| Failure::new(error.to_string()))?;
        let judgement = considered.judgement();
        let reasons = [(Direction::Egress, &judgement.egress.reason), (Direction::Ingress, &judgement.ingress.reason)];
        let mut places = reasons.map(|(direction, reason)| nodes.place(considered.side(direction), reason));
        let mut explanation = explain(&state, flow, &considered, &judgement);
        let answer = untracked.as_ref().map(|assumed| assumed.answer(flow, &considered, &judgement));
        let answer = answer.transpose().map_err(Failure::new)?;
        let note = answer.is_none() && may_be_dropped(&state, flow, &considered, &judgement);
        if let Some(answer) = &answer {
            answer.replace(&mut explanation, flow, &considered, judgement);
            // The rule is one about tracked packets.
            places.iter_mut().flatten().for_each(|place| place.rule = None);
        }
        all.push(Explained {
            explanation,
            places,
            reply: answer.map(|answer| answer.reply),
            note: note.then_some(NOTE),
        });
    }
    match arguments.output {
        TraceOutput::Text => {
            let texts = all.iter().map(text);
            let head = (!meant.is_empty()).then(|| meant.join("\n") + "\n");
            output::block(&color::verdicts(&head.into_iter().chain(texts).collect::<Vec<_>>().join("\n")))?;
        }
        form => {
            let flows: Vec<_> = all.iter().map(as_json).collect();
            super::print(form, &json!({ "meant": meant, "flows": flows }))?;
        }
    }
    let denied = all.iter().any(|explained| explained.explanation.verdict == Verdict::Deny);
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
        let entry = node.chain(side.direction, address)?;
        let decides = side.peer.address.and_then(|peer| node.decides(entry, &packet(&side, address, peer)));
        let (chain, rule) = match (reason, decides) {
            (Reason::Rule { .. }, Some((chain, rule))) => (chain, Some(rule)),
            (Reason::NoRule { .. }, Some((chain, _))) => (chain, None),
            // A pod without an IP is in no set: only comments name the rule.
            (Reason::Rule { policy, direction, index }, None) => {
                (entry.clone(), node.rule(entry, &format!("{policy} {direction}[{index}]")))
            }
            _ => (entry.clone(), None),
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

/// The first packet of the flow whose subject and peer have these IPs.
fn packet(side: &Side<'_>, subject: IpAddr, peer: IpAddr) -> Packet {
    let (from, to) = match side.direction {
        Direction::Egress => (subject, peer),
        Direction::Ingress => (peer, subject),
    };
    Packet::request(Hook::Forward, from, to, side.transport)
}

fn text(explained: &Explained) -> String {
    let Explained { explanation, places, reply, note } = explained;
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
    if let Some(reply) = reply {
        _ = writeln!(text, "\nreply: {}: {}", reply.verdict, reply.reason);
    }
    if let Some(note) = note {
        _ = writeln!(text, "\nnote: {note}");
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

fn as_json(explained: &Explained) -> Value {
    let Explained { explanation, places, reply, note } = explained;
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
        "egress": next(egress), "ingress": next(ingress), "note": note,
        "reply": reply.as_ref().map(|reply| json!({ "verdict": reply.verdict.to_string(), "reason": reply.reason })),
    })
}
