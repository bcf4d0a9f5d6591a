//! The fields that each part of an object may have, and common mistakes.

use super::syntax::nearest;
use crate::finding::Flaw;
use crate::node::{Node, Value};

/// The fields of a mapping.
pub(super) struct Schema {
    /// A description of the mapping: `a peer`.
    pub(super) what: &'static str,
    /// Its fields.
    pub(super) fields: &'static [&'static str],
    /// Fields that people put here by mistake, and where they belong.
    misplaced: &'static [(&'static str, &'static str)],
    /// The hint if it is not a mapping at all.
    shape: &'static str,
}

impl Schema {
    /// What was probably meant by the unknown field `key`: whether it is misspelled or misplaced, and what to write.
    pub(super) fn meant(&self, key: &str, value: &Node) -> (Flaw, Option<String>) {
        match self.misplaced.iter().find(|(name, _)| *name == key) {
            Some((_, hint)) => (Flaw::MisplacedField, Some((*hint).to_owned())),
            None => (Flaw::UnknownField, self.hint(key, value)),
        }
    }

    fn hint(&self, key: &str, value: &Node) -> Option<String> {
        if let Some(field) = nearest(key, self.fields.iter().copied()) {
            return Some(format!("did you mean {field}?"));
        }
        let is_selector = self.fields == SELECTOR.fields;
        match &value.value {
            Value::String(text) if is_selector => {
                Some(format!("labels go under matchLabels: matchLabels: {{{key}: {text}}}"))
            }
            _ => None,
        }
    }

    /// What to do about a value that should have been this mapping.
    pub(super) fn shape_hint(&self, value: &Node) -> Option<String> {
        match (&value.value, self.shape) {
            (Value::Sequence(items), _) if !items.is_empty() => {
                Some("leave out the `-`: this is not a list".to_owned())
            }
            (_, "") => None,
            (_, shape) => Some(shape.to_owned()),
        }
    }
}

/// A NetworkPolicy.
pub(super) const POLICY: Schema = Schema {
    what: "a NetworkPolicy",
    // `status` was a field in some releases; it never had a meaning.
    fields: &["apiVersion", "kind", "metadata", "spec", "status"],
    misplaced: &[
        ("podSelector", "it belongs under spec"),
        ("policyTypes", "it belongs under spec"),
        ("ingress", "it belongs under spec"),
        ("egress", "it belongs under spec"),
        ("name", "it belongs under metadata"),
        ("namespace", "it belongs under metadata"),
        ("labels", "it belongs under metadata"),
    ],
    shape: "",
};

/// `metav1.ObjectMeta`.
pub(super) const METADATA: Schema = Schema {
    what: "metadata",
    fields: &[
        "name",
        "generateName",
        "namespace",
        "selfLink",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "labels",
        "annotations",
        "ownerReferences",
        "finalizers",
        "managedFields",
    ],
    misplaced: &[("spec", "spec belongs next to metadata, not in it")],
    shape: "",
};

/// `NetworkPolicySpec`.
pub(super) const SPEC: Schema = Schema {
    what: "the spec of a NetworkPolicy",
    fields: &["podSelector", "policyTypes", "ingress", "egress"],
    misplaced: &[
        (
            "namespaceSelector",
            "a policy selects pods of its own namespace only; to name pods elsewhere as peers, put namespaceSelector into an \
             item of from or to",
        ),
        ("selector", "write podSelector"),
        ("matchLabels", "it belongs under podSelector"),
        ("matchExpressions", "it belongs under podSelector"),
        ("from", "it belongs in an item of ingress: ingress: [{from: […]}]"),
        ("to", "it belongs in an item of egress: egress: [{to: […]}]"),
        ("ports", "it belongs in an item of ingress or egress"),
        ("ipBlock", "it belongs in an item of from or to"),
        ("types", "write policyTypes"),
    ],
    shape: "",
};

