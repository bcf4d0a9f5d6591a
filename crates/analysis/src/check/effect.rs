//! Rules without effect, because of other rules or of `policyTypes`.

use palisade_policy::input::{Direction, ObjectName, Policy, Rule};

use super::code::Code;
use super::remark::Remark;
use crate::cover::{is_rule_within, is_selector_within};
use crate::view::View;

/// Looks at every rule.
pub(crate) fn check(view: &View<'_>) -> Vec<Remark> {
    let mut remarks = Vec::new();
    for policy in view.policies() {
        for direction in Direction::ALL {
            if policy.rules(direction).is_empty() {
                continue;
            }
            if policy.isolates.in_direction(direction) {
                remarks.extend(shadows(view, policy, direction));
            } else {
                remarks.push(inert(policy, direction));
            }
        }
    }
    remarks
}

fn inert(policy: &Policy, direction: Direction) -> Remark {
    let word = policy_type(direction);
    let matter = format!("policyTypes does not have {word}, so these rules have no effect and {direction} stays open");
    let advice = format!("add {word} to policyTypes, or remove the rules");
    let object = ObjectName::policy(&policy.key);
    Remark::new(Code::RulesWithoutPolicyType, object, format!("spec.{direction}"), matter, advice)
}

fn policy_type(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "Ingress",
        Direction::Egress => "Egress",
    }
}

/// The rules of a policy that another rule makes redundant. Of two equal rules it is the later one, so that only one is
/// reported.
fn shadows(view: &View<'_>, policy: &Policy, direction: Direction) -> Vec<Remark> {
    let own = policy.rules(direction);
    let mut remarks = Vec::new();
    for (index, rule) in own.iter().enumerate() {
        let field = format!("spec.{direction}[{index}]");
        let covers = |(other, broader): &(usize, &Rule)| {
            *other != index
                && is_rule_within(view, policy, rule, policy, broader)
                && (*other < index || !is_rule_within(view, policy, broader, policy, rule))
        };
        let object = ObjectName::policy(&policy.key);
        if let Some((other, _)) = own.iter().enumerate().find(covers) {
            let matter = format!("spec.{direction}[{other}] allows everything that this rule allows");
            let advice = "remove this rule, or narrow the other";
            remarks.push(Remark::new(Code::ShadowedRule, object, field, matter, advice));
        } else if let Some((other, index)) = shadowing_policy(view, policy, direction, rule) {
            let matter = format!(
                "spec.{direction}[{index}] of policy {}, which selects all these pods, allows everything that this rule allows",
                other.key
            );
            let advice = "remove this rule, or narrow the other";
            remarks.push(Remark::new(Code::ShadowedByPolicy, object, field, matter, advice));
        }
    }
    remarks
}

fn shadowing_policy<'a>(
    view: &View<'a>,
    policy: &Policy,
    direction: Direction,
    rule: &Rule,
) -> Option<(&'a Policy, usize)> {
    let others = view.policies().filter(|other| {
        other.key.namespace == policy.key.namespace
            && other.key != policy.key
            && other.isolates.in_direction(direction)
            && is_selector_within(&policy.pod_selector, &other.pod_selector)
    });
    others.into_iter().find_map(|other| {
        let is_same_selection = other.pod_selector == policy.pod_selector;
        let covers = |broader: &&Rule| {
            is_rule_within(view, policy, rule, other, broader)
                && !(is_same_selection && policy.key < other.key && is_rule_within(view, other, broader, policy, rule))
        };
        let index = other.rules(direction).iter().position(|broader| covers(&broader))?;
        Some((other, index))
    })
}
