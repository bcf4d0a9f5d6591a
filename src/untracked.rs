//! The verdict on a flow whose packets are untracked: `--untracked` of `trace` and `explain flow`.
//!
//! Conntrack cannot tell a reply from a request then: the kernel judges each packet by its own source and destination.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use palisade_analysis::flow::Explanation;
use palisade_analysis::words;
use palisade_policy::flow::{Endpoint, Flow, Judgement, NodeFacts, Reason, Verdict};
use palisade_policy::input::{Direction, Family, NamespacedName, Policy, Services, State};
use palisade_policy::reference::{Considered, ConsideredPolicy, End, Reference, Side};
use palisade_ruleset::untracked::{Judge, Ruling, packets};
use palisade_ruleset::walk::Packet;

use crate::cli::Untracked;

/// What a line about such a flow ends with.
pub(crate) const UNTRACKED: &str = ", untracked";

/// The assumption that packets are untracked, with the agent's setting, over the objects.
pub(crate) struct Assumption<'a> {
    how: Untracked,
    state: &'a State,
    services: &'a Services,
    reference: &'a Reference<'a>,
    allow_egress_to_own_node: bool,
    chains: Chains,
}

/// The chains that were rendered, by their policies: pods that the same policies isolate share one.
type Chains = RefCell<BTreeMap<(Direction, bool, Vec<NamespacedName>), Option<Judge>>>;

/// The verdict on packets in one direction, and why.
#[derive(Clone, Debug)]
pub(crate) struct OneWay {
    pub(crate) verdict: Verdict,
    pub(crate) reason: String,
}

/// The verdicts on a flow of untracked packets.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// The client's egress and the server's ingress, of the request.
    pub(crate) request: [OneWay; 2],
    /// The server's egress and the client's ingress.
    pub(crate) reply: OneWay,
}

impl Answer {
    pub(crate) fn verdict(&self) -> Verdict {
        let [egress, ingress] = &self.request;
        egress.verdict.and(ingress.verdict).and(self.reply.verdict)
    }

    /// Puts the verdicts in the place of those on tracked packets, which rules match otherwise.
    pub(crate) fn replace(&self, of: &mut Explanation, flow: &Flow, considered: &Considered<'_>, was: Judgement) {
        let judgement = Judgement { verdict: self.verdict(), ..was };
        of.verdict = judgement.verdict;
        of.line = words::line(flow, &considered.ends, &judgement) + UNTRACKED;
        for (direction, OneWay { verdict, reason }) in of.directions.iter_mut().zip(&self.request) {
            (direction.verdict, direction.reason) = (*verdict, reason.clone());
            (direction.policies, direction.nearest) = (Vec::new(), None);
        }
    }
}

impl<'a> Assumption<'a> {
    pub(crate) fn new(
        how: Untracked,
        state: &'a State,
        services: &'a Services,
        reference: &'a Reference<'a>,
        facts: &NodeFacts,
    ) -> Self {
        let (allow_egress_to_own_node, chains) = (facts.allow_egress_to_own_node, Chains::default());
        Self { how, state, services, reference, allow_egress_to_own_node, chains }
    }

    /// The verdict on a flow.
    pub(crate) fn answer(
        &self,
        flow: &Flow,
        considered: &Considered<'_>,
        judgement: &Judgement,
    ) -> Result<Answer, String> {
        let ends = &considered.ends;
        let address = |end: &End<'_>| end.address.unwrap_or(unspecified(ends.family.unwrap_or(Family::V4)));
        let [request, reply] = packets(address(&ends.from), address(&ends.to), flow.transport);
        let request = self.packet(flow, considered, judgement, &request)?;
        let back = Flow {
            from: flow.to.clone(),
            to: match (&flow.from, ends.from.address) {
                // A node is no destination, but its IP is.
                (Endpoint::Node(_), address) => Endpoint::Address(address.unwrap_or(unspecified(Family::V4))),
                (endpoint, _) => endpoint.clone(),
            },
            family: ends.family,
            ..*flow
        };
        let considered = self.reference.consider(&back).map_err(|error| error.to_string())?;
        let judgement = considered.judgement();
        let [egress, mut ingress] = self.packet(&back, &considered, &judgement, &reply)?;
        if judgement.ingress.reason == Reason::OwnNode {
            "the node's packets to its pods are not judged".clone_into(&mut ingress.reason);
        }
        Ok(Answer { request, reply: if egress.verdict == Verdict::Deny { egress } else { ingress } })
    }

