//! The characters of a document, with the quirks of kubectl's decoder.

use super::Malformed;

/// Bytes that kubectl's parser decodes at a time. It rejects a control character when it decodes the block, even if it
/// never reads that far.
const BLOCK: usize = 512;
pub(super) const BYTE_ORDER_MARK: char = '\u{feff}';

/// A position, for the rules about keys.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mark {
    /// Characters from the beginning.
    pub(super) index: usize,
    /// The line of the file, from 0.
    pub(super) line: usize,
    /// The column, from 0.
    pub(super) column: i64,
}

/// The text of one document. After its end come only [`END`]s.
#[derive(Debug)]
pub(super) struct Input<'t> {
    rest: &'t str,
    pub(super) mark: Mark,
    /// The text that is not decoded yet.
    undecoded: &'t str,
    /// Characters that are decoded but not consumed, including each [`END`].
    unread: i64,
    /// Bytes decoded so far.
    bytes: usize,
    /// Where the next block ends, in bytes.
    block_end: usize,
    /// Whether the buffer of kubectl's parser begins with a byte order mark.
    buffer_is_marked: bool,
}

/// The end of the text; the text itself cannot have this character.
pub(super) const END: char = '\0';

impl<'t> Input<'t> {
    /// A text that begins on line `first_line` of its file, from 1.
    pub(super) fn new(text: &'t str, first_line: usize) -> Self {
        let stripped = text.strip_prefix(BYTE_ORDER_MARK);
        let rest = stripped.unwrap_or(text);
        Self {
            rest,
            mark: Mark { line: first_line.saturating_sub(1), ..Mark::default() },
            undecoded: rest,
            unread: 0,
            bytes: if stripped.is_some() { BYTE_ORDER_MARK.len_utf8() } else { 0 },
            block_end: BLOCK,
            buffer_is_marked: false,
        }
    }

    /// Decodes until `count` characters are available.
    pub(super) fn need(&mut self, count: i64) -> Result<(), Malformed> {
        if self.unread >= count {
            return Ok(());
        }
        self.buffer_is_marked = self.next() == BYTE_ORDER_MARK;
        while self.unread < count {
            if self.undecoded.is_empty() {
                self.unread += 1;
                return Ok(());
            }
            self.decode_block()?;
        }
        Ok(())
    }

    fn decode_block(&mut self) -> Result<(), Malformed> {
        let mut decoded = 0;
        for next in self.undecoded.chars() {
            let end = self.bytes + next.len_utf8();
            if end > self.block_end {
                break;
            }
            if !is_allowed(next) {
                let passed = self.rest.len() - self.undecoded.len() + decoded;
                let unread = self.rest.get(..passed).unwrap_or_default();
                let line = self.mark.line + 1 + unread.matches('\n').count();
                return Err(Malformed::new(line, format!("not YAML: control character {next:?}")));
            }
            (self.unread, self.bytes) = (self.unread + 1, end);
            decoded += next.len_utf8();
        }
        self.undecoded = self.undecoded.get(decoded..).unwrap_or_default();
        // A character that spans two blocks is read with the second.
        self.block_end = self.bytes + BLOCK;
        Ok(())
    }

    /// The character at a distance.
    pub(super) fn at(&self, distance: usize) -> char {
        self.rest.chars().nth(distance).unwrap_or(END)
    }

    /// The next character.
    pub(super) fn next(&self) -> char {
        // Most text is ASCII, and this runs several times per character.
        match self.rest.as_bytes().first() {
            Some(byte) if byte.is_ascii() => char::from(*byte),
            _ => self.at(0),
        }
    }

    /// Whether the buffer, not the position, begins with a byte order mark: kubectl's parser looks there.
    pub(super) fn buffer_is_marked(&self) -> bool {
        self.buffer_is_marked
    }

    fn pass(&mut self) {
        self.rest = self.rest.get(self.next().len_utf8()..).unwrap_or_default();
        self.unread -= 1;
    }

    /// Skips a character that is not a line break.
    pub(super) fn skip(&mut self) {
        self.pass();
        self.mark.index += 1;
        self.mark.column += 1;
    }

    /// Takes the next character.
    pub(super) fn take(&mut self) -> char {
        let taken = self.next();
        self.skip();
        taken
    }

    /// Takes a line break, if it is next, and returns the character that it stands for.
    pub(super) fn take_break(&mut self) -> Option<char> {
        let found = self.next();
        if !is_break(found) {
            return None;
        }
        let width = if found == '\r' && self.at(1) == '\n' { 2 } else { 1 };
        (0..width).for_each(|_| self.pass());
        self.mark = Mark { index: self.mark.index + width, line: self.mark.line + 1, column: 0 };
        Some(if matches!(found, '\u{2028}' | '\u{2029}') { found } else { '\n' })
    }

    /// Skips a comment, if it is next.
    pub(super) fn skip_comment(&mut self) -> Result<(), Malformed> {
        if self.next() == '#' {
            while !is_break_or_end(self.next()) {
                self.skip();
                self.need(1)?;
            }
        }
        Ok(())
    }

    /// Skips spaces and tabs.
    pub(super) fn skip_blanks(&mut self) -> Result<(), Malformed> {
        self.need(1)?;
        while is_blank(self.next()) {
            self.skip();
            self.need(1)?;
        }
        Ok(())
    }

    /// Whether `---` or `...` is next, at the beginning of a line.
    pub(super) fn is_document_indicator(&self) -> bool {
        let is = |sign| (0..3).all(|distance| self.at(distance) == sign);
        self.mark.column == 0 && (is('-') || is('.')) && is_blank_break_or_end(self.at(3))
    }
}

fn is_allowed(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{fffd}' | '\u{10000}'..)
}

pub(super) fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t')
}

pub(super) fn is_break(character: char) -> bool {
    matches!(character, '\r' | '\n' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

pub(super) fn is_break_or_end(character: char) -> bool {
    is_break(character) || character == END
}

pub(super) fn is_blank_break_or_end(character: char) -> bool {
    is_blank(character) || is_break_or_end(character)
}

/// A letter, digit, `_` or `-`, as in names of anchors.
pub(super) fn is_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '_' | '-')
}

/// Whether text without quotes can begin with these characters.
pub(super) fn begins_plain(next: char, after: char, is_flow: bool) -> bool {
    match next {
        '-' => !is_blank(after),
        '?' | ':' => !is_flow && !is_blank_break_or_end(after),
        ',' | '[' | ']' | '{' | '}' | '#' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@' | '`' => false,
        _ => !is_blank_break_or_end(next),
    }
}
