//! Flows and the reasons of verdicts in words.

use palisade_policy::flow::{Endpoint, Flow, Judgement, Reason, Transport};
use palisade_policy::input::{
    Direction, LabelSelector, NamespacedName, Peer, Peers, Port, Ports, State, without_unknown,
};
use palisade_policy::reference::{End, Ends};

/// How many names a list spells out.
const NAMES: usize = 8;

/// The verdict on a flow in one line.
pub(super) fn line(flow: &Flow, ends: &Ends<'_>, judgement: &Judgement) -> String {
    let transport = match flow.transport {
        Transport::Port(protocol, port) => format!("{protocol} {port}"),
        Transport::Portless => "ICMP".to_owned(),
    };
    let from = end(&flow.from, &ends.from);
    let to = end(&flow.to, &ends.to);
    format!("{}: {from} to {to}, {transport}", judgement.verdict)
}

/// Why egress and ingress have their verdicts.
pub(super) fn reasons(state: &State, flow: &Flow, ends: &Ends<'_>, judgement: &Judgement) -> [String; 2] {
    let egress = Subject { state, direction: Direction::Egress, endpoint: &flow.from, end: &ends.from };
    let ingress = Subject { state, direction: Direction::Ingress, endpoint: &flow.to, end: &ends.to };
    let told = |subject: &Subject<'_>, reason: &Reason, peer: &Endpoint, end: &End<'_>| {
        let unjudged = unjudged_block(state, subject.direction, reason, peer, end, flow.transport);
        let unknown = unknown_label(subject, peer, end);
        subject.reason(reason) + &unjudged.unwrap_or_default() + &unknown.unwrap_or_default()
    };
    [
        told(&egress, &judgement.egress.reason, &flow.to, &ends.to),
        told(&ingress, &judgement.ingress.reason, &flow.from, &ends.from),
    ]
}

/// The first `ipBlock` that could have allowed the flow if the IP of the pod at the other end were known.
fn unjudged_block(
    state: &State,
    direction: Direction,
    reason: &Reason,
    peer: &Endpoint,
    end: &End<'_>,
    transport: Transport,
) -> Option<String> {
    let (Reason::NoRule { policies }, Endpoint::Pod(pod), None) = (reason, peer, end.address) else { return None };
    let rules = policies.iter().filter_map(|key| state.policies.get(key)).flat_map(|policy| {
        let rules = policy.rules(direction).iter().enumerate();
        rules.map(move |(index, rule)| (&policy.key, index, rule))
    });
    let has_block = |peers: &Peers| match peers {
        Peers::Any => false,
        Peers::Of(list) => list.iter().any(|peer| matches!(peer, Peer::IpBlock(_))),
    };
    let mut blocks = rules.filter(|(_, _, rule)| has_block(&rule.peers) && may_be_port(&rule.ports, transport));
    blocks.next().map(|(policy, index, _)| {
        format!("; {direction}[{index}] of policy {policy} has an ipBlock, which was not judged: {pod} has no address")
    })
}

/// The first policy of the namespace that selects the pod or its peer by a label whose value only a controller knows.
fn unknown_label(subject: &Subject<'_>, peer: &Endpoint, end: &End<'_>) -> Option<String> {
    let Endpoint::Pod(own) = subject.endpoint else { return None };
    let depends = |selector: &LabelSelector, end: &End<'_>| {
        let pod = end.the_pod()?;
        let known = without_unknown(selector, &pod.labels);
        let lost = selector.requirements.difference(&known.requirements).next()?;
        known.selects(&pod.labels).then(|| lost.key.clone())
    };
    let is_peer = |selector: &LabelSelector| matches!(peer, Endpoint::Pod(_)).then(|| depends(selector, end)).flatten();
    subject.state.policies_of(&own.namespace).find_map(|policy| {
        let peers = policy.rules(subject.direction).iter().filter_map(|rule| match &rule.peers {
            Peers::Of(list) => Some(list),
            Peers::Any => None,
        });
        let mut selectors = peers.flatten().filter_map(|peer| match peer {
            Peer::Pods { pods, .. } => Some(pods),
            Peer::IpBlock(_) | Peer::Unmatchable => None,
        });
        let key = depends(&policy.pod_selector, subject.end).or_else(|| selectors.find_map(is_peer))?;
        Some(format!("; policy {} selects by {key}, whose value only a controller knows", policy.key))
    })
}

