//! The tables and plots of what an agent costs.

use std::fmt::Write as _;
use std::path::Path;

use plotters::prelude::*;

use crate::clusters::CLUSTERS;
use crate::plots::BLUE;
use crate::rows::{Row, Rows};

const INTRODUCTION: &str = "
## The agent

An API server in the benchmark's own process serves pods of 4 KiB each, as a Deployment's are, and the kernel's notices say when an event has reached nf_tables.
Times of events begin before the API server takes the object and end at the notice, so they include the server's part, two context switches and the agent's decoding.
*First commit* is the one that takes effect first; *last commit* ends the change, and brings back the verdict cache if the change denied something.
*Own work* of a start begins with the last byte of the last list.
While an agent starts without a table, another program commits one element of its own table each millisecond.
▲ marks a missed target: of a pod event 0.3 ms for the median of the first commit, 2 ms for 99 % of them, and 0.3 ms of CPU; of an edited policy 5 ms to the first commit and 20 ms to the last; of a relabelled namespace 25 ms to the last.
";

/// A quantity by the number of pods.
struct Growth {
    series: &'static str,
    file: &'static str,
    title: &'static str,
    unit: &'static str,
}

const GROWTH: [Growth; 2] = [
    Growth {
        series: "growth/memory",
        file: "agent-memory.svg",
        title: "Resident memory of an agent, by pods of the cluster",
        unit: "MiB",
    },
    Growth {
        series: "growth/pod event",
        file: "agent-event.svg",
        title: "A pod of another node changes its labels: time to the first commit, by pods of the cluster",
        unit: "ms",
    },
];

const SERVER: &str = "
### At a real API server

kube-apiserver and etcd run beside the agent, with the same objects.
Times begin with the API server's answer to the IP of a new pod of another node, and end when that IP is in the kernel.
Each agent is alone, and starts without rules; kube-router's CPU includes the programs that it runs.
";

/// Agents at a real API server, a line each.
fn server(rows: &Rows) -> String {
    let columns = ["cold start", "pod created, median", "pod created, longest", "pod created, CPU", "memory"];
    let mut table = String::new();
    for (workload, size) in CLUSTERS {
        let of = rows.of(workload).of("real API server");
        let mut agents: Vec<&str> = of.0.iter().filter_map(|row| Some(row.id.split_once('/')?.0)).collect();
        agents.dedup();
        if agents.is_empty() {
            continue;
        }
        write!(table, "\n{workload}: {size}\n\n| agent | {} |\n|---|---|---|---|---|---|\n", columns.join(" | "))
            .expect("a string");
        for agent in agents {
            let cells = columns.map(|column| of.get(&format!("{agent}/{column}")).map_or_else(String::new, with_unit));
            let version = of.get(&format!("{agent}/cold start")).map(|row| row.baseline.as_str()).unwrap_or_default();
            let version = if version.is_empty() { String::new() } else { format!(" ({version})") };
            writeln!(table, "| {agent}{version} | {} |", cells.join(" | ")).expect("a string");
        }
    }
    if table.is_empty() { table } else { SERVER.to_owned() + &table }
}

const BOUNDS: &str = "
### What bounds the missed targets

Shares are from `perf record` of the agent in W2, W3 and W6 (Linux 6.18, 2 CPUs).

- *A single pod event*: half of its time and CPU is waking up three threads, one of them the API server's, on an idle machine with cold caches.
  At 100 events a second the same events take half as long (W3, pods created).
- *A pod that leaves a set* costs three commits: suspend the verdict cache and add, remove, resume.
  The last one adds rules, so the kernel validates the whole table: a quarter of the agent's CPU for such an event, none of it before the first commit.
- *Nothing changes*: 4 KiB of JSON are read, and a second thread is woken to compare the pod with the one that is known.
- *Memory*: 12 MiB are the program itself.
  jemalloc and mimalloc were tried in place of glibc: 1.5 MiB less and 2.5 MiB more in W2, 12 MiB less in W3, and slower starts.
- *Another table's commit*: batches of 512 rules and elements take one to three milliseconds, but the sets and chains of a full node are added in one batch, and the kernel compares the name of each new set with those of all others.
- *A ruleset loaded*: rules and elements in the kernel; `nft -f` takes twice as long for the same.
- *A start of W3*: 200 MiB of JSON are decoded by one thread, at 250 MiB a second.
";

/// The part of the page about the agent, if there are rows for it.
pub(crate) fn part(rows: &Rows, plots: &Path) -> String {
    let rows = rows.of("agent");
    if rows.0.is_empty() {
        return String::new();
    }
    let mut page = INTRODUCTION.to_owned();
    if !rows.of("ruleset").0.is_empty() {
        page += "\n### A ruleset from scratch: 250 local pods of 5,000, 500 policies, both families\n\n";
        page += &table(&rows.of("ruleset"));
    }
    for (name, size) in CLUSTERS {
        let mut of = rows.of(name);
        of.0.retain(|row| !row.id.starts_with("real API server/"));
        if !of.0.is_empty() {
            write!(page, "\n### {name}: {size}\n\n{}", table(&of)).expect("a string");
        }
    }
    page += &server(&rows);
    page += &growth(&rows, plots);
    page += BOUNDS;
    page
}

