//! x
use palisade_lab::*;
use std::time::{Duration, Instant};

#[test]
fn smoke() {
    let t = Instant::now();
    let lab = Lab::builder().nodes(2, Layout::Bridge).build().unwrap();
    println!("build {:?}", t.elapsed());
    let t = Instant::now();
    let a = lab.node(1).add_pod("a").unwrap();
    let b = lab.node(1).add_pod("b").unwrap();
    let c = lab.node(2).add_pod("c").unwrap();
    println!("pods {:?}", t.elapsed());
    let listen = [Listen::tcp(80), Listen::udp(53), Listen::sctp(99)];
    b.serve(&listen).unwrap();
    c.serve(&listen).unwrap();
    let mut flows = Vec::new();
    for s in [&b, &c] {
        for f in Family::ALL {
            let to = s.address(f).unwrap();
            flows.extend([Flow::tcp(&a, to, 80), Flow::udp(&a, to, 53), Flow::sctp(&a, to, 99), Flow::ping(&a, to)]);
        }
    }
    let t = Instant::now();
    let o = probe_all(&flows, Duration::from_millis(300)).unwrap();
    println!("probes {:?}", t.elapsed());
    for (f, o) in flows.iter().zip(&o) {
        println!("{f} {o:?}");
    }
    let t = Instant::now();
    let o = lab.shoot(&flows).unwrap();
    println!("shots {:?} {o:?}", t.elapsed());
    let many: Vec<_> = flows.iter().cycle().take(20000).cloned().collect();
    let t = Instant::now();
    let o = lab.shoot(&many).unwrap();
    println!("shots {:?} {}", t.elapsed(), o.iter().filter(|x| **x).count());
    println!("{}", a.namespace().nsenter_line());
}
