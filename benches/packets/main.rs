//! What a packet costs under Palisade's rules, compared with conntrack alone and with the layout of others.
//!
//! Run by `hack/bench packets [--quick] [--json FILE]`. A node, two pods that policies isolate, and two that none does, in
//! network namespaces. One core sends small UDP packets; a packet is forwarded and filtered on the core that sends it,
//! so the time per packet is that of its whole path. In each round every ruleset is loaded and measured, just after its
//! baseline.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::panic,
    reason = "a program of measurements: it ends where it fails"
)]

mod layouts;
mod measure;
mod policies;
#[path = "../common/run.rs"]
mod run;
mod tcp;

use layouts::Rules;
use measure::{Bed, Traffic};
use palisade_lab::Layout;
use palisade_policy::input::Family;
use palisade_ruleset::render::Established;
use policies::Shape;
use run::Run;
use serde_json::{Value, json};

/// A comparison: some traffic under some rules, as a multiple of the same traffic under other rules.
struct Row {
    id: String,
    traffic: Traffic,
    rules: Rules,
    baseline: Rules,
    /// The multiple that is aimed at; none for what is shown for comparison only.
    target: Option<f64>,
}

fn main() {
    let run = Run::read(&[]);
    let mut results = Vec::new();
    let places: &[(Layout, Family)] = if run.quick {
        &[(Layout::Routed, Family::V4)]
    } else {
        &[(Layout::Routed, Family::V4), (Layout::Routed, Family::V6), (Layout::Bridge, Family::V4)]
    };
    for (layout, family) in places {
        let bed = Bed::new(*layout, *family);
        let (path, ip) = (
            if *layout == Layout::Bridge { "bridged" } else { "routed" },
            if *family == Family::V4 { "ipv4" } else { "ipv6" },
        );
        let name = format!("{path}/{ip}");
        println!("\n{name}: {:50} {:>9} {:>7} {:>15} {:>7}", "", "ns", "ratio", "lowest-highest", "target");
        let rows = rows(run.quick);
        let measured = measure::in_rounds(&bed, &rows, if run.quick { 7 } else { 5 });
        results.extend(rows.iter().zip(&measured).map(|(row, measured)| show(&name, row, measured)));
        results.extend(added(&name, &rows, &measured));
    }
    run.write(results);
}

fn rows(quick: bool) -> Vec<Row> {
    let sizes: &[u16] = if quick { &[1, 100, 1_000] } else { &[1, 10, 100, 1_000, 5_000] };
    let peers: &[u16] = if quick { &[10, 1_000, 50_000] } else { &[10, 100, 1_000, 10_000, 50_000] };
    let mut rows = Vec::new();
    let mut row =
        |id: String, traffic, rules, baseline, target| rows.push(Row { id, traffic, rules, baseline, target });
    row("established/no-rules".into(), Traffic::Established, Rules::None, Rules::Conntrack, None);
    let nothing = Rules::Palisade(Shape::Peers, 0, Established::Remember);
    row("established/no-policies".into(), Traffic::Established, nothing, Rules::Conntrack, Some(1.04));
    for number in peers {
        for (established, name, target) in [(Established::Remember, "", 1.04), (Established::Judge, "/cache-off", 1.12)]
        {
            let (rules, id) =
                (Rules::Peers(*number, established), format!("established{name}/pods-of-a-peer/{number}"));
            row(id, Traffic::Established, rules, Rules::Conntrack, Some(target));
        }
        let rules = Rules::Peers(*number, Established::Remember);
        row(format!("new/pods-of-a-peer/{number}"), Traffic::New, rules, Rules::Conntrack, None);
    }
    for number in sizes {
        let others = Rules::Others(*number);
        row(format!("established/chain-per-policy/{number}"), Traffic::Established, others, Rules::Conntrack, None);
        for (established, name, target) in [(Established::Remember, "", 1.04), (Established::Judge, "/cache-off", 1.12)]
        {
            for shape in Shape::ALL {
                let (rules, id) =
                    (Rules::Palisade(shape, *number, established), format!("established{name}/{shape}/{number}"));
                row(id, Traffic::Established, rules, Rules::Conntrack, Some(target));
            }
        }
    }
    for (traffic, name, target) in [
        (Traffic::Connections, "connections", 1.0 / 0.95),
        (Traffic::Requests, "requests", 1.04),
        (Traffic::Bulk, "bulk", 1.04),
    ] {
        for number in sizes.iter().copied().filter(|number| !quick || *number == 1_000) {
            let rules = Rules::Palisade(Shape::Peers, number, Established::Remember);
            row(format!("{name}/{number}"), traffic, rules, Rules::Conntrack, Some(target));
            row(format!("{name}/chain-per-policy/{number}"), traffic, Rules::Others(number), Rules::Conntrack, None);
        }
    }
    for number in sizes {
        let palisade = Rules::Palisade(Shape::Peers, *number, Established::Remember);
        row(format!("unisolated/{number}"), Traffic::Unisolated, palisade, Rules::Conntrack, Some(1.04));
        row(format!("new/{number}"), Traffic::New, palisade, Rules::Conntrack, None);
        row(format!("new/chain-per-policy/{number}"), Traffic::New, Rules::Others(*number), Rules::Conntrack, None);
        row(format!("denied/{number}"), Traffic::Denied, palisade, Rules::Drop, Some(1.2));
    }
    rows
}

/// What a chain per policy adds to the first packet of a flow, as a multiple of what Palisade adds.
fn added(place: &str, rows: &[Row], measured: &[measure::Measured]) -> Option<Value> {
    let ratio = |id: &str| {
        let number = rows.iter().position(|row| row.id == id)?;
        Some(measured.get(number)?.ratios().0)
    };
    let (others, own) = (ratio("new/chain-per-policy/1000")?, ratio("new/1000")?);
    // Below the noise, Palisade adds as good as nothing.
    let times = (others - 1.0) / (own - 1.0).max(0.02);
    println!("{:60} {:>9} {times:>7.1} {:>15} {:>7}", "new/added-by-chain-per-policy/1000", "", "", "≥ 10");
    Some(json!({
        "id": format!("{place}/new/added-by-chain-per-policy/1000"),
        "measured": times,
        "unit": "ratio of the ns added to a first packet",
        "baseline": "palisade",
        "target": 10,
        "met": times >= 10.0,
    }))
}

fn show(place: &str, row: &Row, measured: &measure::Measured) -> Value {
    let (ratio, lowest, highest) = measured.ratios();
    let target = row.target.map_or_else(String::new, |target| format!("≤ {target:.2}"));
    println!(
        "{:60} {:>9.0} {ratio:>7.2} {:>15} {target:>7}",
        row.id,
        measured.nanoseconds(),
        format!("{lowest:.2}-{highest:.2}")
    );
    json!({
        "id": format!("{place}/{}", row.id),
        "measured": (ratio * 1000.0).round() / 1000.0,
        "unit": format!("ratio of ns per {}", row.traffic.unit()),
        "baseline": format!("{}: {:.0} ns", row.baseline.name(), measured.baseline()),
        "spread": [lowest, highest],
        "target": row.target,
        "met": row.target.map(|target| ratio <= target),
    })
}
