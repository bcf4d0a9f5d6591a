//! A picture as SVG: cards with rows, and edges between rows.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::layout::{Place, Placed, Size, place};

/// The colours and fonts, for light and dark.
pub(crate) const STYLE: &str = include_str!("page/picture.css");

/// The height of a row, and of a card's title.
const ROW: f64 = 24.0;
const HEAD: f64 = 32.0;
/// Below the last row.
const FOOT: f64 = 6.0;
/// The width of a character, at least, and of what is beside the text.
const CHARACTER: f64 = 7.9;
const PADDING: f64 = 28.0;
const NARROWEST: f64 = 120.0;
/// With more edges than these, their ports are only in their titles.
const LABELLED: usize = 60;

/// A picture.
#[derive(Debug, Default)]
pub(crate) struct Picture {
    pub(crate) title: String,
    pub(crate) cards: Vec<Card>,
    pub(crate) edges: Vec<Edge>,
}

/// What a card is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A namespace; its rows are workloads.
    Namespace,
    /// Ends outside of namespaces, as clients.
    Sources,
    /// The same, as servers.
    Destinations,
}

/// A box with a title and rows.
#[derive(Debug)]
pub(crate) struct Card {
    pub(crate) kind: Kind,
    pub(crate) title: String,
    pub(crate) rows: Vec<Row>,
}

/// A row of a card.
#[derive(Debug)]
pub(crate) struct Row {
    /// The end, for edges and for the page.
    pub(crate) end: String,
    pub(crate) label: String,
    /// How it is open; `None` if it is not.
    pub(crate) mark: Option<&'static str>,
}

/// An edge between two rows, or cards.
#[derive(Debug)]
pub(crate) struct Edge {
    pub(crate) from: String,
    /// The rows of the card that the client is not, if it is a card.
    pub(crate) from_but: Vec<String>,
    pub(crate) to: String,
    pub(crate) to_but: Vec<String>,
    /// `edge`, `edge added` or `edge removed`.
    pub(crate) class: &'static str,
    pub(crate) label: String,
    /// In words.
    pub(crate) title: String,
}

impl Card {
    fn size(&self) -> Size {
        let length = |row: &Row| row.label.chars().count() + row.mark.map_or(0, |mark| mark.len() + 3);
        let longest = self.rows.iter().map(length).chain([self.title.chars().count()]).max().unwrap_or(0);
        // A name has at most 253 characters, and a namespace some thousand workloads.
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let (longest, rows) = (longest as f64, self.rows.len() as f64);
        let place = match self.kind {
            Kind::Sources => Place::First,
            Kind::Namespace => Place::Free,
            Kind::Destinations => Place::Last,
        };
        Size { place, width: (longest * CHARACTER + PADDING).max(NARROWEST), height: HEAD + rows * ROW + FOOT }
    }
}

/// A picture within a page.
pub(crate) fn inline(picture: &Picture) -> String {
    let sizes: Vec<_> = picture.cards.iter().map(Card::size).collect();
    let owners = owners(picture);
    let between: BTreeSet<_> = picture.edges.iter().filter_map(|edge| owners.of(edge)).collect();
    let placed = place(&sizes, &between);
    let Placed { width, height, .. } = placed;
    let mut text = format!(
        "<svg class=\"map\" xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" \
         width=\"{width:.0}\" height=\"{height:.0}\" role=\"img\" aria-labelledby=\"map-title\">\
         <title id=\"map-title\">{}</title>\n{MARKERS}",
        escaped(&picture.title),
    );
    edges(&mut text, picture, &owners, &sizes, &placed);
    for ((card, size), (left, top)) in picture.cards.iter().zip(&sizes).zip(&placed.corners) {
        draw(&mut text, card, *size, (*left, *top));
    }
    text.push_str("</svg>\n");
    text
}

/// A picture as a file of its own.
pub(crate) fn file(picture: &Picture) -> String {
    let text = inline(picture);
    match text.split_once("</title>\n") {
        Some((head, rest)) => format!("{head}</title>\n<style>\n{STYLE}</style>\n{rest}"),
        None => text,
    }
}

