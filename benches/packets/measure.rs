//! Traffic, and the time that its packets take.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use palisade_lab::{Lab, Layout, Node, Pod};
use palisade_policy::input::Family;

use crate::Row;
use crate::layouts::Rules;
use crate::policies::{Ends, PORT};
use crate::tcp;

/// Packets of one measurement.
const PACKETS: u32 = 20_000;

/// The packets that are timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Traffic {
    /// Of one flow that has had a reply, between two isolated pods.
    Established,
    /// The same between two pods that no policy isolates.
    Unisolated,
    /// Each the first of a flow, between two isolated pods.
    New,
    /// Of a pod that the server does not admit.
    Denied,
    /// A TCP connection each, with a byte there and a byte back.
    Connections,
    /// A byte there and a byte back each, on one TCP connection.
    Requests,
    /// A MiB each, on one TCP connection.
    Bulk,
}

impl Traffic {
    /// What is timed.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Established | Self::Unisolated | Self::New | Self::Denied => "packet",
            Self::Connections => "connection",
            Self::Requests => "request",
            Self::Bulk => "MiB",
        }
    }
}

/// A node with the pods that traffic is measured between.
pub(crate) struct Bed {
    _lab: Lab,
    node: Node,
    pods: BTreeMap<&'static str, Pod>,
    ends: Ends,
}

impl Bed {
    pub(crate) fn new(layout: Layout, family: Family) -> Self {
        let lab = Lab::builder().node(layout).build().expect("a lab");
        let node = lab.node(1).clone();
        let names = ["client", "server", "denied", "open-a", "open-b"];
        let pods: BTreeMap<_, _> = names.map(|name| (name, node.add_pod(name).expect("a pod"))).into();
        let address = |name: &str| -> IpAddr {
            let pod = pods.get(name).expect("a pod");
            let mut addresses = pod.addresses().into_iter();
            addresses.find(|address| Family::of(*address) == family).expect("an IP of the family")
        };
        for server in ["server", "open-b"] {
            // No ICMP error for a port without a socket.
            let quiet =
                "table inet quiet { chain input { type filter hook input priority filter; udp dport != 7000 drop; }; }";
            pods.get(server).expect("a pod").namespace().nft(quiet).expect("a rule in the pod");
        }
        let open = [address("open-a"), address("open-b")];
        let ends = Ends { client: address("client"), server: address("server"), denied: address("denied"), open };
        Self { _lab: lab, node, pods, ends }
    }

    fn pod(&self, name: &str) -> &Pod {
        self.pods.get(name).expect("a pod")
    }

    /// Nanoseconds per packet.
    fn time(&self, rules: Rules, traffic: Traffic) -> f64 {
        let (from, to) = match traffic {
            Traffic::Connections | Traffic::Requests | Traffic::Bulk => {
                self.node.conntrack(&["-F"]).expect("conntrack");
                return tcp::time(self.pod("client"), self.pod("server"), self.ends.server, traffic);
            }
            Traffic::Established | Traffic::New => ("client", "server"),
            Traffic::Denied => ("denied", "server"),
            Traffic::Unisolated => ("open-a", "open-b"),
        };
        let target = match to {
            "server" => self.ends.server,
            _ => self.ends.open[1],
        };
        self.node.conntrack(&["-F"]).expect("conntrack");
        let any: IpAddr = if target.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
        let bind = |pod: &Pod, port| pod.run(|| UdpSocket::bind((any, port))).expect("the pod").expect("a socket");
        let (client, server) = (bind(self.pod(from), 0), bind(self.pod(to), PORT));
        if matches!(traffic, Traffic::Established | Traffic::Unisolated) {
            exchange(&client, &server, SocketAddr::new(target, PORT));
        }
        let packets = match (rules, traffic) {
            // Each packet meets all of these chains.
            (Rules::Others(1_000..), Traffic::New) => PACKETS / 10,
            _ => PACKETS,
        };
        let elapsed = std::thread::scope(|scope| scope.spawn(|| send(&client, target, traffic, packets)).join());
        elapsed.expect("the sender").as_secs_f64() * 1e9 / f64::from(packets)
    }
}

