//! A flow explained: every policy and rule that was considered, and the nearest miss.

use palisade_policy::flow::{Decision, Flow, Judgement, Verdict};
use palisade_policy::input::{Direction, NamespacedName, State};
use palisade_policy::reference::{Considered, ConsideredPolicy, Side};

use crate::near::{Term, misses};
use crate::words;

/// A flow explained.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The verdict.
    pub verdict: Verdict,
    /// The flow and its verdict in one line.
    pub line: String,
    /// Egress, then ingress.
    pub directions: [OneWay; 2],
}

/// One direction of a flow explained.
#[derive(Clone, Debug)]
pub struct OneWay {
    /// The direction.
    pub direction: Direction,
    /// Its verdict.
    pub verdict: Verdict,
    /// Why.
    pub reason: String,
    /// The policies that isolate the pod in this direction, with all their rules; none if rules do not decide.
    pub policies: Vec<OfPolicy>,
    /// Other policies of the pod's namespace: they do not select it, or not for this direction.
    pub others: usize,
    /// The rule that misses by least, if the direction is denied for want of a rule.
    pub nearest: Option<Nearest>,
}

/// A policy, and how far its rules matched.
#[derive(Clone, Debug)]
pub struct OfPolicy {
    /// Its name.
    pub policy: NamespacedName,
    /// Its rules in order.
    pub rules: Vec<OfRule>,
}

/// How far a rule matched.
#[derive(Clone, Debug)]
pub struct OfRule {
    /// Whether the peer matches.
    pub peer: bool,
    /// Whether the port matches.
    pub port: bool,
    /// The same in words.
    pub text: String,
}

/// The rule that misses by least.
#[derive(Clone, Debug)]
pub struct Nearest {
    /// Its policy.
    pub policy: NamespacedName,
    /// Its position; of a rule that would have to be added, the number of rules there are.
    pub index: usize,
    /// Whether it is one of the rules of a policy that isolates the pod.
    pub is_listed: bool,
    /// What keeps it from matching.
    pub miss: String,
    /// What change to the policy would allow the flow in this direction.
    pub change: String,
}

/// Explains a flow.
pub fn explain(state: &State, flow: &Flow, considered: &Considered<'_>, judgement: &Judgement) -> Explanation {
    let [egress, ingress] = words::reasons(state, flow, considered, judgement);
    let one_way =
        |direction, decision: &Decision, reason| of_side(considered.side(direction), decision.verdict, reason);
    Explanation {
        verdict: judgement.verdict,
        line: words::line(flow, &considered.ends, judgement),
        directions: [
            one_way(Direction::Egress, &judgement.egress, egress),
            one_way(Direction::Ingress, &judgement.ingress, ingress),
        ],
    }
}

fn of_side(side: Side<'_>, verdict: Verdict, reason: String) -> OneWay {
    let rules_decide = side.settled().is_none();
    let isolating: Vec<_> = side.policies().filter(ConsideredPolicy::isolates).collect();
    let others = side.policies().count() - isolating.len();
    let of_policy = |policy: ConsideredPolicy<'_>| OfPolicy {
        policy: policy.policy.key.clone(),
        rules: policy
            .rules()
            .map(|rule| OfRule {
                peer: rule.is_peer_match(),
                port: rule.is_port_match(),
                text: words::near::rule(&side, &rule),
            })
            .collect(),
    };
    OneWay {
        direction: side.direction,
        verdict,
        reason,
        policies: if rules_decide { isolating.into_iter().map(of_policy).collect() } else { Vec::new() },
        others,
        nearest: misses(side).first().map(|miss| Nearest {
            policy: miss.policy.key.clone(),
            index: miss.index,
            is_listed: !matches!(miss.term, Term::Subject(_) | Term::NewRule),
            miss: words::near::miss(miss),
            change: words::near::change(miss),
        }),
    }
}
