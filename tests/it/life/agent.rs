//! Agents that are replaced, deleted, restarted with their node; and their privileges.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use crate::life::cluster::{Cluster, HASTE, NODES, PATIENCE, asked_every, within};
use crate::life::scene::{PORT, Pod, Scene, in_force, networks, reached, source};
use crate::life::traffic::{Crowd, RATE, Traffic};
use palisade_lab::{Flood, Flow, Listen, Server, Sink};

#[test]
#[ignore = "needs a cluster; hack/e2e runs it"]
fn replacing_every_agent_under_traffic() {
    let cluster = Cluster::enforced();
    let scene = Scene::new(&cluster, "rollout");
    let crowd = Crowd::gather(&scene);
    in_force(&crowd.server, &crowd.near, &crowd.stranger);
    let traffic = crowd.traffic();
    let before = traffic.tally();
    cluster.kubectl(&["rollout", "restart", "--namespace=kube-system", "daemonset/palisade"]);
    cluster.rolled_out();
    traffic.streams_go_on();
    traffic.tally().since(before).demand_clean("rolling update");
}

#[test]
#[ignore = "needs a cluster; hack/e2e runs it"]
fn an_agent_that_is_deleted_comes_back() {
    let cluster = Cluster::enforced();
    let scene = Scene::new(&cluster, "deleted");
    let [server, client, stranger, beyond] = scene.pods([
        ("server", "node1", "server"),
        ("client", "node2", "client"),
        ("stranger", "node1", "stranger"),
        ("beyond", "node2", "stranger"),
    ]);
    scene.let_clients_in();
    in_force(&server, &client, &stranger);
    let traffic = Traffic::start(&[(&client, &server)], &[(&beyond, &server)]);
    traffic.flows();
    let before = traffic.tally();
    let here = [
        "--namespace=kube-system",
        "--selector=app.kubernetes.io/name=palisade",
        "--field-selector=spec.nodeName=node1",
    ];
    cluster.kubectl(&[&["delete", "pod", "--force", "--wait"], &here[..]].concat());
    // Changed while there may be no agent: it is enforced anyway.
    scene.kubectl(&["label", "pod", "stranger", "--overwrite", "app=client"]);
    cluster.rolled_out();
    let _echo = Server::start(&server.network, &server.addresses, &[Listen::tcp(PORT)]).unwrap();
    let destinations: Vec<_> = server.addresses.iter().map(|address| (*address, PORT)).collect();
    within(PATIENCE, "the changed label in force", || {
        reached(&[("stranger", &stranger.network)], &destinations)["stranger"].contains('+').then_some(())
    });
    traffic.streams_go_on();
    traffic.tally().since(before).demand_clean("agent deleted");
}

#[test]
#[ignore = "needs a cluster; hack/e2e runs it"]
fn a_node_that_restarts_is_enforced_again() {
    let cluster = Cluster::enforced();
    let scene = Scene::new(&cluster, "restart");
    let [_, _, _, beyond] = scene.pods([
        ("server", "node1", "server"),
        ("client", "node2", "client"),
        ("stranger", "node1", "stranger"),
        ("beyond", "node2", "stranger"),
    ]);
    scene.let_clients_in();
    let before: BTreeSet<_> = networks(&cluster, "node1").into_keys().collect();
    let begun = Instant::now();
    cluster.restart("node1");
    // Its pods have new network namespaces, and may have new IPs.
    let again = || {
        let pods = scene.kubectl(&["get", "pods", "--field-selector=spec.nodeName=node1", "--output=json"]);
        let pods: serde_json::Value = serde_json::from_str(&pods).ok()?;
        let is_again = |pod: &serde_json::Value| {
            let container = &pod["status"]["containerStatuses"][0];
            container["restartCount"].as_u64().is_some_and(|count| count > 0) && container["ready"] == true
        };
        pods["items"].as_array()?.iter().all(is_again).then_some(begun.elapsed())
    };
    let all_run = AtomicBool::new(false);
    let (uninvited, restarted) = thread::scope(|scope| {
        let floods = scope.spawn(|| floods_to_new_pods(&cluster, &beyond, before, &all_run));
        let restarted = within(PATIENCE, "the restart of the node's pods", again);
        all_run.store(true, Ordering::Relaxed);
        (floods.join().unwrap(), restarted)
    });
    cluster.rolled_out();
    let [server, stranger] = ["server", "stranger"].map(|name| scene.started(name, "node1"));
    let client = scene.started("client", "node2");
    in_force(&server, &client, &stranger);
    let enforced = begun.elapsed();
    // The rules were lost with the node, and return with the agent, which starts among the other pods.
    let (_, flood, sink) =
        uninvited.iter().find(|(address, _, _)| server.addresses.contains(address)).expect("a flood to the server");
    let (leaked, sent) = (sink.counts(flood.id()).received, flood.sent());
    within(PATIENCE, "packets after that", || (flood.sent() >= sent + 2_000).then_some(()));
    println!(
        "life: node restarted: its pods ran after {:.1} s, enforced after {:.1} s; {leaked} denied packets of {RATE} a second \
         leaked before the agent ran, {} of {} afterwards",
        restarted.as_secs_f64(),
        enforced.as_secs_f64(),
        sink.counts(flood.id()).received - leaked,
        flood.sent() - sent,
    );
    assert_eq!(sink.counts(flood.id()).received, leaked);
}

