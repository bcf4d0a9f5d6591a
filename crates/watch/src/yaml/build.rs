//! Builds trees: anchors, merge keys, duplicate keys, limits.

use std::collections::HashMap;

use super::Malformed;
use super::scalar::Scalar;
use crate::node::{Entry, Node, Value};

/// How many values aliases may repeat in one document; more is an attempt to exhaust memory, not a manifest.
const MAX_REPEATED: usize = 100_000;
/// Levels of nesting, including those that aliases add.
pub(super) const MAX_DEPTH: usize = 128;

/// A value, and what its parent needs to know about it.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    pub(super) node: Node,
    /// Its text as a key; none if it cannot be one.
    key: Option<Box<str>>,
    /// Levels of collections in it, including itself.
    pub(super) height: usize,
    /// It is a `<<`: as a key, it merges.
    is_merge: bool,
    is_alias: bool,
    /// Why it can be a key but not a value.
    refused: Option<String>,
}

impl Tree {
    pub(super) fn scalar(line: usize, scalar: &Scalar, written: &str, is_merge: bool) -> Self {
        let (value, refused) = match scalar.value(written) {
            Ok(value) => (value, None),
            Err(reason) => (Value::Null, Some(reason)),
        };
        Self { key: scalar.key().map(Into::into), is_merge, refused, ..Self::collection(line, value, 0) }
    }

    /// The value, unless it can only be a key.
    pub(super) fn into_value(self) -> Result<Node, Malformed> {
        match self.refused {
            None => Ok(self.node),
            Some(reason) => Err(Malformed::new(self.node.line, reason)),
        }
    }

    /// An omitted value.
    pub(super) fn null(line: usize) -> Self {
        Self::collection(line, Value::Null, 0)
    }

    fn collection(line: usize, value: Value, height: usize) -> Self {
        Self { node: Node { line, value }, key: None, height, is_merge: false, is_alias: false, refused: None }
    }

    pub(super) fn sequence(line: usize, items: Vec<Self>) -> Result<Self, Malformed> {
        let height = 1 + items.iter().map(|item| item.height).max().unwrap_or(0);
        let nodes: Result<_, _> = items.into_iter().map(Self::into_value).collect();
        Ok(Self::collection(line, Value::Sequence(nodes?), height))
    }
}

/// The anchors of a document.
#[derive(Debug, Default)]
pub(super) struct Builder {
    by_name: HashMap<String, usize>,
    /// The values; none while one is being read.
    slots: Vec<Option<(Tree, usize)>>,
    repeated: usize,
}

impl Builder {
    /// Reserves a slot for the value of an anchor. From here on, the name means this value.
    pub(super) fn reserve(&mut self, name: &str) -> usize {
        let slot = self.slots.len();
        self.by_name.insert(name.to_owned(), slot);
        self.slots.push(None);
        slot
    }

    pub(super) fn fill(&mut self, slot: usize, tree: &Tree) -> Result<(), Malformed> {
        let size = size_of(&tree.node);
        self.repeat(size, tree.node.line)?;
        if let Some(slot) = self.slots.get_mut(slot) {
            *slot = Some((tree.clone(), size));
        }
        Ok(())
    }

    /// The value of an anchor.
    pub(super) fn alias(&mut self, name: &str, line: usize) -> Result<Tree, Malformed> {
        let anchored = match self.by_name.get(name) {
            None => return Err(Malformed::new(line, format!("not YAML: no anchor &{name} precedes its alias"))),
            Some(slot) => self.slots.get(*slot).cloned().flatten(),
        };
        let Some((mut tree, size)) = anchored else {
            return Err(Malformed::new(line, "an alias inside its own anchor".to_owned()));
        };
        self.repeat(size, line)?;
        (tree.is_alias, tree.is_merge) = (true, false);
        Ok(tree)
    }

    fn repeat(&mut self, size: usize, line: usize) -> Result<(), Malformed> {
        self.repeated += size;
        if self.repeated > MAX_REPEATED {
            return Err(Malformed::new(line, "aliases repeat too much of the document".to_owned()));
        }
        Ok(())
    }
}

