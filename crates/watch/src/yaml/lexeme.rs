//! Tokens of several characters that are not scalars: anchors, tags and directives.

use super::Malformed;
use super::input::{is_blank, is_blank_break_or_end, is_break_or_end, is_word};
use super::scan::{Kind, Scanner};

impl Scanner<'_> {
    fn word(&mut self) -> Result<String, Malformed> {
        let mut word = String::new();
        self.input.need(1)?;
        while is_word(self.input.next()) {
            word.push(self.input.take());
            self.input.need(1)?;
        }
        Ok(word)
    }

    pub(super) fn anchor(&mut self, is_alias: bool) -> Result<Kind, Malformed> {
        self.input.skip();
        let name = self.word()?;
        let next = self.input.next();
        let may_follow = is_blank_break_or_end(next) || "?:,]}%@`".contains(next);
        if name.is_empty() || !may_follow {
            return Err(self.wrong("the name after & or * must consist of letters, digits, '-' or '_'"));
        }
        Ok(if is_alias { Kind::Alias(name) } else { Kind::Anchor(name) })
    }

    pub(super) fn tag(&mut self) -> Result<Kind, Malformed> {
        self.input.need(2)?;
        let (mut handle, mut suffix);
        if self.input.at(1) == '<' {
            self.input.skip();
            self.input.skip();
            (handle, suffix) = (String::new(), self.tag_uri("")?);
            if self.input.next() != '>' {
                return Err(self.wrong("a tag does not end with '>'"));
            }
            self.input.skip();
        } else {
            handle = self.tag_handle(false)?;
            if handle.len() > 1 && handle.ends_with('!') {
                suffix = self.tag_uri("")?;
            } else {
                suffix = self.tag_uri(&handle)?;
                "!".clone_into(&mut handle);
                if suffix.is_empty() {
                    std::mem::swap(&mut handle, &mut suffix);
                }
            }
        }
        self.input.need(1)?;
        if !is_blank_break_or_end(self.input.next()) {
            return Err(self.wrong("a space must follow a tag"));
        }
        Ok(Kind::Tag { handle, suffix })
    }

    fn tag_handle(&mut self, is_directive: bool) -> Result<String, Malformed> {
        self.input.need(1)?;
        if self.input.next() != '!' {
            return Err(self.wrong("a tag does not begin with '!'"));
        }
        let mut handle = String::from(self.input.take());
        handle.push_str(&self.word()?);
        if self.input.next() == '!' {
            handle.push(self.input.take());
        } else if is_directive && handle != "!" {
            return Err(self.wrong("the handle of a tag does not end with '!'"));
        }
        Ok(handle)
    }

    fn tag_uri(&mut self, head: &str) -> Result<String, Malformed> {
        let mut uri: Vec<u8> = head.bytes().skip(1).collect();
        let mut has_any = !head.is_empty();
        self.input.need(1)?;
        while is_word(self.input.next()) || ";/?:@&=+$,.!~*'()[]%".contains(self.input.next()) {
            if self.input.next() == '%' {
                self.escaped_octets(&mut uri)?;
            } else {
                let mut bytes = [0; 4];
                uri.extend_from_slice(self.input.take().encode_utf8(&mut bytes).as_bytes());
            }
            self.input.need(1)?;
            has_any = true;
        }
        if !has_any {
            return Err(self.wrong("a tag is empty"));
        }
        Ok(String::from_utf8_lossy(&uri).into_owned())
    }

    /// Reads the octets of one character, such as `%C3%A9`.
    fn escaped_octets(&mut self, uri: &mut Vec<u8>) -> Result<(), Malformed> {
        let mut missing = None;
        while missing != Some(0) {
            self.input.need(3)?;
            let digits = [self.input.at(1).to_digit(16), self.input.at(2).to_digit(16)];
            let (true, [Some(high), Some(low)]) = (self.input.next() == '%', digits) else {
                return Err(self.wrong("a tag has an incomplete %-escape"));
            };
            let octet = u8::try_from(high << 4 | low).unwrap_or_default();
            missing = Some(match (missing, octet) {
                (None, 0..=0x7f) => 0,
                (None, 0xc0..=0xdf) => 1,
                (None, 0xe0..=0xef) => 2,
                (None, 0xf0..=0xf7) => 3,
                (Some(left), 0x80..=0xbf) => left - 1,
                _ => return Err(self.wrong("a tag has a %-escape that is not UTF-8")),
            });
            uri.push(octet);
            (0..3).for_each(|_| self.input.skip());
        }
        Ok(())
    }

    /// `%YAML 1.1` or `%TAG ! prefix`. kubectl splits documents first, so none ever follows a directive.
    pub(super) fn directive_line(&mut self) -> Result<Kind, Malformed> {
        self.input.skip();
        let name = self.word()?;
        if !is_blank_break_or_end(self.input.next()) {
            return Err(self.wrong("the name of a directive must consist of letters"));
        }
        match &*name {
            "YAML" => self.version()?,
            "TAG" => self.tag_directive()?,
            _ => return Err(self.wrong("the only directives are %YAML and %TAG")),
        }
        self.input.skip_blanks()?;
        self.input.skip_comment()?;
        if !is_break_or_end(self.input.next()) {
            return Err(self.wrong("a line break must follow a directive"));
        }
        self.input.need(2)?;
        self.input.take_break();
        Ok(Kind::Directive)
    }

    fn version(&mut self) -> Result<(), Malformed> {
        self.input.skip_blanks()?;
        self.version_number()?;
        if self.input.next() != '.' {
            return Err(self.wrong("the version of YAML has no '.'"));
        }
        self.input.skip();
        self.version_number()
    }

    fn version_number(&mut self) -> Result<(), Malformed> {
        self.input.need(1)?;
        let mut digits = 0;
        while self.input.next().is_ascii_digit() {
            digits += 1;
            self.input.skip();
            self.input.need(1)?;
        }
        if (1..=2).contains(&digits) { Ok(()) } else { Err(self.wrong("the version of YAML is not 1.1")) }
    }

    fn tag_directive(&mut self) -> Result<(), Malformed> {
        self.input.skip_blanks()?;
        self.tag_handle(true)?;
        self.input.need(1)?;
        if !is_blank(self.input.next()) {
            return Err(self.wrong("a space must follow the handle of a tag"));
        }
        self.input.skip_blanks()?;
        self.tag_uri("")?;
        self.input.need(1)?;
        if is_blank_break_or_end(self.input.next()) {
            Ok(())
        } else {
            Err(self.wrong("a space must follow the prefix of a tag"))
        }
    }
}
