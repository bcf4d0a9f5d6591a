//! The page of `graph -o html` in Chromium: its answers are `trace`'s, and it works by keyboard and on a phone.
//!
//! `UPDATE_SCREENSHOTS=1` writes its pictures into docs/graph; look at them before you commit them.
//!
//! Seen to fail when: the page ignored `except`, the family of a grant, or that a node reaches its own pods; a script had
//! an error; an edge of what closes had the ports of what opens.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use palisade_policy::input::Pod;
use palisade_testkit::generate::{Case, arb_case_with, flow_line, manifests};
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use super::sample;
use crate::cli::place::{PALISADE, Place};
use crate::common::browser::{Browser, Scheme};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Generated clusters, and flows of each.
const CLUSTERS: usize = 40;
const FLOWS: usize = 40;

/// What a page and `trace` say of flows.
#[derive(Debug, Default)]
struct Tally {
    allowed: usize,
    denied: usize,
    /// Neither can judge them.
    impossible: usize,
    /// The page sends its reader to `trace`.
    unclear: usize,
}

/// Compares the page of a place's manifests with `trace`, on a file of flows. The page does not list all pods.
fn compare(
    browser: &mut Browser,
    place: &Place,
    (flags, unlisted): (&str, &[String]),
    flows: &[String],
    tally: &mut Tally,
) {
    let page = place.run(&format!("graph -f objects.yaml -o html {flags}"));
    assert_eq!(page.status, Some(0), "{}", page.err);
    let file = place.0.join("graph.html");
    fs::write(&file, &page.out).unwrap();
    fs::write(place.0.join("flows.jsonl"), flows.join("\n") + "\n").unwrap();
    browser.open(&file);
    let asked: Vec<Value> = flows.iter().map(|flow| serde_json::from_str(flow).unwrap()).collect();
    let answers = browser.evaluate(&format!("{}.map((flow) => window.palisade.judge(flow))", json!(asked)));
    assert_eq!(browser.complaints(), Vec::<String>::new());
    let traced = place.run(&format!("trace -f objects.yaml --flows flows.jsonl -o json {flags}")).out;
    let answers = answers.as_array().unwrap();
    assert_eq!((answers.len(), traced.lines().count()), (flows.len(), flows.len()));
    for ((flow, answer), line) in flows.iter().zip(answers).zip(traced.lines()) {
        let expected: Value = serde_json::from_str(line).unwrap();
        if answer["error"].as_str().is_some_and(|error| error.contains("ask palisade trace")) {
            tally.unclear += 1;
            continue;
        }
        let is_known = |end: &Value| !unlisted.iter().any(|pod| *end == pod.as_str());
        let asked: Value = serde_json::from_str(flow).unwrap();
        if !is_known(&asked["from"]) || !is_known(&asked["to"]) {
            let error = answer["error"].as_str().unwrap_or_default();
            assert!(error.starts_with("no workload, pod or node is named"), "{flow}: the page {answer}");
            continue;
        }
        if !expected["error"].is_null() {
            assert!(answer["error"].is_string(), "{flow}: trace says {expected}, the page {answer}");
            tally.impossible += 1;
            continue;
        }
        let verdicts = |of: &Value| ["verdict", "egress", "ingress"].map(|key| of[key].clone());
        let page = [&answer["verdict"], &answer["egress"]["verdict"], &answer["ingress"]["verdict"]];
        assert_eq!(page.map(Clone::clone), verdicts(&expected), "{flow}: trace says {expected}, the page {answer}");
        *(if expected["verdict"] == "allow" { &mut tally.allowed } else { &mut tally.denied }) += 1;
    }
}

/// The pods that are no workload's and no node's: policies select none of them.
fn unlisted(case: &Case) -> Vec<String> {
    let is_listed = |pod: &&Pod| if pod.host_network { pod.node.is_some() } else { pod.is_live() };
    case.state.every_pod().filter(|pod| !is_listed(pod)).map(|pod| pod.key.to_string()).collect()
}

fn flags(case: &Case) -> String {
    let mut flags = String::new();
    if case.facts.allow_egress_to_own_node {
        flags += " --allow-egress-to-own-node";
    }
    for (node, addresses) in &case.facts.addresses {
        for address in addresses {
            write!(flags, " --node-address {node}={address}").unwrap();
        }
    }
    flags
}

#[test]
fn what_if_is_what_trace_says_for_generated_clusters() {
    let mut browser = Browser::start();
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    let (cases, mut tally) = (arb_case_with(FLOWS..FLOWS + 1), Tally::default());
    for _ in 0..CLUSTERS {
        let case = cases.new_tree(&mut runner).unwrap().current();
        let flows: Vec<_> = case.flows.iter().map(flow_line).collect();
        let place = Place::new("graph-generated", &[("objects.yaml", &manifests(&case.state))]);
        compare(&mut browser, &place, (&flags(&case), &unlisted(&case)), &flows, &mut tally);
    }
    println!("{tally:?}");
    assert!(tally.allowed.min(tally.denied) > 200 && tally.unclear < 600, "{tally:?}");
}

