//! The grammar: turns tokens into a tree.
//!
//! This follows the parser of go.yaml.in/yaml/v2 as `scan` follows its scanner.

use super::Malformed;
use super::build::{Builder, MAX_DEPTH, Mapping, Tree};
use super::scalar::{Scalar, TAGS};
use super::scan::{Kind, Scanner, Token};
use crate::node::Node;

/// The first document of a text; null if there is none. kubectl reads no further either: it has split the documents
/// before.
pub(super) fn tree(text: &str, first_line: usize) -> Result<Node, Malformed> {
    Parser { scanner: Scanner::new(text, first_line), builder: Builder::default(), depth: 0 }.document(first_line)
}

struct Parser<'t> {
    scanner: Scanner<'t>,
    builder: Builder,
    depth: usize,
}

type Parsed = Result<Tree, Malformed>;

impl Parser<'_> {
    fn document(&mut self, first_line: usize) -> Result<Node, Malformed> {
        self.scanner.peek()?;
        self.scanner.take();
        let root = match self.scanner.peek()?.kind {
            Kind::StreamEnd => return Ok(Node::null(first_line)),
            Kind::Directive => return Err(self.scanner.wrong("kubectl does not accept directives")),
            Kind::DocumentStart => {
                self.scanner.take();
                match self.scanner.peek()?.kind {
                    Kind::Directive | Kind::DocumentStart | Kind::DocumentEnd | Kind::StreamEnd => self.empty(),
                    _ => self.node(true, false),
                }
            }
            _ => self.node(true, false),
        }?;
        // kubectl's parser also looks one token further.
        self.scanner.peek()?;
        root.into_value()
    }

    /// Reads a value. Accepts block collections only if `block`, and a list with its key's indentation only if
    /// `indentless`.
    fn node(&mut self, block: bool, indentless: bool) -> Parsed {
        let first = self.scanner.peek()?;
        if let Kind::Alias(name) = &first.kind {
            let (name, line) = (name.clone(), first.line);
            self.scanner.take();
            return self.builder.alias(&name, line);
        }
        let (anchor, tag) = self.properties()?;
        let slot = anchor.as_deref().map(|name| self.builder.reserve(name));
        let Token { line, kind } = self.scanner.peek()?;
        let line = *line;
        let tree = match kind {
            Kind::BlockEntry if indentless => self.nested(Self::indentless_sequence),
            Kind::Scalar { .. } => self.scalar(tag.as_deref()),
            Kind::FlowSequenceStart => self.nested(Self::flow_sequence),
            Kind::FlowMappingStart => self.nested(Self::flow_mapping),
            Kind::BlockSequenceStart if block => self.nested(Self::block_sequence),
            Kind::BlockMappingStart if block => self.nested(Self::block_mapping),
            _ if anchor.is_some() || tag.is_some() => Self::resolved(line, "", tag.is_none(), tag.as_deref(), false),
            _ => {
                let mut wrong = self.scanner.wrong("a value is missing, or has characters that need quotes");
                wrong.line = line;
                Err(wrong)
            }
        }?;
        if let Some(slot) = slot {
            self.builder.fill(slot, &tree)?;
        }
        Ok(tree)
    }

    /// The scalar that is the next token.
    fn scalar(&mut self, tag: Option<&str>) -> Parsed {
        let Some(Token { line, kind: Kind::Scalar { text, is_plain } }) = self.scanner.take() else {
            return self.unexpected("text");
        };
        let merges = match tag {
            None => is_plain,
            Some(tag) => tag == "!" || tag.strip_prefix(TAGS) == Some("merge"),
        };
        Self::resolved(line, &text, is_plain, tag, text == "<<" && merges)
    }

    fn resolved(line: usize, text: &str, is_plain: bool, tag: Option<&str>, is_merge: bool) -> Parsed {
        let scalar = Scalar::of(text, is_plain, tag).map_err(|reason| Malformed::new(line, reason))?;
        Ok(Tree::scalar(line, &scalar, text, is_merge))
    }

    /// The anchor and the tag before a value, in either order.
    fn properties(&mut self) -> Result<(Option<String>, Option<String>), Malformed> {
        let (mut anchor, mut tag) = (None, None);
        for _ in 0..2 {
            if matches!(self.scanner.peek()?.kind, Kind::Scalar { .. }) {
                break;
            }
            match self.scanner.peek()?.kind.clone() {
                Kind::Anchor(name) if anchor.is_none() => anchor = Some(name),
                Kind::Tag { handle, suffix } if tag.is_none() => {
                    tag = Some(match &*handle {
                        "" => suffix,
                        "!" => format!("!{suffix}"),
                        "!!" => format!("{TAGS}{suffix}"),
                        _ => return Err(self.scanner.wrong(&format!("there is no %TAG for {handle}"))),
                    });
                }
                _ => break,
            }
            self.scanner.take();
        }
        Ok((anchor, tag))
    }

    /// A collection, after its first token.
    fn nested(&mut self, read: fn(&mut Self) -> Parsed) -> Parsed {
        if self.depth >= MAX_DEPTH {
            return Err(self.scanner.wrong("nested too deeply"));
        }
        self.depth += 1;
        let tree = read(self);
        self.depth -= 1;
        let tree = tree?;
        if self.depth + tree.height > MAX_DEPTH {
            return Err(Malformed::new(tree.node.line, "nested too deeply".to_owned()));
        }
        Ok(tree)
    }

    /// An omitted value.
    fn empty(&mut self) -> Parsed {
        self.scanner.peek()?;
        Ok(Tree::null(self.scanner.taken_line))
    }

    /// A value, unless one of these tokens is next.
    fn node_unless(&mut self, ends: &[Kind], block: bool, indentless: bool) -> Parsed {
        if ends.contains(&self.scanner.peek()?.kind) { self.empty() } else { self.node(block, indentless) }
    }

    /// Whether the token is next; if so, takes it.
    fn took(&mut self, kind: &Kind) -> Result<bool, Malformed> {
        let is_next = self.scanner.peek()?.kind == *kind;
        if is_next {
            self.scanner.take();
        }
        Ok(is_next)
    }

    /// Takes the first token of a collection, and returns its line.
    fn begin(&mut self) -> Result<usize, Malformed> {
        let line = self.scanner.peek()?.line;
        self.scanner.take();
        Ok(line)
    }

    fn unexpected<T>(&mut self, expected: &str) -> Result<T, Malformed> {
        let next = self.scanner.peek()?;
        // At the end of a text, report its last line.
        let at_end = next.kind == Kind::StreamEnd;
        let line = if at_end { self.scanner.taken_line } else { next.line };
        Err(Malformed::new(line, format!("not YAML: expected {expected}")))
    }

    fn block_sequence(&mut self) -> Parsed {
        let line = self.begin()?;
        let mut items = Vec::new();
        loop {
            if self.took(&Kind::BlockEntry)? {
                items.push(self.node_unless(&[Kind::BlockEntry, Kind::BlockEnd], true, false)?);
            } else if self.took(&Kind::BlockEnd)? {
                return Tree::sequence(line, items);
            } else {
                return self.unexpected("`-` or less indentation");
            }
        }
    }

    fn indentless_sequence(&mut self) -> Parsed {
        let line = self.scanner.peek()?.line;
        let mut items = Vec::new();
        while self.took(&Kind::BlockEntry)? {
            let ends = [Kind::BlockEntry, Kind::Key, Kind::Value, Kind::BlockEnd];
            items.push(self.node_unless(&ends, true, false)?);
        }
        Tree::sequence(line, items)
    }

    fn block_mapping(&mut self) -> Parsed {
        let mut mapping = Mapping::new(self.begin()?);
        let ends = [Kind::Key, Kind::Value, Kind::BlockEnd];
        loop {
            if self.took(&Kind::Key)? {
                let key = self.node_unless(&ends, true, true)?;
                let value = if self.took(&Kind::Value)? { self.node_unless(&ends, true, true)? } else { self.empty()? };
                mapping.add(key, value)?;
            } else if self.took(&Kind::BlockEnd)? {
                return mapping.finish();
            } else {
                return self.unexpected("a key or less indentation");
            }
        }
    }

    fn flow_sequence(&mut self) -> Parsed {
        let line = self.begin()?;
        let mut items = Vec::new();
        let mut is_first = true;
        while self.scanner.peek()?.kind != Kind::FlowSequenceEnd {
            if !is_first && !self.took(&Kind::FlowEntry)? {
                return self.unexpected("`,` or `]`");
            }
            is_first = false;
            match self.scanner.peek()?.kind {
                Kind::Key => items.push(self.flow_pair()?),
                Kind::FlowSequenceEnd => break,
                _ => items.push(self.node(false, false)?),
            }
        }
        self.scanner.take();
        Tree::sequence(line, items)
    }

    /// `a: b` as an item of a list.
    fn flow_pair(&mut self) -> Parsed {
        let mut mapping = Mapping::new(self.begin()?);
        let ends = [Kind::Value, Kind::FlowEntry, Kind::FlowSequenceEnd];
        let key = if ends.contains(&self.scanner.peek()?.kind) {
            // kubectl's parser also takes this token.
            let empty = self.empty()?;
            self.scanner.take();
            empty
        } else {
            self.node(false, false)?
        };
        let value = if self.took(&Kind::Value)? {
            self.node_unless(&[Kind::FlowEntry, Kind::FlowSequenceEnd], false, false)?
        } else {
            self.empty()?
        };
        self.scanner.peek()?;
        mapping.add(key, value)?;
        mapping.finish()
    }

    fn flow_mapping(&mut self) -> Parsed {
        let mut mapping = Mapping::new(self.begin()?);
        let mut is_first = true;
        while self.scanner.peek()?.kind != Kind::FlowMappingEnd {
            if !is_first && !self.took(&Kind::FlowEntry)? {
                return self.unexpected("`,` or `}`");
            }
            is_first = false;
            if self.took(&Kind::Key)? {
                let key = self.node_unless(&[Kind::Value, Kind::FlowEntry, Kind::FlowMappingEnd], false, false)?;
                let value = if self.took(&Kind::Value)? {
                    self.node_unless(&[Kind::FlowEntry, Kind::FlowMappingEnd], false, false)?
                } else {
                    self.empty()?
                };
                mapping.add(key, value)?;
            } else if self.scanner.peek()?.kind != Kind::FlowMappingEnd {
                let key = self.node(false, false)?;
                let value = self.empty()?;
                mapping.add(key, value)?;
            } else {
                break;
            }
        }
        self.scanner.take();
        mapping.finish()
    }
}
