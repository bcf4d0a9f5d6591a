//! Scalars: block, quoted and plain text.

use super::Malformed;
use super::input::{END, is_blank, is_blank_break_or_end, is_break, is_break_or_end};
use super::scan::{Kind, Scanner};

/// White space that may still become part of a scalar.
#[derive(Default)]
struct Space {
    blanks: String,
    first_break: String,
    more_breaks: String,
    /// A line has ended.
    is_broken: bool,
}

impl Space {
    /// Adds it to the text, folded: a single line break becomes a space; of several, the first is dropped.
    fn fold_into(&mut self, text: &mut String) {
        if self.is_broken {
            if self.first_break.starts_with('\n') {
                text.push_str(if self.more_breaks.is_empty() { " " } else { &self.more_breaks });
            } else {
                text.push_str(&self.first_break);
                text.push_str(&self.more_breaks);
            }
            self.first_break.clear();
            self.more_breaks.clear();
            self.is_broken = false;
        } else {
            text.push_str(&self.blanks);
            self.blanks.clear();
        }
    }
}

/// What to do with the line breaks at the end of a block scalar.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Chomping {
    Strip,
    Clip,
    Keep,
}

impl Scanner<'_> {
    pub(super) fn block_scalar(&mut self, is_literal: bool) -> Result<Kind, Malformed> {
        self.input.skip();
        let (chomping, increment) = self.block_header()?;
        let mut indent = match increment {
            0 => 0,
            increment => self.indent.max(0) + increment,
        };
        let mut text = String::new();
        let mut breaks = String::new();
        let mut line_break = String::new();
        self.block_breaks(&mut indent, &mut breaks)?;
        self.input.need(1)?;
        let mut was_blank = false;
        while self.input.mark.column == indent && self.input.next() != END {
            let is_blank_line = is_blank(self.input.next());
            if !is_literal && !was_blank && !is_blank_line && line_break.starts_with('\n') {
                if breaks.is_empty() {
                    text.push(' ');
                }
            } else {
                text.push_str(&line_break);
            }
            line_break.clear();
            text.push_str(&breaks);
            breaks.clear();
            was_blank = is_blank_line;
            while !is_break_or_end(self.input.next()) {
                text.push(self.input.take());
                self.input.need(1)?;
            }
            self.input.need(2)?;
            line_break.extend(self.input.take_break());
            self.block_breaks(&mut indent, &mut breaks)?;
        }
        if chomping != Chomping::Strip {
            text.push_str(&line_break);
        }
        if chomping == Chomping::Keep {
            text.push_str(&breaks);
        }
        Ok(Kind::Scalar { text, is_plain: false })
    }

    /// The indicators after `|` or `>`, in either order, and the end of their line.
    fn block_header(&mut self) -> Result<(Chomping, i64), Malformed> {
        self.input.need(1)?;
        let mut chomping = self.chomping();
        self.input.need(1)?;
        let mut increment = 0;
        if let Some(digit) = self.input.next().to_digit(10) {
            if digit == 0 {
                return Err(self.wrong("the indentation of a block scalar cannot be 0"));
            }
            increment = i64::from(digit);
            self.input.skip();
            self.input.need(1)?;
            if chomping.is_none() {
                chomping = self.chomping();
            }
        }
        self.input.skip_blanks()?;
        self.input.skip_comment()?;
        if !is_break_or_end(self.input.next()) {
            return Err(self.wrong("text must begin on the line after | or >"));
        }
        self.input.need(2)?;
        self.input.take_break();
        Ok((chomping.unwrap_or(Chomping::Clip), increment))
    }

    fn chomping(&mut self) -> Option<Chomping> {
        let found = match self.input.next() {
            '+' => Chomping::Keep,
            '-' => Chomping::Strip,
            _ => return None,
        };
        self.input.skip();
        Some(found)
    }

    /// Skips the indentation and empty lines of a block scalar; detects the indentation if `indent` is 0.
    fn block_breaks(&mut self, indent: &mut i64, breaks: &mut String) -> Result<(), Malformed> {
        let mut widest = 0;
        loop {
            self.input.need(1)?;
            while (*indent == 0 || self.input.mark.column < *indent) && self.input.next() == ' ' {
                self.input.skip();
                self.input.need(1)?;
            }
            widest = widest.max(self.input.mark.column);
            if (*indent == 0 || self.input.mark.column < *indent) && self.input.next() == '\t' {
                return Err(self.tab("a tab in the indentation of a block scalar"));
            }
            if !is_break(self.input.next()) {
                break;
            }
            self.input.need(2)?;
            breaks.extend(self.input.take_break());
        }
        if *indent == 0 {
            *indent = widest.max(self.indent + 1).max(1);
        }
        Ok(())
    }

    /// A tab where only spaces are allowed.
    pub(super) fn tab(&self, reason: &str) -> Malformed {
        let mut wrong = self.wrong(reason);
        wrong.hint = Some("indent with spaces; YAML does not allow tabs".to_owned());
        wrong
    }

    pub(super) fn quoted_scalar(&mut self, is_single: bool) -> Result<Kind, Malformed> {
        let first_line = self.input.mark.line;
        let unclosed = |reason: &str| {
            let reason = format!("not YAML: the quotes that begin here are not closed before {reason}");
            Err(Malformed::new(first_line + 1, reason))
        };
        self.input.skip();
        let quote = if is_single { '\'' } else { '"' };
        let mut text = String::new();
        let mut space = Space::default();
        loop {
            self.input.need(4)?;
            if self.input.is_document_indicator() {
                return unclosed("the end of the document");
            }
            if self.input.next() == END {
                return unclosed("the end of the text");
            }
            while !is_blank_break_or_end(self.input.next()) {
                if is_single && self.input.next() == quote && self.input.at(1) == quote {
                    text.push(quote);
                    self.input.skip();
                    self.input.skip();
                } else if self.input.next() == quote {
                    break;
                } else if !is_single && self.input.next() == '\\' {
                    if is_break(self.input.at(1)) {
                        self.input.need(3)?;
                        self.input.skip();
                        self.input.take_break();
                        space.is_broken = true;
                        break;
                    }
                    self.escape(&mut text)?;
                } else {
                    text.push(self.input.take());
                }
                self.input.need(2)?;
            }
            self.input.need(1)?;
            if self.input.next() == quote {
                break;
            }
            self.space(&mut space, None)?;
            space.fold_quoted(&mut text);
        }
        self.input.skip();
        Ok(Kind::Scalar { text, is_plain: false })
    }

    /// Reads blanks and line breaks. Refuses a tab before column `indent` of a further line.
    fn space(&mut self, space: &mut Space, indent: Option<i64>) -> Result<(), Malformed> {
        self.input.need(1)?;
        loop {
            let next = self.input.next();
            if is_blank(next) {
                let is_early = indent.is_some_and(|indent| self.input.mark.column < indent);
                if space.is_broken && is_early && next == '\t' {
                    return Err(self.tab("a tab in the indentation of text"));
                }
                let taken = self.input.take();
                if !space.is_broken {
                    space.blanks.push(taken);
                }
            } else if is_break(next) {
                self.input.need(2)?;
                let taken = self.input.take_break();
                if space.is_broken {
                    space.more_breaks.extend(taken);
                } else {
                    space.blanks.clear();
                    space.first_break.extend(taken);
                    space.is_broken = true;
                }
            } else {
                return Ok(());
            }
            self.input.need(1)?;
        }
    }

    fn escape(&mut self, text: &mut String) -> Result<(), Malformed> {
        let digits = match self.input.at(1) {
            '0' => Err('\0'),
            'a' => Err('\u{7}'),
            'b' => Err('\u{8}'),
            't' | '\t' => Err('\t'),
            'n' => Err('\n'),
            'v' => Err('\u{b}'),
            'f' => Err('\u{c}'),
            'r' => Err('\r'),
            'e' => Err('\u{1b}'),
            same @ (' ' | '"' | '\'' | '\\') => Err(same),
            'N' => Err('\u{85}'),
            '_' => Err('\u{a0}'),
            'L' => Err('\u{2028}'),
            'P' => Err('\u{2029}'),
            'x' => Ok(2),
            'u' => Ok(4),
            'U' => Ok(8),
            other => return Err(self.wrong(&format!("unknown escape \\{other}"))),
        };
        self.input.skip();
        self.input.skip();
        let character = match digits {
            Err(character) => character,
            Ok(digits) => self.code_point(digits)?,
        };
        text.push(character);
        Ok(())
    }

    fn code_point(&mut self, digits: u8) -> Result<char, Malformed> {
        self.input.need(i64::from(digits))?;
        let mut value: u32 = 0;
        for distance in 0..usize::from(digits) {
            let Some(digit) = self.input.at(distance).to_digit(16) else {
                return Err(self.wrong("an escape needs more hexadecimal digits"));
            };
            value = value.checked_mul(16).map_or(u32::MAX, |value| value + digit);
        }
        let Some(character) = char::from_u32(value) else {
            return Err(self.wrong("an escape is not a character"));
        };
        (0..digits).for_each(|_| self.input.skip());
        Ok(character)
    }

    pub(super) fn plain_scalar(&mut self) -> Result<Kind, Malformed> {
        let indent = self.indent + 1;
        let mut text = String::new();
        let mut space = Space::default();
        loop {
            self.input.need(4)?;
            if self.input.is_document_indicator() || self.input.next() == '#' {
                break;
            }
            while !is_blank_break_or_end(self.input.next()) {
                let next = self.input.next();
                let ends_key = next == ':' && is_blank_break_or_end(self.input.at(1));
                if ends_key || (self.flow_level > 0 && ",?[]{}".contains(next)) {
                    break;
                }
                space.fold_into(&mut text);
                text.push(self.input.take());
                self.input.need(2)?;
            }
            if !(is_blank(self.input.next()) || is_break(self.input.next())) {
                break;
            }
            self.space(&mut space, Some(indent))?;
            if self.flow_level == 0 && self.input.mark.column < indent {
                break;
            }
        }
        if space.is_broken {
            self.key_allowed = true;
        }
        Ok(Kind::Scalar { text, is_plain: true })
    }
}

impl Space {
    /// Like [`Self::fold_into`], for quoted text, in which an escaped line break adds nothing.
    fn fold_quoted(&mut self, text: &mut String) {
        if self.is_broken && self.first_break.is_empty() {
            text.push_str(&self.more_breaks);
            self.more_breaks.clear();
            self.is_broken = false;
        } else {
            self.fold_into(text);
        }
    }
}
