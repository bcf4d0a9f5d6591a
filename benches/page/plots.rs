//! The plots of the page, as SVG.

use std::path::Path;

use plotters::prelude::*;

use crate::rows::Rows;

/// A plot of ratios by the number of policies.
pub(crate) struct Plot {
    pub(crate) title: &'static str,
    name: &'static str,
    /// The highest ratio shown.
    highest: f64,
    logarithmic: bool,
    lines: &'static [Line],
}

/// A line: the beginning of its ids, its name, its colour and whether it has a marker for each point. Colours are from
/// the palette of Okabe and Ito, which colour-blind people can tell apart.
struct Line(&'static str, &'static str, RGBColor, Marker);

#[derive(Clone, Copy)]
enum Marker {
    Circle,
    Triangle,
    Cross,
}

pub(crate) const BLUE: RGBColor = RGBColor(0, 114, 178);
const ORANGE: RGBColor = RGBColor(230, 159, 0);
const VERMILION: RGBColor = RGBColor(213, 94, 0);

/// The plots of each place.
pub(crate) const ALL: [Plot; 2] = [
    Plot {
        title: "Established flows: ratio to conntrack alone, by number of policies",
        name: "established",
        highest: 1.8,
        logarithmic: false,
        lines: &[
            Line("established/blocks-and-ports", "Palisade, a block and a port each", BLUE, Marker::Circle),
            Line("established/cache-off/blocks-and-ports", "the same, cache off", ORANGE, Marker::Triangle),
            Line("established/chain-per-policy", "chain per policy, never revoked", VERMILION, Marker::Cross),
        ],
    },
    Plot {
        title: "First packets of flows: ratio to conntrack alone, by number of policies",
        name: "new",
        highest: 100.0,
        logarithmic: true,
        lines: &[
            Line("new", "Palisade", BLUE, Marker::Circle),
            Line("new/chain-per-policy", "chain per policy", VERMILION, Marker::Cross),
        ],
    },
];

impl Plot {
    /// Draws it, if there are rows for it; returns the name of its file.
    pub(crate) fn draw(&self, rows: &Rows, directory: &Path, place: &str) -> Option<String> {
        let most = self.lines.iter().flat_map(|line| rows.series(line.0)).map(|(number, _)| number).max()?;
        let name = format!("{}-{}.svg", self.name, place.replace('/', "-"));
        let path = directory.join(&name);
        let area = SVGBackend::new(&path, (720, 360)).into_drawing_area();
        area.fill(&WHITE).expect("a background");
        let mut chart = ChartBuilder::on(&area);
        chart.margin(14).x_label_area_size(36).y_label_area_size(48);
        // A little room after the last point.
        let policies = (1_f64..f64::from(most) * 1.3).log_scale();
        if self.logarithmic {
            let mut chart = chart.build_cartesian_2d(policies, (0.8..self.highest).log_scale()).expect("a chart");
            self.fill(&mut chart, rows);
        } else {
            let mut chart = chart.build_cartesian_2d(policies, 0.8..self.highest).expect("a chart");
            self.fill(&mut chart, rows);
        }
        area.present().expect("a file");
        Some(name)
    }

    fn fill<'a, Y>(&self, chart: &mut ChartContext<'a, SVGBackend<'a>, Cartesian2d<LogCoord<f64>, Y>>, rows: &Rows)
    where
        Y: Ranged<ValueType = f64> + plotters::coord::ranged1d::ValueFormatter<f64>,
    {
        let mut mesh = chart.configure_mesh();
        let whole = |number: &f64| format!("{number:.0}");
        mesh.x_label_formatter(&whole).x_desc("policies of the server").y_desc("ratio");
        mesh.label_style(("sans-serif", 13)).light_line_style(TRANSPARENT).draw().expect("axes");
        for Line(prefix, name, colour, marker) in self.lines {
            let points: Vec<(f64, f64)> =
                rows.series(prefix).into_iter().map(|(number, row)| (f64::from(number), row.measured)).collect();
            let line = LineSeries::new(points.iter().copied(), colour.stroke_width(2));
            let label = chart.draw_series(line).expect("a line").label(*name);
            label.legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
            let shapes = points.iter().map(|point| match marker {
                Marker::Circle => Circle::new(*point, 4, colour.filled()).into_dyn(),
                Marker::Triangle => TriangleMarker::new(*point, 5, colour.filled()).into_dyn(),
                Marker::Cross => Cross::new(*point, 4, colour.stroke_width(2)).into_dyn(),
            });
            chart.draw_series(shapes).expect("markers");
        }
        let mut labels = chart.configure_series_labels();
        labels.position(SeriesLabelPosition::UpperLeft).background_style(WHITE.mix(0.85)).border_style(BLACK.mix(0.3));
        labels.label_font(("sans-serif", 13)).draw().expect("a legend");
    }
}
