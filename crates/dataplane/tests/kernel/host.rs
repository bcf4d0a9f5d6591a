//! What the host looks like, on hosts made for it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use palisade_dataplane::host::{Finding, findings, own_addresses, passed_by_tagged_frames, pod_ports};

use crate::space::{isolated, output};

/// Runs lines of `ip`.
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

/// A node with an uplink, a bridge with pods, and a pod on a port of its own.
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
        assert_eq!(pod_ports(&ips(&["10.42.0.7", "fd42::7"])).unwrap().names, names(&["cni0"]));
        assert_eq!(pod_ports(&ips(&["10.42.0.7", "10.42.7.5"])).unwrap().names, names(&["cali1", "cni0"]));
        let elsewhere = ips(&["10.42.9.1", "8.8.8.8", "2001:db8::1", "172.16.0.77", "fd16::77"]);
        assert_eq!(pod_ports(&elsewhere).unwrap().names, names(&[]), "by the uplink");
        assert_eq!(pod_ports(&ips(&["10.42.0.255", "ff02::1"])).unwrap().names, names(&[]), "no address of a pod");
        assert_eq!(pod_ports(&ips(&["10.42.0.1", "127.0.0.1", "::1"])).unwrap().names, names(&[]), "the node itself");
    });
}

#[test]
fn no_route_is_no_port() {
    isolated(|| {
        assert_eq!(pod_ports(&ips(&["10.42.0.7", "fd42::7", "fe80::1"])).unwrap().names, names(&[]));
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
fn a_bridge_that_tagged_frames_pass_by_is_found() {
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
        // The bridge's own settings do as well.
        ip(&["link set cni0 type bridge nf_call_iptables 1 nf_call_ip6tables 1"]);
        assert_eq!(findings(&ports).unwrap(), []);
        assert_eq!(findings(&names(&["gone"])).unwrap(), []);
    });
}
