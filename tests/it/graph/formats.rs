//! `graph` in the languages of other tools: each of them draws it, with every end and every link.
//!
//! Seen to fail when: the names of dot, or of Mermaid, were not quoted; an edge of the picture led to the client's side.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::sample;
use crate::cli::place::Place;
use crate::common::browser::Browser;

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/example/platform");

fn graph(place: &Place, arguments: &str) -> String {
    let ran = place.run(&format!("graph {arguments}"));
    assert_eq!((ran.status, ran.err.as_str()), (Some(0), ""));
    ran.out
}

/// Workloads whose names have a pod's, in parentheses, because a policy tells their pods apart.
const SPLIT: &str = "\
{apiVersion: v1, kind: Namespace, metadata: {name: shop}}
---
{apiVersion: v1, kind: Pod, metadata: {name: web-5d8f-0, namespace: shop, labels: {app: web, pod-template-hash: 5d8f}}}
---
{apiVersion: v1, kind: Pod, metadata: {name: web-5d8f-1, namespace: shop, labels: {app: web, track: canary, pod-template-hash: 5d8f}}}
---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: canary, namespace: shop}, spec: {podSelector: {matchLabels: {track: canary}}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 80}]}]}}
";

/// The links of the JSON output.
fn links(place: &Place, path: &str) -> usize {
    let tables: Value = serde_json::from_str(&graph(place, &format!("-f {path} -o json"))).unwrap();
    tables["links"].as_array().unwrap().len()
}

/// What Graphviz draws.
fn drawn(dot: &str) -> String {
    let command = Command::new("dot").arg("-Tsvg").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut dot_process = command.expect("apt-get install graphviz");
    dot_process.stdin.take().unwrap().write_all(dot.as_bytes()).unwrap();
    let output = dot_process.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn graphviz_draws_every_link() {
    let place = Place::new("graph-dot", &[("sample.yaml", &sample::manifests())]);
    for path in [EXAMPLE, "sample.yaml"] {
        let svg = drawn(&graph(&place, &format!("-f {path} -o dot")));
        assert_eq!(svg.matches("class=\"edge\"").count(), links(&place, path), "{path}");
    }
    let svg = drawn(&graph(&place, &format!("-f {EXAMPLE} -o dot --focus shop/api")));
    assert!(svg.contains(">payments/api<") && !svg.contains(">tools/debug<"), "{svg}");
}

#[test]
fn mermaid_draws_every_link() {
    let place = Place::new("graph-mermaid", &[("sample.yaml", &sample::manifests()), ("split.yaml", SPLIT)]);
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/palisade"));
    let cache = std::env::var_os("PALISADE_CACHE").map(PathBuf::from).or(home).unwrap();
    let script = cache.join("tools/mermaid/mermaid.min.js");
    let script = fs::read_to_string(&script)
        .unwrap_or_else(|error| panic!("{}: {error}; run hack/test graph", script.display()));
    let page = place.0.join("mermaid.html");
    fs::write(
        &page,
        format!(
            "<!doctype html><title>Mermaid</title><body></body><script>{}</script>",
            script.replace("</script", "<\\/script")
        ),
    )
    .unwrap();
    let mut browser = Browser::start();
    browser.open(&page);
    browser.evaluate("mermaid.initialize({ startOnLoad: false, maxEdges: 5000, maxTextSize: 1000000 })");
    for (path, name) in [(EXAMPLE, "payments/api"), ("split.yaml", "shop/web (pod web-5d8f-1)")] {
        let text = graph(&place, &format!("-f {path} -o mermaid"));
        let svg = browser.evaluate(&format!("mermaid.render('drawn', {}).then((drawn) => drawn.svg)", json!(text)));
        browser.evaluate(&format!("void (document.body.innerHTML = {svg})"));
        let count = browser.evaluate("document.querySelectorAll('.edgePaths path').length");
        assert_eq!(count, links(&place, path), "{text}");
        assert!(svg.as_str().unwrap().contains(name), "{text}");
    }
    // Every line of the large one is read; to draw it takes a minute.
    let text = graph(&place, "-f sample.yaml -o mermaid");
    assert_eq!(browser.evaluate(&format!("mermaid.parse({}).then(Boolean)", json!(text))), true);
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn a_picture_is_a_file_of_its_own() {
    let place = Place::new("graph-svg", &[("sample.yaml", &sample::manifests())]);
    let mut browser = Browser::start();
    for path in [EXAMPLE, "sample.yaml"] {
        let file: &Path = &place.0.join("graph.svg");
        fs::write(file, graph(&place, &format!("-f {path} -o svg"))).unwrap();
        browser.open(file);
        let edges = browser.evaluate("document.querySelectorAll('path.edge').length");
        assert_eq!(edges, links(&place, path), "{path}");
        let outside = "[...document.querySelectorAll('.card')].filter((card) => { const box = card.getBoundingClientRect(); \
            const all = document.documentElement.getBoundingClientRect(); \
            return box.left < all.left || box.right > all.right || box.bottom > all.bottom; }).length";
        assert_eq!(browser.evaluate(outside), 0, "{path}: a card is outside of the picture");
    }
}
