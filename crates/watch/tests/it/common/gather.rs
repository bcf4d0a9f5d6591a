//! Joins the parts of lists, as a receiver does.

use std::collections::BTreeMap;

use palisade_policy::input::Change;
use palisade_watch::{Kind, ListPart, Object};

/// Lists that have begun and not ended.
#[derive(Debug, Default)]
pub(crate) struct Gather(BTreeMap<Kind, Vec<Object>>);

impl Gather {
    /// The list that this part completes.
    pub(crate) fn take(&mut self, part: ListPart) -> Option<Change> {
        match part {
            ListPart::Begin(kind) => assert!(self.0.insert(kind, Vec::new()).is_none(), "{kind}: begun in a list"),
            ListPart::Page(objects) => {
                let kind = objects.first().expect("a page with something on it").kind();
                assert!(objects.len() <= 500 && objects.iter().all(|object| object.kind() == kind), "{objects:?}");
                self.0.get_mut(&kind).expect("a list that has begun").extend(objects);
            }
            ListPart::Abandoned(kind) => drop(self.0.remove(&kind).expect("a list that has begun")),
            ListPart::End(kind) => return Some(whole(kind, self.0.remove(&kind).expect("a list that has begun"))),
        }
        None
    }

    /// Whether a list of the kind has begun and not ended.
    pub(crate) fn is_coming(&self, kind: Kind) -> bool {
        self.0.contains_key(&kind)
    }
}

fn whole(kind: Kind, objects: Vec<Object>) -> Change {
    let objects = objects.into_iter();
    match kind {
        Kind::Pod => {
            Change::Pods(objects.filter_map(|o| if let Object::Pod(pod) = o { Some(pod) } else { None }).collect())
        }
        Kind::Namespace => Change::Namespaces(
            objects.filter_map(|o| if let Object::Namespace(n) = o { Some(n) } else { None }).collect(),
        ),
        Kind::NetworkPolicy => {
            Change::Policies(objects.filter_map(|o| if let Object::Policy(p) = o { Some(p) } else { None }).collect())
        }
    }
}
