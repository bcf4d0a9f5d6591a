//! What manifests may hold, since kubectl and API servers take it.
//!
//! Seen to fail when: a document of another kind that cannot be read refuses the file.

#![expect(clippy::unwrap_used, reason = "in tests, also outside of test functions")]

use std::fs;

use palisade_watch::{Finding, Flaw, ManifestErrors, Objects, read_manifests, survey_manifests};

const POLICY: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web}
spec:
  podSelector: {}
";

/// The text, read for acting on it and for looking at it.
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
