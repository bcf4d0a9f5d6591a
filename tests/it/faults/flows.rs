//! Flows that are due for deletion, among very many.

use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, Instant};

use palisade_testkit::fakeapi::{FakeApi, Resource};

use crate::faults::case::{Row, observe};
use crate::faults::scene::{Scene, full, paper};

/// Pods that end elsewhere each second.
const ENDINGS: u32 = 10;

/// The minimum number of the node's own conntrack entries.
fn fill(scene: &Scene, entries: usize) {
    let fill = || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let targets =
            (0..entries).map(|n| (IpAddr::from([127, u8::try_from(1 + n / 50_000).unwrap(), 0, 1]), n % 50_000));
        for (address, port) in targets {
            // There is no listener; errors of earlier datagrams are ignored.
            socket.send_to(b"x", (address, u16::try_from(1024 + port).unwrap())).ok();
        }
        fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count").unwrap().trim().parse::<usize>().unwrap()
    };
    let count = scene.node().run(fill).unwrap();
    assert!(count >= entries * 9 / 10, "there are {count} entries of {entries}");
}

/// Ends pods on other nodes until then, and returns their number.
fn end_pods(api: &FakeApi, until: Instant) -> usize {
    let mut ended = 0;
    while Instant::now() < until {
        observe(Instant::now() + Duration::from_secs(1) / ENDINGS);
        ended += usize::from(api.delete(Resource::Pods, "crowd", &format!("paper-{:06}", 5000 + ended)));
    }
    ended
}

#[test]
fn pods_end_elsewhere_with_many_flows() {
    const NAME: &str = "pods_end_elsewhere_with_many_flows";
    let (entries, window) = if full() { (200_000, 20) } else { (20_000, 5) };
    let scene = Scene::with(NAME, |api| api.load((0..1000).map(|number| paper("crowd", 5000 + number))));
    fill(&scene, entries);
    let window = Duration::from_secs(window);
    let (start, used) = (Instant::now(), scene.agent.used());
    let (mut delays, ended) = std::thread::scope(|scope| {
        let ending = scope.spawn(|| end_pods(&scene.api, start + window));
        let mut delays = Vec::new();
        while start.elapsed() < window {
            delays.extend(scene.delays(2));
        }
        (delays, ending.join().unwrap())
    });
    let turns = delays.len();
    let share = (scene.agent.used().saturating_sub(used)).as_secs_f64() / start.elapsed().as_secs_f64();
    delays.sort();
    let p99 = delays[(turns * 99 / 100).min(turns - 1)];
    let note = format!(
        "{entries} entries, {ended} pods, {turns} events, median {:.2?}, {:.0} % of a core",
        delays[turns / 2],
        share * 100.0
    );
    let fault = "pods end on other nodes, ten a second";
    Row { name: NAME, fault, toll: None, noticed: None, in_step: Some(p99), note }.print();
    let bound = Duration::from_millis(if full() { 50 } else { 400 });
    assert!(p99 < bound, "events take {p99:?} (p99), {:?} at most", delays[turns - 1]);
}
