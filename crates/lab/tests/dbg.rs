//! x
use palisade_lab::*;
use std::time::{Duration, Instant};
#[test]
fn dbg() {
    for i in 0..1000 {
        let lab = Lab::builder().nodes(2, Layout::Bridge).build().unwrap();
        let a = lab.node(1).add_pod("a").unwrap();
        let c = lab.node(2).add_pod("c").unwrap();
        let t = Instant::now();
        let f = Flow::ping(&a, c.ipv6().unwrap());
        if probe_all(&[f.clone()], Duration::from_millis(300)).unwrap()[0].is_reachable() {
            println!("{i} ok {:?}", t.elapsed());
            continue;
        }
        println!("{i} FAILED");
        for n in [lab.fabric(), lab.node(1).namespace(), lab.node(2).namespace(), a.namespace(), c.namespace()] {
            println!("== {}", n.name());
            println!("{}", n.output("ip", &["link"], "").unwrap());
            println!("{}", n.output("ip", &["-6", "-br", "a"], "").unwrap());
            println!("{}", n.output("ip", &["-6", "neigh"], "").unwrap());
        }
        while !probe_all(&[f.clone()], Duration::from_millis(300)).unwrap()[0].is_reachable() {}
        println!("after {:?}", t.elapsed());
        break;
    }
}
