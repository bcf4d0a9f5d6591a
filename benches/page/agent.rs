//! The tables and plots of what an agent costs.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use plotters::prelude::*;

use crate::plots::BLUE;
use crate::rows::{Row, Rows};

/// The clusters, in the order of the page.
const CLUSTERS: [(&str, &str); 6] = [
    ("W1", "30 local pods of 330, 60 policies, 20 namespaces"),
    ("W2", "110 local pods of 5,110, 500 policies, 100 namespaces"),
    ("W3", "250 local pods of 50,250, 5,000 policies, 1,000 namespaces"),
    ("W5", "30 local pods of 330; one policy of 10,000 ipBlocks with 1,000 excepts, one of 200 port ranges"),
    ("W6", "250 local pods of 100,250, 10,000 policies of one rule, 1,000 namespaces"),
    ("W8", "W2 with both families"),
];

const INTRODUCTION: &str = "
## The agent

An API server in the benchmark's own process serves pods of 4 KiB each, as a Deployment's are, and the kernel's notices say when an event has reached nf_tables.
Times of events begin before the API server takes the object and end at the notice, so they include the server's part, two context switches and the agent's decoding.
*First commit* is the one that takes effect first; *last commit* ends the change, and brings back the verdict cache if the change denied something.
*Own work* of a start begins with the last byte of the last list.
While an agent starts without a table, another program commits one element of its own table each millisecond.
▲ marks a missed target.
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

/// The part of the page about the agent, if there are rows for it.
pub(crate) fn part(rows: &Rows, plots: &Path) -> String {
    let rows = rows.of("agent");
    if rows.0.is_empty() {
        return String::new();
    }
    let mut page = INTRODUCTION.to_owned();
    if rows.of("ruleset").0.iter().any(|row| !row.id.is_empty()) {
        page += "\n### A ruleset from scratch: 250 local pods of 5,000, 500 policies, both families\n\n";
        page += &table(&rows.of("ruleset"));
    }
    for (name, size) in CLUSTERS {
        let of = rows.of(name);
        if !of.0.is_empty() {
            write!(page, "\n### {name}: {size}\n\n{}", table(&of)).expect("a string");
        }
    }
    page += &growth(&rows, plots);
    page
}

/// All rows, those of an event as one line.
fn table(rows: &Rows) -> String {
    let mut table = "| measure | measured | target | compared with |\n|---|---|---|---|\n".to_owned();
    for row in &rows.0 {
        let target = row.target.map_or_else(String::new, |target| format!("≤ {target}"));
        let id = row.id.replace('/', ": ");
        writeln!(table, "| {id} | {} {} | {target} | {} |", figure(row), row.unit, row.baseline).expect("a string");
    }
    table
}

/// As many decimals as say something.
fn figure(row: &Row) -> String {
    let number = |value: f64| if value.abs() >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") };
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
        if points.iter().map(|(pods, _)| pods.to_bits()).collect::<BTreeSet<_>>().len() < 2 {
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
fn line(points: &[(f64, f64)]) -> (f64, f64) {
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
