//! Fields of the structures that objects are read into.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Visitor};

/// The name by which the deserializer of a tree recognises a field.
pub(super) const FIELD: &str = "palisade::Field";

/// A field as it is written. Null counts as absent, as in the API server.
///
/// JSON from an API server has the right types, so a wrong one is an error of the whole object. A manifest often has
/// wrong types: the deserializer of a tree notes each and reads the other fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Field<T> {
    /// Missing or null.
    #[default]
    Absent,
    /// Present, but of the wrong type, which is noted.
    Unreadable,
    /// Present.
    Is(T),
}

impl<T> Field<T> {
    /// The value, if there is one.
    pub(super) fn get(self) -> Option<T> {
        match self {
            Self::Is(value) => Some(value),
            Self::Absent | Self::Unreadable => None,
        }
    }

    pub(super) fn as_ref(&self) -> Field<&T> {
        match self {
            Self::Is(value) => Field::Is(value),
            Self::Absent => Field::Absent,
            Self::Unreadable => Field::Unreadable,
        }
    }

    /// The value, or the default if there is none.
    pub(super) fn or_default(self) -> T
    where
        T: Default,
    {
        self.get().unwrap_or_default()
    }
}

impl<T> From<Option<T>> for Field<T> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Absent, Self::Is)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(FIELD, FieldVisitor(PhantomData))
    }
}

struct FieldVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for FieldVisitor<T> {
    type Value = Field<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field")
    }

    /// Called by other deserializers, which stop at the first mistake.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        Option::deserialize(deserializer).map(Field::from)
    }

    /// Called by the deserializer of a tree, which has noted any mistake.
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        Ok(Option::deserialize(deserializer).map_or(Field::Unreadable, Field::from))
    }
}
