//! Surveys of hosts made for these tests.

use std::collections::BTreeSet;
use std::net::{IpAddr, UdpSocket};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::unistd::gettid;
use palisade_dataplane::host::{
    Finding, Switched, bridges, call_netfilter_on_bridge, findings, own_addresses, passed_by_tagged_frames,
    pod_interfaces,
};
use palisade_engine::Class;
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::space::{isolated, load, output, run};

const NO_CAPABILITIES: CapabilitySets = CapabilitySets {
    effective: CapabilitySet::empty(),
    permitted: CapabilitySet::empty(),
    inheritable: CapabilitySet::empty(),
};

/// Runs `ip` commands, one per line.
fn ip(lines: &[&str]) {
    for line in lines {
        output("ip", &line.split_whitespace().collect::<Vec<_>>(), "");
    }
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn ips(texts: &[&str]) -> BTreeSet<IpAddr> {
    texts.iter().map(|text| text.parse().expect("an address")).collect()
}

/// A node with an uplink, a bridge with pods, and a pod with its own interface.
fn node() {
    ip(&[
        "link set lo up",
        "link add uplink type veth peer name outside",
        "link set outside up",
        "addr add 172.16.0.1/24 dev uplink",
        "addr add fd16::1/64 dev uplink nodad",
        "link set uplink up",
        "route add default via 172.16.0.254",
        "route add default via fd16::254",
        "link add cni0 type bridge",
        "addr add 10.42.0.1/24 dev cni0",
        "addr add fd42::1/64 dev cni0 nodad",
        "link set cni0 up",
        "link add cali1 type veth peer name pod1",
        "link set cali1 up",
        "link set pod1 up",
        "route add 10.42.7.5/32 dev cali1",
        "route add 10.42.9.0/24 via 172.16.0.9",
    ]);
}

#[test]
fn pods_are_found_behind_bridges_and_ports_of_their_own() {
    isolated(|| {
        node();
        assert_eq!(pod_interfaces(&ips(&["10.42.0.7", "fd42::7"])).unwrap().names, names(&["cni0"]));
        assert_eq!(pod_interfaces(&ips(&["10.42.0.7", "10.42.7.5"])).unwrap().names, names(&["cali1", "cni0"]));
        let elsewhere = ips(&["10.42.9.1", "8.8.8.8", "2001:db8::1", "172.16.0.77", "fd16::77"]);
        assert_eq!(pod_interfaces(&elsewhere).unwrap().names, names(&[]), "behind the uplink");
        assert_eq!(pod_interfaces(&ips(&["10.42.0.255", "ff02::1"])).unwrap().names, names(&[]), "not a pod's IP");
        assert_eq!(
            pod_interfaces(&ips(&["10.42.0.1", "127.0.0.1", "::1"])).unwrap().names,
            names(&[]),
            "the node itself"
        );
    });
}

#[test]
fn no_route_is_no_port() {
    isolated(|| {
        assert_eq!(pod_interfaces(&ips(&["10.42.0.7", "fd42::7", "fe80::1"])).unwrap().names, names(&[]));
    });
}

#[test]
fn addresses_of_all_interfaces_are_ours() {
    isolated(|| {
        node();
        let own = own_addresses().unwrap();
        for address in ips(&["127.0.0.1", "::1", "172.16.0.1", "fd16::1", "10.42.0.1", "fd42::1"]) {
            assert!(own.contains(&address), "{address}: {own:?}");
        }
        assert!(own.iter().any(|address| matches!(address, IpAddr::V6(ip) if ip.is_unicast_link_local())), "{own:?}");
    });
}

#[test]
fn a_bridge_whose_tagged_frames_bypass_netfilter_is_found() {
    let set = |value: &str| {
        std::fs::write("/proc/sys/net/bridge/bridge-nf-filter-vlan-tagged", value).expect("br_netfilter is there");
    };
    isolated(|| {
        node();
        set("0");
        assert_eq!(passed_by_tagged_frames(&names(&["cali1", "cni0"])).unwrap().as_deref(), Some("cni0"));
        assert_eq!(passed_by_tagged_frames(&names(&["cali1"])).unwrap(), None, "not a bridge");
        set("1");
        assert_eq!(passed_by_tagged_frames(&names(&["cali1", "cni0"])).unwrap(), None);
    });
}

#[test]
fn a_bridge_that_netfilter_does_not_see_is_found() {
    let set = |name: &str, value: &str| {
        std::fs::write(format!("/proc/sys/net/bridge/bridge-nf-call-{name}"), value).expect("br_netfilter is there");
    };
    isolated(|| {
        node();
        let ports = names(&["cali1", "cni0"]);
        set("iptables", "1");
        set("ip6tables", "1");
        assert_eq!(findings(&ports).unwrap(), []);
        set("ip6tables", "0");
        let found = findings(&ports).unwrap();
        let setting = "net.bridge.bridge-nf-call-ip6tables";
        assert_eq!(found, [Finding::BridgeBypasses { bridge: "cni0".to_owned(), setting }]);
        assert!(found[0].to_string().contains("set net.bridge.bridge-nf-call-ip6tables to 1"), "{}", found[0]);
        set("iptables", "0");
        assert_eq!(findings(&ports).unwrap().len(), 2);
        assert_eq!(findings(&names(&["cali1"])).unwrap(), [], "not a bridge");
        // The bridge's own settings work as well.
        ip(&["link set cni0 type bridge nf_call_iptables 1 nf_call_ip6tables 1"]);
        assert_eq!(findings(&ports).unwrap(), []);
        assert_eq!(findings(&names(&["gone"])).unwrap(), []);
    });
}

/// IPs that no pod interface leads to: on the uplink, unroutable, or the node's own.
#[test]
fn addresses_without_an_interface_are_reported() {
    isolated(|| {
        node();
        let found = pod_interfaces(&ips(&["10.42.0.7", "172.16.0.77", "192.0.2.1", "fd42::7", "127.0.0.9"])).unwrap();
        assert_eq!(found.names, names(&["cni0"]));
        assert_eq!(found.without, ips(&["172.16.0.77", "192.0.2.1", "127.0.0.9"]));
        // A routing rule that sends it there is followed.
        ip(&["route add 192.0.2.0/24 dev cali1 table 77", "rule add to 192.0.2.1 lookup 77"]);
        let found = pod_interfaces(&ips(&["192.0.2.1"])).unwrap();
        assert_eq!((found.names, found.without), (names(&["cali1"]), BTreeSet::new()));
        // The bridge itself is the uplink: its pods cannot be distinguished from the outside.
        ip(&["route add 192.0.3.0/24 dev cni0", "route append default via 10.42.0.254 dev cni0"]);
        let found = pod_interfaces(&ips(&["10.42.0.7"])).unwrap();
        assert_eq!((found.names, found.without), (names(&[]), ips(&["10.42.0.7"])));
        let message = Finding::NoInterface { address: "10.42.0.7".parse().unwrap() }.to_string();
        assert!(message.contains("no interface of a pod leads to 10.42.0.7"), "{message}");
    });
}

#[test]
fn a_survey_of_many_pods_is_quick() {
    isolated(|| {
        node();
        let batch: String = (0..250)
            .flat_map(|n| {
                [
                    format!("link add p{n} type veth peer name q{n}\n"),
                    format!("link set p{n} up\nlink set q{n} up\n"),
                    format!("route add 10.43.0.{n}/32 dev p{n}\nroute add fd43::{n:x}/128 dev p{n}\n"),
                ]
            })
            .collect();
        output("ip", &["-batch", "-"], &batch);
        let pods: BTreeSet<IpAddr> = (0..250_u16)
            .flat_map(|n| {
                let last = u8::try_from(n).unwrap();
                [IpAddr::from([10, 43, 0, last]), IpAddr::from([0xfd43, 0, 0, 0, 0, 0, 0, n])]
            })
            .collect();
        let start = Instant::now();
        let found = pod_interfaces(&pods).unwrap();
        let looked = start.elapsed();
        assert_eq!((found.names.len(), found.without.len()), (250, 0));
        assert_eq!(findings(&found.names).unwrap(), []);
        let all = start.elapsed();
        println!("250 pods of two families: their interfaces {looked:?}, with findings {all:?}");
        assert!(all < Duration::from_secs(1), "{all:?}");
    });
}

/// Sends from one pod on a bridge to another; returns how many packets passed the forward hook.
fn forwarded(bridge: &str) -> (u64, u64) {
    let chain =
        "add table inet look; add chain inet look f { type filter hook forward priority 0; }; flush chain inet look f";
    load(&format!(
        "{chain}; add rule inet look f meta nfproto ipv4 counter; add rule inet look f meta nfproto ipv6 meta l4proto udp counter"
    ));
    let (ready, wait) = mpsc::channel();
    let (go, started) = mpsc::channel();
    let pod = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        ready.send(gettid()).unwrap();
        started.recv().unwrap();
        ip(&["addr add 10.42.0.2/24 dev in0", "addr add fd42::2/64 dev in0 nodad", "link set in0 up"]);
        ip(&[
            "neigh add 10.42.0.3 lladdr 02:00:00:00:00:03 dev in0",
            "neigh add fd42::3 lladdr 02:00:00:00:00:03 dev in0",
        ]);
        for to in ["10.42.0.3", "fd42::3"] {
            let to: IpAddr = to.parse().unwrap();
            let from: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
            UdpSocket::bind((from, 0)).unwrap().send_to(b"x", (to, 9)).unwrap();
        }
    });
    let thread = wait.recv().unwrap();
    ip(&[
        "link add out0 type veth peer name in0",
        "link add out1 type veth peer name in1",
        "link set in1 address 02:00:00:00:00:03",
        &format!("link set out0 master {bridge}"),
        &format!("link set out1 master {bridge}"),
        "link set out0 up",
        "link set out1 up",
        "link set in1 up",
        &format!("link set in0 netns {thread}"),
    ]);
    go.send(()).unwrap();
    pod.join().unwrap();
    ip(&["link del out1"]);
    // The pod's namespace ends after its thread and removes the other pair.
    let since = Instant::now();
    while run("ip", &["link", "show", "out0"], "").status.success() {
        assert!(since.elapsed() < Duration::from_secs(10), "out0 stays");
        thread::yield_now();
    }
    let text = output("nft", &["list", "chain", "inet", "look", "f"], "");
    let mut counts = text.lines().filter_map(|line| line.split("packets ").nth(1)?.split(' ').next()?.parse().ok());
    (counts.next().unwrap(), counts.next().unwrap())
}

