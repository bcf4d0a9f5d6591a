//! The examples that an operator copies from the pages: each kustomization builds and has its documented effect, and
//! `palisade check` has no warning about the policy.
//!
//! Seen to fail when the flag of the example is truncated.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::render::{agent_arguments, containers, kustomize, objects, pod_spec, read};

/// The blocks of YAML of a page.
fn blocks(page: &str) -> Vec<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).unwrap();
    let blocks = text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned());
    blocks.collect()
}

/// The objects of a kustomization in a directory with the generated files.
fn build(name: &str, kustomization: &str) -> String {
    let place = std::env::temp_dir().join(format!("palisade-pages-{name}-{}", std::process::id()));
    fs::create_dir_all(&place).unwrap();
    for file in ["install.yaml", "cleanup.yaml"] {
        fs::write(place.join(file), read(file)).unwrap();
    }
    fs::write(place.join("kustomization.yaml"), kustomization).unwrap();
    let made = kustomize(place.to_str().unwrap());
    fs::remove_dir_all(place).unwrap();
    made
}

#[test]
fn a_mirror_is_named_with_its_secret_for_the_agent_and_the_clean_up() {
    let all = blocks("docs/install.md");
    let [mirror] = all.as_slice() else { panic!("{all:?}") };
    for file in ["install.yaml", "cleanup.yaml"] {
        let made = objects(&build("mirror", &mirror.replace("install.yaml", file)));
        assert_eq!(pod_spec(&made)["imagePullSecrets"], json!([{ "name": "registry" }]), "{file}");
        for container in containers(&made) {
            let image = format!("registry.example/palisade:{}", env!("CARGO_PKG_VERSION"));
            assert_eq!(container["image"], image, "{file}");
        }
    }
}

#[test]
fn a_flag_is_appended_and_the_policy_for_dns_is_flawless() {
    let all = blocks("manifests/README.md");
    let (policies, kustomizations): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|block| block.contains("kind: NetworkPolicy"));
    let ([policy], [kustomization]) = (policies.as_slice(), kustomizations.as_slice()) else {
        panic!("{policies:?} {kustomizations:?}")
    };
    assert_eq!(agent_arguments(&objects(&build("flag", kustomization))), ["agent", "--untracked=judge"]);
    let place = std::env::temp_dir().join(format!("palisade-policy-{}.yaml", std::process::id()));
    fs::write(&place, policy).unwrap();
    let checked = Command::new(env!("CARGO_BIN_EXE_palisade")).args(["check", "-f"]).arg(&place).output().unwrap();
    fs::remove_file(&place).unwrap();
    let checked = String::from_utf8(checked.stdout).unwrap();
    assert!(!checked.contains("error[") && !checked.contains("warning["), "{checked}");
}
