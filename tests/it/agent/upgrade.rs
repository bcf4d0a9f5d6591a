//! An agent that finds the table of an earlier release, under traffic.
//!
//! `tests/data/tables/VERSION.nft` is the output of `nft list table inet palisade` after an agent of that release had
//! ended, on the node and with the policies of this test. To store the table of another release:
//! `PALISADE_STORE=VERSION:PROGRAM hack/test agent::upgrade`. With `PALISADE_ROLLBACK=PROGRAM` the test continues with
//! that program, as a rollback would.

use std::fs;
use std::path::{Path, PathBuf};

use palisade_lab::{Pod, Signal};
use palisade_testkit::apiserver::ApiServer;
use serde_json::json;

use crate::agent::bed::{Bed, LISTEN};
use crate::agent::cluster::start;
use crate::agent::restart::Fire;
use crate::common::listing::without_stamps;
use crate::common::running::Agent;

/// Every kind of object that a table can have: shared sets, many blocks, named ports, port maps, both directions.
const POLICIES: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny-all, namespace: shop}
spec: {podSelector: {}, policyTypes: [Ingress, Egress]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
  - from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: ops}}, podSelector: {matchLabels: {app: client}}}]
  - from: [{ipBlock: {cidr: 192.0.2.0/24, except: [192.0.2.77/32]}}, {podSelector: {matchLabels: {app: nobody}}}]
    ports: [{port: 1}, {port: 3}, {port: 5}, {port: 7}, {port: 9}, {port: 11}, {port: 13}, {port: 15}, {port: 17, endPort: 99}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: client, namespace: ops}
spec:
  podSelector: {matchLabels: {app: client}}
  policyTypes: [Egress]
  egress:
  - to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: shop}}, podSelector: {}}]
  - ports: [{port: dns, protocol: UDP}]
";

/// A listing in a form that `nft -f` accepts: nft 1.0.6 lists an unknown flag as nothing.
fn loadable(listing: &str) -> String {
    listing.lines().filter(|line| line.trim_end() != "\tflags").flat_map(|line| [line, "\n"]).collect()
}

/// The lines of a listing, sorted, since nft lists chains in the order of creation.
fn sorted(listing: &str) -> Vec<&str> {
    let mut lines: Vec<_> = without_stamps(listing).collect();
    lines.sort_unstable();
    lines
}

fn tables() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tables")
}

struct Scene {
    bed: Bed,
    stranger: Pod,
    api: ApiServer,
}

impl Scene {
    fn new(name: &str) -> Self {
        let bed = Bed::new(name);
        let stranger = bed.node().add_pod("ops/stranger").unwrap();
        let api = start(&bed);
        api.create_pod("ops", "stranger", stranger.node(), &json!({ "app": "stranger" })).unwrap();
        api.set_pod_running("ops", "stranger", &stranger.addresses()).unwrap();
        api.apply(POLICIES).unwrap();
        Self { bed, stranger, api }
    }

    fn agent_of_release(&self, program: &str) -> Agent {
        let (kubeconfig, log) = (self.api.kubeconfig(), self.bed.log());
        let file = fs::File::options().create(true).append(true).open(&log).unwrap();
        let arguments = ["--kubeconfig", kubeconfig.to_str().unwrap()];
        let agent = Agent::start_program(program, self.bed.node(), LISTEN, &arguments, &log, file);
        agent.wait_ready();
        agent
    }
}

fn store(version: &str, program: &str) {
    let scene = Scene::new("store");
    scene.agent_of_release(program).end(Signal::SIGTERM);
    fs::create_dir_all(tables()).unwrap();
    fs::write(tables().join(format!("{version}.nft")), scene.bed.nft(&["-s", "list", "table", "inet", "palisade"]))
        .unwrap();
}

#[test]
fn the_table_of_an_earlier_release_is_adopted_under_fire() {
    if let Ok(wanted) = std::env::var("PALISADE_STORE") {
        let (version, program) = wanted.split_once(':').expect("PALISADE_STORE=VERSION:PROGRAM");
        store(version, program);
    }
    let mut stored: Vec<_> = fs::read_dir(tables()).unwrap().map(|entry| entry.unwrap().path()).collect();
    stored.sort();
    assert!(stored.iter().any(|path| path.ends_with("0.1.0.nft")), "{stored:?}");
    for (number, path) in stored.into_iter().enumerate() {
        let (scene, table) = (Scene::new(&format!("upgrade-{number}")), fs::read_to_string(&path).unwrap());
        for pod in [&scene.bed.web, &scene.bed.client, &scene.stranger] {
            for address in pod.addresses() {
                assert!(
                    table.contains(&format!(" {address} ")),
                    "{} lacks {} of {}",
                    path.display(),
                    address,
                    pod.name()
                );
            }
        }
        scene.bed.node().nft(&loadable(&table)).unwrap();
        let fire = Fire::open(&scene.bed, &scene.stranger);
        fire.go_on();
        let agent = scene.bed.agent_of(&scene.api.kubeconfig());
        agent.wait_ready();
        fire.go_on();
        let adopted = scene.bed.list();
        assert!(adopted.contains("set pods-on-node4") && !adopted.contains("set local4"), "{adopted}");
        // Nothing is left of the earlier table: it equals the table of an agent on a node without one.
        agent.end(Signal::SIGTERM);
        if let Ok(program) = std::env::var("PALISADE_ROLLBACK") {
            let former = scene.agent_of_release(&program);
            fire.go_on();
            former.end(Signal::SIGTERM);
            let agent = scene.bed.agent_of(&scene.api.kubeconfig());
            agent.wait_ready();
            fire.go_on();
            agent.end(Signal::SIGTERM);
        }
        let left = scene.bed.nft(&["-s", "list", "table", "inet", "palisade"]);
        let (leaked, lost, [allowed, denied]) = fire.cease();
        println!("{}: {denied} denied, {leaked} leaked, {allowed} allowed, {lost} lost", path.display());
        assert_eq!(lost, 0, "of {allowed} allowed datagrams");
        assert_eq!(leaked, 0, "of {denied} denied datagrams");
        scene.bed.nft(&["delete", "table", "inet", "palisade"]);
        let fresh = scene.bed.agent_of(&scene.api.kubeconfig());
        fresh.wait_ready();
        fresh.end(Signal::SIGTERM);
        assert_eq!(sorted(&left), sorted(&scene.bed.nft(&["-s", "list", "table", "inet", "palisade"])));
    }
}