/// The figures of an event, in the order of columns.
const COLUMNS: [&str; 7] = [
    "first commit, median",
    "first commit, 99 %",
    "last commit, median",
    "last commit, 99 %",
    "commits",
    "elements",
    "CPU",
];

/// Events first, a line each; then all other rows.
fn table(rows: &Rows) -> String {
    let of_event =
        |row: &Row| COLUMNS.iter().find_map(|column| row.id.strip_suffix(column)?.strip_suffix('/').map(str::to_owned));
    let mut events: Vec<String> = Vec::new();
    for event in rows.0.iter().filter_map(of_event).filter(|event| rows.get(&format!("{event}/commits")).is_some()) {
        if !events.contains(&event) {
            events.push(event);
        }
    }
    let mut table = String::new();
    if !events.is_empty() {
        let columns = "event | first commit: median | 99 % | last commit: median | 99 % | commits | elements | CPU";
        writeln!(table, "| {columns} |\n|---|---|---|---|---|---|---|---|").expect("a string");
    }
    for event in &events {
        let cells = COLUMNS.map(|column| rows.get(&format!("{event}/{column}")).map_or_else(String::new, with_unit));
        writeln!(table, "| {event} | {} |", cells.join(" | ")).expect("a string");
    }
    if !events.is_empty() {
        table.push('\n');
    }
    table += "| measure | measured | target |\n|---|---|---|\n";
    let is_of_event = |row: &&Row| of_event(row).is_some_and(|event| events.contains(&event));
    for row in rows.0.iter().filter(|row| !is_of_event(row)) {
        let target = row.target.map_or_else(String::new, |target| format!("≤ {target}"));
        let baseline = if row.baseline.is_empty() { String::new() } else { format!(" ({})", row.baseline) };
        writeln!(table, "| {}{baseline} | {} | {target} |", row.id.replace('/', ": "), with_unit(row))
            .expect("a string");
    }
    table
}

fn with_unit(row: &Row) -> String {
    let unit = match row.unit.as_str() {
        "batches" | "elements" | "operations" => "",
        "ms per event" => " ms",
        unit => &format!(" {unit}"),
    };
    format!("{}{unit}", figure(row))
}

/// As many decimals as say something.
fn figure(row: &Row) -> String {
    let is_whole = matches!(row.unit.as_str(), "batches" | "elements" | "operations" | "bytes");
    let number =
        |value: f64| if is_whole || value.abs() >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") };
    let missed = if row.met == Some(false) { "▲ " } else { "" };
    let spread = row.spread.filter(|(lowest, highest)| lowest < highest);
    let spread = spread.map(|(lowest, highest)| format!(" ({}–{})", number(lowest), number(highest)));
    format!("{missed}{}{}", number(row.measured), spread.unwrap_or_default())
}

fn growth(rows: &Rows, plots: &Path) -> String {
    let mut page = String::new();
    for Growth { series, file, title, unit } in &GROWTH {
        let points: Vec<_> =
            rows.series(series).into_iter().map(|(pods, row)| (f64::from(pods), row.measured)).collect();
        if points.len() < 2 {
            continue;
        }
        let (base, slope) = line(&points);
        draw(&plots.join(file), &points, (base, slope), unit);
        if page.is_empty() {
            page += "\n### By the size of the cluster\n";
        }
        let each = slope * 1_000.0;
        write!(page, "\n![{title}](performance/{file})\n\n{title}: {base:.2} {unit} and {each:.3} {unit} for each 1,000 pods (least squares).\n")
            .expect("a string");
    }
    page
}

/// The straight line that fits these points best: its value at 0, and its slope.
pub(crate) fn line(points: &[(f64, f64)]) -> (f64, f64) {
    let count = points.iter().map(|_| 1.0).sum::<f64>();
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (mean_x, mean_y) = (mean(|point| point.0), mean(|point| point.1));
    let above = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum::<f64>();
    let slope = above / points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum::<f64>();
    (mean_y - slope * mean_x, slope)
}

fn draw(file: &Path, points: &[(f64, f64)], (base, slope): (f64, f64), unit: &str) {
    let most = points.iter().map(|(pods, _)| *pods).fold(0.0, f64::max) * 1.08;
    let highest = points.iter().map(|(_, value)| *value).fold(0.0, f64::max) * 1.25;
    let area = SVGBackend::new(file, (720, 320)).into_drawing_area();
    area.fill(&WHITE).expect("a background");
    let mut chart = ChartBuilder::on(&area);
    chart.margin(14).x_label_area_size(36).y_label_area_size(48);
    let mut chart = chart.build_cartesian_2d(0.0..most, 0.0..highest).expect("a chart");
    let whole = |number: &f64| format!("{number:.0}");
    let mut mesh = chart.configure_mesh();
    mesh.x_label_formatter(&whole).x_desc("pods of the cluster").y_desc(unit);
    mesh.label_style(("sans-serif", 13)).light_line_style(TRANSPARENT).draw().expect("axes");
    let fit = LineSeries::new([(0.0, base), (most, base + slope * most)], BLUE.mix(0.5).stroke_width(2));
    chart.draw_series(fit).expect("a line");
    chart.draw_series(points.iter().map(|point| Circle::new(*point, 4, BLUE.filled()))).expect("points");
    area.present().expect("a file");
}
