//! Divides a document into tokens.
//!
//! This follows the scanner of go.yaml.in/yaml/v2, which kubectl uses, function by function: the text that it rejects
//! depends on the order in which it looks for keys and indentation. Parsers of YAML 1.2 or of a later libyaml accept
//! other text.

use std::collections::{HashMap, VecDeque};

use super::Malformed;
use super::input::{Input, Mark, begins_plain, is_blank_break_or_end};

/// A token and its line, from 1.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) line: usize,
    pub(super) kind: Kind,
}

/// The kinds of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    StreamStart,
    StreamEnd,
    Directive,
    DocumentStart,
    DocumentEnd,
    BlockSequenceStart,
    BlockMappingStart,
    BlockEnd,
    FlowSequenceStart,
    FlowSequenceEnd,
    FlowMappingStart,
    FlowMappingEnd,
    BlockEntry,
    FlowEntry,
    Key,
    Value,
    Alias(String),
    Anchor(String),
    Tag { handle: String, suffix: String },
    Scalar { text: String, is_plain: bool },
}

/// A place where a key may have begun.
#[derive(Clone, Copy, Debug, Default)]
struct SimpleKey {
    is_possible: bool,
    is_required: bool,
    token: usize,
    mark: Mark,
}

/// A key without `?` must have its colon within this many characters.
const KEY_LENGTH: usize = 1024;

/// The state of the scanner of one document.
#[derive(Debug)]
pub(super) struct Scanner<'t> {
    pub(super) input: Input<'t>,
    has_started: bool,
    pub(super) flow_level: usize,
    tokens: VecDeque<Token>,
    /// How many tokens were taken.
    taken: usize,
    /// The line of the last of them.
    pub(super) taken_line: usize,
    is_next_known: bool,
    pub(super) indent: i64,
    indents: Vec<i64>,
    pub(super) key_allowed: bool,
    keys: Vec<SimpleKey>,
    keys_by_token: HashMap<usize, usize>,
}

type Step = Result<(), Malformed>;

impl<'t> Scanner<'t> {
    /// A scanner of a document that begins on line `first_line` of its file, from 1.
    pub(super) fn new(text: &'t str, first_line: usize) -> Self {
        Self {
            input: Input::new(text, first_line),
            has_started: false,
            flow_level: 0,
            tokens: VecDeque::new(),
            taken: 0,
            taken_line: first_line,
            is_next_known: false,
            indent: -1,
            indents: Vec::new(),
            key_allowed: false,
            keys: Vec::new(),
            keys_by_token: HashMap::new(),
        }
    }

    /// The next token.
    pub(super) fn peek(&mut self) -> Result<&Token, Malformed> {
        if !self.is_next_known {
            self.fetch_more()?;
            self.is_next_known = true;
        }
        let line = self.line();
        self.tokens.front().ok_or_else(|| Malformed::new(line, "not YAML: the document ends too early".to_owned()))
    }

    /// Takes the next token.
    pub(super) fn take(&mut self) -> Option<Token> {
        self.is_next_known = false;
        self.taken += 1;
        let token = self.tokens.pop_front()?;
        self.taken_line = token.line;
        Some(token)
    }

    pub(super) fn wrong(&self, reason: &str) -> Malformed {
        Malformed::new(self.line(), format!("not YAML: {reason}"))
    }

    /// The line of the file, from 1.
    fn line(&self) -> usize {
        self.input.mark.line + 1
    }

    fn fetch_more(&mut self) -> Step {
        loop {
            if !self.tokens.is_empty() {
                let Some(&key) = self.keys_by_token.get(&self.taken) else { return Ok(()) };
                if !self.is_key_valid(key)? {
                    return Ok(());
                }
            }
            self.fetch_next()?;
        }
    }

