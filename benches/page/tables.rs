//! The tables of the page.

use std::fmt::Write as _;

use crate::rows::{Row, Rows};

/// The shapes of policies, in the order of columns.
const SHAPES: [(&str, &str); 4] = [
    ("peers", "a peer each"),
    ("peers-and-ports", "a peer and a port each"),
    ("blocks", "a block each"),
    ("blocks-and-ports", "a block and a port each"),
];

/// The traffic of the second table, with the names of its rows.
const TRAFFIC: [(&str, &str); 9] = [
    ("unisolated", "established, between pods that nobody isolates"),
    ("new", "first packet of a flow"),
    ("new/chain-per-policy", "the same under a chain per policy"),
    ("denied", "denied packet, against a plain drop"),
    ("connections", "TCP connection with a byte there and back"),
    ("connections/chain-per-policy", "the same under a chain per policy"),
    ("requests", "a byte there and back on one TCP connection"),
    ("bulk", "MiB on one TCP connection"),
    ("bulk/chain-per-policy", "the same under a chain per policy"),
];

pub(crate) fn title(place: &str) -> String {
    let (path, family) = place.split_once('/').unwrap_or((place, ""));
    let family = family.replace("ipv", "IPv");
    match path {
        "bridged" => format!("{family}, on a bridge with br_netfilter"),
        _ => format!("{family}, routed between the pods"),
    }
}

/// The machine of this run.
pub(crate) fn machine() -> String {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map_or("?", |(_, name)| name);
    let count = cpus.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("\nMeasured on {count} CPUs ({model}), Linux {}, Palisade {}.\n", kernel.trim(), env!("CARGO_PKG_VERSION"))
}

/// Established flows by shape and number of policies.
pub(crate) fn established(rows: &Rows) -> String {
    let mut table = "\nPackets of an established flow between two isolated pods, by the server's policies.\n▲ marks a missed target.\n\n".to_owned();
    write!(table, "| policies | chain per policy |").expect("a string");
    SHAPES.iter().for_each(|(_, text)| write!(table, " {text} |").expect("a string"));
    table += "\n|---|---|---|---|---|---|\n";
    for (cache, name) in [("established", "verdict cache on"), ("established/cache-off", "verdict cache off")] {
        for (number, _) in rows.series(&format!("{cache}/peers")) {
            let others = rows.get(&format!("established/chain-per-policy/{number}"));
            write!(table, "| {number}, {name} | {} |", cell(others)).expect("a string");
            for (shape, _) in SHAPES {
                write!(table, " {} |", cell(rows.get(&format!("{cache}/{shape}/{number}")))).expect("a string");
            }
            table.push('\n');
        }
    }
    table
}

/// Packets by the number of pods that a policy's peer selects.
pub(crate) fn peers(rows: &Rows) -> String {
    let sizes: Vec<u32> = rows.series("new/pods-of-a-peer").iter().map(|(number, _)| *number).collect();
    if sizes.is_empty() {
        return String::new();
    }
    let mut table = "\nOne policy, by the number of pods that its peer selects.\n\n|".to_owned();
    sizes.iter().for_each(|size| write!(table, " | {size}").expect("a string"));
    table += " |\n|---|";
    table += &"---|".repeat(sizes.len());
    for (id, text) in [
        ("established", "established, verdict cache on"),
        ("established/cache-off", "established, verdict cache off"),
        ("new", "first packet of a flow"),
    ] {
        write!(table, "\n| {text} |").expect("a string");
        for size in &sizes {
            write!(table, " {} |", cell(rows.get(&format!("{id}/pods-of-a-peer/{size}")))).expect("a string");
        }
    }
    if let (Some(nothing), Some(none)) = (rows.get("established/no-policies"), rows.get("established/no-rules")) {
        write!(
            table,
            "\n\nAn established flow costs {} under a table without policies, and {} without any rules or conntrack.",
            nothing.cell(),
            none.cell()
        )
        .expect("a string");
    }
    table.push('\n');
    table
}

/// All other traffic by number of policies.
pub(crate) fn others(rows: &Rows) -> String {
    let mut sizes: Vec<u32> = rows.series("new").iter().map(|(number, _)| *number).collect();
    sizes.dedup();
    let mut table = "\nOther traffic, by the number of the server's policies, a peer each.\n\n|".to_owned();
    sizes.iter().for_each(|size| write!(table, " | {size}").expect("a string"));
    table += " |\n|---|";
    table += &"---|".repeat(sizes.len());
    for (id, text) in TRAFFIC {
        write!(table, "\n| {text} |").expect("a string");
        sizes
            .iter()
            .for_each(|size| write!(table, " {} |", cell(rows.get(&format!("{id}/{size}")))).expect("a string"));
    }
    if let Some(row) = rows.get("new/added-by-chain-per-policy/1000") {
        write!(
            table,
            "\n\nWith 1,000 policies, a chain per policy adds {:.0} times as much to a first packet as Palisade does.",
            row.measured
        )
        .expect("a string");
    }
    table.push('\n');
    table
}

/// What bounds those that miss.
const PACKET_BOUNDS: &str = "
- *Cache off*: every packet is judged: a lookup in the map of its client and in that of its server, each with a chain and the lookup of its peer.
  That is 13 to 25 % of the path, flat in policies and pods.
  Tried: first packets leave for a chain of their own and the check of link-local addresses comes last, which took 13 to 8 and 17 to 9 expressions off the path; port maps and interval sets keep it flat.
  The cache is the answer, and on by default.
- *Denied packets* pay the same two lookups before a counter and the drop.
- *TCP connections, requests and bulk* wake two programs for each; where a ratio above its target has a range that begins below it, it is the machine's noise.
";

/// The rows that miss their targets.
pub(crate) fn missed(rows: &Rows) -> String {
    let missed: Vec<&Row> = rows.0.iter().filter(|row| row.met == Some(false)).collect();
    if missed.is_empty() {
        return "\nEvery target for packets is met.\n".to_owned();
    }
    let mut table = "\n### Missed targets\n\n| measure | measured | target | against |\n|---|---|---|---|\n".to_owned();
    for row in missed {
        let target = row.target.unwrap_or_default();
        writeln!(table, "| `{}` | {} | {target:.2} | {} |", row.id, row.cell(), row.baseline).expect("a string");
    }
    table + PACKET_BOUNDS
}

fn cell(row: Option<&Row>) -> String {
    row.map_or_else(|| "–".to_owned(), Row::cell)
}
