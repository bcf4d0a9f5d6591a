//! Agents that are replaced, deleted, restarted with their node; and what they may do.
//!
//! Seen to fail when: (see each test)

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use crate::cluster::{Cluster, NODES, PATIENCE, within};
use crate::scene::{PORT, Scene, in_force, reached};
use crate::traffic::Traffic;
use palisade_lab::{Listen, Server};

#[test]
fn replacing_every_agent_under_traffic() {
    let cluster = Cluster::enforced();
    let scene = Scene::new(&cluster, "rollout");
    let [server, near, far, stranger, beyond] = scene.pods([
        ("server", "node1", "server"),
        ("near", "node1", "client"),
        ("far", "node2", "client"),
        ("stranger", "node1", "stranger"),
        ("beyond", "node2", "stranger"),
    ]);
    scene.let_clients_in();
    in_force(&server, &near, &stranger);
    let traffic = Traffic::start(&[(&near, &server), (&far, &server)], &[(&stranger, &server), (&beyond, &server)]);
    traffic.flows();
    let before = traffic.tally();
    cluster.kubectl(&["rollout", "restart", "--namespace=kube-system", "daemonset/palisade"]);
    cluster.rolled_out();
    traffic.streams_go_on();
    traffic.tally().since(before).demand_clean("rolling update");
}

#[test]
fn an_agent_that_is_deleted_comes_back() {
    let cluster = Cluster::enforced();
    let scene = Scene::new(&cluster, "deleted");
    let [server, client, stranger] =
        scene.pods([("server", "node1", "server"), ("client", "node2", "client"), ("stranger", "node2", "stranger")]);
    scene.let_clients_in();
    in_force(&server, &client, &stranger);
    let traffic = Traffic::start(&[(&client, &server)], &[(&stranger, &server)]);
    traffic.flows();
    let before = traffic.tally();
    let here = [
        "--namespace=kube-system",
        "--selector=app.kubernetes.io/name=palisade",
        "--field-selector=spec.nodeName=node1",
    ];
    cluster.kubectl(&[&["delete", "pod", "--force", "--wait"], &here[..]].concat());
    // Changed while there may be no agent: it comes into force all the same.
    scene.kubectl(&["label", "pod", "stranger", "--overwrite", "app=client"]);
    cluster.rolled_out();
    let _echo = Server::start(&server.network, &server.addresses, &[Listen::tcp(PORT)]).unwrap();
    let leaked = traffic.tally().since(before);
    let destinations: Vec<_> = server.addresses.iter().map(|address| (*address, PORT)).collect();
    within(PATIENCE, "the changed label in force", || {
        reached(&[("stranger", &stranger.network)], &destinations)["stranger"].contains('+').then_some(())
    });
    println!("life: agent deleted: {} of {} allowed packets lost", leaked.lost, leaked.allowed);
    assert_eq!(leaked.lost, 0);
    traffic.streams_go_on();
}

#[test]
fn a_node_that_restarts_is_enforced_again() {
    let cluster = Cluster::enforced();
    let scene = Scene::new(&cluster, "restart");
    scene.pods([("server", "node1", "server"), ("client", "node2", "client"), ("stranger", "node1", "stranger")]);
    scene.let_clients_in();
    let begun = Instant::now();
    cluster.restart("node1");
    // Its pods have new network namespaces, and may have new addresses.
    let restarted = within(PATIENCE, "the pods of the node again", || {
        let pods = scene.kubectl(&["get", "pods", "--field-selector=spec.nodeName=node1", "--output=json"]);
        let pods: serde_json::Value = serde_json::from_str(&pods).ok()?;
        let again = |pod: &serde_json::Value| {
            let container = &pod["status"]["containerStatuses"][0];
            container["restartCount"].as_u64().is_some_and(|count| count > 0) && container["ready"] == true
        };
        pods["items"].as_array()?.iter().all(again).then_some(begun.elapsed())
    });
    cluster.rolled_out();
    let [server, stranger] = ["server", "stranger"].map(|name| scene.started(name, "node1"));
    let client = scene.started("client", "node2");
    in_force(&server, &client, &stranger);
    println!(
        "life: node restarted: its pods ran after {:.1} s, enforced after {:.1} s",
        restarted.as_secs_f64(),
        begun.elapsed().as_secs_f64()
    );
}

/// The directory in /proc of the agent of a node.
fn agent_of(node: &str) -> PathBuf {
    let network = fs::metadata(format!("/run/netns/palisade-{node}"))
        .map(|data| std::os::unix::fs::MetadataExt::ino(&data))
        .unwrap();
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| Some(entry.ok()?.path()));
    let mut agents = processes.filter(|path| {
        let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
        let lives_in = fs::metadata(path.join("ns/net")).map(|data| std::os::unix::fs::MetadataExt::ino(&data));
        name.trim() == "palisade" && lives_in.is_ok_and(|inode| inode == network)
    });
    agents.next().unwrap_or_else(|| panic!("no agent on {node}"))
}

#[test]
fn an_agent_has_one_capability() {
    let _cluster = Cluster::enforced();
    for node in NODES {
        let agent = agent_of(node);
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
