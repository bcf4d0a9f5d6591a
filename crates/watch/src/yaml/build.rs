//! Builds trees from parser events: anchors, merge keys, duplicate keys, limits.

use std::collections::HashMap;

use granit_parser::{ErrorKind, Event, Options, Parser, ScalarStyle, Span, Tag};

use super::{Malformed, scalar};
use crate::node::{Entry, Node, Value};

/// Values that aliases may repeat in one document; more is an attempt to exhaust memory, not a manifest.
const MAX_REPEATED: usize = 100_000;
/// Levels of nesting, those that aliases add included.
const MAX_DEPTH: usize = 128;

/// The documents in a stretch of text whose first line is number `line`. After an error there are no more.
pub(super) fn trees(text: &str, line: usize) -> Vec<Result<Node, Malformed>> {
    let mut options = Options::default();
    options.set_emit_comments(false);
    options.flow_nesting_limit = MAX_DEPTH;
    options.block_nesting_limit = MAX_DEPTH;
    let mut trees = Vec::new();
    let mut builder = Builder::new(line);
    for event in Parser::new_from_str_with_options(text, options) {
        let step = match event {
            Ok((event, span)) => builder.step(event, span),
            Err(error) => Err(Malformed {
                line: (line + error.marker().line()).saturating_sub(1).max(line),
                reason: format!("not YAML: {}", error.info()),
                hint: hint(error.kind()),
            }),
        };
        match step {
            Ok(None) => {}
            Ok(Some(root)) => trees.push(Ok(root)),
            Err(malformed) => {
                trees.push(Err(malformed));
                break;
            }
        }
    }
    trees
}

fn hint(kind: &ErrorKind) -> Option<String> {
    let text = format!("{kind:?}");
    text.contains("Tab").then(|| "indent with spaces; YAML does not allow tabs".to_owned())
}

struct Builder {
    /// Line of the file on which the parser's line 1 is.
    first_line: usize,
    stack: Vec<Open>,
    anchors: HashMap<usize, Anchored>,
    repeated: usize,
    root: Option<Node>,
}

/// A collection that is not closed yet.
struct Open {
    line: usize,
    anchor: usize,
    /// Levels below it, so far.
    height: usize,
    collection: Collection,
}

enum Collection {
    Sequence(Vec<Node>),
    Mapping { entries: Vec<Entry>, merged: Vec<Entry>, key: Option<Key> },
}

/// A key whose value has not come yet.
enum Key {
    Field { name: Box<str>, line: usize },
    Merge,
}

#[derive(Clone)]
struct Anchored {
    node: Node,
    size: usize,
    height: usize,
}

impl Builder {
    fn new(first_line: usize) -> Self {
        Self { first_line, stack: Vec::new(), anchors: HashMap::new(), repeated: 0, root: None }
    }