    fn fetch_next(&mut self) -> Step {
        self.input.need(1)?;
        if !self.has_started {
            self.has_started = true;
            self.keys.push(SimpleKey::default());
            self.key_allowed = true;
            return self.push(Kind::StreamStart);
        }
        self.skip_space()?;
        self.unroll(self.input.mark.column)?;
        self.input.need(4)?;
        let (next, after) = (self.input.next(), self.input.at(1));
        let is_flow = self.flow_level > 0;
        match next {
            super::input::END => self.end(),
            '%' if self.input.mark.column == 0 => self.directive(),
            _ if self.input.is_document_indicator() => self.document_indicator(next),
            '[' => self.flow_start(Kind::FlowSequenceStart),
            '{' => self.flow_start(Kind::FlowMappingStart),
            ']' => self.flow_end(Kind::FlowSequenceEnd),
            '}' => self.flow_end(Kind::FlowMappingEnd),
            ',' => self.flow_entry(),
            '-' if is_blank_break_or_end(after) => self.block_entry(),
            '?' if is_flow || is_blank_break_or_end(after) => self.key(),
            ':' if is_flow || is_blank_break_or_end(after) => self.value(),
            '*' | '&' => self.with_key(|scanner| scanner.anchor(next == '*')),
            '!' => self.with_key(Self::tag),
            '|' | '>' if !is_flow => {
                self.remove_key()?;
                self.key_allowed = true;
                self.lexeme(|scanner| scanner.block_scalar(next == '|'))
            }
            '\'' | '"' => self.with_key(|scanner| scanner.quoted_scalar(next == '\'')),
            _ if begins_plain(next, after, is_flow) => self.with_key(Self::plain_scalar),
            '\t' => Err(self.tab("a tab cannot begin a token")),
            _ => Err(self.wrong(&format!("{next:?} cannot begin a token"))),
        }
    }

    fn skip_space(&mut self) -> Step {
        loop {
            self.input.need(1)?;
            if self.input.mark.column == 0 && self.input.buffer_is_marked() {
                self.input.skip();
            }
            self.input.need(1)?;
            while self.input.next() == ' ' || (self.input.next() == '\t' && (self.flow_level > 0 || !self.key_allowed))
            {
                self.input.skip();
                self.input.need(1)?;
            }
            self.input.skip_comment()?;
            if !super::input::is_break(self.input.next()) {
                return Ok(());
            }
            self.input.need(2)?;
            self.input.take_break();
            if self.flow_level == 0 {
                self.key_allowed = true;
            }
        }
    }

    /// Whether the possible key at `index` can still be one.
    fn is_key_valid(&mut self, index: usize) -> Result<bool, Malformed> {
        let here = self.input.mark;
        let Some(key) = self.keys.get_mut(index).filter(|key| key.is_possible) else { return Ok(false) };
        if key.mark.line < here.line || key.mark.index + KEY_LENGTH < here.index {
            if key.is_required {
                return Err(missing_colon(key.mark));
            }
            key.is_possible = false;
            return Ok(false);
        }
        Ok(true)
    }

    fn save_key(&mut self) -> Step {
        let is_required = self.flow_level == 0 && self.indent == self.input.mark.column;
        if self.key_allowed {
            let token = self.taken + self.tokens.len();
            self.remove_key()?;
            let last = self.keys.len().saturating_sub(1);
            if let Some(key) = self.keys.last_mut() {
                *key = SimpleKey { is_possible: true, is_required, token, mark: self.input.mark };
            }
            self.keys_by_token.insert(token, last);
        }
        Ok(())
    }

    fn remove_key(&mut self) -> Step {
        if let Some(key) = self.keys.last_mut().filter(|key| key.is_possible) {
            if key.is_required {
                return Err(missing_colon(key.mark));
            }
            key.is_possible = false;
            self.keys_by_token.remove(&key.token);
        }
        Ok(())
    }

    fn push(&mut self, kind: Kind) -> Step {
        self.insert(None, Token { line: self.line(), kind })
    }

    /// Adds a token, at the end or before another one.
    fn insert(&mut self, before: Option<usize>, token: Token) -> Step {
        match before.and_then(|number| number.checked_sub(self.taken)) {
            // That token is already taken: kubectl's parser adds this one at the end.
            None => self.tokens.push_back(token),
            Some(index) if index <= self.tokens.len() => self.tokens.insert(index, token),
            Some(_) => return Err(self.wrong("a key is out of place")),
        }
        Ok(())
    }

    fn roll(&mut self, column: i64, before: Option<usize>, kind: Kind, line: usize) -> Step {
        if self.flow_level == 0 && self.indent < column {
            self.indents.push(self.indent);
            self.indent = column;
            self.insert(before, Token { line, kind })?;
        }
        Ok(())
    }

    fn unroll(&mut self, column: i64) -> Step {
        while self.flow_level == 0 && self.indent > column {
            self.push(Kind::BlockEnd)?;
            self.indent = self.indents.pop().unwrap_or(-1);
        }
        Ok(())
    }

