//! Terms that the API server still has but would reject in a new object.

use palisade_policy::index::set_aside_somewhere;
use palisade_policy::input::{ObjectName, Peer, Policy};

use super::code::Code;
use super::remark::{Edit, Remark};
use crate::view::{View, peers, rules};

/// Checks terms that could not be parsed, and blocks.
pub(crate) fn check(view: &View<'_>) -> Vec<Remark> {
    let terms = view.policies.iter().flat_map(|policy| unenforceable(policy).chain(excepts(policy)));
    terms.chain(too_wide(view)).collect()
}

/// Policies that select more pods than agents accept for a namespace, as far as the pods are known.
fn too_wide(view: &View<'_>) -> impl Iterator<Item = Remark> {
    let policies = set_aside_somewhere(view.state).into_iter();
    let policies = policies.map(|(policy, why)| (ObjectName::policy(&policy), why));
    policies.filter(|(policy, _)| view.is_sound(policy)).map(|(policy, why)| {
        let advice = "write fewer selectors, or such that select fewer pods";
        Remark::new(Code::UnenforceableTerm, policy, "spec", why, advice)
    })
}

fn unenforceable(policy: &Policy) -> impl Iterator<Item = Remark> {
    policy.unenforceable.iter().map(|term| {
        let (matter, advice) = if policy.is_over_budget() {
            (term.reason.clone(), "write fewer peers and ports, or split the policy")
        } else {
            (format!("{}: it matches nothing", term.reason), "rewrite the policy with what was meant")
        };
        Remark::new(Code::UnenforceableTerm, ObjectName::policy(&policy.key), &term.field, matter, advice)
    })
}

fn excepts(policy: &Policy) -> impl Iterator<Item = Remark> {
    let peers = rules(policy).flat_map(|(direction, field, rule)| peers(direction, &field, rule).collect::<Vec<_>>());
    let blocks = peers.filter_map(|(field, peer)| match peer {
        Peer::IpBlock(block) => Some((field, block)),
        Peer::Pods { .. } | Peer::Unmatchable => None,
    });
    blocks.flat_map(move |(field, block)| {
        let cidr = block.cidr;
        let is_outside = move |except: &ipnet::IpNet| *except == cidr || !cidr.contains(except);
        let outside = block.except.iter().enumerate().filter(move |(_, except)| is_outside(except));
        outside.map(move |(index, except)| {
            let matter = format!("{except} is not a smaller block inside of {cidr}");
            let field = format!("{field}.ipBlock.except[{index}]");
            let advice = "correct one of the two, or remove the except";
            let remedy = [Edit::Remove { field: field.clone() }];
            Remark::new(Code::ExceptOutsideCidr, ObjectName::policy(&policy.key), field, matter, advice).remedy(remedy)
        })
    })
}