/// The head of an arrow, in the colour of its line.
const MARKERS: &str = "<defs><marker id=\"arrow\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" \
    markerHeight=\"7\" orient=\"auto\"><path d=\"M0 0.5 8 4 0 7.5z\"/></marker></defs>\n";

/// The card and the middle of the row of each end, from the top of the card: as a client, as a server.
struct Owners<'p> {
    clients: BTreeMap<&'p str, (usize, f64)>,
    servers: BTreeMap<&'p str, (usize, f64)>,
    /// Whole namespaces.
    cards: BTreeMap<String, (usize, f64)>,
}

fn owners(picture: &Picture) -> Owners<'_> {
    let mut owners = Owners { clients: BTreeMap::new(), servers: BTreeMap::new(), cards: BTreeMap::new() };
    for (number, card) in picture.cards.iter().enumerate() {
        if card.kind == Kind::Namespace {
            owners.cards.insert(format!("ns:{}", card.title), (number, HEAD / 2.0));
        }
        let mut middle = HEAD + ROW / 2.0;
        for row in &card.rows {
            if card.kind != Kind::Destinations {
                owners.clients.insert(&row.end, (number, middle));
            }
            if card.kind != Kind::Sources {
                owners.servers.insert(&row.end, (number, middle));
            }
            middle += ROW;
        }
    }
    owners
}

impl Owners<'_> {
    fn client(&self, end: &str) -> Option<(usize, f64)> {
        self.clients.get(end).or_else(|| self.cards.get(end)).copied()
    }

    fn server(&self, end: &str) -> Option<(usize, f64)> {
        self.servers.get(end).or_else(|| self.cards.get(end)).copied()
    }

    /// The cards of an edge.
    fn of(&self, edge: &Edge) -> Option<(usize, usize)> {
        Some((self.client(&edge.from)?.0, self.server(&edge.to)?.0))
    }
}

fn edges(text: &mut String, picture: &Picture, owners: &Owners<'_>, sizes: &[Size], placed: &Placed) {
    text.push_str("<g class=\"edges\">\n");
    let mut labels = Labels::default();
    let labelled = picture.edges.len() <= LABELLED;
    let mut written = String::new();
    for edge in &picture.edges {
        let (Some(from), Some(to)) = (owners.client(&edge.from), owners.server(&edge.to)) else { continue };
        let Some(curve) = Curve::between(from, to, sizes, placed) else { continue };
        let ends = attributes(edge);
        // Writing to a String cannot fail.
        _ = writeln!(
            text,
            "<path class=\"{}\" {ends} d=\"{}\" marker-end=\"url(#arrow)\"><title>{}</title></path>",
            edge.class,
            curve.path(),
            escaped(&edge.title),
        );
        if labelled {
            let (x, y) = labels.place(&edge.label, &curve);
            _ = writeln!(
                written,
                "<text class=\"{}\" {ends} x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{}</text>",
                edge.class.replace("edge", "ports"),
                escaped(&edge.label),
            );
        }
    }
    text.push_str(&written);
    text.push_str("</g>\n");
}

fn attributes(edge: &Edge) -> String {
    let but = |name: &str, rows: &[String]| {
        if rows.is_empty() { String::new() } else { format!(" data-{name}-but=\"{}\"", escaped(&rows.join(" "))) }
    };
    format!(
        "data-from=\"{}\"{} data-to=\"{}\"{}",
        escaped(&edge.from),
        but("from", &edge.from_but),
        escaped(&edge.to),
        but("to", &edge.to_but),
    )
}

/// A cubic curve.
struct Curve {
    points: [(f64, f64); 4],
    /// Whether its label is beside it, not on it.
    beside: bool,
}

