//! A tree of values with line numbers: a manifest, or the `spec` of an API server's policy.

/// A value and its position.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    /// The line of the file, from 1; 0 if there is no file.
    pub(crate) line: usize,
    /// The value.
    pub(crate) value: Value,
}

/// A value that JSON can express.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    /// Null, or nothing at all after a key.
    Null,
    /// A boolean, with the word that was written: YAML 1.1 has many, and people often mean text.
    Bool(bool, Box<str>),
    /// A whole number, including a fraction that is whole, as in JSON.
    Integer(i64, Box<str>),
    /// Any other number, as written.
    Float(Box<str>),
    /// Text.
    String(Box<str>),
    /// A list.
    Sequence(Vec<Node>),
    /// A mapping, in the order written, every key once.
    Mapping(Vec<Entry>),
}

/// One key of a mapping with its value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    /// The key.
    pub(crate) key: Box<str>,
    /// The line of the key.
    pub(crate) line: usize,
    /// The value.
    pub(crate) node: Node,
}

impl Node {
    /// Null at a line.
    pub(crate) fn null(line: usize) -> Self {
        Self { line, value: Value::Null }
    }

    /// Whether it is null.
    pub(crate) fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    /// The value of `key` in a mapping, unless it is null: the API reads null as absent.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        self.entry(key).map(|entry| &entry.node).filter(|node| !node.is_null())
    }

    /// The entry of `key` in a mapping, null or not.
    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Mapping(entries) => entries.iter().find(|entry| &*entry.key == key),
            _ => None,
        }
    }

    /// The text, if it is text.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// A description of the value, for a message: `a list`, `the number 80`.
    pub(crate) fn in_words(&self) -> String {
        match &self.value {
            Value::Null => "nothing".to_owned(),
            Value::Bool(value, written) if **written == *value.to_string() => format!("the boolean {written}"),
            Value::Bool(value, written) => format!("{written}, which YAML reads as the boolean {value}"),
            Value::Integer(_, written) | Value::Float(written) => format!("the number {written}"),
            Value::String(text) => format!("the text {text:?}"),
            Value::Sequence(_) => "a list".to_owned(),
            Value::Mapping(_) => "a mapping".to_owned(),
        }
    }
}

impl From<serde_json::Value> for Node {
    fn from(json: serde_json::Value) -> Self {
        let value = match json {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(value) => Value::Bool(value, value.to_string().into()),
            serde_json::Value::Number(number) => {
                let written = number.to_string().into();
                number.as_i64().map_or(Value::Float(number.to_string().into()), |value| Value::Integer(value, written))
            }
            serde_json::Value::String(text) => Value::String(text.into()),
            serde_json::Value::Array(items) => Value::Sequence(items.into_iter().map(Self::from).collect()),
            serde_json::Value::Object(fields) => Value::Mapping(
                fields
                    .into_iter()
                    .map(|(key, value)| Entry { key: key.into(), line: 0, node: Self::from(value) })
                    .collect(),
            ),
        };
        Self { line: 0, value }
    }
}
