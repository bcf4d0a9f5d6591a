//! Without rules everything connects: every protocol and family, over every path of a lab.
//!
//! Seen to fail when: SCTP's checksum is sent in network byte order; ICMPv6's omits the pseudo header; hairpin mode is
//! off on the bridge ports; the Services have no hairpin masquerade; a Local node port is served on every node; proxy
//! ARP is off on the interfaces of a routed node's pods; nodes lack the IPv6 routes to their peers' pods.

use std::net::IpAddr;
use std::time::Duration;

use palisade_lab::{
    DEFAULT_DEADLINE, ExternalTraffic, Family, Flow, Host, Lab, Layout, Listen, Namespace, Outcome, Pod, Protocol,
    Service, probe_all,
};

/// The port of every server.
const PORT: u16 = 8080;

/// Longer than a probe needs even on a busy machine; nothing here is denied, so no probe waits for it.
const DEADLINE: Duration = Duration::from_secs(3);

/// Two bridge nodes and two routed ones, each with pods, and a machine outside.
struct Bed {
    lab: Lab,
    pods: Vec<Pod>,
    outside: Host,
}

/// `node-1` (bridge) has two pods, `node-2` (bridge) one, `node-3` (routed) two, `node-4` (routed) one.
fn bed() -> Bed {
    let lab = Lab::builder().nodes(2, Layout::Bridge).nodes(2, Layout::Routed).build().unwrap();
    let names = [(1, "b1"), (1, "b2"), (2, "b3"), (3, "r1"), (3, "r2"), (4, "r3")];
    let pods: Vec<Pod> = names.iter().map(|&(node, name)| lab.node(node).add_pod(name).unwrap()).collect();
    let outside = lab.add_host("outside", &["203.0.113.7".parse().unwrap(), "2001:db8::7".parse().unwrap()]).unwrap();
    let listen = [Listen::tcp(PORT), Listen::udp(PORT), Listen::sctp(PORT)];
    for pod in &pods {
        pod.serve(&listen).unwrap();
    }
    for node in lab.nodes() {
        node.serve(&listen).unwrap();
    }
    outside.serve(&listen).unwrap();
    Bed { lab, pods, outside }
}

/// Probes and shoots all flows: every one must be answered and delivered.
#[track_caller]
fn assert_all_connect(lab: &Lab, flows: &[Flow]) {
    let outcomes = probe_all(flows, DEADLINE).unwrap();
    let arrived = lab.shoot(flows).unwrap();
    for ((flow, outcome), arrived) in flows.iter().zip(outcomes).zip(arrived) {
        assert_eq!((outcome, arrived), (Outcome::Reachable, true), "{flow}");
    }
}

/// A flow of every protocol.
fn every_protocol(from: impl AsRef<Namespace>, to: IpAddr) -> Vec<Flow> {
    Protocol::ALL.into_iter().map(|protocol| Flow::new(&from, protocol, to, PORT)).collect()
}

#[test]
fn pods_reach_each_other_and_themselves() {
    let bed = bed();
    let mut flows = Vec::new();
    for from in &bed.pods {
        for to in &bed.pods {
            flows.extend(to.addresses().into_iter().flat_map(|address| every_protocol(from, address)));
        }
    }
    assert_eq!(flows.len(), 6 * 6 * 2 * 4);
    assert_all_connect(&bed.lab, &flows);
}

#[test]
fn nodes_and_hosts_reach_pods_and_pods_reach_them() {
    let bed = bed();
    let mut flows = Vec::new();
    for pod in &bed.pods {
        for family in Family::ALL {
            let address = pod.address(family).unwrap();
            for node in bed.lab.nodes() {
                flows.extend(every_protocol(node, address));
                flows.extend(every_protocol(pod, node.address(family)));
            }
            flows.extend(every_protocol(&bed.outside, address));
            flows.extend(every_protocol(pod, bed.outside.address(family)));
        }
    }
    for node in bed.lab.nodes().iter().filter(|node| node.layout() == Layout::Bridge) {
        let (gateway4, gateway6) = node.gateway();
        let pod = node.pods().remove(0);
        flows.extend(every_protocol(&pod, gateway4.into()));
        flows.extend(every_protocol(&pod, gateway6.into()));
    }
    assert_all_connect(&bed.lab, &flows);
}

#[test]
fn services_lead_to_their_backend_from_everywhere() {
    let bed = bed();
    let ports = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
    let cluster: Vec<IpAddr> = vec!["10.96.0.10".parse().unwrap(), "fd96::10".parse().unwrap()];
    for backend in &bed.pods {
        for protocol in ports {
            let service = Service::new(format!("web-{protocol}"), (protocol, 80), &cluster, (backend, PORT))
                .node_port(30_080, ExternalTraffic::Cluster);
            bed.lab.add_service(service).unwrap();
        }
        // A conntrack entry of an earlier flow from the same port would lead to the former backend.
        for node in bed.lab.nodes() {
            node.conntrack(&["-F"]).unwrap();
        }
        let mut flows = Vec::new();
        for protocol in ports {
            for &address in &cluster {
                // The backend itself is among the clients: hairpin.
                flows.extend(bed.pods.iter().map(|pod| Flow::new(pod, protocol, address, 80)));
                flows.extend(bed.lab.nodes().iter().map(|node| Flow::new(node, protocol, address, 80)));
            }
            for node in bed.lab.nodes() {
                flows.extend(Family::ALL.map(|family| Flow::new(&bed.outside, protocol, node.address(family), 30_080)));
            }
        }
        assert_all_connect(&bed.lab, &flows);
        let places = bed.lab.shoot_where(&flows).unwrap();
        assert!(places.iter().all(|place| place.as_deref() == Some(backend.name())), "{places:?}");
    }
    bed.lab.remove_service("web-TCP").unwrap();
    let gone = Flow::tcp(&bed.pods[0], cluster[0], 80);
    assert_eq!(probe_all(&[gone], DEFAULT_DEADLINE).unwrap(), [Outcome::Unreachable]);
}

