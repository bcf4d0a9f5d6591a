//! Compares the node's table with one built from scratch.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use palisade_policy::index::Index;
use palisade_ruleset::render::{Established, Options, render};
use palisade_ruleset::text;

use crate::common::listing::without_stamps;
use crate::soak::world::World;

const TABLE: [&str; 5] = ["-s", "list", "table", "inet", "palisade"];

/// nft's listing of a table: each object's lines by its first one.
type Listing = BTreeMap<String, Vec<String>>;

/// Waits until the node's table is what the manifests make; otherwise returns the difference.
pub(crate) fn compare(world: &World, limit: Duration) -> Result<(), String> {
    let expected = from_scratch(world);
    let start = Instant::now();
    loop {
        let found = objects(&world.node().namespace().output("nft", &TABLE, "").unwrap());
        let Some(difference) = difference(&found, &expected) else { return Ok(()) };
        if start.elapsed() > limit {
            return Err(format!("the table differs from one built from scratch: {difference}"));
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// The listing of a new table in the kernel of the node without an agent.
fn from_scratch(world: &World) -> Listing {
    let index = Index::build(world.node().name(), &world.state());
    let established = Established::Remember;
    let options = Options { pod_interfaces: ["cni0".to_owned()].into(), established, ..Options::default() };
    let ruleset = render(index.compiled(), &options);
    let scratch = world.scratch_node();
    scratch.nft("add table inet palisade\ndelete table inet palisade").unwrap();
    scratch.nft(&text::script(&ruleset)).unwrap();
    objects(&scratch.namespace().output("nft", &TABLE, "").unwrap())
}

fn objects(listing: &str) -> Listing {
    let mut objects = Listing::new();
    let mut object: Option<(String, Vec<String>)> = None;
    for line in without_stamps(listing) {
        match &mut object {
            None if line.starts_with('\t') && line.ends_with('{') => object = Some((line.to_owned(), Vec::new())),
            None => {}
            Some(_) if line == "\t}" => objects.extend(object.take()),
            Some((_, lines)) => lines.push(line.to_owned()),
        }
    }
    assert!(object.is_none() && !objects.is_empty(), "{listing}");
    objects
}

fn difference(found: &Listing, expected: &Listing) -> Option<String> {
    let surplus =
        found.keys().find(|name| !expected.contains_key(*name)).map(|name| format!("{name} should not exist"));
    let missing = || expected.keys().find(|name| !found.contains_key(*name)).map(|name| format!("{name} is missing"));
    let other = || {
        let (name, found) = found.iter().find(|(name, lines)| expected.get(*name) != Some(lines))?;
        Some(format!("{name} has\n{}\nnot\n{}", found.join("\n"), expected[name].join("\n")))
    };
    surplus.or_else(missing).or_else(other)
}