/// A mapping that is being read.
pub(super) struct Mapping {
    line: usize,
    height: usize,
    entries: Vec<Entry>,
    merged: Vec<Entry>,
}

impl Mapping {
    pub(super) fn new(line: usize) -> Self {
        Self { line, height: 0, entries: Vec::new(), merged: Vec::new() }
    }

    pub(super) fn add(&mut self, key: Tree, value: Tree) -> Result<(), Malformed> {
        self.height = self.height.max(value.height);
        if key.is_merge {
            return self.merge(value);
        }
        let line = key.node.line;
        let Some(name) = key.key else { return Err(no_key(&key.node)) };
        self.entries.push(Entry { key: name, line, node: value.into_value()? });
        Ok(())
    }

    /// Takes the keys of `<<: *anchor` or `<<: [*one, *two]`; the first source that has a key wins.
    fn merge(&mut self, value: Tree) -> Result<(), Malformed> {
        let line = value.node.line;
        let sources = match value.node.value {
            Value::Sequence(items) if !value.is_alias => items,
            value => vec![Node { line, value }],
        };
        for source in sources.into_iter().rev() {
            let Value::Mapping(fields) = source.value else {
                let reason = "a merge key (<<) takes a mapping or a list of mappings";
                return Err(Malformed::new(source.line, reason.to_owned()));
            };
            for field in fields {
                self.refuse_override(&field)?;
                self.merged.retain(|present| present.key != field.key);
                self.merged.push(field);
            }
        }
        Ok(())
    }

    /// In YAML the key outside the merge always wins; in kubectl's parser the later one does.
    fn refuse_override(&self, field: &Entry) -> Result<(), Malformed> {
        let Some(explicit) = self.entries.iter().find(|entry| entry.key == field.key) else { return Ok(()) };
        let reason = format!("the key {:?} comes before a merge (<<) that has it too; parsers disagree", field.key);
        let mut error = Malformed::new(explicit.line, reason);
        error.hint = Some("put the merge first".to_owned());
        Err(error)
    }

    pub(super) fn finish(self) -> Result<Tree, Malformed> {
        let Self { line, height, mut entries, merged } = self;
        refuse_duplicates(&entries)?;
        for entry in merged {
            if !entries.iter().any(|present| present.key == entry.key) {
                entries.push(entry);
            }
        }
        Ok(Tree::collection(line, Value::Mapping(entries), height + 1))
    }
}

fn no_key(node: &Node) -> Malformed {
    let mut error = Malformed::new(node.line, "not YAML that JSON can express: a key is not text".to_owned());
    match node.value {
        Value::Null => "a key is empty".clone_into(&mut error.reason),
        Value::Sequence(_) | Value::Mapping(_) => {
            "a key is a list or a mapping".clone_into(&mut error.reason);
            error.hint = Some("template placeholders such as {{ … }} must be rendered first".to_owned());
        }
        _ => {}
    }
    error
}

/// Refuses duplicate keys: parsers disagree about which one counts.
pub(super) fn refuse_duplicates(entries: &[Entry]) -> Result<(), Malformed> {
    let mut by_key: Vec<_> = entries.iter().collect();
    by_key.sort_by(|a, b| a.key.cmp(&b.key));
    for (earlier, later) in by_key.iter().zip(by_key.iter().skip(1)) {
        if earlier.key == later.key {
            let reason = format!("the key {:?} is given twice, first on line {}", later.key, earlier.line);
            return Err(Malformed::new(later.line, reason));
        }
    }
    Ok(())
}

fn size_of(node: &Node) -> usize {
    match &node.value {
        Value::Sequence(items) => 1 + items.iter().map(size_of).sum::<usize>(),
        Value::Mapping(entries) => 1 + entries.iter().map(|entry| 1 + size_of(&entry.node)).sum::<usize>(),
        _ => 1,
    }
}