#[test]
fn a_local_node_port_is_served_on_the_backends_node_with_the_clients_address() {
    let bed = bed();
    let backend = &bed.pods[0];
    let service = Service::new("web", (Protocol::Udp, 80), &["10.96.0.10".parse().unwrap()], (backend, 9999))
        .node_port(30_080, ExternalTraffic::Local);
    bed.lab.add_service(service.clone()).unwrap();
    let server = backend.run(|| std::net::UdpSocket::bind((backend.ipv4().unwrap(), 9999))).unwrap().unwrap();
    server.set_read_timeout(Some(DEADLINE)).unwrap();
    let source_seen = |to: IpAddr| {
        let client = bed.outside.as_ref().run(|| std::net::UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
        client.send_to(b"x", (to, 30_080)).unwrap();
        server.recv_from(&mut [0; 8]).unwrap().1.ip()
    };
    let own_node = bed.lab.node(1).ipv4().into();
    let routed_source = client_address(&bed, own_node);
    assert_eq!(source_seen(own_node), routed_source);
    let elsewhere = Flow::udp(&bed.outside, bed.lab.node(2).ipv4(), 30_080);
    assert_eq!(bed.lab.shoot_where(&[elsewhere]).unwrap(), [Some("node-2".to_owned())]);
    bed.lab.add_service(service.node_port(30_080, ExternalTraffic::Cluster)).unwrap();
    bed.lab.node(1).conntrack(&["-F"]).unwrap();
    // Masqueraded to the address of the outgoing interface.
    assert_eq!(source_seen(own_node), IpAddr::from(bed.lab.node(1).gateway().0));
}

/// The source address that the outside host uses towards an address.
fn client_address(bed: &Bed, to: IpAddr) -> IpAddr {
    let connected = bed.outside.as_ref().run(|| {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
        socket.connect((to, 9))?;
        socket.local_addr()
    });
    connected.unwrap().unwrap().ip()
}

#[test]
fn hosts_use_the_address_that_they_were_given() {
    let bed = bed();
    for family in Family::ALL {
        let pod = &bed.pods[3];
        let any: IpAddr = if family == Family::V4 { [0; 4].into() } else { [0; 16].into() };
        // A port of the kernel's choice: a program that another test starts may hold the last socket until its exec.
        let server = pod.run(|| std::net::UdpSocket::bind((any, 0))).unwrap().unwrap();
        let port = server.local_addr().unwrap().port();
        server.set_read_timeout(Some(DEADLINE)).unwrap();
        let client = bed.outside.as_ref().run(|| std::net::UdpSocket::bind((any, 0))).unwrap().unwrap();
        client.send_to(b"x", (pod.address(family).unwrap(), port)).unwrap();
        assert_eq!(server.recv_from(&mut [0; 8]).unwrap().1.ip(), bed.outside.address(family));
    }
    assert_eq!(bed.outside.address(Family::V4).to_string(), "203.0.113.7");
}

#[test]
fn pods_of_one_family_have_only_that() {
    let lab = Lab::builder().node(Layout::Bridge).node(Layout::Routed).build().unwrap();
    for node in lab.nodes() {
        let four = node.add_pod_with(palisade_lab::PodSpec::new("four").only_ipv4()).unwrap();
        let six = node.add_pod_with(palisade_lab::PodSpec::new("six").only_ipv6()).unwrap();
        let both = node.add_pod("both").unwrap();
        let number = node.number();
        assert_eq!(four.addresses(), [IpAddr::from([10, 42, number, 2])]);
        assert_eq!(six.addresses(), [format!("fd42:{number}::2").parse::<IpAddr>().unwrap()]);
        assert_eq!(both.addresses()[0].to_string(), format!("10.42.{number}.3"));
        assert_eq!(both.addresses()[1].to_string(), format!("fd42:{number}::3"));
        let reachable = [
            Flow::ping(&both, four.ipv4().unwrap()),
            Flow::ping(&both, six.ipv6().unwrap()),
            Flow::ping(&four, both.ipv4().unwrap()),
            Flow::ping(&six, both.ipv6().unwrap()),
        ];
        assert_all_connect(&lab, &reachable);
        let unreachable = [Flow::ping(&four, both.ipv6().unwrap()), Flow::ping(&six, both.ipv4().unwrap())];
        assert_eq!(probe_all(&unreachable, DEFAULT_DEADLINE).unwrap(), [Outcome::Unreachable; 2]);
        assert_eq!(lab.shoot(&unreachable).unwrap(), [false; 2]);
    }
}

#[test]
fn a_port_without_a_server_is_refused() {
    let bed = bed();
    let to = bed.pods[2].ipv4().unwrap();
    let flows = [Flow::tcp(&bed.pods[0], to, 1), Flow::udp(&bed.pods[0], to, 1)];
    assert_eq!(probe_all(&flows, DEADLINE).unwrap(), [Outcome::Refused; 2]);
    assert_eq!(bed.lab.shoot(&flows).unwrap(), [true; 2]);
}
