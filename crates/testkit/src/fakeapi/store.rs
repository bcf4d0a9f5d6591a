//! The server's state: objects, their history, connections, requests.

use std::collections::{BTreeMap, VecDeque};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};

use super::fault::{Faults, Shown};
use super::request::{Resource, Seen};

/// The number of events in a kind's history; older ones have expired.
const HISTORY: usize = 100_000;

/// The number of lists that can be paged through; the tokens of older ones have expired.
const SNAPSHOTS: usize = 32;

/// Namespace and name.
type Key = (String, String);

/// An object as it is sent.
pub(super) type Bytes = Arc<[u8]>;

/// The objects of one kind.
#[derive(Clone, Debug, Default)]
pub(super) struct Objects {
    by_key: BTreeMap<Key, Bytes>,
    /// Lines of watches with their versions.
    history: VecDeque<(u64, Bytes)>,
    /// Where the history begins: a watch from an older version has missed something.
    pub(super) floor: u64,
    /// The number of times that open watches were ended.
    pub(super) epoch: u64,
    /// The number of lists that were shown cut.
    cuts: usize,
}

/// Objects and version at a moment.
#[derive(Clone, Debug)]
pub struct Backup {
    version: u64,
    objects: BTreeMap<Resource, BTreeMap<Key, Bytes>>,
}

/// A list as of the request for its first page.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub(super) version: u64,
    pub(super) items: Arc<Vec<Bytes>>,
}

