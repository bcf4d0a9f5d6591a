//! Selectors that match nothing, or only pods that policies ignore; pods that no policy selects.

use std::collections::BTreeSet;

use palisade_policy::input::{LabelSelector, NamespaceScope, NamespacedName, ObjectName, Operator, Peer, Pod, Policy};
use palisade_policy::nearest;

use super::code::Code;
use super::remark::{Edit, Remark};
use crate::labelled::{HasLabels, Labelled};
use crate::names::{names, pods};
use crate::view::{Selected, View, peers, rules};

/// Namespaces of the cluster itself: a default policy there cuts off the cluster's DNS, among other things.
const SYSTEM_NAMESPACES: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];

/// Checks every selector, and every pod for a policy that selects it.
pub(crate) fn check(view: &View<'_>) -> Vec<Remark> {
    if !view.knows_pods() {
        return Vec::new();
    }
    let mut remarks = Vec::new();
    for policy in &view.policies {
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
    let namespace = &policy.key.namespace;
    if !selected.is_empty() || !view.has_all_pods_of(namespace) {
        return None;
    }
    let (matter, advice) = match view.pods_of(namespace) {
        None => {
            let advice = match nearest(namespace, view.namespaces_with_pods()) {
                Some(meant) => format!("did you mean namespace {meant}?"),
                None => "is it the right namespace?".to_owned(),
            };
            (format!("namespace {namespace} has no pods"), advice)
        }
        Some(there) => {
            let selector = &policy.pod_selector;
            (format!("no pod of namespace {namespace} matches {selector}"), nearest_miss(selector, &[there]))
        }
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
        // In a part of a cluster, namespaces are missing too.
        if view.is_whole() && view.matching(namespaces).is_empty() {
            let matter = format!("no namespace matches {namespaces}");
            let advice = nearest_miss(namespaces, &[view.labelled_namespaces()]);
            return Some(Remark::new(Code::PeerSelectsNoNamespaces, object, field_of_namespaces, matter, advice));
        }
        if selector.is_everything() {
            field_of_pods = field_of_namespaces;
        }
    }
    let selected = view.peer(policy, peer)?;
    if !selected.live.is_empty() || !view.has_all_pods_of_peer(policy, peer) {
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
        NamespaceScope::Own => BTreeSet::from([&*policy.key.namespace]),
        NamespaceScope::Matching(selector) => {
            view.matching(selector).iter().map(|namespace| &*namespace.name).collect()
        }
    };
    let there: Vec<_> = meant.iter().filter_map(|name| view.pods_of(name)).collect();
    let plural = if meant.len() == 1 { "" } else { "s" };
    let place = format!("namespace{plural} {}", names(&meant));
    if there.is_empty() {
        return (format!("there are no pods in {place}"), "is it the right namespace?".to_owned());
    }
    let anywhere =
        Peer::Pods { namespaces: NamespaceScope::Matching(LabelSelector::everything()), pods: selector.clone() };
    let elsewhere = view.peer(policy, &anywhere);
    let elsewhere: BTreeSet<_> = elsewhere.iter().flat_map(|found| &found.live).map(|pod| &pod.key.namespace).collect();
    let advice = if elsewhere.is_empty() {
        nearest_miss(selector, &there)
    } else {
        format!("such pods are in {}: select that with a namespaceSelector", names(elsewhere))
    };
    (format!("no pod in {place} matches {selector}"), advice)
}

/// What prevents a match.
fn nearest_miss<T: HasLabels>(selector: &LabelSelector, there: &[&Labelled<'_, T>]) -> String {
    let is_unmet = |requirement: &&_| !there.iter().any(|objects| objects.meets(requirement));
    let Some(requirement) = selector.requirements.iter().find(is_unmet) else {
        return "nothing there has all of these labels together".to_owned();
    };
    let key = &requirement.key;
    let values: BTreeSet<_> = there.iter().flat_map(|objects| objects.values(key)).collect();
    match &requirement.operator {
        Operator::In(_) | Operator::Exists if values.is_empty() => format!("nothing there has the label {key}"),
        Operator::In(wanted) => {
            let near = |value: &String| there.iter().find_map(|objects| objects.nearest(key, value));
            match wanted.iter().find_map(near) {
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
    for name in view.namespaces_with_pods().filter(|name| !SYSTEM_NAMESPACES.contains(name)) {
        let name: std::sync::Arc<str> = name.into();
        let Selected { live, .. } = view.state.pods_of(&name).collect();
        let mut selected: BTreeSet<&NamespacedName> = BTreeSet::new();
        let mut seen: BTreeSet<&LabelSelector> = BTreeSet::new();
        for policy in view.state.policies_of(&name).filter(|policy| seen.insert(&policy.pod_selector)) {
            let found = view.selected(policy);
            view.count(found.live.len());
            selected.extend(found.live.iter().map(|pod| &pod.key));
            if selected.len() == live.len() {
                break;
            }
        }
        let open: Vec<_> = live.iter().copied().filter(|pod| !selected.contains(&pod.key)).collect();
        let Some(first) = open.first() else { continue };
        let namespace = ObjectName::namespace(&name);
        let object = if view.is_written(&namespace) { namespace } else { ObjectName::pod(&first.key) };
        let no_policy = if view.is_whole() { "no policy" } else { "no policy of the input" };
        let matter = if open.len() == live.len() {
            format!("{no_policy} selects any pod of namespace {name}: {}", pods(&open))
        } else {
            format!(
                "{no_policy} selects {} of the {} pods of namespace {name}: {}",
                open.len(),
                live.len(),
                pods(&open)
            )
        };
        let advice = "add a policy with an empty podSelector, as a default, and allow what the pods need, such as DNS";
        let object_text = format!(
            r#"{{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{{"name":"default-deny-ingress","namespace":"{name}"}},"spec":{{"podSelector":{{}},"policyTypes":["Ingress"]}}}}"#
        );
        let remedy = [Edit::Create { object: object_text }];
        remarks.push(Remark::new(Code::UnselectedPods, object, "", matter, advice).remedy(remedy));
    }
    remarks
}
