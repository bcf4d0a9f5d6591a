//! Directories and namespaces, which every verb reads alike.
//!
//! Seen to fail when: subdirectories are read without `-R`, or not with it; hidden ones or symlinks to directories are
//! read; `-n` overrides a namespace in a manifest; `trace` needs one in `--from`.

use std::fs;
use std::os::unix::fs::symlink;

use super::{run, stderr, stdout};

const POLICY: &str = "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: deny}, spec: {}}";

fn pod(name: &str, ip: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{nodeName: node1}}, \
         status: {{phase: Running, podIP: {ip}}}}}"
    )
}

#[test]
fn subdirectories_are_read_on_demand() {
    let top = std::env::temp_dir().join(format!("palisade-directories-{}", std::process::id()));
    fs::create_dir_all(top.join("a/b")).unwrap();
    fs::create_dir_all(top.join(".hidden")).unwrap();
    fs::write(top.join("client.yaml"), pod("client", "10.0.0.1")).unwrap();
    fs::write(top.join("a/server.yaml"), pod("server", "10.0.0.2")).unwrap();
    fs::write(top.join("a/b/policy.json"), POLICY).unwrap();
    fs::write(top.join("a/b/other.txt"), "not a manifest").unwrap();
    fs::write(top.join(".hidden/wrong.yaml"), "[").unwrap();
    symlink(&top, top.join("a/again")).unwrap();
    let path = top.to_str().unwrap();
    let trace = |more: &[&str]| {
        let flow = ["trace", "-f", path, "-n", "shop", "--from", "client", "--to", "shop/server", "--port", "80"];
        run(&[&flow, more].concat(), "")
    };
    let flat = trace(&[]);
    assert!(stderr(&flat).contains("shop/server"), "{}", stderr(&flat));
    let deep = trace(&["--recursive"]);
    assert!(stdout(&deep).starts_with("deny"), "{} {}", stdout(&deep), stderr(&deep));
    let rendered = |more: &[&str]| {
        let output = run(&[&["render", "-f", path, "--node", "node1"], more].concat(), "");
        (output.status.success(), ["deny", "shop"].iter().all(|name| stdout(&output).contains(name)))
    };
    assert_eq!((rendered(&["-n", "shop"]), rendered(&["-R"])), ((true, false), (true, false)));
    assert_eq!(rendered(&["-R", "-n", "shop"]), (true, true));
    let checked = run(&["check", "-f", path, "-R", "--namespace=shop"], "");
    assert_eq!((checked.status.code(), stdout(&checked)), (Some(0), ""));
    let alone = run(&["check", "-f", path, "-n", "shop"], "");
    assert!(stdout(&alone).contains("namespace shop: shop/client"), "{}", stdout(&alone));
    fs::remove_dir_all(top).unwrap();
}

#[test]
fn a_namespace_in_a_manifest_stays() {
    let pods = format!(
        "{}\n---\n{}",
        pod("a", "10.0.0.1").replace("name: a", "name: a, namespace: own"),
        pod("b", "10.0.0.2")
    );
    let flow = ["trace", "-f", "-", "-n", "shop", "--from", "own/a", "--to", "b", "--port", "80"];
    let output = run(&flow, &pods);
    assert!(stdout(&output).starts_with("allow"), "{}", stderr(&output));
    let usage = run(&["check", "-R"], "");
    assert_eq!(usage.status.code(), Some(2));
}
