//! Selectors that match nothing, or only pods that policies ignore; pods that no policy selects.

use std::collections::BTreeSet;

use palisade_policy::input::{LabelSelector, Labels, NamespaceScope, ObjectName, Operator, Peer, Pod, Policy};
use palisade_policy::nearest;

use super::code::Code;
use super::remark::Remark;
use crate::names::{names, pods};
use crate::view::{Selected, View, may_select, peers, rules};

/// Checks every selector, and every pod for a policy that selects it.
pub(crate) fn check(view: &View<'_>) -> Vec<Remark> {
    if !view.knows_pods() {
        return Vec::new();
    }
    let mut remarks = Vec::new();
    for policy in view.policies() {
        remarks.extend(subjects(view, policy));
        for (direction, field, rule) in rules(policy) {
            for (field, peer) in peers(direction, &field, rule) {
                remarks.extend(of_peer(view, policy, peer, &field));
            }
        }
    }
    remarks.extend(unselected(view));
    remarks
}

/// `spec.podSelector` of a policy.
fn subjects(view: &View<'_>, policy: &Policy) -> Option<Remark> {
    const FIELD: &str = "spec.podSelector";
    let selected = view.selected(policy);
    let object = ObjectName::policy(&policy.key);
    if !selected.on_host.is_empty() {
        let matter = format!("{} on the host's network, where policies do not apply", are(&selected.on_host));
        let advice = "take them off the host's network, or protect the node by other means";
        return Some(Remark::new(Code::SelectsHostNetwork, object, FIELD, matter, advice));
    }
    if !selected.is_empty() {
        return None;
    }
    let there: Vec<_> = view.state.pods_of(&policy.key.namespace).map(|pod| &pod.labels).collect();
    let namespace = &policy.key.namespace;
    let (matter, advice) = if there.is_empty() {
        let others = view.state.pods.keys().map(|key| &*key.namespace);
        let advice = match nearest(namespace, others) {
            Some(meant) => format!("did you mean namespace {meant}?"),
            None => "is it the right namespace?".to_owned(),
        };
        (format!("namespace {namespace} has no pods"), advice)
    } else {
        let selector = &policy.pod_selector;
        (format!("no pod of namespace {namespace} matches {selector}"), nearest_miss(selector, &there))
    };
    Some(Remark::new(Code::SelectsNoPods, object, FIELD, matter, advice))
}

fn of_peer(view: &View<'_>, policy: &Policy, peer: &Peer, field: &str) -> Option<Remark> {
    let Peer::Pods { namespaces, pods: selector } = peer else { return None };
    let object = ObjectName::policy(&policy.key);
    let field_of_namespaces = format!("{field}.namespaceSelector");
    let mut field_of_pods = format!("{field}.podSelector");
    if let NamespaceScope::Matching(namespaces) = namespaces {
        if !view.can_judge(namespaces) {
            return None;
        }
        if view.namespaces(namespaces).is_empty() {
            let there: Vec<_> = view.state.namespaces.values().map(|namespace| &namespace.labels).collect();
            let matter = format!("no namespace matches {namespaces}");
            let advice = nearest_miss(namespaces, &there);
            return Some(Remark::new(Code::PeerSelectsNoNamespaces, object, field_of_namespaces, matter, advice));
        }
        if selector.is_everything() {
            field_of_pods = field_of_namespaces;
        }
    }
    let selected = view.peer(policy, peer)?;
    if !selected.live.is_empty() {
        return None;
    }
    if !selected.on_host.is_empty() {
        let matter = format!("{} on the host's network, where no selector applies", are(&selected.on_host));
        let advice = "match the nodes' IPs with ipBlock";
        return Some(Remark::new(Code::PeerOnHostNetwork, object, field_of_pods, matter, advice));
    }
    selected.is_empty().then(|| {
        let (matter, advice) = no_pods(view, policy, namespaces, selector);
        Remark::new(Code::PeerSelectsNoPods, object, field_of_pods, matter, advice)
    })
}

