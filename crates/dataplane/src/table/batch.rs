//! Operations as the messages of a batch, and which message belongs to which operation.

use std::collections::{BTreeMap, BTreeSet};

use palisade_ruleset::change::Operation;
use palisade_ruleset::model::{Element, Key, Rule};
use palisade_ruleset::name::Name;

use super::words::{self, describe};
use crate::Error;
use crate::codec::{
    self, SetShape, decode_key, element_wire, msg, nfgenmsg, nfnl, nfproto, nfta, write_chain, write_counter,
    write_rule, write_set, write_table, zero_end,
};
use crate::netlink::{ACK, APPEND, Attributes, CREATE, EXCLUSIVE, Header, Message, REQUEST, Writer};

/// A list of elements is one attribute of at most 64 KiB (`nla_len` has 16 bits); this leaves room for one more element.
const LIST_BYTES: usize = 56 << 10;

/// Messages of batches are numbered from here, far from the numbers of requests.
const FIRST: u32 = 1 << 31;

/// The source of a message.
#[derive(Clone, Debug)]
struct Part {
    /// The operation's position; `None` for the table itself.
    operation: Option<usize>,
    /// The rule among those of the operation.
    rule: usize,
    /// The offset of the message.
    start: usize,
}

/// A batch being written.
#[derive(Debug)]
pub(super) struct Batch {
    table: &'static str,
    writer: Writer,
    parts: Vec<Part>,
    current: Option<usize>,
    /// Sets that the batch creates and that have no elements yet.
    fresh: BTreeSet<Name>,
}

/// The subject of a rejected message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Culprit {
    pub(super) index: Option<usize>,
    pub(super) object: Option<Name>,
    pub(super) operation: String,
}

fn unencodable(operation: &Operation, reason: String) -> Error {
    Error::Unencodable { operation: describe(operation, None), object: Some(operation.object().clone()), reason }
}

impl Batch {
    /// An empty batch for a table; with a generation, it takes effect only at this generation.
    pub(super) fn new(table: &'static str, generation: Option<u32>) -> Self {
        let mut writer = Writer::default();
        writer.message(Header { kind: nfnl::MSG_BATCH_BEGIN, flags: REQUEST, sequence: FIRST }, |writer| {
            nfgenmsg(writer, 0, nfnl::SUBSYS_NFTABLES);
            if let Some(generation) = generation {
                writer.be32(nfnl::BATCH_GENID, generation);
            }
        });
        Self { table, writer, parts: Vec::new(), current: None, fresh: BTreeSet::new() }
    }

    /// The number of messages.
    pub(super) fn messages(&self) -> usize {
        self.parts.len()
    }

    /// Ends the batch and asks for an acknowledgement of the last message.
    pub(super) fn finish(mut self) -> Finished {
        let end = self.writer.len();
        let sequence = sequence(self.parts.len());
        self.writer.message(Header { kind: nfnl::MSG_BATCH_END, flags: REQUEST, sequence }, |writer| {
            nfgenmsg(writer, 0, nfnl::SUBSYS_NFTABLES);
        });
        let mut bytes = self.writer.bytes().to_vec();
        if let Some(flags) = self.parts.last().and_then(|part| bytes.get_mut(part.start + 6..part.start + 8)) {
            let with_ack = flags.first_chunk().map_or(REQUEST, |flags| u16::from_ne_bytes(*flags)) | ACK;
            flags.copy_from_slice(&with_ack.to_ne_bytes());
        }
        Finished { table: self.table, bytes, parts: self.parts, end }
    }

    /// Creates or adopts the table.
    pub(super) fn add_table(&mut self, flags: u32, comment: &str) {
        self.message(msg::NEWTABLE, CREATE, 0, |writer| write_table(writer, flags, comment));
    }

    /// Deletes the table.
    pub(super) fn delete_table(&mut self) {
        self.message(msg::DELTABLE, 0, 0, |_| {});
    }

    /// Adds the messages of operations. `set_id` is incremented for every set.
    pub(super) fn add(&mut self, operations: &[Operation], set_id: &mut u32) -> Result<(), Error> {
        for (index, operation) in operations.iter().enumerate() {
            self.current = Some(index);
            self.add_operation(operation, set_id).map_err(|reason| unencodable(operation, reason))?;
            if self.writer.overflowed() {
                return Err(unencodable(operation, "longer than a message can be".to_owned()));
            }
        }
        self.current = None;
        Ok(())
    }

    fn add_operation(&mut self, operation: &Operation, set_id: &mut u32) -> Result<(), String> {
        match operation {
            Operation::AddCounter(name) => {
                self.message(msg::NEWOBJ, CREATE, 0, |writer| write_counter(writer, name.as_str()));
            }
            Operation::AddSet(name, set) => {
                *set_id = set_id.wrapping_add(1).max(1);
                let id = *set_id;
                let mut result = None;
                self.message(msg::NEWSET, CREATE | EXCLUSIVE, 0, |writer| {
                    result = write_set(writer, name.as_str(), set, id);
                });
                result.ok_or("ports come in ranges only, and pairs and interface names never do")?;
                self.fresh.insert(name.clone());
            }
            Operation::DeleteSet(name) => {
                self.message(msg::DELSET, 0, 0, |writer| writer.string(nfta::SET_NAME, name.as_str()));
            }
            Operation::AddElements(name, elements) => {
                self.add_elements(msg::NEWSETELEM, CREATE | EXCLUSIVE, name, elements)?;
            }
            Operation::DeleteElements(name, elements) => {
                self.add_elements(msg::DELSETELEM, 0, name, elements)?;
            }
            Operation::AddChain(name, chain) => {
                self.message(msg::NEWCHAIN, CREATE | EXCLUSIVE, 0, |writer| {
                    write_chain(writer, name.as_str(), chain);
                });
            }
            Operation::FlushChain(name) => {
                self.message(msg::DELRULE, 0, 0, |writer| writer.string(nfta::RULE_CHAIN, name.as_str()));
            }
            Operation::DeleteChain(name) => {
                self.message(msg::DELCHAIN, 0, 0, |writer| writer.string(nfta::CHAIN_NAME, name.as_str()));
            }
            Operation::AppendRules(name, rules) => self.add_rules(name, rules)?,
        }
        Ok(())
    }

