//! What policies of many shapes cost: seconds of CPU and MiB from the object to the plan, each in a process of its own.
//!
//! `cargo run --release -p palisade-ruleset --example shapes` runs all of them; with the name of a shape, that one;
//! with `scale`, a large cluster; with `members` or `members apart`, wide selectors beside many pods, and how many of them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "a program of measurements: it ends where it fails"
)]

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use palisade_policy::Pulse;
use palisade_policy::index::Index;
use palisade_policy::input::{
    Addresses, Change, IpBlock, Isolates, LabelSelector, Namespace, NamespaceScope, NamespacedName, Operator, Peer,
    Peers, Phase, Pod, Policy, Port, Ports, Protocol, Requirement, Rule,
};
use palisade_ruleset::change::Transaction;
use palisade_ruleset::render::{Options, Renderer};
use palisade_testkit::cluster::{Size, cluster, pod as pod_of};

fn app(number: usize) -> Peer {
    let pods = LabelSelector::labels([("app", format!("a{number}"))]);
    Peer::Pods { namespaces: NamespaceScope::Own, pods }
}

fn block(number: usize) -> Peer {
    let address = std::net::Ipv4Addr::from_bits(0x0b00_0000 + 2 * number as u32);
    Peer::IpBlock(IpBlock { cidr: ipnet::Ipv4Net::new_assert(address, 32).into(), except: Vec::new() })
}

fn tcp(first: usize, last: usize) -> Port {
    Port::Range { protocol: Protocol::Tcp, first: first as u16, last: last as u16 }
}

fn rule(peers: impl IntoIterator<Item = Peer>, ports: impl IntoIterator<Item = Port>) -> Rule {
    let ports: Vec<_> = ports.into_iter().collect();
    let ports = if ports.is_empty() { Ports::Any } else { Ports::Of(ports) };
    Rule { peers: Peers::Of(peers.into_iter().collect()), ports }
}

fn named(number: usize) -> Port {
    Port::Named { protocol: Protocol::Tcp, name: format!("p{number}").into() }
}

fn policy(name: &str, ingress: Vec<Rule>) -> Policy {
    Policy {
        key: NamespacedName::new("shop", name),
        pod_selector: LabelSelector::everything(),
        isolates: Isolates { ingress: true, egress: false },
        ingress,
        egress: Vec::new(),
        unenforceable: Vec::new(),
    }
}

fn one(rules: Vec<Rule>) -> Vec<Policy> {
    vec![policy("p", rules)]
}

/// A selector with long lists of values.
fn expressions(number: usize, values: usize) -> Peer {
    let values = (0..values).map(|value| format!("{number}-{value}-{}", "x".repeat(40))).collect();
    let requirement = Requirement { key: "app".to_owned(), operator: Operator::NotIn(values) };
    Peer::Pods { namespaces: NamespaceScope::Own, pods: LabelSelector { requirements: [requirement].into() } }
}