/// Runs on one CPU from now on.
pub(crate) fn pin(cpu: usize) {
    let mut one = CpuSet::new();
    one.set(cpu).expect("a CPU");
    sched_setaffinity(Pid::from_raw(0), &one).expect("a CPU of its own");
}

/// A request and its reply, so that the flow is established.
fn exchange(client: &UdpSocket, server: &UdpSocket, to: SocketAddr) {
    for socket in [client, server] {
        socket.set_read_timeout(Some(Duration::from_secs(2))).expect("a deadline");
    }
    client.send_to(b"request", to).expect("a request");
    let (_, peer) = server.recv_from(&mut [0; 16]).expect("the request arrives");
    server.send_to(b"reply", peer).expect("a reply");
    client.recv_from(&mut [0; 16]).expect("the reply arrives");
}

fn send(client: &UdpSocket, target: IpAddr, traffic: Traffic, packets: u32) -> Duration {
    pin(0);
    let message = [0; 18];
    let started = Instant::now();
    for number in 0..packets {
        let port = if traffic == Traffic::New { 10_000 + u16::try_from(number).expect("few packets") } else { PORT };
        // If the server's queue is full, the packet has met all rules before it is dropped.
        client.send_to(&message, (target, port)).expect("a packet");
    }
    started.elapsed()
}

/// The rounds of a comparison: nanoseconds per packet under the rules, and under the baseline.
pub(crate) struct Measured(Vec<(f64, f64)>);

impl Measured {
    /// The median ratio of a round, the lowest and the highest.
    pub(crate) fn ratios(&self) -> (f64, f64, f64) {
        let ratios = sorted(self.0.iter().map(|(rules, baseline)| rules / baseline));
        let at = |index: usize| ratios.get(index).copied().expect("a round");
        (at(ratios.len() / 2), at(0), at(ratios.len() - 1))
    }

    /// The median under the rules.
    pub(crate) fn nanoseconds(&self) -> f64 {
        middle(self.0.iter().map(|(rules, _)| *rules))
    }

    /// The median under the baseline.
    pub(crate) fn baseline(&self) -> f64 {
        middle(self.0.iter().map(|(_, baseline)| *baseline))
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

fn middle(values: impl Iterator<Item = f64>) -> f64 {
    let values = sorted(values);
    values.get(values.len() / 2).copied().expect("a round")
}

/// Measures each row in each round, and its baseline just before. Rows with the same rules share a load.
pub(crate) fn in_rounds(bed: &Bed, rows: &[Row], rounds: usize) -> Vec<Measured> {
    let mut measured: Vec<_> = rows.iter().map(|_| Measured(Vec::new())).collect();
    for _ in 0..rounds {
        for (rules, numbers) in by_rules(rows) {
            let mut baselines: Vec<((Rules, Traffic), f64)> = Vec::new();
            for row in numbers.iter().filter_map(|number| rows.get(*number)) {
                let which = (row.baseline, row.traffic);
                if baselines.iter().all(|(known, _)| *known != which) {
                    row.baseline.load(&bed.node, &bed.ends);
                    baselines.push((which, bed.time(row.baseline, row.traffic)));
                }
            }
            rules.load(&bed.node, &bed.ends);
            for number in numbers {
                let (Some(row), Some(measured)) = (rows.get(number), measured.get_mut(number)) else { continue };
                let mut baselines = baselines.iter();
                let baseline = baselines.find(|(known, _)| *known == (row.baseline, row.traffic)).expect("measured");
                measured.0.push((bed.time(row.rules, row.traffic), baseline.1));
            }
        }
    }
    measured
}

/// The numbers of the rows by their rules.
fn by_rules(rows: &[Row]) -> Vec<(Rules, Vec<usize>)> {
    let mut by_rules: Vec<(Rules, Vec<usize>)> = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        match by_rules.iter_mut().find(|(known, _)| *known == row.rules) {
            Some((_, numbers)) => numbers.push(number),
            None => by_rules.push((row.rules, vec![number])),
        }
    }
    by_rules
}