    /// Takes an event; returns the tree when its document ends.
    fn step(&mut self, event: Event<'_>, span: Span) -> Result<Option<Node>, Malformed> {
        let line = (self.first_line + span.start.line()).saturating_sub(1).max(self.first_line);
        match event {
            Event::DocumentStart(..) => {
                self.anchors.clear();
                self.repeated = 0;
                self.root = None;
            }
            Event::DocumentEnd => return Ok(Some(self.root.take().unwrap_or_else(|| Node::null(line)))),
            Event::Scalar(text, style, anchor, tag) => {
                if self.takes_merge_key(&text, style) {
                    return Ok(None);
                }
                let node = Node { line, value: scalar_value(&text, style, tag.as_deref(), line)? };
                self.place(node, anchor, 0)?;
            }
            Event::Alias(id) => {
                let Some(anchored) = self.anchors.get(&id).cloned() else {
                    return Err(malformed(line, "an alias inside its own anchor"));
                };
                self.repeat(anchored.size, line)?;
                self.place(anchored.node, 0, anchored.height)?;
            }
            Event::SequenceStart(_, anchor, _) => self.open(line, anchor, Collection::Sequence(Vec::new()))?,
            Event::MappingStart(_, anchor, _) => {
                self.open(line, anchor, Collection::Mapping { entries: Vec::new(), merged: Vec::new(), key: None })?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.close()?,
            _ => {}
        }
        Ok(None)
    }

    fn open(&mut self, line: usize, anchor: usize, collection: Collection) -> Result<(), Malformed> {
        if self.stack.len() >= MAX_DEPTH {
            return Err(malformed(line, "nested too deeply"));
        }
        self.stack.push(Open { line, anchor, height: 0, collection });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Malformed> {
        let Some(open) = self.stack.pop() else { return Ok(()) };
        let value = match open.collection {
            Collection::Sequence(items) => Value::Sequence(items),
            Collection::Mapping { mut entries, merged, .. } => {
                refuse_duplicates(&entries)?;
                for entry in merged {
                    if !entries.iter().any(|present| present.key == entry.key) {
                        entries.push(entry);
                    }
                }
                Value::Mapping(entries)
            }
        };
        self.place(Node { line: open.line, value }, open.anchor, open.height + 1)
    }

    fn repeat(&mut self, size: usize, line: usize) -> Result<(), Malformed> {
        self.repeated += size;
        if self.repeated > MAX_REPEATED {
            return Err(malformed(line, "aliases repeat too much of the document"));
        }
        Ok(())
    }

    /// Adds a finished node at the parser's position.
    fn place(&mut self, node: Node, anchor: usize, height: usize) -> Result<(), Malformed> {
        if self.stack.len() + height > MAX_DEPTH {
            return Err(malformed(node.line, "nested too deeply"));
        }
        if anchor != 0 {
            let size = size_of(&node);
            self.repeat(size, node.line)?;
            self.anchors.insert(anchor, Anchored { node: node.clone(), size, height });
        }
        let Some(open) = self.stack.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        open.height = open.height.max(height);
        match &mut open.collection {
            Collection::Sequence(items) => items.push(node),
            Collection::Mapping { entries, merged, key } => match key.take() {
                None => *key = Some(Key::Field { line: node.line, name: key_text(node)? }),
                Some(Key::Field { name, line }) => entries.push(Entry { key: name, line, node }),
                Some(Key::Merge) => merge(node, entries, merged)?,
            },
        }
        Ok(())
    }

    /// Whether the scalar is a `<<` used as a key; if so, that is noted.
    fn takes_merge_key(&mut self, text: &str, style: ScalarStyle) -> bool {
        let Some(Open { collection: Collection::Mapping { key: key @ None, .. }, .. }) = self.stack.last_mut() else {
            return false;
        };
        let is_merge = text == "<<" && style == ScalarStyle::Plain;
        if is_merge {
            *key = Some(Key::Merge);
        }
        is_merge
    }
}

fn refuse_duplicates(entries: &[Entry]) -> Result<(), Malformed> {
    let mut by_key: Vec<_> = entries.iter().collect();
    by_key.sort_by(|a, b| a.key.cmp(&b.key));
    for (earlier, later) in by_key.iter().zip(by_key.iter().skip(1)) {
        if earlier.key == later.key {
            let reason = format!("the key {:?} is given twice, first on line {}", later.key, earlier.line);
            return Err(malformed(later.line, &reason));
        }
    }
    Ok(())
}

/// Takes the keys of `<<: *anchor` or `<<: [*one, *two]`; the first source that has a key wins.
fn merge(node: Node, entries: &[Entry], merged: &mut Vec<Entry>) -> Result<(), Malformed> {
    let line = node.line;
    let sources = match node.value {
        Value::Sequence(items) => items,
        value => vec![Node { line, value }],
    };
    for source in sources {
        let Value::Mapping(fields) = source.value else {
            return Err(malformed(source.line, "a merge key (<<) takes a mapping or a list of mappings"));
        };
        for field in fields {
            // In YAML the key outside the merge wins wherever it is; in Kubernetes' parser the later one wins.
            if let Some(explicit) = entries.iter().find(|entry| entry.key == field.key) {
                let mut error = malformed(
                    explicit.line,
                    &format!("the key {:?} comes before a merge (<<) that has it too; readers disagree", field.key),
                );
                error.hint = Some("put the merge first".to_owned());
                return Err(error);
            }
            if !merged.iter().any(|present| present.key == field.key) {
                merged.push(field);
            }
        }
    }
    Ok(())
}

fn scalar_value(text: &str, style: ScalarStyle, tag: Option<&Tag>, line: usize) -> Result<Value, Malformed> {
    let Some(tag) = tag else {
        return Ok(if style == ScalarStyle::Plain { scalar::resolve(text) } else { Value::String(text.into()) });
    };
    let resolved = scalar::resolve(text);
    let fits = match tag.suffix_in_namespace("tag:yaml.org,2002:").as_deref() {
        Some("null") => matches!(resolved, Value::Null),
        Some("bool") => matches!(resolved, Value::Bool(..)),
        Some("int") => matches!(resolved, Value::Integer(..)),
        Some("float") => matches!(resolved, Value::Integer(..) | Value::Float(_)),
        Some("binary") => false,
        _ => return Ok(Value::String(text.into())),
    };
    if fits { Ok(resolved) } else { Err(malformed(line, &format!("{text:?} is not a {}", tag.original()))) }
}

/// A key as JSON has it: numbers and booleans become text.
fn key_text(node: Node) -> Result<Box<str>, Malformed> {
    match node.value {
        Value::String(text) | Value::Float(text) => Ok(text),
        Value::Bool(value, _) => Ok(value.to_string().into()),
        Value::Integer(value, _) => Ok(value.to_string().into()),
        Value::Null => Err(malformed(node.line, "a key is empty")),
        Value::Sequence(_) | Value::Mapping(_) => {
            let mut error = malformed(node.line, "a key is a list or a mapping");
            error.hint = Some("template placeholders such as {{ … }} must be rendered first".to_owned());
            Err(error)
        }
    }
}

fn size_of(node: &Node) -> usize {
    match &node.value {
        Value::Sequence(items) => 1 + items.iter().map(size_of).sum::<usize>(),
        Value::Mapping(entries) => 1 + entries.iter().map(|entry| 1 + size_of(&entry.node)).sum::<usize>(),
        _ => 1,
    }
}

fn malformed(line: usize, reason: &str) -> Malformed {
    Malformed { line, reason: reason.to_owned(), hint: None }
}
