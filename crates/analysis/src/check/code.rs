//! The codes of `check`, in one table. docs/check.md lists them; a test compares the two.
//!
//! A code is an interface: people suppress and search by it. Codes may be added, but never renamed or reused.

use std::fmt;

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// An API server rejects it, or drops the field.
    Error,
    /// It is accepted, but probably has another effect than intended.
    Warning,
    /// Worth knowing.
    Info,
}

impl Severity {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

/// A row of the list of codes.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The name that findings have.
    pub name: &'static str,
    /// How bad it is; the same for every finding of the code.
    pub severity: Severity,
    /// What is wrong, in one sentence.
    pub meaning: &'static str,
    /// What to do about it, in general.
    pub advice: &'static str,
}

/// Makes the enum, the list and the entries of all codes from one table. A row: variant, severity, name, meaning, advice.
macro_rules! codes {
    ($($code:ident: $severity:ident $name:literal, $meaning:literal, $advice:literal;)+) => {
        /// The kind of a finding.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Code {
            $(#[doc = $meaning] $code,)+
        }

        impl Code {
            /// All codes, in listing order.
            pub const ALL: &[Self] = &[$(Self::$code),+];

            /// Its row of the list.
            pub const fn entry(self) -> Entry {
                match self {
                    $(Self::$code => Entry {
                        name: $name,
                        severity: Severity::$severity,
                        meaning: $meaning,
                        advice: $advice,
                    },)+
                }
            }
        }
    };
}

codes! {
    Malformed: Error "malformed",
        "The text is not YAML, or a document is not an object.",
        "Fix the syntax; render templates first.";
    WrongKind: Error "wrong-kind",
        "`apiVersion` or `kind` is missing, or almost that of a Pod, Namespace or NetworkPolicy.",
        "Write `networking.k8s.io/v1` and `NetworkPolicy`, or `v1` and the kind.";
    UnknownField: Error "unknown-field",
        "There is no such field: the API server rejects or drops it.",
        "Write the field that was meant; case matters.";
    MisplacedField: Error "misplaced-field",
        "The field belongs elsewhere, such as `namespaceSelector` directly under `spec`.",
        "Move it to where the message says.";
    WrongType: Error "wrong-type",
        "The value has the wrong YAML type, such as an object in `policyTypes`.",
        "Write the type that the message names.";
    MissingField: Error "missing-field",
        "A required field is missing.",
        "Add it.";
    InvalidValue: Error "invalid-value",
        "The API server rejects the value: a name, label, port, protocol, operator or policy type.",
        "Write a valid one; case matters.";
    InvalidCidr: Error "invalid-cidr",
        "The text is not a CIDR.",
        "Write a CIDR, as 10.9.8.0/24 or 2001:db8::/64.";
    ExceptOutsideCidr: Error "except-outside-cidr",
        "An `except` is not a smaller block inside its `cidr`.",
        "Correct one of the two, or remove the `except`.";
    WrittenTwice: Error "written-twice",
        "An object appears twice: one of the two is lost when both are applied.",
        "Remove one of the two.";
    UnenforceableTerm: Warning "unenforceable-term",
        "A term of a policy in the cluster cannot be enforced; it matches nothing, and the pods stay isolated.",
        "Rewrite the policy with what was meant.";
    LegacyCidr: Warning "legacy-cidr",
        "The CIDR has leading zeros, host bits or an IPv4-mapped address: Kubernetes 1.36 and later refuse it in new policies.",
        "Write the CIDR that the message names.";
    NullValue: Warning "null-value",
        "A key or a dash has no value, which does not mean what it looks like.",
        "Write `{}` for everything, or remove the item.";
    MissingSpec: Warning "missing-spec",
        "A policy without `spec` isolates every pod of its namespace for ingress and allows nothing.",
        "Write `spec`, if only to make that explicit.";
    RemovedField: Warning "removed-field",
        "`status` is no longer a field of NetworkPolicy.",
        "Remove it.";
    PodAddress: Warning "pod-address",
        "A pod's status has an IP that no pod can have; it is ignored.",
        "Find out what wrote the status.";
    LegacyApiVersion: Warning "legacy-api-version",
        "Kubernetes 1.16 removed `extensions/v1beta1`.",
        "Write `networking.k8s.io/v1`.";
    LegacyAnnotation: Warning "legacy-annotation",
        "The annotation `net.beta.kubernetes.io/network-policy` has no effect: the namespace is open.",
        "Write a NetworkPolicy with an empty `podSelector` instead.";
    SelectsNoPods: Warning "selects-no-pods",
        "A policy's `podSelector` matches no pod of its namespace.",
        "Correct the selector or the policy's namespace.";
    SelectsHostNetwork: Warning "selects-host-network",
        "A policy selects hostNetwork pods, which no policy isolates.",
        "Take the pod off the host's network, or protect the node by other means.";
    PeerSelectsNoNamespaces: Warning "peer-selects-no-namespaces",
        "A peer's `namespaceSelector` matches no namespace.",
        "Correct the selector, or label the namespace.";
    PeerSelectsNoPods: Warning "peer-selects-no-pods",
        "A peer matches no pod.",
        "Correct the selectors; two items of a list are alternatives, two selectors of one item must both match.";
    PeerOnHostNetwork: Warning "peer-on-host-network",
        "A peer matches only hostNetwork pods, which no selector selects.",
        "Match the nodes' IPs with `ipBlock`.";
    NamedPortUndefined: Warning "named-port-undefined",
        "No destination pod declares a port of this name and protocol, so the port matches nothing.",
        "Correct the name, add `protocol`, or write the number.";
    PortNotServed: Warning "port-not-served",
        "Every destination pod declares its ports, and none declares this one.",
        "Write the pod's port, not the Service's.";
    RulesWithoutPolicyType: Warning "rules-without-policy-type",
        "There are rules for a direction that is not in `policyTypes`, so they have no effect.",
        "Add the direction to `policyTypes`, or remove the rules.";
    NoDns: Warning "no-dns",
        "Pods may open some flows but cannot reach DNS, so Service names do not resolve for them.",
        "Allow UDP and TCP 53 to the cluster's DNS.";
    ShadowedRule: Warning "shadowed-rule",
        "Another rule of the same policy allows everything that the rule allows.",
        "Remove the rule, or narrow the broader one.";
    ShadowedByPolicy: Info "shadowed-by-policy",
        "A rule of another policy, which selects at least the same pods, allows everything that the rule allows.",
        "Remove the rule, or narrow the broader one.";
    DnsCache: Info "dns-cache",
        "Pods may query DNS, but not NodeLocal DNSCache, which runs on the host's network: no egress rule has an `ipBlock` for it.",
        "Allow UDP and TCP 53 to the cache's IP with `ipBlock`, and run the agents with `--untracked judge`.";
    UnselectedPods: Info "unselected-pods",
        "A namespace has pods that no policy selects: they may reach, and be reached by, anything.",
        "Add a policy with an empty `podSelector` to the namespace, and allow what its pods need, such as DNS.";
}

impl Code {
    /// The code of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.entry().name == name)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.entry().name)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Seen to fail when: a row of docs/check.md was removed, its severity or its text changed, or two swapped.
    #[test]
    fn the_documented_list_is_the_table() {
        let document = include_str!("../../../../docs/check.md");
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