/// `NetworkPolicyIngressRule`.
pub(super) const INGRESS_RULE: Schema = Schema {
    what: "an ingress rule",
    fields: &["from", "ports"],
    misplaced: &[
        ("to", "an ingress rule names its peers in from"),
        ("port", "write ports: [{port: …}]"),
        ("protocol", "it belongs in an item of ports"),
        ("endPort", "it belongs in an item of ports"),
        ("podSelector", "it belongs in an item of from"),
        ("namespaceSelector", "it belongs in an item of from"),
        ("ipBlock", "it belongs in an item of from"),
    ],
    shape: "a rule is a mapping with from and ports; {} allows everything",
};

/// `NetworkPolicyEgressRule`.
pub(super) const EGRESS_RULE: Schema = Schema {
    what: "an egress rule",
    fields: &["to", "ports"],
    misplaced: &[
        ("from", "an egress rule names its peers in to"),
        ("port", "write ports: [{port: …}]"),
        ("protocol", "it belongs in an item of ports"),
        ("endPort", "it belongs in an item of ports"),
        ("podSelector", "it belongs in an item of to"),
        ("namespaceSelector", "it belongs in an item of to"),
        ("ipBlock", "it belongs in an item of to"),
    ],
    shape: "a rule is a mapping with to and ports; {} allows everything",
};

/// `NetworkPolicyPeer`.
pub(super) const PEER: Schema = Schema {
    what: "a peer",
    fields: &["podSelector", "namespaceSelector", "ipBlock"],
    misplaced: &[
        ("matchLabels", "it belongs under podSelector or namespaceSelector"),
        ("matchExpressions", "it belongs under podSelector or namespaceSelector"),
        ("cidr", "it belongs under ipBlock"),
        ("except", "it belongs under ipBlock"),
        ("ports", "it belongs next to from or to, not in their items: remove the indentation"),
        ("namespace", "write namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: …}}"),
    ],
    shape: "a peer is a mapping with podSelector, namespaceSelector or ipBlock",
};

/// `IPBlock`.
pub(super) const IP_BLOCK: Schema = Schema {
    what: "an ipBlock",
    fields: &["cidr", "except"],
    misplaced: &[("cidrs", "an ipBlock has one cidr; write one item of from or to for each")],
    shape: "write ipBlock: {cidr: …}",
};

/// `NetworkPolicyPort`.
pub(super) const PORT: Schema = Schema {
    what: "a port",
    fields: &["port", "protocol", "endPort"],
    misplaced: &[
        ("targetPort", "write port; it is the pod's port, after the Service"),
        ("containerPort", "write port"),
        ("number", "write port"),
        ("name", "write port; it takes a number or the name of a container port"),
        ("from", "it belongs next to ports, not in its items: remove the indentation"),
        ("to", "it belongs next to ports, not in its items: remove the indentation"),
        ("startPort", "write port and endPort"),
    ],
    shape: "write `- port: …`",
};

/// `metav1.LabelSelector`.
pub(super) const SELECTOR: Schema = Schema {
    what: "a label selector",
    fields: &["matchLabels", "matchExpressions"],
    misplaced: &[
        ("podSelector", "a podSelector holds matchLabels or matchExpressions directly"),
        ("namespaceSelector", "it belongs next to podSelector, not in it: remove the indentation"),
        ("key", "it belongs in an item of matchExpressions"),
        ("labels", "write matchLabels"),
        ("matchNames", "write matchLabels: {kubernetes.io/metadata.name: …}"),
    ],
    shape: "write matchLabels: {…}; {} selects everything",
};

/// `metav1.LabelSelectorRequirement`.
pub(super) const REQUIREMENT: Schema = Schema {
    what: "a match expression",
    fields: &["key", "operator", "values"],
    misplaced: &[
        ("value", "write values: […]"),
        ("matchLabels", "it belongs next to matchExpressions, not in its items"),
    ],
    shape: "write {key: …, operator: …, values: […]}",
};
