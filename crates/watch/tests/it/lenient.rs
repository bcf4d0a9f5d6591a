//! Mistakes in manifests that kubectl and API servers accept.
//!
//! Seen to fail when: any of the nulls is not reported; a block with host bits is refused, not masked, or not reported;
//! an unreadable document of another kind refuses the file.

use std::fs;

use palisade_policy::input::{IpBlock, Peer, Peers};
use palisade_watch::{Finding, Flaw, ManifestErrors, Objects, read_manifests, survey_manifests};

const POLICY: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web}
spec:
  podSelector: {}
";

/// The text, read for enforcement and for checking.
fn read(name: &str, text: &str) -> (Result<Objects, ManifestErrors>, Vec<Finding>) {
    let path = std::env::temp_dir().join(format!("palisade-lenient-{}-{name}.yaml", std::process::id()));
    fs::write(&path, text).unwrap();
    let paths = std::slice::from_ref(&path);
    let read = (read_manifests(paths), survey_manifests(paths).findings);
    fs::remove_file(path).unwrap();
    read
}

#[test]
fn a_document_of_another_kind_never_makes_a_policy_unreadable() {
    for (index, other) in [
        "kind: ConfigMap\ndata:\n\t- tab\n",
        "kind: Rollout # a custom resource\nspec: {a: .inf, a: 2}\n",
        "apiVersion: v1\nkind: Service\nspec: {{ template }}\n",
        "kind: Secret\ndata: {~: x}\n",
    ]
    .into_iter()
    .enumerate()
    {
        let (objects, findings) = read(&format!("other-{index}"), &format!("{other}---{POLICY}"));
        let objects = objects.unwrap();
        assert_eq!((objects.policies.len(), objects.warnings.len()), (1, 1), "{other}");
        assert!(findings.iter().any(|finding| finding.flaw == Flaw::Malformed), "{other}");
    }
    for (index, ours) in [
        "kind: NetworkPolicy\nspec: [\n",
        "kind: Networkpolicy\nspec: [\n",
        "kind: List\nitems: [\n",
        "kind: PodList\nitems: [\n",
        "kind: Deployment\nspec: [\n",
        "spec: [\n",
        "kind: ConfigMap\nkind: NetworkPolicy\n",
    ]
    .into_iter()
    .enumerate()
    {
        let (objects, _) = read(&format!("ours-{index}"), &format!("{ours}---{POLICY}"));
        objects.unwrap_err();
    }
}

#[test]
fn blocks_that_older_api_servers_take_are_read_as_from_a_cluster() {
    let peers = "
  ingress:
  - from:
    - ipBlock: {cidr: 10.1.2.3/16, except: [10.1.128.1/17]}
    - ipBlock: {cidr: 010.0.0.0/8}
    - ipBlock: {cidr: '::ffff:10.0.0.0/104'}
    - ipBlock: {cidr: 2001:db8::1/32}
";
    let (objects, findings) = read("blocks", &format!("{POLICY}{peers}"));
    let objects = objects.unwrap();
    let block = |cidr: &str, except: &[&str]| {
        let except = except.iter().map(|text| text.parse().unwrap()).collect();
        Peer::IpBlock(IpBlock { cidr: cidr.parse().unwrap(), except })
    };
    let expected = [
        block("10.1.0.0/16", &["10.1.128.0/17"]),
        block("10.0.0.0/8", &[]),
        block("10.0.0.0/8", &[]),
        block("2001:db8::/32", &[]),
    ];
    assert_eq!(objects.policies[0].ingress[0].peers, Peers::Of(expected.to_vec()));
    assert_eq!((objects.warnings.len(), findings.len()), (5, 5));
    for finding in &findings {
        assert_eq!(finding.flaw, Flaw::LegacyBlock);
        assert!(finding.reason.contains("Kubernetes 1.36 and later") && finding.hint.is_some(), "{finding}");
    }
    // A block that no API server has ever accepted, and such an except.
    for wrong in ["{cidr: 10.1.2.3}", "{cidr: 10.0.0.0/33}", "{cidr: 10.1.2.3/16, except: [10.1.9.9/16]}"] {
        let text = format!("{POLICY}\n  ingress: [{{from: [{{ipBlock: {wrong}}}]}}]\n");
        read("wrong-blocks", &text).0.unwrap_err();
    }
}

/// A policy without changes, and with keys without values.
#[test]
fn a_null_is_read_as_missing_and_reported() {
    let cases = [
        ("podSelector:", "", "spec.podSelector"),
        (
            "ingress: [{from: [{podSelector: {matchLabels: }}]}]",
            "ingress: [{from: [{podSelector: {}}]}]",
            "spec.ingress[0].from[0].podSelector.matchLabels",
        ),
        (
            "ingress: [{from: [{namespaceSelector: {matchExpressions: ~}}]}]",
            "ingress: [{from: [{namespaceSelector: {}}]}]",
            "spec.ingress[0].from[0].namespaceSelector.matchExpressions",
        ),
        ("policyTypes:", "", "spec.policyTypes"),
        ("ingress: [{from: }]", "ingress: [{}]", "spec.ingress[0].from"),
        ("ingress: [{ports: null}]", "ingress: [{}]", "spec.ingress[0].ports"),
        ("egress: [{to: }]", "egress: [{}]", "spec.egress[0].to"),
        ("ingress: [{ports: [{port: }]}]", "ingress: [{ports: [{}]}]", "spec.ingress[0].ports[0].port"),
        (
            "ingress: [{ports: [{port: 1, endPort: }]}]",
            "ingress: [{ports: [{port: 1}]}]",
            "spec.ingress[0].ports[0].endPort",
        ),
        ("ingress: [{ports: [{protocol: }]}]", "ingress: [{ports: [{}]}]", "spec.ingress[0].ports[0].protocol"),
        (
            "egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: }}]}]",
            "egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8}}]}]",
            "spec.egress[0].to[0].ipBlock.except",
        ),
        (
            "ingress: [{from: [{podSelector: , namespaceSelector: {}}]}]",
            "ingress: [{from: [{namespaceSelector: {}}]}]",
            "spec.ingress[0].from[0].podSelector",
        ),
    ];
    let policy = |field: &str| format!("{}\nspec:\n  {field}\n", POLICY.split("spec:").next().unwrap());
    for (null, missing, field) in cases {
        let (objects, findings) = read("null", &policy(null));
        let without = read("missing", &policy(&format!("{missing}\n  # "))).0.unwrap();
        assert_eq!(objects.unwrap().policies, without.policies, "{null}");
        let nulls: Vec<_> = findings.iter().filter(|finding| finding.flaw == Flaw::NullValue).collect();
        assert_eq!(nulls.iter().map(|finding| &*finding.field).collect::<Vec<_>>(), [field], "{null}");
    }
}
