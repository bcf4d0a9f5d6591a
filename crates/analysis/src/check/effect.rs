//! Rules without effect, because of other rules or of `policyTypes`.

use std::collections::BTreeMap;

use palisade_policy::input::{Direction, ObjectName, Policy, Rule};

use super::code::Code;
use super::remark::{Edit, Remark};
use crate::cover::{is_rule_within, is_selector_within};
use crate::rules::{RuleOf, Rules};
use crate::view::View;

/// Checks every rule.
pub(crate) fn check(view: &View<'_>) -> Vec<Remark> {
    let mut remarks = Vec::new();
    let mut rules: BTreeMap<(&str, Direction), Rules<'_>> = BTreeMap::new();
    for policy in &view.policies {
        for direction in Direction::ALL.into_iter().filter(|direction| policy.isolates.in_direction(*direction)) {
            rules.entry((&policy.key.namespace, direction)).or_default().add(policy, direction);
        }
    }
    for policy in &view.policies {
        for direction in Direction::ALL {
            if policy.rules(direction).is_empty() {
                continue;
            }
            match rules.get(&(&*policy.key.namespace, direction)) {
                Some(rules) if policy.isolates.in_direction(direction) => {
                    remarks.extend(shadows(view, rules, policy, direction));
                }
                _ => remarks.push(inert(policy, direction)),
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
    let remedy = [Edit::Append { list: "spec.policyTypes".to_owned(), item: format!("\"{word}\"") }];
    Remark::new(Code::RulesWithoutPolicyType, object, format!("spec.{direction}"), matter, advice).remedy(remedy)
}

fn policy_type(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "Ingress",
        Direction::Egress => "Egress",
    }
}

/// The rules of a policy that another rule makes redundant. Of two equal rules it is the later one, so that only one is
/// reported; of two equal policies the later one too.
fn shadows(view: &View<'_>, rules: &Rules<'_>, policy: &Policy, direction: Direction) -> Vec<Remark> {
    let own = view.state.namespaces.get(&policy.key.namespace).map(|namespace| &namespace.labels);
    let mut remarks = Vec::new();
    for (index, rule) in policy.rules(direction).iter().enumerate() {
        let candidates = rules.candidates(rule, own);
        view.count(1 + candidates.len());
        let covers = |other: &RuleOf<'_>| {
            if other.policy.key == policy.key {
                other.index != index && is_covered(view, policy, rule, other, other.index < index)
            } else {
                let is_first = other.policy.pod_selector != policy.pod_selector || other.policy.key < policy.key;
                is_selector_within(&policy.pod_selector, &other.policy.pod_selector)
                    && is_covered(view, policy, rule, other, is_first)
            }
        };
        let covering = candidates.into_iter().filter(covers);
        let Some(other) = covering.min_by_key(|other| (other.policy.key != policy.key, other.place())) else {
            continue;
        };
        let (object, field) = (ObjectName::policy(&policy.key), format!("spec.{direction}[{index}]"));
        let its = format!("spec.{direction}[{}]", other.index);
        let advice = "remove this rule, or narrow the other";
        let remedy = [Edit::Remove { field: field.clone() }];
        let remark = if other.policy.key == policy.key {
            let matter = format!("{its} allows everything that this rule allows");
            Remark::new(Code::ShadowedRule, object, field, matter, advice)
        } else {
            let matter = format!(
                "{its} of policy {}, which selects all these pods, allows everything that this rule allows",
                other.policy.key
            );
            Remark::new(Code::ShadowedByPolicy, object, field, matter, advice)
        };
        remarks.push(remark.remedy(remedy));
    }
    remarks
}

/// Whether another rule allows all that a rule does, and more unless it comes first.
fn is_covered(view: &View<'_>, policy: &Policy, rule: &Rule, other: &RuleOf<'_>, is_first: bool) -> bool {
    is_rule_within(view, policy, rule, other.policy, other.rule)
        && (is_first || !is_rule_within(view, other.policy, other.rule, policy, rule))
}
