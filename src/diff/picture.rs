//! A difference as cards with rows, and edges that open and close.

use std::collections::{BTreeMap, BTreeSet};

use palisade_analysis::diff::{Change, Diff, End};
use palisade_analysis::reach::PortSet;

use super::print::family;
use crate::graph::svg::{Card, Edge, Kind, Picture, Row};

/// With more changed pairs than these, the picture shows them between namespaces.
const CHANGES: usize = 300;

/// The picture. Ends that are no workloads are at the left as clients and at the right as servers.
pub(super) fn picture(diff: &Diff) -> Picture {
    let whole = diff.changes.len() > CHANGES;
    let mut namespaces: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut outside = [BTreeSet::new(), BTreeSet::new()];
    for change in &diff.changes {
        for (end, outside) in [&change.from, &change.to].into_iter().zip(&mut outside) {
            match namespace(end) {
                Some((namespace, _)) if whole => _ = namespaces.entry(namespace).or_default(),
                Some((namespace, name)) => _ = namespaces.entry(namespace).or_default().insert(name),
                None => _ = outside.insert(end.to_string()),
            }
        }
    }
    let mut cards: Vec<Card> = namespaces.into_iter().map(|(namespace, names)| card(namespace, &names)).collect();
    let [sources, destinations] = outside;
    for (kind, title, ends) in [(Kind::Sources, "from", sources), (Kind::Destinations, "to", destinations)] {
        let rows: Vec<_> = ends.into_iter().map(|end| Row { label: end.clone(), end, mark: None }).collect();
        if !rows.is_empty() {
            cards.push(Card { kind, title: title.to_owned(), rows });
        }
    }
    let title = format!("What the change opens and closes: {} pairs of ends", diff.changes.len());
    Picture { title, cards, edges: edges(diff, whole) }
}

fn card(namespace: &str, names: &BTreeSet<&str>) -> Card {
    let row = |name: &&str| Row { end: format!("{namespace}/{name}"), label: (*name).to_owned(), mark: None };
    Card { kind: Kind::Namespace, title: namespace.to_owned(), rows: names.iter().map(row).collect() }
}

/// The namespace of a workload, and its name there.
fn namespace(end: &End) -> Option<(&str, &str)> {
    match end {
        End::Workload(name, _) => name.split_once('/'),
        End::Node(_) | End::World(_) => None,
    }
}

/// What opens, or what closes.
type Ports = fn(&Change) -> &PortSet;

/// An edge for what opens and one for what closes, between each pair of ends, or of namespaces.
fn edges(diff: &Diff, whole: bool) -> Vec<Edge> {
    let end = |end: &End| match namespace(end) {
        Some((namespace, _)) if whole => format!("ns:{namespace}"),
        _ => end.to_string(),
    };
    let sides: [(&str, &str, Ports); 2] =
        [("edge added", "+", |change| &change.opened), ("edge removed", "−", |change| &change.closed)];
    let mut edges = Vec::new();
    for (class, sign, ports) in sides {
        let mut of: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
        for change in diff.changes.iter().filter(|change| !ports(change).is_empty()) {
            let text = ports(change).to_string() + &family(change.family);
            of.entry((end(&change.from), end(&change.to))).or_default().insert(text);
        }
        edges.extend(of.into_iter().map(|((from, to), texts)| {
            let texts: Vec<_> = texts.into_iter().collect();
            let label = match texts.as_slice() {
                [first, rest @ ..] if rest.len() > 1 => format!("{sign} {first} and {} more", rest.len()),
                _ => format!("{sign} {}", texts.join("; ")),
            };
            let name = |end: &str| end.strip_prefix("ns:").map_or_else(|| end.to_owned(), |own| format!("{own}/*"));
            let title = format!("{} → {}: {label}", name(&from), name(&to));
            Edge { from, from_but: Vec::new(), to, to_but: Vec::new(), class, label, title }
        }));
    }
    edges
}