fn no_pods(
    view: &View<'_>,
    policy: &Policy,
    namespaces: &NamespaceScope,
    selector: &LabelSelector,
) -> (String, String) {
    let meant: BTreeSet<_> = match namespaces {
        NamespaceScope::Own => BTreeSet::from([&policy.key.namespace]),
        NamespaceScope::Matching(selector) => {
            view.namespaces(selector).into_iter().map(|namespace| &namespace.name).collect()
        }
    };
    let there: Vec<_> = meant.iter().flat_map(|name| view.state.pods_of(name)).map(|pod| &pod.labels).collect();
    let plural = if meant.len() == 1 { "" } else { "s" };
    let place = format!("namespace{plural} {}", names(&meant));
    if there.is_empty() {
        return (format!("there are no pods in {place}"), "is it the right namespace?".to_owned());
    }
    let elsewhere = view.state.pods.values().filter(|pod| pod.is_live() && selector.selects(&pod.labels));
    let elsewhere: BTreeSet<_> = elsewhere.map(|pod| &pod.key.namespace).collect();
    let advice = if elsewhere.is_empty() {
        nearest_miss(selector, &there)
    } else {
        format!("such pods are in {}: select that with a namespaceSelector", names(elsewhere))
    };
    (format!("no pod in {place} matches {selector}"), advice)
}

/// What prevents a match.
fn nearest_miss(selector: &LabelSelector, there: &[&Labels]) -> String {
    let unmet = selector.requirements.iter().find(|requirement| {
        let alone = LabelSelector { requirements: BTreeSet::from([(*requirement).clone()]) };
        !there.iter().any(|labels| alone.selects(labels))
    });
    let Some(requirement) = unmet else { return "nothing there has all of these labels together".to_owned() };
    let key = &requirement.key;
    let values: BTreeSet<_> = there.iter().filter_map(|labels| labels.get(key)).collect();
    match &requirement.operator {
        Operator::In(_) | Operator::Exists if values.is_empty() => format!("nothing there has the label {key}"),
        Operator::In(wanted) => {
            let values: Vec<_> = values.into_iter().map(String::as_str).collect();
            match wanted.iter().find_map(|value| nearest(value, values.iter().copied())) {
                Some(meant) => format!("did you mean {key}={meant}?"),
                None => format!("there, {key} is only ever {}", names(values)),
            }
        }
        Operator::Exists | Operator::NotIn(_) | Operator::DoesNotExist => {
            format!("everything there has the label {key}")
        }
    }
}

/// `a/b is`, `a/b and c/d are`.
fn are(list: &[&Pod]) -> String {
    format!("{} {}", pods(list), if list.len() == 1 { "is" } else { "are" })
}

/// One remark for each namespace with live pods that no policy selects. A policy with mistakes counts as well: it was
/// meant to select them.
fn unselected(view: &View<'_>) -> Vec<Remark> {
    let mut remarks = Vec::new();
    let namespaces: BTreeSet<_> = view.state.pods.keys().map(|key| &key.namespace).collect();
    for name in namespaces {
        let Selected { live, .. } = view.state.pods_of(name).collect();
        let is_selected = |pod: &Pod| view.state.policies_of(name).any(|policy| may_select(&policy.pod_selector, pod));
        let open: Vec<_> = live.iter().copied().filter(|pod| !is_selected(pod)).collect();
        let Some(first) = open.first() else { continue };
        let namespace = ObjectName::namespace(name);
        let object = if view.is_written(&namespace) { namespace } else { ObjectName::pod(&first.key) };
        let matter = if open.len() == live.len() {
            format!("no policy selects any pod of namespace {name}: {}", pods(&open))
        } else {
            format!("no policy selects {} of the {} pods of namespace {name}: {}", open.len(), live.len(), pods(&open))
        };
        let advice = "add a policy with an empty podSelector, as a default";
        remarks.push(Remark::new(Code::UnselectedPods, object, "", matter, advice));
    }
    remarks
}
