//! The codes of `check`. docs/check.md lists them; a test compares the two.
//!
//! A code is an interface: people suppress and search by it. Codes may be added, but never renamed or reused.

use palisade_watch::Flaw;
use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// An API server rejects it, or drops the field.
    Error,
    /// It is accepted, but probably does something else than intended.
    Warning,
    /// Worth knowing.
    Info,
}

impl Severity {
    /// The word for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

/// What is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Code {
    Malformed,
    WrongKind,
    UnknownField,
    MisplacedField,
    WrongType,
    MissingField,
    InvalidValue,
    InvalidCidr,
    ExceptOutsideCidr,
    WrittenTwice,
    UnenforceableTerm,
    LegacyCidr,
    NullValue,
    MissingSpec,
    RemovedField,
    PodAddress,
    LegacyApiVersion,
    LegacyAnnotation,
    SelectsNoPods,
    SelectsHostNetwork,
    PeerSelectsNoNamespaces,
    PeerSelectsNoPods,
    PeerOnHostNetwork,
    NamedPortUndefined,
    PortNotServed,
    RulesWithoutPolicyType,
    NoDns,
    ShadowedRule,
    ShadowedByPolicy,
    UnselectedPods,
}

/// A row of the list of codes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// What findings show.
    pub(crate) name: &'static str,
    /// How bad it is; the same for every finding of the code.
    pub(crate) severity: Severity,
    /// What is wrong, in one sentence.
    pub(crate) meaning: &'static str,
    /// What to do about it, in general.
    pub(crate) advice: &'static str,
}

const fn error(name: &'static str, meaning: &'static str, advice: &'static str) -> Entry {
    Entry { name, severity: Severity::Error, meaning, advice }
}

const fn warning(name: &'static str, meaning: &'static str, advice: &'static str) -> Entry {
    Entry { name, severity: Severity::Warning, meaning, advice }
}

const fn info(name: &'static str, meaning: &'static str, advice: &'static str) -> Entry {
    Entry { name, severity: Severity::Info, meaning, advice }
}

impl Code {
    /// All codes, in listing order.
    pub(crate) const ALL: [Self; 30] = [
        Self::Malformed,
        Self::WrongKind,
        Self::UnknownField,
        Self::MisplacedField,
        Self::WrongType,
        Self::MissingField,
        Self::InvalidValue,
        Self::InvalidCidr,
        Self::ExceptOutsideCidr,
        Self::WrittenTwice,
        Self::UnenforceableTerm,
        Self::LegacyCidr,
        Self::NullValue,
        Self::MissingSpec,
        Self::RemovedField,
        Self::PodAddress,
        Self::LegacyApiVersion,
        Self::LegacyAnnotation,
        Self::SelectsNoPods,
        Self::SelectsHostNetwork,
        Self::PeerSelectsNoNamespaces,
        Self::PeerSelectsNoPods,
        Self::PeerOnHostNetwork,
        Self::NamedPortUndefined,
        Self::PortNotServed,
        Self::RulesWithoutPolicyType,
        Self::NoDns,
        Self::ShadowedRule,
        Self::ShadowedByPolicy,
        Self::UnselectedPods,
    ];