impl Curve {
    fn between(from: (usize, f64), to: (usize, f64), sizes: &[Size], placed: &Placed) -> Option<Self> {
        let (one, other) = (placed.corners.get(from.0)?, placed.corners.get(to.0)?);
        let (own, its) = (sizes.get(from.0)?.width, sizes.get(to.0)?.width);
        let (y0, y1) = (one.1 + from.1, other.1 + to.1);
        let (points, beside) = if other.0 > one.0 + own {
            // To the right.
            let (x0, x1) = (one.0 + own, other.0);
            let bend = ((x1 - x0) / 2.0).min(140.0);
            ([(x0, y0), (x0 + bend, y0), (x1 - bend, y1), (x1, y1)], false)
        } else if other.0 + its < one.0 {
            // Back to the left.
            let (x0, x1) = (one.0, other.0 + its);
            let bend = ((x0 - x1) / 2.0).min(140.0);
            ([(x0, y0), (x0 - bend, y0), (x1 + bend, y1), (x1, y1)], false)
        } else {
            // Within a column: around its right side.
            let (x0, x1) = (one.0 + own, other.0 + its);
            let bend = 28.0 + (y1 - y0).abs().sqrt() * 2.0;
            let right = x0.max(x1) + bend;
            ([(x0, y0), (right, y0), (right, y1), (x1, y1)], true)
        };
        Some(Self { points, beside })
    }

    fn path(&self) -> String {
        let [(x0, y0), (x1, y1), (x2, y2), (x3, y3)] = self.points;
        format!("M{x0:.1} {y0:.1}C{x1:.1} {y1:.1} {x2:.1} {y2:.1} {x3:.1} {y3:.1}")
    }

    fn middle(&self) -> (f64, f64) {
        let [(x0, y0), (x1, y1), (x2, y2), (x3, y3)] = self.points;
        ((x0 + 3.0 * x1 + 3.0 * x2 + x3) / 8.0, (y0 + 3.0 * y1 + 3.0 * y2 + y3) / 8.0)
    }
}

/// Labels that do not cover each other.
#[derive(Default)]
struct Labels {
    taken: Vec<(f64, f64, f64)>,
}

impl Labels {
    /// A free place at or below the middle of a curve.
    fn place(&mut self, label: &str, curve: &Curve) -> (f64, f64) {
        #[expect(clippy::cast_precision_loss, reason = "the length of a line")]
        let half = label.chars().count() as f64 * 3.4;
        let (x, y) = curve.middle();
        let x = if curve.beside { x + half + 4.0 } else { x };
        let mut y = y + 3.5;
        let covers = |y: f64| {
            self.taken.iter().any(|(other, top, wide)| (x - other).abs() < half + wide && (y - top).abs() < 13.0)
        };
        for _ in 0..LABELLED {
            if !covers(y) {
                break;
            }
            y += 13.0;
        }
        self.taken.push((x, y, half));
        (x, y)
    }
}

fn draw(text: &mut String, card: &Card, size: Size, (left, top): (f64, f64)) {
    let Size { width, height, .. } = size;
    let (class, namespace) = match card.kind {
        Kind::Namespace => ("card", format!(" data-namespace=\"{}\"", escaped(&card.title))),
        Kind::Sources | Kind::Destinations => ("card outside", String::new()),
    };
    // Writing to a String cannot fail.
    _ = writeln!(
        text,
        "<g class=\"{class}\"{namespace} transform=\"translate({left:.1} {top:.1})\">\
         <rect class=\"frame\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"8\"/>\
         <text class=\"namespace\" x=\"12\" y=\"20\">{}</text>",
        escaped(&card.title),
    );
    let mut y = HEAD;
    for Row { end, label, mark } in &card.rows {
        let class = match (card.kind, mark) {
            (Kind::Namespace, Some(_)) => "row is-open",
            (Kind::Namespace, None) => "row isolated",
            _ => "row",
        };
        let mark = mark.map_or_else(String::new, |mark| {
            format!("<text class=\"mark open\" x=\"{:.1}\" y=\"16\" text-anchor=\"end\">{mark}</text>", width - 12.0)
        });
        _ = writeln!(
            text,
            "<g class=\"{class}\" data-end=\"{}\" transform=\"translate(0 {y:.0})\">\
             <rect class=\"cell\" width=\"{width:.1}\" height=\"{ROW:.0}\"/>\
             <text class=\"name\" x=\"12\" y=\"16\">{}</text>{mark}</g>",
            escaped(end),
            escaped(label),
        );
        y += ROW;
    }
    text.push_str("</g>\n");
}

/// Text for XML and HTML.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