type Shape = (&'static str, fn() -> Vec<Policy>);

const SHAPES: &[Shape] = &[
    ("nothing", Vec::new),
    ("ports 2000 x peers 2000", || one(vec![rule((0..2000).map(app), (0..2000).map(|n| tcp(2 * n + 1, 2 * n + 1)))])),
    ("ports 30000 x peers 4000", || one(vec![rule((0..4000).map(app), (0..30000).map(|n| tcp(2 * n + 1, 2 * n + 1)))])),
    ("ports 2000 x cidrs 2000", || one(vec![rule((0..2000).map(block), (0..2000).map(|n| tcp(2 * n + 1, 2 * n + 1)))])),
    ("selectors 7000", || one(vec![rule((0..7000).map(app), [])])),
    ("selectors 20000", || one(vec![rule((0..20000).map(app), [])])),
    ("rules 3000, a selector each", || one((0..3000).map(|n| rule([app(n)], [])).collect())),
    ("rules 1500, a selector and a port each", || {
        one((0..1500).map(|n| rule([app(n)], [tcp(n + 1, n + 1)])).collect())
    }),
    ("rules 3200, a wide selector and a port each", || {
        let wide = |n: usize| {
            let operator = Operator::NotIn([format!("x{n}")].into());
            let requirement = Requirement { key: "app".to_owned(), operator };
            Peer::Pods { namespaces: NamespaceScope::Own, pods: LabelSelector { requirements: [requirement].into() } }
        };
        one((0..3200).map(|n| rule([wide(n)], [tcp(n + 1, n + 1)])).collect())
    }),
    ("rules 20000, a selector and a port each", || {
        one((0..20000).map(|n| rule([app(n)], [tcp(n + 1, n + 1)])).collect())
    }),
    ("staircase 250", || one((0..250).map(|n| rule([block(n)], [tcp(n + 1, 30000 + n)])).collect())),
    ("staircase 6800", || one((0..6800).map(|n| rule([block(n)], [tcp(n + 1, 30000 + n)])).collect())),
    ("staircase 20000", || one((0..20000).map(|n| rule([block(n)], [tcp(n + 1, 30000 + n)])).collect())),
    ("cidrs 110000", || one(vec![rule((0..110_000).map(block), [])])),
    ("cidrs 60000", || one(vec![rule((0..60000).map(block), [])])),
    ("excepts 60000", || {
        let except = (0..60000_u32).map(|n| ipnet::Ipv4Net::new_assert((0x0b00_0000 + 2 * n).into(), 32).into());
        one(vec![rule([Peer::IpBlock(IpBlock { cidr: "0.0.0.0/0".parse().unwrap(), except: except.collect() })], [])])
    }),
    ("excepts 100, 500 ports apart", || {
        let block = |n: u32| {
            let except =
                (0..100_u32).map(|e| ipnet::Ipv4Net::new_assert((0x0b00_0000 + 2 * (n + e)).into(), 32).into());
            Peer::IpBlock(IpBlock { cidr: "0.0.0.0/0".parse().unwrap(), except: except.collect() })
        };
        one((0..500).map(|n| rule([block(n as u32)], [tcp(n + 1, n + 1)])).collect())
    }),
    ("named ports 2500", || one(vec![rule([app(1)], (0..2500).map(named))])),
    ("named ports 20000", || one(vec![rule([app(1)], (0..20000).map(named))])),
    ("named ports 600 x peers 2000", || one(vec![rule((0..2000).map(app), (0..600).map(named))])),
    ("expressions 100 x 200 values", || one(vec![rule((0..100).map(|n| expressions(n, 200)), [])])),
    ("expressions 7000 x 4 values", || one(vec![rule((0..7000).map(|n| expressions(n, 4)), [])])),
    ("both directions", || {
        let rules =
            vec![rule((0..1000).map(app).chain((0..5000).map(block)), (0..2000).map(|n| tcp(2 * n + 1, 2 * n + 1)))];
        vec![Policy { egress: rules.clone(), isolates: Isolates { ingress: true, egress: true }, ..policy("p", rules) }]
    }),
    ("policies 10000, a selector each", || {
        (0..10000).map(|n| policy(&format!("p{n}"), vec![rule([app(n)], [])])).collect()
    }),
    ("policies 4000, a range each", || {
        (0..4000).map(|n| policy(&format!("p{n}"), vec![rule([block(n)], [tcp(n + 1, 30000 + n)])])).collect()
    }),
];

fn pod(name: &str, last: u8, app: &str) -> Change {
    let v6 = std::net::Ipv6Addr::from_bits((0xfd42_u128 << 112) + u128::from(last));
    Change::Pod(Pod {
        node: Some("node-1".into()),
        phase: Phase::Running,
        addresses: Addresses::accept([std::net::IpAddr::from([10, 42, 1, last]), v6.into()]).0,
        labels: [("app".to_owned(), app.to_owned())].into(),
        ..Pod::new(NamespacedName::new("shop", name))
    })
}

fn run(name: &str, policies: Vec<Policy>) {
    let idle = memory();
    let count = policies.len();
    let costs: u64 = policies.iter().map(|policy| policy.cost().0).sum();
    let mut index = Index::new("node-1");
    let mut renderer = Renderer::new(Options::default()).with_pulse(index.pulse().clone());
    let start = [Change::Namespace(Namespace::new("shop", [].into())), pod("one", 2, "a1"), pod("two", 3, "a2")];
    index.apply_all(start);
    let watch = Watch::start(index.pulse().clone());
    let (started, before) = (Work::now(), index.pulse().count());
    index.apply(Change::Policies(policies));
    let indexed = started.elapsed();
    let dirty = index.take_dirty();
    let patches = renderer.update(index.compiled(), &dirty);
    let rendered = started.elapsed().saturating_sub(indexed);
    let plans = patches.iter().map(|patch| patch.plan_with(renderer.ruleset(), index.pulse()));
    let operations: usize = plans.map(|plan| plan.operations()).sum();
    let planned = started.elapsed().saturating_sub(rendered + indexed);
    let beats = index.pulse().count() - before;
    let silence = watch.end();
    // And two pods in the place of one, which changes every set that they are in at once.
    let swap = Work::now();
    index.apply_all([pod("one", 2, "a2"), pod("two", 3, "a1")]);
    index.forgotten(&index.due());
    let dirty = index.take_dirty();
    let swapped: usize = renderer.follow(index.compiled(), &dirty).iter().map(Transaction::operations).sum();
    let swap = swap.elapsed();
    let rules: usize = renderer.ruleset().chains.values().map(|chain| chain.rules.len()).sum();
    println!(
        "{name:<42} {count:>6} {costs:>8} {:>7} | {:>6.3} {:>6.3} {:>6.3} s {:>5} MiB | {:>7} operations {rules:>6} rules {:>6} \
         sets | swap {:>6.3} s {swapped:>6} | {beats:>6} beats, {:>6.3} s apart",
        index.counts().over_budget,
        indexed.as_secs_f64(),
        rendered.as_secs_f64(),
        planned.as_secs_f64(),
        memory().saturating_sub(idle) / 1024,
        operations,
        renderer.ruleset().sets.len(),
        swap.as_secs_f64(),
        silence.as_secs_f64(),
    );
}

/// Finds out the longest time between two beats.
struct Watch {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<Duration>,
}

impl Watch {
    fn start(pulse: Pulse) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let end = ended.clone();
        let thread = thread::spawn(move || {
            let (mut last, mut since, mut longest) = (pulse.count(), Instant::now(), Duration::ZERO);
            while !end.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_micros(200));
                longest = longest.max(since.elapsed());
                if pulse.count() != last {
                    (last, since) = (pulse.count(), Instant::now());
                }
            }
            longest
        });
        Self { ended, thread }
    }

    fn end(self) -> Duration {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// A large cluster: from lists, the same lists again, and one pod that changes nothing.
fn scale() {
    let size = Size { local_pods: 250, pods: 100_000, policies: 10_000, namespaces: 500 };
    let state = cluster(size);
    let lists = || {
        let pods = Change::Pods(state.every_pod().cloned().collect());
        let namespaces = Change::Namespaces(state.namespaces.values().cloned().collect());
        [namespaces, pods, Change::Policies(state.policies.values().cloned().collect())]
    };
    let mut index = Index::new("node-0");
    let mut renderer = Renderer::new(Options::default()).with_pulse(index.pulse().clone());
    let idle = memory();
    for round in ["first lists", "the same lists"] {
        let changes = lists();
        let watch = Watch::start(index.pulse().clone());
        let started = Work::now();
        index.apply_all(changes);
        let indexed = started.elapsed();
        let dirty = index.take_dirty();
        let plans = renderer.follow(index.compiled(), &dirty);
        let followed = started.elapsed().saturating_sub(indexed);
        let operations: usize = plans.iter().map(Transaction::operations).sum();
        println!(
            "{round}: {size:?}: index {:.3} s, render and plan {:.3} s, {operations} operations, beats {:.3} s apart, {} MiB",
            indexed.as_secs_f64(),
            followed.as_secs_f64(),
            watch.end().as_secs_f64(),
            memory().saturating_sub(idle) / 1024,
        );
    }
    let started = Work::now();
    for number in 0..1000 {
        let mut pod = pod_of(size, 5000 + number);
        pod.phase = if number % 2 == 0 { Phase::Unknown } else { Phase::Running };
        index.apply(Change::Pod(pod));
    }
    println!("a pod that changes nothing: {:.1} us", started.elapsed().as_secs_f64() * 1000.0);
    let started = Work::now();
    for number in 0..1000 {
        let mut pod = pod_of(size, 5000 + number);
        pod.labels.insert("app".to_owned(), "app-7".to_owned());
        index.apply(Change::Pod(pod));
        let dirty = index.take_dirty();
        renderer.follow(index.compiled(), &dirty);
    }
    println!("a pod of another node that is relabelled, planned: {:.1} us", started.elapsed().as_secs_f64() * 1000.0);
}

/// Selectors that select nearly every pod, in one rule or in a rule each, beside pods of another node.
fn members(count: usize, pods: u32, apart: bool) {
    let mut index = Index::new("node-1");
    let mut renderer = Renderer::new(Options::default()).with_pulse(index.pulse().clone());
    let other = |number: u32| {
        let address = std::net::Ipv4Addr::from_bits(0x0a80_0000 + number);
        Change::Pod(Pod {
            node: Some("node-2".into()),
            phase: Phase::Running,
            addresses: Addresses::accept([address.into()]).0,
            labels: [("app".to_owned(), format!("v{number}"))].into(),
            ..Pod::new(NamespacedName::new("shop", format!("pod-{number}")))
        })
    };
    index.apply_all([Change::Namespace(Namespace::new("shop", [].into())), pod("one", 2, "a1")]);
    index.apply_all((0..pods).map(other));
    let dirty = index.take_dirty();
    renderer.follow(index.compiled(), &dirty);
    let wide = |number: usize| expressions(number, 1);
    let rules = if apart {
        (0..count).map(|number| rule([wide(number)], [tcp(number + 1, number + 1)])).collect()
    } else {
        vec![rule((0..count).map(wide), [])]
    };
    let idle = memory();
    let watch = Watch::start(index.pulse().clone());
    let started = Work::now();
    index.apply(Change::Policy(policy("wide", rules)));
    let (indexed, after) = (started.elapsed(), memory());
    let dirty = index.take_dirty();
    let operations: usize = renderer.follow(index.compiled(), &dirty).iter().map(Transaction::operations).sum();
    println!(
        "{count} selectors{} beside {pods} pods: {} members, index {:.3} s and {} MiB, in all {:.3} s and {} MiB, {operations} \
         operations, {} over the budget, beats {:.3} s apart",
        if apart { " apart" } else { "" },
        index.compiled().peers.values().map(std::collections::BTreeMap::len).sum::<usize>(),
        indexed.as_secs_f64(),
        after.saturating_sub(idle) / 1024,
        started.elapsed().as_secs_f64(),
        memory().saturating_sub(idle) / 1024,
        index.counts().over_budget,
        watch.end().as_secs_f64(),
    );
}

/// Time that this thread was on a CPU, whatever else the machine does.
struct Work(Duration);

impl Work {
    fn now() -> Self {
        let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        Self(Duration::from_nanos(text.split_whitespace().next().unwrap().parse().unwrap()))
    }

    fn elapsed(&self) -> Duration {
        Self::now().0.saturating_sub(self.0)
    }
}

/// The most memory so far, in KiB.
fn memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn main() {
    if std::env::args().nth(1).as_deref() == Some("scale") {
        scale();
        return;
    }
    if let Some("members") = std::env::args().nth(1).as_deref() {
        let apart = std::env::args().any(|argument| argument == "apart");
        let numbers: Vec<u32> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
        let (count, pods) = (numbers.first().copied().unwrap_or(100), numbers.get(1).copied().unwrap_or(5_000));
        members(count as usize, pods, apart);
        return;
    }
    if let Some(name) = std::env::args().nth(1) {
        let (name, make) = SHAPES.iter().find(|(shape, _)| *shape == name).expect("the name of a shape");
        run(name, make());
        return;
    }
    for (name, _) in SHAPES {
        Command::new(std::env::current_exe().unwrap()).arg(name).status().unwrap();
    }
}