/// Floods each new pod of node1 from the moment that it has an IP, until no more start.
fn floods_to_new_pods(
    cluster: &Cluster,
    from: &Pod,
    mut known: BTreeSet<String>,
    no_more: &AtomicBool,
) -> Vec<(IpAddr, Flood, Sink)> {
    let (mut floods, mut port) = (Vec::new(), 30_000);
    asked_every(HASTE, PATIENCE, "an end of new pods", || {
        for (name, network) in networks(cluster, "node1") {
            let Some(address) = source(&network, from.addresses[0]).filter(|_| !known.contains(&name)) else {
                continue;
            };
            port += 1;
            let sink = Sink::open(&network, address, port).unwrap();
            floods.push((address, Flood::start(&Flow::udp(from, address, port), Some(RATE)).unwrap(), sink));
            known.insert(name);
        }
        no_more.load(Ordering::Relaxed).then_some(())
    });
    floods
}

/// The directory in /proc of the agent of a node.
fn agent_of(cluster: &Cluster, node: &str) -> PathBuf {
    let network = fs::metadata(cluster.network_path(node)).unwrap().ino();
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| Some(entry.ok()?.path()));
    let mut agents = processes.filter(|path| {
        let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
        let lives_in = fs::metadata(path.join("ns/net")).map(|data| data.ino());
        name.trim() == "palisade" && lives_in.is_ok_and(|inode| inode == network)
    });
    agents.next().unwrap_or_else(|| panic!("no agent on {node}"))
}

#[test]
#[ignore = "needs a cluster; hack/e2e runs it"]
fn an_agent_has_one_capability() {
    let cluster = Cluster::enforced();
    for node in NODES {
        let agent = agent_of(&cluster, node);
        let status = fs::read_to_string(agent.join("status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.unwrap_or_else(|| panic!("{name} in {status}")).trim().to_owned()
        };
        // CAP_NET_ADMIN is bit 12 (linux/capability.h).
        let net_admin = format!("{:016x}", 1_u64 << 12);
        for set in ["CapPrm", "CapEff", "CapBnd"] {
            assert_eq!(field(set), net_admin, "{set} on {node}");
        }
        assert_eq!((field("CapAmb"), field("CapInh")), (format!("{:016x}", 0), format!("{:016x}", 0)), "{node}");
        assert_eq!((field("NoNewPrivs").as_str(), field("Seccomp").as_str()), ("1", "2"), "{node}");
        let mounts = fs::read_to_string(agent.join("mounts")).unwrap();
        let root = mounts.lines().find(|line| line.split(' ').nth(1) == Some("/")).unwrap();
        assert!(root.split(' ').nth(3).unwrap().split(',').any(|option| option == "ro"), "{root}");
        println!(
            "life: agent of {node}: CapEff {}, NoNewPrivs 1, Seccomp 2, read-only root, {} resident",
            field("CapEff"),
            field("VmRSS")
        );
    }
}
