//! Reads JSON as Go's `encoding/json` does. kubectl uses that, object by object, if a file begins with a brace.
//!
//! A YAML parser would accept other text: YAML has no `\/`, and allows a trailing comma.

use super::Malformed;
use super::build::{MAX_DEPTH, refuse_duplicates};
use super::scalar::whole;
use crate::node::{Entry, Node, Value};

/// A value of a stream.
pub(super) struct Next<'t> {
    /// The value. A duplicate key or a number out of range does not end the stream.
    pub(super) root: Result<Node, Malformed>,
    /// The text after it.
    pub(super) rest: &'t str,
    /// The line of the file on which `rest` begins, from 1.
    pub(super) line: usize,
}

/// The next value of a stream, if there is one.
pub(super) fn next(text: &str, line: usize) -> Result<Option<Next<'_>>, Malformed> {
    let mut reader = Reader { rest: text, line, refused: None };
    reader.space();
    if reader.rest.is_empty() {
        return Ok(None);
    }
    let node = reader.value(0)?;
    let root = reader.refused.map_or(Ok(node), Err);
    Ok(Some(Next { root, rest: reader.rest, line: reader.line }))
}

struct Reader<'t> {
    rest: &'t str,
    /// The line of the file, from 1.
    line: usize,
    /// The first mistake that does not end the stream.
    refused: Option<Malformed>,
}

impl Reader<'_> {
    fn wrong(&self, reason: &str) -> Malformed {
        Malformed::new(self.line, format!("not JSON: {reason}"))
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn take(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.rest = self.rest.get(next.len_utf8()..).unwrap_or_default();
        self.line += usize::from(next == '\n');
        Some(next)
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(' ' | '\t' | '\r' | '\n')) {
            self.take();
        }
    }

    /// Skips white space, and takes the sign if it is next.
    fn took(&mut self, sign: char) -> bool {
        self.space();
        let is_next = self.peek() == Some(sign);
        if is_next {
            self.take();
        }
        is_next
    }

    fn value(&mut self, depth: usize) -> Result<Node, Malformed> {
        if depth >= MAX_DEPTH {
            return Err(self.wrong("nested too deeply"));
        }
        self.space();
        let line = self.line;
        let value = match self.peek() {
            Some('{') => self.object(depth)?,
            Some('[') => self.array(depth)?,
            Some('"') => Value::String(self.string()?.into()),
            Some('-' | '0'..='9') => self.number()?,
            _ => self.word()?,
        };
        Ok(Node { line, value })
    }

    fn word(&mut self) -> Result<Value, Malformed> {
        let words = [
            ("null", Value::Null),
            ("true", Value::Bool(true, "true".into())),
            ("false", Value::Bool(false, "false".into())),
        ];
        for (word, value) in words {
            if let Some(rest) = self.rest.strip_prefix(word) {
                self.rest = rest;
                return Ok(value);
            }
        }
        Err(self.wrong("expected a value"))
    }

    fn object(&mut self, depth: usize) -> Result<Value, Malformed> {
        self.take();
        let mut entries = Vec::new();
        let mut is_done = self.took('}');
        while !is_done {
            self.space();
            let line = self.line;
            if self.peek() != Some('"') {
                return Err(self.wrong("expected a key in double quotes"));
            }
            let key = self.string()?.into();
            if !self.took(':') {
                return Err(self.wrong("expected `:` after a key"));
            }
            entries.push(Entry { key, line, node: self.value(depth + 1)? });
            is_done = self.ends('}')?;
        }
        if let Err(malformed) = refuse_duplicates(&entries) {
            self.refused.get_or_insert(malformed);
        }
        Ok(Value::Mapping(entries))
    }

    fn array(&mut self, depth: usize) -> Result<Value, Malformed> {
        self.take();
        let mut items = Vec::new();
        let mut is_done = self.took(']');
        while !is_done {
            items.push(self.value(depth + 1)?);
            is_done = self.ends(']')?;
        }
        Ok(Value::Sequence(items))
    }

    /// Whether a collection ends here; if not, takes a comma.
    fn ends(&mut self, sign: char) -> Result<bool, Malformed> {
        if self.took(sign) {
            Ok(true)
        } else if self.took(',') {
            Ok(false)
        } else {
            Err(self.wrong(&format!("expected `,` or `{sign}`")))
        }
    }

    fn number(&mut self) -> Result<Value, Malformed> {
        let length = self.rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')));
        let all = self.rest.get(..length.unwrap_or(self.rest.len())).unwrap_or_default();
        let Some(length) = number_length(all) else { return Err(self.wrong("a number is incomplete")) };
        let written = all.get(..length).unwrap_or_default();
        let value = match (written.parse::<i64>(), written.parse::<f64>()) {
            (Ok(value), _) => Value::Integer(value, written.into()),
            (_, Ok(value)) if value.is_finite() => {
                whole(value).map_or_else(|| Value::Float(written.into()), |value| Value::Integer(value, written.into()))
            }
            _ => {
                let malformed = self.wrong("a number is too large");
                self.refused.get_or_insert(malformed);
                Value::Null
            }
        };
        self.rest = self.rest.get(length..).unwrap_or_default();
        Ok(value)
    }

    fn string(&mut self) -> Result<String, Malformed> {
        self.take();
        let mut text = String::new();
        loop {
            match self.take() {
                Some('"') => return Ok(text),
                Some('\\') => self.escape(&mut text)?,
                Some(character) if character >= ' ' => text.push(character),
                Some(_) => return Err(self.wrong("a string has a line break or control character")),
                None => return Err(self.wrong("a string is not closed")),
            }
        }
    }

    fn escape(&mut self, text: &mut String) -> Result<(), Malformed> {
        text.push(match self.take() {
            Some(same @ ('"' | '\\' | '/')) => same,
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('u') => return self.unicode(text),
            _ => return Err(self.wrong("unknown escape")),
        });
        Ok(())
    }

    /// Reads the digits after `\u`. Half a surrogate pair becomes U+FFFD.
    fn unicode(&mut self, text: &mut String) -> Result<(), Malformed> {
        let first = self.digits()?;
        let low = self.rest.strip_prefix("\\u").and_then(|rest| rest.get(..4));
        let low = low.and_then(|digits| u32::from_str_radix(digits, 16).ok()).filter(|low| low & 0xfc00 == 0xdc00);
        match (first & 0xfc00 == 0xd800, low) {
            (true, Some(low)) => {
                self.rest = self.rest.get(6..).unwrap_or_default();
                text.extend(char::from_u32(0x1_0000 + ((first & 0x3ff) << 10) + (low & 0x3ff)));
            }
            _ => text.push(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER)),
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<u32, Malformed> {
        let mut value = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|digit| digit.to_digit(16));
            let Some(digit) = digit else { return Err(self.wrong("an escape needs four hexadecimal digits")) };
            value = value << 4 | digit;
            self.take();
        }
        Ok(value)
    }
}

/// The length of the number at the beginning: `-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?`.
fn number_length(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let digits = |from: usize| bytes.iter().skip(from).take_while(|byte| byte.is_ascii_digit()).count();
    let mut end = usize::from(text.starts_with('-'));
    end += match bytes.get(end)? {
        b'0' => 1,
        b'1'..=b'9' => digits(end),
        _ => return None,
    };
    if bytes.get(end) == Some(&b'.') {
        let fraction = digits(end + 1);
        if fraction == 0 {
            return None;
        }
        end += 1 + fraction;
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        end += 1 + usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let exponent = digits(end);
        if exponent == 0 {
            return None;
        }
        end += exponent;
    }
    Some(end)
}
