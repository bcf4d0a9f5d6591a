//! Writes docs/performance.md and its plots from the rows that benches measured.
//!
//! Run by `hack/bench page FILE...`, where each file was written with `--json`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::panic,
    reason = "a program of measurements: it ends where it fails"
)]

mod agent;
#[path = "../common/clusters.rs"]
mod clusters;
mod plots;
mod rows;
mod scale;
mod tables;

use std::fmt::Write as _;
use std::path::Path;

use rows::Rows;

const PAGE: &str = "docs/performance.md";
const SCALE: &str = "docs/scale.md";
const PLOTS: &str = "docs/performance";

const INTRODUCTION: &str = "# Performance

What a packet costs under Palisade's rules, and what an agent costs.
This page is generated: `hack/bench --json FILE`, then `hack/bench page FILE`.
";

const PACKETS: &str = "
## Packets

A ratio is what a packet costs under Palisade's rules, as a multiple of what it costs under conntrack alone.
A node, two pods that policies isolate and two that none does are network namespaces; one core sends small UDP packets.
A packet is forwarded and filtered on the core that sends it, so a ratio is that of its whole path, sockets included.
Each round measures the rules and, just before, their baseline; ratios are medians of the rounds, with the lowest and highest in brackets.
These machines are noisy: a ratio moves by 0.05 between runs, and a time by half.
";

const LAYOUTS: &str = "
*Chain per policy* is the layout that other enforcers write: accept what is established, then jump to one chain for each policy in turn.
It forgets to revoke established flows, and a first packet pays for every policy.
";

fn main() {
    let files: Vec<_> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    assert!(!files.is_empty(), "name the files that hack/bench wrote with --json");
    let rows = Rows::read(&files);
    std::fs::create_dir_all(PLOTS).expect("a directory for the plots");
    let mut page = INTRODUCTION.to_owned();
    page += &tables::machine();
    let packets = rows.packets();
    if !packets.0.is_empty() {
        page += PACKETS;
    }
    for place in packets.places() {
        let of = rows.of(&place);
        writeln!(page, "\n### {}", tables::title(&place)).expect("a string");
        page += &tables::established(&of);
        for plot in plots::ALL {
            if let Some(name) = plot.draw(&of, Path::new(PLOTS), &place) {
                writeln!(page, "\n![{}](performance/{name})", plot.title).expect("a string");
            }
        }
        page += LAYOUTS;
        page += &tables::others(&of);
        page += &tables::peers(&of);
    }
    page += &tables::missed(&packets);
    page += &agent::part(&rows, Path::new(PLOTS));
    std::fs::write(PAGE, page).expect(PAGE);
    println!("{PAGE}");
    if let Some(page) = scale::page(&rows) {
        std::fs::write(SCALE, page).expect(SCALE);
        println!("{SCALE}");
    }
}
