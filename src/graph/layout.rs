//! Places the cards of a picture in columns, clients to the left of servers.
//!
//! Layout libraries place single vertices; here the ends of edges are rows of cards, and the cards are few. So this is
//! Sugiyama's method for the cards alone: layers along the edges, and an order within each layer by the mean of the
//! neighbours.

use std::collections::{BTreeMap, BTreeSet};

/// The most layers that edges make.
const LAYERS: usize = 5;
/// How often the order within layers is improved.
const SWEEPS: usize = 6;
/// Between columns, where the edges run.
const GAP: f64 = 130.0;
/// Between the cards of a column.
const SPACE: f64 = 28.0;
/// Around the picture.
const MARGIN: f64 = 16.0;

/// Where a card must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Left of all others.
    First,
    /// Where its edges lead it.
    Free,
    /// Right of all others.
    Last,
}

/// A card to place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) place: Place,
    pub(crate) width: f64,
    pub(crate) height: f64,
}

/// Where the cards are, by their upper left corner, and the size of the whole.
#[derive(Debug, Default)]
pub(crate) struct Placed {
    pub(crate) corners: Vec<(f64, f64)>,
    pub(crate) width: f64,
    pub(crate) height: f64,
}

/// Places cards with these edges between them.
pub(crate) fn place(cards: &[Size], edges: &BTreeSet<(usize, usize)>) -> Placed {
    let mut columns: Vec<Vec<usize>> = vec![of_place(cards, Place::First)];
    let free = of_place(cards, Place::Free);
    let (layers, alone) = layers(&free, edges);
    for layer in layers {
        columns.extend(split(layer, cards));
    }
    if columns.len() < 2 {
        columns.extend(split(alone, cards));
    } else {
        // Cards without edges fill the shortest columns.
        for card in alone {
            let shortest =
                columns.iter_mut().skip(1).min_by(|one, other| height(one, cards).total_cmp(&height(other, cards)));
            shortest.into_iter().for_each(|column| column.push(card));
        }
    }
    columns.push(of_place(cards, Place::Last));
    columns.retain(|column| !column.is_empty());
    order(&mut columns, edges);
    corners(&columns, cards)
}

fn of_place(cards: &[Size], place: Place) -> Vec<usize> {
    cards.iter().enumerate().filter(|(_, card)| card.place == place).map(|(number, _)| number).collect()
}

/// The height of a column.
fn height(column: &[usize], cards: &[Size]) -> f64 {
    column.iter().filter_map(|card| cards.get(*card)).map(|card| card.height + SPACE).sum::<f64>() - SPACE
}

/// The cards by how far they are along the edges, and those without edges.
fn layers(cards: &[usize], edges: &BTreeSet<(usize, usize)>) -> (Vec<Vec<usize>>, Vec<usize>) {
    let own: BTreeSet<_> = cards.iter().copied().collect();
    let inner: Vec<_> =
        edges.iter().copied().filter(|(from, to)| from != to && own.contains(from) && own.contains(to)).collect();
    let (linked, alone): (Vec<usize>, Vec<usize>) =
        cards.iter().copied().partition(|card| inner.iter().any(|(from, to)| from == card || to == card));
    // Cards in the order of clients before servers; an edge against it makes no layer.
    let balance = |card: usize| {
        let count = |side: fn(&(usize, usize)) -> usize| inner.iter().filter(|edge| side(edge) == card).count();
        count(|(_, to)| *to).cast_signed() - count(|(from, _)| *from).cast_signed()
    };
    let mut sorted = linked.clone();
    sorted.sort_by_key(|card| (balance(*card), *card));
    let rank: BTreeMap<_, _> = sorted.iter().enumerate().map(|(rank, card)| (*card, rank)).collect();
    let mut depth: BTreeMap<usize, usize> = BTreeMap::new();
    for card in &sorted {
        let before = inner.iter().filter(|(from, to)| to == card && rank.get(from) < rank.get(to));
        let deepest = before.map(|(from, _)| depth.get(from).map_or(0, |depth| depth + 1)).max();
        depth.insert(*card, deepest.unwrap_or(0));
    }
    let deepest = depth.values().copied().max().unwrap_or(0);
    let scale = |depth: usize| if deepest < LAYERS { depth } else { depth * (LAYERS - 1) / deepest };
    let mut layers: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    linked.iter().for_each(|card| layers.entry(scale(depth.get(card).copied().unwrap_or(0))).or_default().push(*card));
    (layers.into_values().collect(), alone)
}

/// A layer as columns, so that the picture is not much higher than wide.
fn split(layer: Vec<usize>, cards: &[Size]) -> Vec<Vec<usize>> {
    let size = |card: usize| cards.get(card).map_or(0.0, |size| size.height + SPACE);
    let area: f64 = cards.iter().map(|card| (card.height + SPACE) * (card.width + GAP)).sum();
    let most = area.sqrt().max(480.0);
    let mut columns: Vec<Vec<usize>> = vec![Vec::new()];
    let mut height = 0.0;
    for card in layer {
        if height > 0.0 && height + size(card) > most {
            columns.push(Vec::new());
            height = 0.0;
        }
        height += size(card);
        if let Some(column) = columns.last_mut() {
            column.push(card);
        }
    }
    columns
}

/// Orders each column by where the neighbours of its cards are.
fn order(columns: &mut [Vec<usize>], edges: &BTreeSet<(usize, usize)>) {
    for _ in 0..SWEEPS {
        let places: BTreeMap<usize, f64> = columns
            .iter()
            .flat_map(|column| {
                let count = column.len().max(1);
                // A double holds the number of cards exactly.
                #[expect(clippy::cast_precision_loss, reason = "a few dozen cards")]
                column.iter().enumerate().map(move |(at, card)| (*card, (at as f64 + 0.5) / count as f64))
            })
            .collect();
        for column in columns.iter_mut() {
            let mean = |card: usize| {
                let around = edges.iter().filter_map(|(from, to)| match (*from == card, *to == card) {
                    (true, false) => places.get(to),
                    (false, true) => places.get(from),
                    _ => None,
                });
                let (sum, count) = around.fold((0.0, 0.0), |(sum, count), place| (sum + place, count + 1.0));
                if count > 0.0 { sum / count } else { places.get(&card).copied().unwrap_or(0.5) }
            };
            column.sort_by(|one, other| mean(*one).total_cmp(&mean(*other)));
        }
    }
}

fn corners(columns: &[Vec<usize>], cards: &[Size]) -> Placed {
    let size = |card: &usize| cards.get(*card).map_or((0.0, 0.0), |size| (size.width, size.height));
    let highest = columns.iter().map(|column| height(column, cards)).fold(0.0, f64::max);
    let mut placed = Placed { corners: vec![(0.0, 0.0); cards.len()], ..Placed::default() };
    let mut left = MARGIN;
    for column in columns {
        let mut top = MARGIN + (highest - height(column, cards)) / 2.0;
        let widest = column.iter().map(|card| size(card).0).fold(0.0, f64::max);
        for card in column {
            if let Some(corner) = placed.corners.get_mut(*card) {
                *corner = (left, top);
            }
            top += size(card).1 + SPACE;
        }
        left += widest + GAP;
    }
    placed.width = (left - GAP).max(0.0) + MARGIN;
    placed.height = highest + 2.0 * MARGIN;
    placed
}
