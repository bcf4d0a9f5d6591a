//! docs/scale.md: what agents ask of an API server at the size of a large cluster, by simulation from measured sizes.

use std::fmt::Write as _;

use crate::agent::line;
use crate::rows::Rows;

const PODS: u32 = 150_000;
const NODES: [u32; 3] = [100, 1_000, 5_000];

/// Assumptions: how long a pod lives, how often the API server changes it while it starts and ends, and how often while it
/// runs.
const LIFETIME: f64 = 12.0 * 3_600.0;
const CHANGES: u32 = 7;
const BETWEEN_STATUSES: f64 = 24.0 * 3_600.0;

/// How often an agent lists everything again (`watch/src/api/timing.rs`), with the share by which that varies.
const RELIST: f64 = 3_600.0;
const JITTER: f64 = 0.1;

/// The seconds that are simulated.
const DAY: usize = 24 * 3_600;

const MIB: f64 = (1 << 20) as f64;

/// What was measured.
struct Measured {
    /// Bytes of a pod as it is served.
    pod: f64,
    /// Seconds in which an agent reads the list of one pod.
    reading: f64,
    /// MiB of an agent without pods, and for each.
    memory: (f64, f64),
    /// Milliseconds of an agent's CPU for an event that changes nothing.
    event: f64,
}

/// A number from `benches/page`, always the same series.
struct Random(u64);

impl Random {
    /// Between 0 and 1 (splitmix64).
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let bits = u32::try_from((bits ^ (bits >> 31)) >> 32).unwrap_or_default();
        f64::from(bits) / f64::from(u32::MAX)
    }

    /// The number of events in a second at this mean (Knuth; the mean is small).
    fn poisson(&mut self, mean: f64) -> u32 {
        let (limit, mut product, mut count) = ((-mean).exp(), self.next(), 0);
        while product > limit {
            product *= self.next();
            count += 1;
        }
        count
    }
}

/// A day, second by second.
struct Day {
    events: Vec<f64>,
    /// MiB that all agents together are sent.
    sent: Vec<f64>,
}

/// The page, if its figures were measured.
pub(crate) fn page(rows: &Rows) -> Option<String> {
    let rows = rows.of("agent");
    let memory: Vec<_> =
        rows.series("growth/memory").iter().map(|(pods, row)| (f64::from(*pods), row.measured)).collect();
    let (pods, _) = memory.last()?;
    // The largest of those that were measured.
    let start = ["W6", "W3", "W2"].into_iter().map(|name| rows.of(name)).find(|start| !start.0.is_empty())?;
    let listing = start.get("cold start/whole")?.measured - start.get("cold start/own work")?.measured;
    let measured = Measured {
        pod: rows.get("size/pod")?.measured,
        reading: listing / 1_000.0 / pods,
        memory: line(&memory),
        event: rows.get("W2/nothing changes/CPU")?.measured,
    };
    Some(text(&measured))
}