/// The whole state.
pub(super) struct State {
    pub(super) version: u64,
    objects: BTreeMap<Resource, Objects>,
    snapshots: VecDeque<(u64, Snapshot)>,
    next: u64,
    pub(super) faults: Faults,
    pub(super) connections: BTreeMap<u64, TcpStream>,
    pub(super) watches: BTreeMap<Resource, usize>,
    pub(super) seen: Vec<Seen>,
    /// When the last page of a list had been sent.
    pub(super) listed: Option<Instant>,
    pub(super) events: Vec<Value>,
    pub(super) ending: bool,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            version: 1000,
            objects: Resource::ALL.into_iter().map(|resource| (resource, Objects::default())).collect(),
            snapshots: VecDeque::new(),
            next: 1,
            faults: Faults::none(),
            connections: BTreeMap::new(),
            watches: BTreeMap::new(),
            seen: Vec::new(),
            listed: None,
            events: Vec::new(),
            ending: false,
        }
    }

    pub(super) fn of(&mut self, resource: Resource) -> &mut Objects {
        self.objects.entry(resource).or_default()
    }

    pub(super) fn len(&self, resource: Resource) -> usize {
        self.objects.get(&resource).map_or(0, |objects| objects.by_key.len())
    }

    /// A new number.
    pub(super) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Adds or changes an object. Kinds that are not served are ignored.
    pub(super) fn put(&mut self, mut object: Value, notify: bool) {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let Some(resource) = Resource::of_kind(&text("/kind")) else { return };
        let key = (text("/metadata/namespace"), text("/metadata/name"));
        self.version += 1;
        if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
            metadata.entry("uid").or_insert_with(|| json!(format!("{}-{}-{}", resource.name(), key.0, key.1)));
            metadata.insert("resourceVersion".to_owned(), json!(self.version.to_string()));
        }
        let bytes: Bytes = object.to_string().into_bytes().into();
        let (version, objects) = (self.version, self.of(resource));
        let known = objects.by_key.insert(key, Arc::clone(&bytes)).is_some();
        if notify {
            self.tell(resource, version, if known { "MODIFIED" } else { "ADDED" }, &bytes);
        } else {
            objects.history.clear();
            objects.floor = version;
        }
    }

    pub(super) fn delete(&mut self, resource: Resource, namespace: &str, name: &str) -> bool {
        let Some(bytes) = self.of(resource).by_key.remove(&(namespace.to_owned(), name.to_owned())) else {
            return false;
        };
        self.version += 1;
        let version = self.version;
        let mut object: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("resourceVersion".to_owned(), json!(version.to_string()));
        }
        self.tell(resource, version, "DELETED", object.to_string().as_bytes());
        true
    }

    fn tell(&mut self, resource: Resource, version: u64, kind: &str, object: &[u8]) {
        let mut line = [format!("{{\"type\":\"{kind}\",\"object\":").as_bytes(), object, b"}\n"].concat();
        if self.faults.mangle.remove(&resource) {
            line.truncate(line.len() / 2);
            line.push(b'\n');
        }
        let objects = self.of(resource);
        objects.history.push_back((version, line.into()));
        while objects.history.len() > HISTORY {
            objects.floor = objects.history.pop_front().map_or(objects.floor, |(version, _)| version);
        }
    }

    pub(super) fn get(&self, resource: Resource, namespace: &str, name: &str) -> Option<Bytes> {
        let key = (namespace.to_owned(), name.to_owned());
        self.objects.get(&resource)?.by_key.get(&key).cloned()
    }

    pub(super) fn expire(&mut self, resource: Resource) {
        // The version no longer matches the open watches, so that these cannot be resumed.
        self.version += 1;
        let (version, objects) = (self.version, self.of(resource));
        objects.history.clear();
        objects.floor = version;
        objects.epoch += 1;
    }

    pub(super) fn backup(&self) -> Backup {
        let objects = self.objects.iter().map(|(&resource, objects)| (resource, objects.by_key.clone()));
        Backup { version: self.version, objects: objects.collect() }
    }

    pub(super) fn restore(&mut self, backup: &Backup) {
        self.version = backup.version;
        self.snapshots.clear();
        for (&resource, objects) in &mut self.objects {
            objects.by_key = backup.objects.get(&resource).cloned().unwrap_or_default();
            objects.history.clear();
            objects.floor = backup.version;
        }
    }

    /// The lines of a watch after a version, up to a number of bytes but at least one line, and the version of the
    /// last.
    pub(super) fn lines(&mut self, resource: Resource, since: u64, most: usize) -> Option<(Vec<u8>, u64)> {
        let history = &self.of(resource).history;
        let start = history.partition_point(|(version, _)| *version <= since);
        let mut lines = Vec::new();
        let mut last = None;
        for (version, line) in history.range(start..) {
            if last.is_some() && lines.len() + line.len() > most {
                break;
            }
            lines.extend_from_slice(line);
            last = Some(*version);
        }
        Some((lines, last?))
    }

    /// A list as it is shown now, and the number in its tokens.
    pub(super) fn list(&mut self, resource: Resource, namespace: &str) -> (u64, Snapshot) {
        let shown = self.faults.next_shown(resource);
        let version = self.version;
        let objects = self.of(resource);
        let own = |key: &Key| namespace.is_empty() || key.0 == namespace;
        let mut items: Vec<Bytes> =
            objects.by_key.iter().filter(|(key, _)| own(key)).map(|(_, bytes)| Arc::clone(bytes)).collect();
        objects.cuts += 1;
        match shown {
            Shown::All => {}
            Shown::Nothing => items.clear(),
            Shown::Alternating(keep) if objects.cuts % 2 == 1 => drop(items.drain(..items.len().saturating_sub(keep))),
            Shown::First(keep) | Shown::Alternating(keep) => items.truncate(keep),
            Shown::Last(keep) => drop(items.drain(..items.len().saturating_sub(keep))),
            Shown::Instead(others) => {
                items = others.iter().map(|object| object.to_string().into_bytes().into()).collect();
            }
        }
        let (number, snapshot) = (self.number(), Snapshot { version, items: Arc::new(items) });
        self.snapshots.push_back((number, snapshot.clone()));
        if self.snapshots.len() > SNAPSHOTS {
            self.snapshots.pop_front();
        }
        (number, snapshot)
    }

    /// The list that a token names.
    pub(super) fn snapshot(&self, number: u64) -> Option<Snapshot> {
        self.snapshots.iter().find(|(known, _)| *known == number).map(|(_, snapshot)| snapshot.clone())
    }
}