/// Whether the ports of a rule could match; a port name might.
fn may_be_port(ports: &Ports, transport: Transport) -> bool {
    let Ports::Of(list) = ports else { return true };
    let Transport::Port(protocol, number) = transport else { return false };
    list.iter().any(|port| match port {
        Port::All(named) | Port::Named { protocol: named, .. } => *named == protocol,
        Port::Range { protocol: named, first, last } => *named == protocol && (*first..=*last).contains(&number),
        Port::Unmatchable => false,
    })
}

/// The named end, with what it resolves to.
fn end(endpoint: &Endpoint, end: &End<'_>) -> String {
    let owner = match (endpoint, end.pods.as_slice()) {
        (Endpoint::Pod(key), [pod]) if pod.key == *key => None,
        (_, [pod]) => Some(format!("pod {}", pod.key)),
        (_, []) => None,
        (_, pods) => Some(format!("claimed by {}", names(pods.iter().map(|pod| &pod.key), "and"))),
    };
    let address = match endpoint {
        Endpoint::Address(_) => None,
        Endpoint::Pod(_) | Endpoint::Node(_) => {
            Some(end.address.map_or_else(|| "no address".to_owned(), |address| address.to_string()))
        }
    };
    match (address, owner) {
        (None, None) => endpoint.to_string(),
        (Some(one), None) | (None, Some(one)) => format!("{endpoint} ({one})"),
        (Some(address), Some(owner)) => format!("{endpoint} ({address}, {owner})"),
    }
}

/// `a`, `a and b`, `a, b and c`, `a, b and 7 more`.
fn names<'a>(keys: impl IntoIterator<Item = &'a NamespacedName>, and: &str) -> String {
    let mut all: Vec<_> = keys.into_iter().map(ToString::to_string).collect();
    if all.len() > NAMES + 1 {
        let more = all.split_off(NAMES).len();
        all.push(format!("{more} more"));
    }
    match all.split_last() {
        Some((last, first)) if !first.is_empty() => format!("{} {and} {last}", first.join(", ")),
        _ => all.concat(),
    }
}

/// The end whose policies are asked.
struct Subject<'a> {
    state: &'a State,
    direction: Direction,
    endpoint: &'a Endpoint,
    end: &'a End<'a>,
}

impl Subject<'_> {
    fn reason(&self, reason: &Reason) -> String {
        let direction = self.direction;
        match reason {
            Reason::NotAPod => self.not_a_pod(),
            Reason::NotIsolated => format!("no policy isolates {} for {direction}", self.name()),
            Reason::Itself => "a pod always reaches itself".to_owned(),
            Reason::OwnNode => format!("the client is the node of {}, which always reaches it", self.name()),
            Reason::ToOwnNode => {
                format!("the destination is the node of {}, and --allow-egress-to-own-node is given", self.name())
            }
            Reason::Rule { policy, direction, index } => format!("{direction}[{index}] of policy {policy} allows it"),
            Reason::NoRule { policies } if policies.len() == 1 => {
                let policy = names(policies, "and");
                format!("policy {policy} isolates {} for {direction}, and none of its rules matches", self.name())
            }
            Reason::NoRule { policies } => {
                let list = names(policies, "and");
                format!("policies {list} isolate {} for {direction}, and none of their rules matches", self.name())
            }
            Reason::Starting { pods } => format!(
                "no pod shows {} yet, and {}, starting on that node, isolated for {direction}: nothing is allowed until its \
                 address is known",
                self.name(),
                names(pods, "or"),
            ),
            Reason::ClaimedTwice { pods } => format!(
                "pods {} claim {}, and one of them is isolated for {direction}: nothing is allowed until one goes",
                names(pods, "and"),
                self.end.address.map_or_else(|| "one address".to_owned(), |address| address.to_string()),
            ),
        }
    }

    /// The pod that is judged, which need not be the one named.
    fn name(&self) -> String {
        match self.end.pods.as_slice() {
            [] => self.endpoint.to_string(),
            pods => names(pods.iter().map(|pod| &pod.key), "or"),
        }
    }

    fn not_a_pod(&self) -> String {
        let pod = match self.endpoint {
            Endpoint::Pod(key) => self.state.pods.get(key),
            Endpoint::Address(_) | Endpoint::Node(_) => None,
        };
        let endpoint = self.endpoint;
        match pod {
            Some(pod) if pod.host_network => format!("{endpoint} is on its node's network: policies do not select it"),
            Some(pod) if pod.phase.is_terminal() => format!("{endpoint} has finished: policies do not select it"),
            Some(_) => format!("{endpoint} has an IP of its node: policies do not select it"),
            None => format!("{endpoint} is not a pod: policies do not select it"),
        }
    }
}