fn text(measured: &Measured) -> String {
    let Measured { pod, memory, event, .. } = measured;
    let list = f64::from(PODS) * pod / MIB;
    let per_agent = simulate(1, measured);
    let resident = memory.0 + memory.1 * f64::from(PODS);
    let hours = LIFETIME / 3_600.0;
    let mut text = format!(
        "# Scale

What {} pods ask of the API server and of each node, at 100, 1,000 and 5,000 nodes.
The figures are simulated from sizes and times that [`hack/bench`](performance.md) measured; `hack/bench page` writes this page.
No cluster of this size was run.

Assumptions:

- A pod lives {hours:.0} hours on average, and the API server sends {CHANGES} events about it while it starts and ends, and one a day while it runs.
- A pod is {pod:.0} bytes of JSON, uncompressed. Every event carries the whole pod.
- An agent watches all pods, because any pod may be a peer, and lists them again once an hour (±10 %) in pages of at most 500.
- Namespaces and policies are small beside pods and are left out.

## The API server

| nodes | events a second to all agents | MiB a second to all agents: mean | 99 % of seconds below | of it lists |
|---|---|---|---|---|
",
        grouped(f64::from(PODS)),
    );
    for nodes in NODES {
        let day = simulate(nodes, measured);
        let (events, sent) = (mean(&day.events) * f64::from(nodes), mean(&day.sent));
        let lists = f64::from(nodes) * list / RELIST;
        let high = high(&day.sent);
        let cells = [f64::from(nodes), events, sent, high, lists].map(grouped).join(" | ");
        writeln!(text, "| {cells} |").expect("a string");
    }
    let events = mean(&per_agent.events);
    let cpu = events * event / 10.0;
    write!(
        text,
        "
One agent receives {events:.0} events a second, {:.2} MiB of them, and once an hour a list of {list:.0} MiB.
If all agents start at once, each asks for such a list: {:.0} GiB at 1,000 nodes.
The API server reads lists from etcd page by page, because agents ask for the newest state.

## The node

| | |
|---|---|
| agent's memory | {resident:.0} MiB ({:.0} MiB and {:.2} KiB for each pod) |
| agent's CPU for events that change nothing on the node | {cpu:.2} % of a core |
| reading one list | {:.1} s of a core |

An agent keeps of a pod its name, labels, node, IPs, named ports and state, and what pods have in common only once: {:.2} KiB instead of {:.1} KiB of JSON.
The kernel keeps the IPs of the pods that policies of the node's own pods select, whatever the size of the cluster.

## Where that is too much

- *Lists*: they are most of the bytes.
  A WatchList (KEP-3157) would send the same bytes from the API server's cache instead of from etcd; agents do not use it.
- *Events*: only fewer or smaller events help, since every agent receives each of them.
  `managedFields`, annotations and environment variables are most of a pod and none of it is used, but the API has no selector for fields of an object.
- *Memory*: raise the limit of the DaemonSet (`resources` in the chart) to twice the figure above.
- Beyond some 1,000 nodes with this many pods, a tier that watches once and serves trimmed objects to the agents is the usual answer (Calico's Typha is one); Palisade has none.
",
        (mean(&per_agent.sent) - list / RELIST).max(0.0),
        1_000.0 * list / 1_024.0,
        memory.0,
        memory.1 * 1_024.0,
        measured.reading * f64::from(PODS),
        memory.1 * 1_024.0,
        pod / 1_024.0,
    )
    .expect("a string");
    text
}

fn simulate(nodes: u32, measured: &Measured) -> Day {
    let mut random = Random(u64::from(nodes));
    let rate = f64::from(PODS) * (f64::from(CHANGES) / LIFETIME + 1.0 / BETWEEN_STATUSES);
    let event = measured.pod / MIB;
    let events: Vec<f64> = (0..DAY).map(|_| f64::from(random.poisson(rate))).collect();
    let mut sent: Vec<f64> = events.iter().map(|count| count * event * f64::from(nodes)).collect();
    let list = f64::from(PODS) * event;
    let seconds = measured.reading * f64::from(PODS);
    for _ in 0..nodes {
        let mut next = random.next() * RELIST;
        while let Some(second) = index(next) {
            spread(&mut sent, second, seconds, list);
            next += RELIST * (1.0 - JITTER + 2.0 * JITTER * random.next());
        }
    }
    Day { events, sent }
}

/// The second of the day, if it is one.
fn index(time: f64) -> Option<usize> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a day has few seconds")]
    let second = time as usize;
    (second < DAY).then_some(second)
}

/// Adds the bytes of a list to the seconds in which it is read.
fn spread(sent: &mut [f64], first: usize, seconds: f64, list: f64) {
    let mut left = 1.0;
    let share = 1.0 / seconds.max(1.0);
    for second in sent.iter_mut().skip(first) {
        *second += list * share.min(left);
        left -= share;
        if left <= 0.0 {
            return;
        }
    }
}

/// Without decimals, and with a comma after each three digits.
fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.iter().map(|_| 1.0).sum::<f64>()
}

/// The value that 99 % of the seconds of a day do not exceed.
fn high(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.into_iter().rev().nth(DAY / 100).unwrap_or_default()
}
