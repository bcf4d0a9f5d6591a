//! Reads structures from a tree, as serde reads them from JSON, and notes where a value does not fit.

use std::fmt;

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, Visitor};
use serde::forward_to_deserialize_any;

use super::decoder::Decoder;
use super::field::FIELD;
use super::path::Path;
use crate::node::{Entry, Node, Value};

impl Decoder {
    /// Reads a structure and notes values of the wrong type. A [`Field`](super::field::Field) with such a value is
    /// unreadable; outside any field, the whole structure is empty.
    pub(crate) fn read<'n, T: Deserialize<'n> + Default>(&mut self, node: &'n Node, path: &Path<'_>) -> T {
        T::deserialize(Tree { node, path, decoder: self }).unwrap_or_default()
    }

    /// Notes the mistake that a visitor found, at the value that it visited.
    fn noted<T>(&mut self, visited: Result<T, Refused>, node: &Node, path: &Path<'_>) -> Result<T, Refused> {
        visited.map_err(|refused| {
            if let Refused::Unfit(reason) = refused {
                self.wrong_type(node.line, path, reason, None);
            }
            Refused::Noted
        })
    }
}

/// Why a value was not read.
#[derive(Debug)]
enum Refused {
    /// The decoder has noted the mistake.
    Noted,
    /// A visitor does not accept the value.
    Unfit(String),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Noted => f.write_str("noted"),
            Self::Unfit(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for Refused {}

impl de::Error for Refused {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Unfit(message.to_string())
    }
}

/// A value in a tree.
struct Tree<'n, 'd> {
    node: &'n Node,
    path: &'d Path<'d>,
    decoder: &'d mut Decoder,
}

impl<'n> Tree<'n, '_> {
    fn items<V: Visitor<'n>>(self, items: &'n [Node], visitor: V) -> Result<V::Value, Refused> {
        let Self { node, path, decoder } = self;
        let visited = visitor.visit_seq(Items { rest: items.iter(), index: 0, path, decoder: &mut *decoder });
        decoder.noted(visited, node, path)
    }

    fn entries<V: Visitor<'n>>(self, entries: &'n [Entry], visitor: V) -> Result<V::Value, Refused> {
        let Self { node, path, decoder } = self;
        let entries = Entries { rest: entries.iter(), entry: None, path, decoder: &mut *decoder };
        let visited = visitor.visit_map(entries);
        decoder.noted(visited, node, path)
    }
}

impl<'n> Deserializer<'n> for Tree<'n, '_> {
    type Error = Refused;

    fn deserialize_any<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Refused> {
        let visited = match &self.node.value {
            Value::Sequence(items) => return self.items(items, visitor),
            Value::Mapping(entries) => return self.entries(entries, visitor),
            Value::Null => visitor.visit_unit(),
            Value::Bool(value, _) => visitor.visit_bool(*value),
            Value::Integer(value, _) => visitor.visit_i64(*value),
            Value::Float(written) => visitor.visit_f64(written.parse().unwrap_or(f64::NAN)),
            Value::String(text) => visitor.visit_borrowed_str(text),
        };
        self.decoder.noted(visited, self.node, self.path)
    }

    fn deserialize_bool<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Refused> {
        let value = self.decoder.boolean(self.node, self.path).ok_or(Refused::Noted)?;
        self.decoder.noted(visitor.visit_bool(value), self.node, self.path)
    }

    fn deserialize_i64<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Refused> {
        let value = self.decoder.whole_number(self.node, self.path, None).ok_or(Refused::Noted)?;
        self.decoder.noted(visitor.visit_i64(value), self.node, self.path)
    }

    fn deserialize_str<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Refused> {
        let text = self.decoder.text_of(self.node, self.path).ok_or(Refused::Noted)?;
        self.decoder.noted(visitor.visit_borrowed_str(text), self.node, self.path)
    }

    fn deserialize_string<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Refused> {
        if self.node.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'n>>(self, name: &'static str, visitor: V) -> Result<V::Value, Refused> {
        if name == FIELD { visitor.visit_some(self) } else { visitor.visit_newtype_struct(self) }
    }

    fn deserialize_seq<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Refused> {
        let items = self.decoder.list(self.node, self.path).ok_or(Refused::Noted)?;
        self.items(items, visitor)
    }

    fn deserialize_map<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Refused> {
        let entries = self.decoder.mapping(self.node, self.path, None).ok_or(Refused::Noted)?;
        self.entries(entries, visitor)
    }

    fn deserialize_struct<V: Visitor<'n>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.deserialize_map(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        <W: Visitor<'n>>
        i8 i16 i32 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct enum identifier
    }
}

/// The items of a list.
struct Items<'n, 'd> {
    rest: std::slice::Iter<'n, Node>,
    index: usize,
    path: &'d Path<'d>,
    decoder: &'d mut Decoder,
}

impl<'n> de::SeqAccess<'n> for Items<'n, '_> {
    type Error = Refused;

    fn next_element_seed<T: DeserializeSeed<'n>>(&mut self, seed: T) -> Result<Option<T::Value>, Refused> {
        let Some(node) = self.rest.next() else { return Ok(None) };
        let path = self.path.index(self.index);
        self.index += 1;
        seed.deserialize(Tree { node, path: &path, decoder: self.decoder }).map(Some)
    }
}

/// The entries of a mapping.
struct Entries<'n, 'd> {
    rest: std::slice::Iter<'n, Entry>,
    /// The entry whose key was read, but not its value.
    entry: Option<&'n Entry>,
    path: &'d Path<'d>,
    decoder: &'d mut Decoder,
}

impl<'n> de::MapAccess<'n> for Entries<'n, '_> {
    type Error = Refused;

    fn next_key_seed<K: DeserializeSeed<'n>>(&mut self, seed: K) -> Result<Option<K::Value>, Refused> {
        self.entry = self.rest.next();
        let Some(entry) = self.entry else { return Ok(None) };
        seed.deserialize(BorrowedStrDeserializer::new(&entry.key)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'n>>(&mut self, seed: V) -> Result<V::Value, Refused> {
        let Some(Entry { key, node, .. }) = self.entry.take() else { return Err(de::Error::custom("no value")) };
        let path = self.path.key(key);
        seed.deserialize(Tree { node, path: &path, decoder: self.decoder })
    }
}