/// Flows of the sample: between pods, from and to addresses of blocks, and nodes.
fn sample_flows() -> Vec<String> {
    let pod = (0..18_u32, proptest::sample::select(vec!["web", "api", "db", "cache", "export", "proxy"]), 0..2_u32)
        .prop_map(|(team, app, copy)| format!("team-{team:02}/{app}-5d8f-{copy}"));
    let address = proptest::sample::select(vec![
        "192.0.2.7",
        "192.0.2.200",
        "198.51.100.1",
        "172.30.0.12",
        "172.16.0.1",
        "2001:db8::7",
        "2001:db9::7",
        "10.42.3.4",
        "fd42:3::4",
        "fd00:30::11",
    ]);
    let end = proptest::prop_oneof![4 => pod, 1 => address.prop_map(ToOwned::to_owned)];
    let node = proptest::prop_oneof![9 => end.clone(), 1 => (0..10_u32).prop_map(|node| format!("node/node-{node}"))];
    let port = proptest::sample::select(vec![8080, 9000, 9010, 9011, 9100, 5432, 443, 53]);
    let flow = (node, end, port, proptest::sample::select(vec!["TCP", "TCP", "TCP", "UDP", "ICMP"]));
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    let line = |(from, to, port, protocol)| json!({ "from": from, "to": to, "port": port, "protocol": protocol });
    (0..1_000).map(|_| line(flow.new_tree(&mut runner).unwrap().current()).to_string()).collect()
}

#[test]
fn what_if_is_what_trace_says_for_300_workloads() {
    let place = Place::new("graph-sample", &[("objects.yaml", &sample::manifests())]);
    let (mut browser, mut tally) = (Browser::start(), Tally::default());
    compare(&mut browser, &place, ("", &[]), &sample_flows(), &mut tally);
    println!("{tally:?}");
    assert!(tally.allowed.min(tally.denied) > 50 && tally.unclear == 0, "{tally:?}");
    let workloads = browser.evaluate("JSON.parse(document.getElementById('data').textContent).workloads.length");
    assert_eq!(workloads, sample::WORKLOADS);
}

/// Opens the page of the example.
pub(super) fn example(browser: &mut Browser, place: &Place) {
    show(browser, place, "graph -o html -f docs/example/platform");
}

/// Opens the page that a command at the top of the repository prints.
fn show(browser: &mut Browser, place: &Place, command: &str) {
    let page = Command::new(PALISADE).args(command.split(' ')).current_dir(ROOT).output().unwrap();
    assert!(page.stderr.is_empty(), "{}", String::from_utf8_lossy(&page.stderr));
    let file = place.0.join("page.html");
    fs::write(&file, page.stdout).unwrap();
    browser.open(&file);
}

const DESK: (u32, u32) = (1440, 900);
const PHONE: (u32, u32) = (390, 844);

/// Checks that nothing is wrong with what the window shows, and keeps a picture of it.
fn shoot(browser: &mut Browser, name: &str) {
    let wide = browser.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth");
    assert!(wide.as_i64().is_some_and(|wide| wide <= 0), "{name}: the page scrolls sideways by {wide}");
    assert_eq!(browser.complaints(), Vec::<String>::new(), "{name}");
    let shot = browser.screenshot();
    if std::env::var_os("UPDATE_SCREENSHOTS").is_some() {
        let bytes = base64::engine::general_purpose::STANDARD.decode(shot).unwrap();
        fs::write(Path::new(ROOT).join(format!("docs/graph/{name}.png")), bytes).unwrap();
    }
}

#[test]
fn screenshots() {
    let place = Place::new("graph-pictures", &[("empty", "")]);
    let mut browser = Browser::start();
    for (name, size, scheme) in
        [("light", DESK, Scheme::Light), ("dark", DESK, Scheme::Dark), ("phone", PHONE, Scheme::Light)]
    {
        browser.view(size, scheme);
        example(&mut browser, &place);
        browser.evaluate("location.hash = '#shop/api'");
        shoot(&mut browser, name);
    }
}

/// The page of a difference has an edge for each row of its tables.
#[test]
fn a_difference_is_a_page() {
    let change = "diff docs/example/platform --apply docs/example/payments-by-worker.yaml -o html";
    let place = Place::new("diff-pictures", &[("empty", "")]);
    let mut browser = Browser::start();
    browser.view((1100, 560), Scheme::Light);
    show(&mut browser, &place, change);
    shoot(&mut browser, "diff");
    let count = |browser: &mut Browser, selector: &str| {
        let count = browser.evaluate(&format!("document.querySelectorAll('{selector}').length"));
        count.as_u64().unwrap()
    };
    // By hand: shop/worker → payments/api opens; shop/api → payments/api and shop/worker → shop/cache close.
    assert_eq!(count(&mut browser, ".edge.added"), 1);
    assert_eq!(count(&mut browser, ".edge.removed"), 2);
    assert_eq!(count(&mut browser, ".changes tbody tr"), 3);
    let same = "diff docs/example/platform docs/example/platform -o html";
    show(&mut browser, &place, same);
    assert_eq!(count(&mut browser, "svg.map, table"), 0);
    assert_eq!(browser.evaluate("document.querySelector('header').textContent.includes('No flow changes.')"), true);
}