    fn add_rules(&mut self, chain: &Name, rules: &[Rule]) -> Result<(), String> {
        for (place, rule) in rules.iter().enumerate() {
            let mut result = Ok(());
            self.message(msg::NEWRULE, CREATE | APPEND, place, |writer| {
                result = write_rule(writer, chain.as_str(), rule);
            });
            result.map_err(|mismatch: codec::Mismatch| format!("{}: {mismatch}", words::rule(place, rule)))?;
        }
        Ok(())
    }

    fn add_elements(
        &mut self,
        kind: u16,
        flags: u16,
        name: &Name,
        elements: &BTreeMap<Key, Element>,
    ) -> Result<(), String> {
        let removing = kind == codec::msg::DELSETELEM;
        let Some(shape) = elements.keys().next().map(SetShape::of_key) else { return Ok(()) };
        let mut list = Writer::default();
        if let Some(first) = elements.keys().next().filter(|_| !removing && self.fresh.remove(name)) {
            zero_end(&mut list, shape, first);
        }
        for (key, element) in elements {
            element_wire(&mut list, shape, key, (!removing).then_some(element))
                .ok_or_else(|| format!("element {key:?} does not fit the set"))?;
            if list.len() >= LIST_BYTES {
                self.elements(kind, flags, name, &list);
                list = Writer::default();
            }
        }
        if list.len() > 0 {
            self.elements(kind, flags, name, &list);
        }
        Ok(())
    }

    fn elements(&mut self, kind: u16, flags: u16, set: &Name, list: &Writer) {
        self.message(kind, flags, 0, |writer| {
            writer.string(nfta::SET_ELEM_LIST_SET, set.as_str());
            writer.nest(nfta::SET_ELEM_LIST_ELEMENTS, |writer| writer.raw(list.bytes()));
        });
    }

    fn message(&mut self, kind: u16, flags: u16, rule: usize, fill: impl FnOnce(&mut Writer)) {
        let (table, sequence) = (self.table, sequence(self.parts.len()));
        self.parts.push(Part { operation: self.current, rule, start: self.writer.len() });
        self.writer.message(Header { kind, flags: flags | REQUEST, sequence }, |writer| {
            nfgenmsg(writer, nfproto::INET, 0);
            // The table's name is attribute 1 of every kind of object.
            writer.string(nfta::TABLE_NAME, table);
            fill(writer);
        });
    }
}

/// The sequence number of the message at a position among the parts.
fn sequence(place: usize) -> u32 {
    u32::try_from(place).map_or(u32::MAX, |place| FIRST.saturating_add(1).saturating_add(place))
}

/// A batch ready to send.
#[derive(Debug)]
pub(super) struct Finished {
    table: &'static str,
    pub(super) bytes: Vec<u8>,
    parts: Vec<Part>,
    end: usize,
}

impl Finished {
    /// The subject of the message with a sequence number.
    pub(super) fn culprit(&self, operations: &[Operation], sequence: u32, offset: Option<usize>) -> Culprit {
        let place = sequence.checked_sub(FIRST + 1).and_then(|place| usize::try_from(place).ok());
        let Some((place, part)) = place.and_then(|place| Some((place, self.parts.get(place)?))) else {
            return Culprit { index: None, object: None, operation: "commit the batch as a whole".to_owned() };
        };
        let Some((index, operation)) = part.operation.and_then(|index| Some((index, operations.get(index)?))) else {
            return Culprit {
                index: None,
                object: None,
                operation: format!("make or delete table inet {}", self.table),
            };
        };
        let end = self.parts.get(place + 1).map_or(self.end, |next| next.start);
        let message = self.bytes.get(part.start..end).unwrap_or_default();
        let detail = match operation {
            Operation::AppendRules(_, rules) => rules.get(part.rule).map(|rule| words::rule(part.rule, rule)),
            Operation::AddElements(_, elements) | Operation::DeleteElements(_, elements) => {
                offset.and_then(|offset| element_words(message, offset, elements))
            }
            _ => None,
        };
        Culprit { index: Some(index), object: Some(operation.object().clone()), operation: describe(operation, detail) }
    }
}

/// The element that holds the attribute at an offset of a message.
fn element_words(message: &[u8], offset: usize, elements: &BTreeMap<Key, Element>) -> Option<String> {
    let body = Message::all(message).next()?.body;
    let list = Attributes::after(body, 4).nest(nfta::SET_ELEM_LIST_ELEMENTS);
    let position = |entry: &[u8]| entry.as_ptr().addr() - message.as_ptr().addr();
    let (_, entry) = list.iter().take_while(|(_, entry)| position(entry) <= offset + 4).last()?;
    let shape = elements.keys().next().map(SetShape::of_key)?;
    let key = decode_key(shape, entry)?;
    words::element(&key, elements)
}
