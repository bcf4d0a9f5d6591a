//! NetworkPolicies.

use palisade_policy::input::{
    Direction, Isolates, Kind, LabelSelector, NamespacedName, Object, Policy, Rule, Unenforceable,
};
use serde::Deserialize;

use super::decoder::{Decoder, Issue};
use super::field::Field;
use super::metadata::{self, ObjectMeta};
use super::path::Path;
use super::rule::ProtocolCase;
use super::schema::{POLICY, SPEC};
use super::{Decoded, Structure, hint, syntax};
use crate::finding::Flaw;
use crate::node::{Node, Value};

/// `networking.k8s.io/v1` NetworkPolicy of an API server. Its spec is read from a tree, so that there is only one reading
/// of each clause.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct KubePolicy {
    metadata: Field<ObjectMeta>,
    spec: Field<serde_json::Value>,
}

impl Structure for KubePolicy {
    const KIND: Kind = Kind::NetworkPolicy;

    fn version(&self) -> &str {
        metadata::version(&self.metadata)
    }

    fn decode(self, decoder: &mut Decoder, path: &Path<'_>) -> Option<Decoded> {
        let key = decoder.namespaced(self.metadata, path).key?;
        let spec = self.spec.get().map(Node::from);
        let policy = decoder.accepted_policy(key, spec.as_ref());
        Some(Decoded { object: Object::Policy(policy), ports: Vec::new() })
    }
}

impl Decoder {
    /// Reads a NetworkPolicy manifest. Do not use the policy if a mistake was noted. None if it has no name.
    pub(crate) fn policy(&mut self, object: &Node, path: &Path<'_>, legacy: bool) -> Option<Policy> {
        self.fields(object, path, &POLICY);
        if let Some(entry) = object.entry("status") {
            self.warn(
                Flaw::StatusField,
                entry.line,
                &path.key("status"),
                "is no longer a field of a NetworkPolicy and is ignored",
            );
        }
        let metadata = self.metadata_of(object, path);
        let key = self.namespaced(metadata, path).key;
        let case = if legacy { ProtocolCase::Any } else { ProtocolCase::Upper };
        if object.get("spec").is_none() {
            let reason = "is missing; the policy isolates every pod of its namespace for ingress and allows nothing";
            self.warn(Flaw::MissingSpec, object.line, &path.key("spec"), reason);
        }
        // Check the rest even without a name.
        let policy =
            self.policy_spec(key.clone().unwrap_or_else(super::nameless), object.get("spec"), &path.key("spec"), case);
        key.map(|_| policy)
    }

    /// Reads the `spec` of a NetworkPolicy that an API server holds.
    ///
    /// Terms that cannot be parsed match nothing and are listed in [`Policy::unenforceable`]: a peer or port alone; if
    /// `podSelector` or `spec` itself is at fault, the policy selects more and allows nothing.
    fn accepted_policy(&mut self, key: NamespacedName, spec: Option<&Node>) -> Policy {
        let mut policy = self.policy_spec(key, spec, &Path::Root.key("spec"), ProtocolCase::Upper);
        policy.unenforceable =
            self.errors.drain(..).map(|Issue { field, reason, .. }| Unenforceable { field, reason }).collect();
        policy
    }

    fn policy_spec(&mut self, key: NamespacedName, spec: Option<&Node>, path: &Path<'_>, case: ProtocolCase) -> Policy {
        let absent = Node::null(0);
        let spec = spec.unwrap_or(&absent);
        let ((), spec_sound) = self.part(|decoder| decoder.fields(spec, path, &SPEC));
        self.warn_of_null(spec, "podSelector", path, "the policy selects every pod of its namespace");
        self.warn_of_null(spec, "policyTypes", path, "the types follow from the rules");
        let (pod_selector, selector_sound) = self.part(|decoder| match spec.get("podSelector") {
            Some(field) => decoder.selector(field, &path.key("podSelector")),
            None => LabelSelector::everything(),
        });
        let mut ingress = self.rules(spec, path, Direction::Ingress, case);
        let mut egress = self.rules(spec, path, Direction::Egress, case);
        // Like the API server's default, this depends on the text, even if the rules are dropped below.
        let egress_written = spec.get("egress").is_some_and(|list| list.value != Value::Sequence(Vec::new()));
        let mut isolates = self.isolates(spec, path, egress_written);
        if !matches!(spec.value, Value::Mapping(_) | Value::Null) {
            isolates = Isolates { ingress: true, egress: true };
        }
        if !(spec_sound && selector_sound) {
            ingress.clear();
            egress.clear();
        }
        Policy { key, pod_selector, isolates, ingress, egress, unenforceable: Vec::new() }
    }

    fn rules(&mut self, spec: &Node, path: &Path<'_>, direction: Direction, case: ProtocolCase) -> Vec<Rule> {
        let path = &path.key(direction.name());
        let items = self.items(spec, direction.name(), path);
        items.iter().enumerate().map(|(index, item)| self.rule(item, &path.index(index), direction, case)).collect()
    }

    /// `policyTypes` with its default. A type that cannot be parsed isolates in both directions.
    fn isolates(&mut self, spec: &Node, path: &Path<'_>, egress_written: bool) -> Isolates {
        let path = &path.key("policyTypes");
        let (items, listed) = self.part(|decoder| decoder.items(spec, "policyTypes", path));
        if !listed {
            return Isolates { ingress: true, egress: true };
        }
        if items.is_empty() {
            return Isolates { ingress: true, egress: egress_written };
        }
        if let Some(third) = items.get(2) {
            self.error(third.line, path, "must not have more than two items", None);
        }
        let mut isolates = Isolates::default();
        for (index, item) in items.iter().enumerate() {
            match item.text() {
                Some("Ingress") => isolates.ingress = true,
                Some("Egress") => isolates.egress = true,
                _ => {
                    self.unknown_policy_type(item, &path.index(index));
                    isolates = Isolates { ingress: true, egress: true };
                }
            }
        }
        isolates
    }

    fn unknown_policy_type(&mut self, item: &Node, path: &Path<'_>) {
        let (flaw, reason, hint) = if let Value::String(text) = &item.value {
            let meant = syntax::nearest(text, ["Ingress", "Egress"]);
            let hint = meant.map(|meant| format!("did you mean {meant}?"));
            (Flaw::InvalidValue, format!("{text:?} is not Ingress or Egress"), hint)
        } else {
            let reason = format!("must be Ingress or Egress, not {}", item.in_words());
            (Flaw::WrongType, reason, hint::for_policy_type(item))
        };
        self.flaw(flaw, item.line, path, reason, hint);
    }
}