    /// Its row of the list.
    pub(crate) fn entry(self) -> Entry {
        match self {
            Self::Malformed => error(
                "malformed",
                "The text is not YAML, or a document is not an object.",
                "Fix the syntax; render templates first.",
            ),
            Self::WrongKind => error(
                "wrong-kind",
                "`apiVersion` or `kind` is missing, or almost that of a Pod, Namespace or NetworkPolicy.",
                "Write `networking.k8s.io/v1` and `NetworkPolicy`, or `v1` and the kind.",
            ),
            Self::UnknownField => error(
                "unknown-field",
                "There is no such field: the API server rejects or drops it.",
                "Write the field that was meant; case matters.",
            ),
            Self::MisplacedField => error(
                "misplaced-field",
                "The field belongs elsewhere, such as `namespaceSelector` directly under `spec`.",
                "Move it to where the message says.",
            ),
            Self::WrongType => error(
                "wrong-type",
                "The value has the wrong YAML type, such as an object in `policyTypes`.",
                "Write the type that the message names.",
            ),
            Self::MissingField => error("missing-field", "A required field is missing.", "Add it."),
            Self::InvalidValue => error(
                "invalid-value",
                "The API server rejects the value: a name, label, port, protocol, operator or policy type.",
                "Write a valid one; case matters.",
            ),
            Self::InvalidCidr => {
                error("invalid-cidr", "The text is not a CIDR.", "Write a CIDR, as 10.9.8.0/24 or 2001:db8::/64.")
            }
            Self::ExceptOutsideCidr => error(
                "except-outside-cidr",
                "An `except` is not a smaller block inside its `cidr`.",
                "Correct one of the two, or remove the `except`.",
            ),
            Self::WrittenTwice => error(
                "written-twice",
                "An object appears twice: one of the two is lost when both are applied.",
                "Remove one of the two.",
            ),
            Self::UnenforceableTerm => warning(
                "unenforceable-term",
                "A term of a policy in the cluster cannot be enforced; it matches nothing, and the pods stay isolated.",
                "Rewrite the policy with what was meant.",
            ),
            Self::LegacyCidr => warning(
                "legacy-cidr",
                "The CIDR has leading zeros, host bits or an IPv4-mapped address: Kubernetes 1.36 and later refuse it in new policies.",
                "Write the CIDR that the message names.",
            ),
            Self::NullValue => warning(
                "null-value",
                "A key or a dash has no value, which does not mean what it looks like.",
                "Write `{}` for everything, or remove the item.",
            ),
            Self::MissingSpec => warning(
                "missing-spec",
                "A policy without `spec` isolates every pod of its namespace for ingress and allows nothing.",
                "Write `spec`, if only to make that explicit.",
            ),
            Self::RemovedField => {
                warning("removed-field", "`status` is no longer a field of NetworkPolicy.", "Remove it.")
            }
            Self::PodAddress => warning(
                "pod-address",
                "A pod's status has an IP that no pod can have; it is ignored.",
                "Find out what wrote the status.",
            ),
            Self::LegacyApiVersion => warning(
                "legacy-api-version",
                "Kubernetes 1.16 removed `extensions/v1beta1`.",
                "Write `networking.k8s.io/v1`.",
            ),
            Self::LegacyAnnotation => warning(
                "legacy-annotation",
                "The annotation `net.beta.kubernetes.io/network-policy` has no effect: the namespace is open.",
                "Write a NetworkPolicy with an empty `podSelector` instead.",
            ),
            Self::SelectsNoPods => warning(
                "selects-no-pods",
                "A policy's `podSelector` matches no pod of its namespace.",
                "Correct the selector or the policy's namespace.",
            ),
            Self::SelectsHostNetwork => warning(
                "selects-host-network",
                "A policy selects hostNetwork pods, which no policy isolates.",
                "Take the pod off the host's network, or protect the node by other means.",
            ),
            Self::PeerSelectsNoNamespaces => warning(
                "peer-selects-no-namespaces",
                "A peer's `namespaceSelector` matches no namespace.",
                "Correct the selector, or label the namespace.",
            ),
            Self::PeerSelectsNoPods => warning(
                "peer-selects-no-pods",
                "A peer matches no pod.",
                "Correct the selectors; two items of a list are alternatives, two selectors of one item must both match.",
            ),
            Self::PeerOnHostNetwork => warning(
                "peer-on-host-network",
                "A peer matches only hostNetwork pods, which no selector selects.",
                "Match the nodes' IPs with `ipBlock`.",
            ),
            Self::NamedPortUndefined => warning(
                "named-port-undefined",
                "No destination pod declares a port of this name and protocol, so the port matches nothing.",
                "Correct the name, add `protocol`, or write the number.",
            ),
            Self::PortNotServed => warning(
                "port-not-served",
                "Every destination pod declares its ports, and none declares this one.",
                "Write the pod's port, not the Service's.",
            ),
            Self::RulesWithoutPolicyType => warning(
                "rules-without-policy-type",
                "There are rules for a direction that is not in `policyTypes`, so they have no effect.",
                "Add the direction to `policyTypes`, or remove the rules.",
            ),
            Self::NoDns => warning(
                "no-dns",
                "Pods may open some flows but cannot reach DNS, so Service names do not resolve for them.",
                "Allow UDP and TCP 53 to the cluster's DNS.",
            ),
            Self::ShadowedRule => warning(
                "shadowed-rule",
                "Another rule of the same policy allows everything that the rule allows.",
                "Remove the rule, or narrow the broader one.",
            ),
            Self::ShadowedByPolicy => info(
                "shadowed-by-policy",
                "A rule of another policy, which selects at least the same pods, allows everything that the rule allows.",
                "Remove the rule, or narrow the broader one.",
            ),
            Self::UnselectedPods => info(
                "unselected-pods",
                "A namespace has pods that no policy selects: they may reach, and be reached by, anything.",
                "Add a policy with an empty `podSelector` to the namespace, and allow what its pods need, such as DNS.",
            ),
        }
    }
}

/// The code of a mistake found while reading; `None` if it ends the reading instead of being a finding.
pub(crate) fn of_flaw(flaw: Flaw) -> Option<Code> {
    Some(match flaw {
        Flaw::Unreadable | Flaw::NothingThere => return None,
        Flaw::Malformed => Code::Malformed,
        Flaw::WrongKind => Code::WrongKind,
        Flaw::UnknownField => Code::UnknownField,
        Flaw::MisplacedField => Code::MisplacedField,
        Flaw::WrongType => Code::WrongType,
        Flaw::MissingField => Code::MissingField,
        Flaw::InvalidValue => Code::InvalidValue,
        Flaw::InvalidBlock => Code::InvalidCidr,
        Flaw::LegacyBlock => Code::LegacyCidr,
        Flaw::ExceptOutside => Code::ExceptOutsideCidr,
        Flaw::WrittenTwice => Code::WrittenTwice,
        Flaw::NullValue => Code::NullValue,
        Flaw::MissingSpec => Code::MissingSpec,
        Flaw::StatusField => Code::RemovedField,
        Flaw::PodAddress => Code::PodAddress,
        Flaw::LegacyVersion => Code::LegacyApiVersion,
        Flaw::LegacyAnnotation => Code::LegacyAnnotation,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Seen to fail when: a row of docs/check.md was removed, its severity or its text changed, or two swapped.
    #[test]
    fn the_documented_list_is_the_table() {
        let document = include_str!("../../docs/check.md");
        let (_, codes) = document.split_once("## Codes").unwrap();
        let listed: Vec<_> = codes.lines().filter(|line| line.starts_with("| `")).collect();
        let row = |code: &Code| {
            let Entry { name, severity, meaning, advice } = code.entry();
            format!("| `{name}` | {} | {meaning} | {advice} |", severity.name())
        };
        let table: Vec<_> = Code::ALL.iter().map(row).collect();
        assert_eq!(listed, table);
    }

    #[test]
    fn names_are_unique_and_severities_in_order() {
        let names: BTreeSet<_> = Code::ALL.iter().map(|code| code.entry().name).collect();
        assert_eq!(names.len(), Code::ALL.len());
        assert!(Code::ALL.is_sorted_by_key(|code| code.entry().severity));
        assert!(Code::ALL.is_sorted());
    }
}
