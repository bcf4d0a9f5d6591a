//! The objects to look at, with what reading found out about them.

use std::collections::BTreeMap;

use palisade_policy::input::{ObjectName, Protocol, State};

/// The objects, those with mistakes included as far as they could be read.
#[derive(Clone, Debug)]
pub struct Input<'a> {
    /// The objects. A namespace may be here only because an object is in it.
    pub state: &'a State,
    /// Every object that is written, rather than only mentioned.
    pub written: BTreeMap<&'a ObjectName, ObjectFacts<'a>>,
}

/// What reading found out about an object, beyond its meaning.
#[derive(Clone, Copy, Debug)]
pub struct ObjectFacts<'a> {
    /// It has no mistakes.
    pub sound: bool,
    /// Of a pod, the ports that its containers and sidecars declare, with or without a name.
    pub ports: &'a [(Protocol, u16)],
}
