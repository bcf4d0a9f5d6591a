//! Flows and the reasons of verdicts in words, based only on what the reference evaluator considered.

use palisade_policy::flow::{Endpoint, Flow, Judgement, Reason};
use palisade_policy::input::{Direction, NamespacedName, State};
use palisade_policy::reference::{Considered, End, Ends, PeerMatch, Side};

use crate::names::list;

pub mod near;

/// How many names a list spells out.
const NAMES: usize = 8;

/// The verdict on a flow in one line.
pub fn line(flow: &Flow, ends: &Ends<'_>, judgement: &Judgement) -> String {
    let transport = near::transport(flow.transport);
    let from = end(&flow.from, &ends.from);
    let to = end(&flow.to, &ends.to);
    format!("{}: {from} to {to}, {transport}", judgement.verdict)
}

/// Why egress and ingress have their verdicts.
pub fn reasons(state: &State, flow: &Flow, considered: &Considered<'_>, judgement: &Judgement) -> [String; 2] {
    let reason = |direction, reason: &Reason| {
        let (endpoint, peer) = match direction {
            Direction::Egress => (&flow.from, &flow.to),
            Direction::Ingress => (&flow.to, &flow.from),
        };
        let side = considered.side(direction);
        let subject = Subject { state, direction, endpoint, end: side.subject };
        let unjudged = unjudged_block(&side, reason, peer);
        subject.reason(reason) + &unjudged.unwrap_or_default() + &unknown_label(&side).unwrap_or_default()
    };
    [reason(Direction::Egress, &judgement.egress.reason), reason(Direction::Ingress, &judgement.ingress.reason)]
}

/// The first `ipBlock` that could have allowed the flow if the IP of the pod at the other end were known.
fn unjudged_block(side: &Side<'_>, reason: &Reason, peer: &Endpoint) -> Option<String> {
    let (Reason::NoRule { .. }, Endpoint::Pod(pod)) = (reason, peer) else { return None };
    let isolating = side.policies().filter(palisade_policy::reference::ConsideredPolicy::isolates);
    let mut rules = isolating.flat_map(|policy| policy.rules());
    let rule = rules
        .find(|rule| rule.is_port_match() && rule.peers().any(|(_, found)| matches!(found, PeerMatch::NoAddress)))?;
    let (direction, index, policy) = (side.direction, rule.index, &rule.policy.key);
    Some(format!(
        "; {direction}[{index}] of policy {policy} has an ipBlock, which was not judged: {pod} has no address"
    ))
}

/// The label that the verdict depends on, if only a controller knows its value.
fn unknown_label(side: &Side<'_>) -> Option<String> {
    let (policy, requirement) = side.uncertain()?;
    let (policy, key) = (&policy.key, &requirement.key);
    Some(format!("; this depends on the label {key} in policy {policy}, whose value only a controller knows"))
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

fn names<'a>(keys: impl IntoIterator<Item = &'a NamespacedName>, and: &str) -> String {
    list(keys, NAMES, and)
}

/// The end whose policies are evaluated.
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
                let none = self.over_budget(policies).unwrap_or_else(|| "none of its rules matches".to_owned());
                format!("policy {policy} isolates {} for {direction}, and {none}", self.name())
            }
            Reason::NoRule { policies } => {
                let list = names(policies, "and");
                let none = "none of their rules matches";
                let over = self.over_budget(policies).map(|over| format!("; {over}")).unwrap_or_default();
                format!("policies {list} isolate {} for {direction}, and {none}{over}", self.name())
            }
            Reason::Starting { pods } => format!(
                "no pod shows {} yet, and {}, starting on that node, isolated for {direction}: nothing is allowed until its \
                 address is known",
                self.name(),
                names(pods, "or"),
            ),
            Reason::DuplicateIp { pods } => format!(
                "pods {} claim {}, and one of them is isolated for {direction}: nothing is allowed until one goes",
                names(pods, "and"),
                self.end.address.map_or_else(|| "one address".to_owned(), |address| address.to_string()),
            ),
        }
    }

    /// Why rules of these policies do not count, if one of them is above its budget.
    fn over_budget(&self, policies: &[NamespacedName]) -> Option<String> {
        let mut policies = policies.iter().filter_map(|key| self.state.policies.get(key));
        let over = policies.find(|policy| policy.is_over_budget())?;
        let reason = over.unenforceable.first().map_or("", |term| term.reason.as_str());
        Some(format!("policy {} {reason}", over.key))
    }

    /// The judged pod, which may differ from the named one.
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