    fn end(&mut self) -> Step {
        if self.input.mark.column != 0 {
            self.input.mark.column = 0;
            self.input.mark.line += 1;
        }
        self.leave_block()?;
        self.push(Kind::StreamEnd)
    }

    /// Closes all block collections.
    fn leave_block(&mut self) -> Step {
        self.unroll(-1)?;
        self.remove_key()?;
        self.key_allowed = false;
        Ok(())
    }

    fn directive(&mut self) -> Step {
        self.leave_block()?;
        self.lexeme(Self::directive_line)
    }

    fn document_indicator(&mut self, sign: char) -> Step {
        self.leave_block()?;
        self.push(if sign == '-' { Kind::DocumentStart } else { Kind::DocumentEnd })?;
        (0..3).for_each(|_| self.input.skip());
        Ok(())
    }

    fn flow_start(&mut self, kind: Kind) -> Step {
        self.save_key()?;
        let token = self.taken + self.tokens.len();
        self.keys.push(SimpleKey { token, mark: self.input.mark, ..SimpleKey::default() });
        self.flow_level += 1;
        self.key_allowed = true;
        self.sign(kind)
    }

    fn flow_end(&mut self, kind: Kind) -> Step {
        self.remove_key()?;
        if self.flow_level > 0 {
            self.flow_level -= 1;
            if let Some(key) = self.keys.pop() {
                self.keys_by_token.remove(&key.token);
            }
        }
        self.key_allowed = false;
        self.sign(kind)
    }

    /// A token of one character.
    fn sign(&mut self, kind: Kind) -> Step {
        self.push(kind)?;
        self.input.skip();
        Ok(())
    }

    fn flow_entry(&mut self) -> Step {
        self.remove_key()?;
        self.key_allowed = true;
        self.sign(Kind::FlowEntry)
    }

    fn block_entry(&mut self) -> Step {
        if self.flow_level == 0 {
            self.may_begin_block("a list cannot begin here")?;
            self.roll(self.input.mark.column, None, Kind::BlockSequenceStart, self.line())?;
        }
        self.remove_key()?;
        self.key_allowed = true;
        self.sign(Kind::BlockEntry)
    }

    fn may_begin_block(&self, otherwise: &str) -> Step {
        if self.key_allowed { Ok(()) } else { Err(self.wrong(otherwise)) }
    }

    fn key(&mut self) -> Step {
        if self.flow_level == 0 {
            self.may_begin_block("a key cannot begin here")?;
            self.roll(self.input.mark.column, None, Kind::BlockMappingStart, self.line())?;
        }
        self.remove_key()?;
        self.key_allowed = self.flow_level == 0;
        self.sign(Kind::Key)
    }

    fn value(&mut self) -> Step {
        let last = self.keys.len().saturating_sub(1);
        if self.is_key_valid(last)? {
            let key = self.keys.get(last).copied().unwrap_or_default();
            let line = key.mark.line + 1;
            self.insert(Some(key.token), Token { line, kind: Kind::Key })?;
            self.roll(key.mark.column, Some(key.token), Kind::BlockMappingStart, line)?;
            if let Some(key) = self.keys.get_mut(last) {
                key.is_possible = false;
            }
            self.keys_by_token.remove(&key.token);
            self.key_allowed = false;
        } else {
            if self.flow_level == 0 {
                self.may_begin_block("a second `: ` on a line needs quotes around the text")?;
                self.roll(self.input.mark.column, None, Kind::BlockMappingStart, self.line())?;
            }
            self.key_allowed = self.flow_level == 0;
        }
        self.sign(Kind::Value)
    }

    /// Scans a lexeme that may begin a key.
    fn with_key(&mut self, scan: impl FnOnce(&mut Self) -> Result<Kind, Malformed>) -> Step {
        self.save_key()?;
        self.key_allowed = false;
        self.lexeme(scan)
    }

    fn lexeme(&mut self, scan: impl FnOnce(&mut Self) -> Result<Kind, Malformed>) -> Step {
        let line = self.line();
        let kind = scan(self)?;
        self.insert(None, Token { line, kind })
    }
}

fn missing_colon(key: Mark) -> Malformed {
    Malformed::new(key.line + 1, "not YAML: a `:` is missing after the key".to_owned())
}
