//! The path of a field, for messages.

use std::fmt;

/// A path on the stack of the decoder: a step and the path before it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Path<'a> {
    /// The object.
    Root,
    /// A field.
    Key(&'a Path<'a>, &'a str),
    /// An item of a list.
    Index(&'a Path<'a>, usize),
}

impl<'a> Path<'a> {
    pub(crate) fn key(&'a self, key: &'a str) -> Self {
        Self::Key(self, key)
    }

    pub(crate) fn index(&'a self, index: usize) -> Self {
        Self::Index(self, index)
    }

    /// The field, unless this is an item or the object.
    pub(super) fn last_key(&self) -> Option<&'a str> {
        match self {
            Self::Key(_, key) => Some(key),
            Self::Root | Self::Index(..) => None,
        }
    }
}

impl fmt::Display for Path<'_> {
    /// `spec.ingress[0].from`; a key with dots or slashes is in brackets, `metadata.labels[app.kubernetes.io/name]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Root => Ok(()),
            Self::Key(parent, key) => {
                fmt::Display::fmt(parent, f)?;
                let plain = !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '$'));
                match (plain, parent) {
                    (true, Self::Root) => f.write_str(key),
                    (true, _) => write!(f, ".{key}"),
                    (false, _) => write!(f, "[{key}]"),
                }
            }
            Self::Index(parent, index) => {
                fmt::Display::fmt(parent, f)?;
                write!(f, "[{index}]")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_read_as_the_api_server_writes_them() {
        let (root, spec, ingress, first, labels);
        root = Path::Root;
        spec = root.key("spec");
        ingress = spec.key("ingress");
        first = ingress.index(0);
        labels = first.key("a.b/c");
        assert_eq!(first.key("from").index(2).to_string(), "spec.ingress[0].from[2]");
        assert_eq!(labels.to_string(), "spec.ingress[0][a.b/c]");
        assert_eq!(root.to_string(), "");
    }
}
