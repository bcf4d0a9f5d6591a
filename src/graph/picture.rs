//! The links as cards with rows, and edges between them.

use std::collections::{BTreeMap, BTreeSet};

use palisade_analysis::graph::{End, Link};
use palisade_analysis::reach::PortSet;

use super::svg::{Card, Edge, Kind, Picture, Row};
use super::{Shown, but, id};

/// With more links than these, the picture shows them between namespaces.
const LINKS: usize = 1_500;

/// The shown workloads by namespace, and before them the namespace as a whole, if a link leads to it.
pub(super) fn namespaces(shown: &Shown<'_>) -> BTreeMap<String, Vec<End>> {
    let mut all: BTreeMap<String, Vec<End>> = BTreeMap::new();
    let ends: BTreeSet<_> = shown.links.iter().flat_map(|link| [&link.from, &link.to]).collect();
    for end in ends {
        if let End::Namespace(namespace, _) = end {
            all.entry(namespace.to_string()).or_default().push(end.clone());
        }
    }
    for number in shown.workloads() {
        if let Some(vertex) = shown.graph.workloads.get(number) {
            all.entry(vertex.namespace.to_string()).or_default().push(End::Workload(number));
        }
    }
    all
}

/// The ends that are in no namespace.
pub(super) fn outside(shown: &Shown<'_>) -> Vec<End> {
    let ends: BTreeSet<_> = shown.links.iter().flat_map(|link| [&link.from, &link.to]).collect();
    ends.into_iter().filter(|end| !matches!(end, End::Workload(_) | End::Namespace(..))).cloned().collect()
}

/// The picture. Ends outside of namespaces are at the left as clients and at the right as servers.
pub(super) fn picture(shown: &Shown<'_>) -> Picture {
    let merged;
    let links = if shown.links.len() > LINKS {
        merged = between_namespaces(shown);
        &merged
    } else {
        shown.links
    };
    let mut cards: Vec<Card> = namespaces(shown)
        .into_iter()
        .map(|(namespace, ends)| {
            let rows = ends.iter().filter(|end| matches!(end, End::Workload(_)));
            Card { kind: Kind::Namespace, title: namespace, rows: rows.map(|end| row(shown, end)).collect() }
        })
        .collect();
    for (kind, title, side) in
        [(Kind::Sources, "from", (|link| &link.from) as fn(&Link) -> &End), (Kind::Destinations, "to", |link| &link.to)]
    {
        let ends: BTreeSet<_> = links.iter().map(side).collect();
        let ends = ends.into_iter().filter(|end| !matches!(end, End::Workload(_) | End::Namespace(..)));
        let rows: Vec<_> = ends.map(|end| row(shown, end)).collect();
        if !rows.is_empty() {
            cards.push(Card { kind, title: title.to_owned(), rows });
        }
    }
    let edge = |link: &Link| Edge {
        from: id(&link.from),
        from_but: but(&link.from),
        to: id(&link.to),
        to_but: but(&link.to),
        class: "edge",
        label: link.ports.to_string(),
        title: format!("{} → {}: {}", shown.end(&link.from), shown.end(&link.to), link.ports),
    };
    let workloads = shown.workloads().len();
    let title = format!("Who may talk to whom: {workloads} workloads");
    Picture { title, cards, edges: links.iter().map(edge).collect() }
}

fn row(shown: &Shown<'_>, end: &End) -> Row {
    let name = shown.end(end);
    let (label, mark) = match end {
        // The card has the namespace.
        End::Workload(number) => (shown.short(*number).to_owned(), shown.mark(*number)),
        End::Every => ("every workload".to_owned(), None),
        End::Anyone => ("anyone".to_owned(), None),
        End::Namespace(..) | End::Block(_) | End::Blocks(_) => (name, None),
    };
    Row { end: id(end), label, mark }
}

/// The links with each workload's namespace in its place.
fn between_namespaces(shown: &Shown<'_>) -> Vec<Link> {
    let whole = |end: &End| match end {
        End::Workload(number) => match shown.graph.workloads.get(*number) {
            Some(vertex) => End::Namespace(vertex.namespace.clone(), BTreeSet::new()),
            None => end.clone(),
        },
        End::Namespace(namespace, _) => End::Namespace(namespace.clone(), BTreeSet::new()),
        _ => end.clone(),
    };
    let mut merged: BTreeMap<(End, End), PortSet> = BTreeMap::new();
    for link in shown.links {
        let known = merged.entry((whole(&link.from), whole(&link.to))).or_default();
        *known = known.or(&link.ports);
    }
    merged.into_iter().map(|((from, to), ports)| Link { from, to, ports }).collect()
}
