//! Names of objects, and how long names are truncated.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};

/// Names of sets, maps, chains and counters have at most this many bytes (kernel: NFT_NAME_MAXLEN 256 with its NUL).
pub const MAX_NAME: usize = 255;

/// Comments of rules and elements have at most this many bytes (nft 1.0.6 rejects more).
pub const MAX_COMMENT: usize = 128;

/// The name of a set, map, chain or counter: letters, digits and `/ - . _`, starting with a letter, at most 255 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// Names of groups are truncated to this many bytes, so that a line of a listing stays readable.
const READABLE: usize = 128;

/// Hex digits of the hash that replaces the rest of a name.
const HASH_DIGITS: usize = 12;

impl Name {
    /// `text` as a name. Characters that nft cannot read in a name become `_`; a name that is too long, or does not
    /// start with a letter, is truncated or prefixed and ends in a hash of the whole.
    pub fn new(text: &str) -> Self {
        let safe: String = text.chars().map(|c| if is_name_char(c) { c } else { '_' }).collect();
        let starts_well = safe.starts_with(|c: char| c.is_ascii_alphabetic());
        if safe == text && starts_well && text.len() <= READABLE {
            return Self(text.into());
        }
        let head: String = safe.chars().take(READABLE - HASH_DIGITS - 1).collect();
        let letter = if starts_well { "" } else { "x" };
        Self(format!("{letter}{head}-{}", hash(text)).into())
    }

    /// A name read from the kernel, if it could be one of ours.
    pub fn parse(text: &str) -> Option<Self> {
        let good = text.len() <= MAX_NAME
            && text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text.chars().all(is_name_char);
        good.then(|| Self(text.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '.' | '_')
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The first 12 hex digits of the SHA-256 of `text`.
pub fn hash(text: &str) -> String {
    Digested::of(format_args!("{text}")).digits()
}

/// The SHA-256 of a text, hashed as it is written: the description of a large policy is long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Digested([u8; 32]);

impl Digested {
    /// The hash of these format arguments.
    pub(crate) fn of(text: fmt::Arguments<'_>) -> Self {
        let mut hasher = Hasher(Sha256::new());
        // A hash accepts any number of bytes.
        fmt::Write::write_fmt(&mut hasher, text).ok();
        Self(hasher.0.finalize().into())
    }

    /// The first 12 hex digits.
    pub(crate) fn digits(&self) -> String {
        let half_bytes = self.0.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        half_bytes.take(HASH_DIGITS).filter_map(|half| char::from_digit(u32::from(half), 16)).collect()
    }
}

struct Hasher(Sha256);

impl fmt::Write for Hasher {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.update(text.as_bytes());
        Ok(())
    }
}

/// `text` as a comment, shared with the caller if it is one as it stands.
pub fn shared_comment(text: &Arc<str>) -> Arc<str> {
    let is_one = text.len() <= MAX_COMMENT && text.chars().all(|c| safe(c) == c);
    if is_one { text.clone() } else { comment(text).into() }
}

/// The character, or what stands for it in a comment.
fn safe(c: char) -> char {
    match c {
        '"' => '\'',
        '\\' => '/',
        c if c.is_control() => ' ',
        c => c,
    }
}

/// `text` as a comment: nft escapes neither quotes nor line ends, so these and other control characters become `'` and
/// spaces; a comment of more than 128 bytes is truncated and ends in a hash of the whole.
pub fn comment(text: &str) -> String {
    let safe: String = text.chars().map(safe).collect();
    if safe.len() <= MAX_COMMENT {
        return safe;
    }
    let tail = format!("… {}", hash(text));
    let mut end = MAX_COMMENT - tail.len();
    while !safe.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{tail}", safe.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests;
