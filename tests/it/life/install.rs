//! Installing into a cluster in use, and uninstalling.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use palisade_lab::{Flow, Listen, Server, probe};

use crate::life::cluster::{Cluster, NODES, PATIENCE, within};
use crate::life::scene::{PORT, Scene, in_force, reached};
use crate::life::traffic::{Crowd, Traffic};

/// The rules on a node, without counters.
fn rules(cluster: &Cluster) -> BTreeMap<&'static str, String> {
    NODES.map(|node| (node, cluster.on(node, &["nft", "--stateless", "list", "ruleset"]))).into()
}

/// The same without our table.
fn foreign(cluster: &Cluster) -> BTreeMap<&'static str, String> {
    let tables = |text: &str| {
        let tables = text.split("\n}\n").filter(|table| !table.trim_start().starts_with("table inet palisade "));
        tables.collect::<Vec<_>>().join("\n}\n")
    };
    rules(cluster).into_iter().map(|(node, text)| (node, tables(&text))).collect()
}

#[test]
#[ignore = "needs a cluster; hack/e2e runs it"]
fn installing_keeps_allowed_connections_and_cuts_the_rest() {
    let cluster = Cluster::take();
    cluster.uninstall();
    let scene = Scene::new(&cluster, "install");
    let crowd = Crowd::gather(&scene);
    let traffic = crowd.traffic();
    assert!(traffic.tally().leaked > 0, "something is enforced already");
    let begun = Instant::now();
    cluster.kubectl(&["apply", "--filename", concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/install.yaml")]);
    let cut = traffic.denied_ends(PATIENCE).duration_since(begun);
    cluster.rolled_out();
    let first = traffic.tally();
    within(PATIENCE, "traffic under rules that do not change", || {
        (traffic.tally().since(first).allowed >= 5_000).then_some(())
    });
    traffic.streams_go_on();
    let last = traffic.tally();
    println!(
        "life: installed with open connections: {} of {} allowed packets lost; the rest cut {:.1} s after kubectl apply",
        last.lost,
        last.allowed,
        cut.as_secs_f64()
    );
    assert_eq!(last.lost, 0);
    last.since(first).demand_clean("once installed");
}

#[test]
#[ignore = "needs a cluster; hack/e2e runs it"]
fn uninstalling_leaves_nothing_and_foreign_rules_stay() {
    let cluster = Cluster::take();
    cluster.uninstall();
    let scene = Scene::new(&cluster, "traces");
    let [server, client, stranger] =
        scene.pods([("server", "node1", "server"), ("client", "node2", "client"), ("stranger", "node1", "stranger")]);
    scene.let_clients_in();
    // Rules that an operator may have: before and after ours, and stricter for one port.
    let own = "table inet life {
        set addresses { type ipv4_addr; elements = { 192.0.2.1 }; }
        chain early { type filter hook forward priority -10; ip daddr @addresses counter accept; tcp dport 81 drop; }
        chain late { type filter hook forward priority 10; policy accept; counter; }
        }";
    for node in NODES {
        cluster.machine(node).nft(own).unwrap();
    }
    let before = rules(&cluster);
    cluster.install();
    in_force(&server, &client, &stranger);
    let meanwhile = rules(&cluster);
    assert!(NODES.iter().all(|node| meanwhile[node].contains("table inet palisade ")), "{meanwhile:?}");
    assert_eq!(foreign(&cluster), before, "foreign rules");
    // Both apply: ours allows the client, the operator's does not at this port.
    let _echo = Server::start(&server.network, &server.addresses, &[Listen::tcp(PORT), Listen::tcp(81)]).unwrap();
    let address = server.addresses[0];
    assert_eq!(reached(&[("client", &client.network)], &[(address, PORT), (address, 81)])["client"], "+-");
    let traffic = Traffic::start(&[(&client, &server)], &[]);
    traffic.flows();
    cluster.uninstall();
    assert_eq!(rules(&cluster), before);
    traffic.streams_go_on();
    let tally = traffic.tally();
    assert_eq!(tally.lost, 0, "{tally}");
    assert!(probe(&Flow::tcp(&stranger, address, PORT), Duration::from_secs(2)).unwrap().is_reachable());
    for node in NODES {
        // No files on the node, no processes.
        let files = "find /etc /opt /run /var -xdev -path '*palisade*' -not -path '/var/lib/containerd/*' | head";
        // The kubelet deletes what containers wrote, in its own time.
        within(PATIENCE, "an end of all files", || cluster.on(node, &["sh", "-c", files]).is_empty().then_some(()));
        within(PATIENCE, "the end of the process", || cluster.try_on(node, &["pgrep", "--exact", "palisade"]).err());
        cluster.machine(node).nft("delete table inet life").unwrap();
    }
    println!(
        "life: uninstalled: {} of {} allowed packets lost; the rulesets of {} nodes are what they were, no file and no process \
         is left",
        tally.lost,
        tally.allowed,
        NODES.len()
    );
}
