//! A full node's ruleset from scratch: compiled and rendered, and loaded into the kernel.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use palisade_dataplane::table::{Ownership, Table};
use palisade_lab::Namespace;
use palisade_policy::index::Index;
use palisade_ruleset::render::{Options, render};
use palisade_ruleset::text;
use palisade_testkit::cluster::{FULL_NODE, cluster};

use crate::numbers::Samples;
use crate::rows::Rows;

pub(crate) fn measure(rows: &mut Rows, runs: usize) {
    let state = cluster(FULL_NODE);
    let whole = || render(Index::build("node-0", &state).compiled(), &Options::default());
    let rendering = samples(runs, || time(|| drop(whole())));
    rows.median("ruleset/compiled and rendered", "ms", &rendering, Some(80.0));
    let ruleset = whole();
    let script = text::script(&ruleset);
    let by_nft = samples(runs, || {
        fresh(|| {
            time(|| {
                let mut nft = Command::new("nft")
                    .args(["-f", "-"])
                    .stdin(Stdio::piped())
                    .spawn()
                    .expect("nft, from package nftables");
                nft.stdin.take().expect("a pipe").write_all(script.as_bytes()).expect("a script");
                assert!(nft.wait().expect("nft").success());
            })
        })
    });
    let netlink = samples(runs, || {
        fresh(|| {
            let mut table = Table::open(Ownership::Plain).expect("a netlink socket");
            time(|| {
                table.replace(&ruleset).expect("a ruleset that the kernel accepts");
            })
        })
    });
    let baseline = format!("nft -f of the same: {:.0} ms", by_nft.median());
    rows.compared("ruleset/loaded", "ms", &baseline, netlink.median(), Some(netlink.spread()), Some(110.0));
}

fn samples(runs: usize, measure: impl Fn() -> Duration) -> Samples {
    Samples::milliseconds(&(0..runs).map(|_| measure()).collect::<Vec<_>>())
}

/// Runs in a new network namespace.
fn fresh<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    Namespace::new("bench").expect("CAP_SYS_ADMIN, for a network namespace").run(body).expect("a namespace")
}

fn time(body: impl FnOnce()) -> Duration {
    let started = Instant::now();
    body();
    started.elapsed()
}