/// The namespace-wide setting does not matter to a bridge with its own setting.
#[test]
fn a_bridge_is_made_to_show_its_packets_to_netfilter() {
    isolated(|| {
        node();
        for setting in ["iptables", "ip6tables"] {
            std::fs::write(format!("/proc/sys/net/bridge/bridge-nf-call-{setting}"), "0").unwrap();
        }
        let ports = names(&["cali1", "cni0"]);
        assert_eq!(bridges(&ports).unwrap(), names(&["cni0"]));
        assert_eq!(forwarded("cni0"), (0, 0));
        assert_eq!(findings(&ports).unwrap().len(), 2);
        assert_eq!(call_netfilter_on_bridge("cni0").unwrap(), Switched { ipv4: true, ipv6: true });
        assert_eq!(findings(&ports).unwrap(), []);
        assert_eq!(forwarded("cni0"), (1, 1));
        assert_eq!(call_netfilter_on_bridge("cni0").unwrap(), Switched::default(), "it is on already");
        ip(&["link set cni0 type bridge nf_call_ip6tables 0"]);
        assert_eq!(call_netfilter_on_bridge("cni0").unwrap(), Switched { ipv4: false, ipv6: true });
        assert_eq!(call_netfilter_on_bridge("cali1").unwrap(), Switched::default(), "not a bridge");
        assert_eq!(call_netfilter_on_bridge("gone").unwrap(), Switched::default());
    });
}

#[test]
fn setting_a_bridge_needs_a_capability() {
    isolated(|| {
        node();
        // As a user without any capability.
        let result = thread::spawn(|| {
            rustix::thread::set_capabilities(None, NO_CAPABILITIES).unwrap();
            call_netfilter_on_bridge("cni0")
        });
        let error = result.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), Class::Denied, "{error:?}");
        assert!(error.to_string().contains("bridge cni0"), "{error}");
        // CAP_NET_ADMIN is enough.
        let result = thread::spawn(|| {
            let admin = CapabilitySet::NET_ADMIN;
            let only = CapabilitySets { effective: admin, permitted: admin, inheritable: CapabilitySet::empty() };
            rustix::thread::set_capabilities(None, only).unwrap();
            call_netfilter_on_bridge("cni0")
        });
        assert_eq!(result.join().unwrap().unwrap(), Switched { ipv4: true, ipv6: true });
    });
}
