//! Remarks on objects.

use palisade_policy::input::ObjectName;

use super::code::Code;

/// A mistake, and the action to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The mistake.
    pub matter: String,
    /// The action to take.
    pub advice: Option<String>,
}

impl Message {
    /// Both in one line.
    pub fn line(&self) -> String {
        match &self.advice {
            Some(advice) => format!("{}; {advice}", self.matter),
            None => self.matter.clone(),
        }
    }
}

/// A change of the object that settles a remark. Fields are paths as in remarks; values are JSON, which is YAML too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// An item at the end of a list.
    Append {
        /// The list.
        list: String,
        /// The item.
        item: String,
    },
    /// A field with this value, whether or not it is there.
    Set {
        /// The field.
        field: String,
        /// The value.
        value: String,
    },
    /// A field or an item is removed.
    Remove {
        /// The field or the item.
        field: String,
    },
    /// Another object.
    Create {
        /// The object.
        object: String,
    },
}

/// The result of a check, before the position of the object is looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// The kind of mistake.
    pub code: Code,
    /// The object that it is about.
    pub object: ObjectName,
    /// The field of the object; empty for the object as a whole.
    pub field: String,
    /// What is wrong and what to do.
    pub message: Message,
    /// The mechanical remedy; empty if only the author knows what was meant.
    pub remedy: Vec<Edit>,
}

impl Remark {
    /// A remark on a field of an object.
    pub(crate) fn new(
        code: Code,
        object: ObjectName,
        field: impl Into<String>,
        matter: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        let message = Message { matter: matter.into(), advice: Some(advice.into()) };
        Self { code, object, field: field.into(), message, remedy: Vec::new() }
    }

    /// The same, with a remedy.
    pub(crate) fn remedy(self, remedy: impl IntoIterator<Item = Edit>) -> Self {
        Self { remedy: remedy.into_iter().collect(), ..self }
    }
}