    /// The verdicts on one packet: of its sender's egress, then of its receiver's ingress.
    fn packet(
        &self,
        flow: &Flow,
        considered: &Considered<'_>,
        judgement: &Judgement,
        packet: &Packet,
    ) -> Result<[OneWay; 2], String> {
        let [egress, ingress] = words::reasons(self.state, flow, considered, judgement);
        let one_way = |direction, verdict, reason: &Reason, words| match reason {
            Reason::Rule { .. } | Reason::NoRule { .. } => self.rules(considered.side(direction), packet),
            _ => Ok(OneWay { verdict, reason: words }),
        };
        let Judgement { egress: out, ingress: into, .. } = judgement;
        Ok([
            one_way(Direction::Egress, out.verdict, &out.reason, egress)?,
            one_way(Direction::Ingress, into.verdict, &into.reason, ingress)?,
        ])
    }

    /// The verdict of the policies that isolate the pod.
    fn rules(&self, side: Side<'_>, packet: &Packet) -> Result<OneWay, String> {
        let Side { direction, subject, peer, .. } = side;
        if let Some(address) = peer.address.filter(|address| peer.pods.is_empty() && self.is_on_node(*address)) {
            match direction {
                Direction::Ingress => {
                    return Ok(allow(format!("{address} is taken for the node, which is not judged")));
                }
                Direction::Egress if self.allow_egress_to_own_node => {
                    return Ok(allow(format!(
                        "{address} is taken for the node, and --allow-egress-to-own-node is given"
                    )));
                }
                Direction::Egress => {}
            }
        }
        let judges = self.how == Untracked::Judge && direction == Direction::Egress;
        if judges && peer.address.is_none() {
            return Err("one end has no IP, by which untracked packets are judged".to_owned());
        }
        let policies: Vec<_> = side.policies().filter(ConsideredPolicy::isolates).map(|found| found.policy).collect();
        let rule = self.passes(side, &policies, judges, packet)?;
        if let Some(rule) = rule {
            return Ok(allow(format!("{rule} lets untracked packets pass")));
        }
        let names = policies.iter().map(|policy| policy.key.to_string()).collect::<Vec<_>>().join(", ");
        let (policy, isolates) = if policies.len() == 1 { ("policy", "isolates") } else { ("policies", "isolate") };
        let pod = subject.the_pod().map(|pod| pod.key.to_string()).unwrap_or_default();
        let mut reason =
            format!("untracked packets of {pod} are dropped: {policy} {names} {isolates} it for {direction}");
        if judges {
            reason += ", and no rule allows them by ipBlock and port";
        } else if direction == Direction::Egress
            && peer.address.is_some()
            && let Some(rule) = self.passes(side, &policies, true, packet)?
        {
            // Writing to a String cannot fail.
            _ = write!(reason, "; with --untracked judge, {rule} lets them pass");
        }
        Ok(OneWay { verdict: Verdict::Deny, reason })
    }

    /// The rule by which the packet passes the chain of these policies.
    fn passes(
        &self,
        side: Side<'_>,
        policies: &[&Policy],
        judges: bool,
        packet: &Packet,
    ) -> Result<Option<String>, String> {
        let Some(pod) = side.subject.the_pod() else { return Ok(None) };
        let keys = policies.iter().map(|policy| policy.key.clone()).collect();
        let mut chains = self.chains.borrow_mut();
        let chain = chains
            .entry((side.direction, judges, keys))
            .or_insert_with(|| Judge::of(pod, policies, side.direction, judges));
        let Some(chain) = chain else { return Ok(None) };
        match chain.rules_on(packet).map_err(|error| error.to_string())? {
            Ruling::Passes(rule) => Ok(Some(rule)),
            Ruling::Dropped => Ok(None),
        }
    }

    /// Whether an IP that no pod has is taken for the node of the other end. A packet that conntrack does not track is not
    /// translated, so only the node itself can answer at a Service's IP, as NodeLocal DNSCache does.
    fn is_on_node(&self, address: IpAddr) -> bool {
        let is_link_local = match address {
            IpAddr::V4(address) => address.is_link_local(),
            IpAddr::V6(address) => address.is_unicast_link_local(),
        };
        is_link_local || self.services.with_address(address).is_some()
    }
}

fn allow(reason: String) -> OneWay {
    OneWay { verdict: Verdict::Allow, reason }
}

fn unspecified(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
    }
}
