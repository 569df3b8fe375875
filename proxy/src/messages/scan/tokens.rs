use super::numbers::NumberPart;
use super::strings::{StringDecoder, plain_run};
use crate::messages::Unscanned;

/// Containers inside each other.
pub const MAX_DEPTH: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    Object,
    Array,
}

/// What is read in pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    Key,
    String,
    Number,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Literal {
    True,
    False,
    Null,
}

impl Literal {
    fn text(self) -> &'static [u8] {
        match self {
            Self::True => b"true",
            Self::False => b"false",
            Self::Null => b"null",
        }
    }
}

/// What is told about a document, in its order.
pub trait Handler {
    fn open(&mut self, container: Container);
    fn close(&mut self) -> Result<(), Unscanned>;
    /// Whether the token's content is wanted, by `piece`.
    fn begin(&mut self, token: Token) -> bool;
    fn piece(&mut self, bytes: &[u8]);
    /// Not called for what was not wanted.
    fn end(&mut self, token: Token) -> Result<(), Unscanned>;
    /// In place of the three, for a key that lies here whole.
    fn key(&mut self, bytes: &[u8]);
    fn literal(&mut self, literal: Literal);
}

/// Reads a JSON document in pieces, and accepts what serde_json does: RFC 8259 in valid UTF-8, no
/// byte order mark, no half of a surrogate pair. The range of a number is not looked at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tokenizer {
    state: State,
    depth: usize,
    /// One bit a container, the innermost lowest: whether it is an object.
    objects: u64,
    string: StringDecoder,
    is_wanted: bool,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Value,
    /// Behind `[`: a value or `]`.
    FirstValue,
    /// Behind `{`: a key or `}`.
    FirstKey,
    Key,
    Colon,
    /// Behind a value.
    After,
    InString(Token),
    InNumber(NumberPart),
    /// Number of bytes that came.
    InLiteral(Literal, usize),
}

impl Tokenizer {
    pub fn feed(&mut self, mut bytes: &[u8], handler: &mut impl Handler) -> Result<(), Unscanned> {
        while let [byte, rest @ ..] = bytes {
            bytes = match self.state {
                State::InString(token) => self.string_content(token, bytes, handler)?,
                State::InNumber(part) => self.number_content(part, bytes, handler)?,
                State::InLiteral(literal, at) => {
                    self.literal_content(literal, at, *byte, handler)?;
                    rest
                }
                State::FirstKey | State::Key if *byte == b'"' => self.string(Token::Key, rest, handler)?,
                State::Value | State::FirstValue if *byte == b'"' => {
                    self.string(Token::String, rest, handler)?
                }
                State::Colon if *byte == b':' => {
                    self.state = State::Value;
                    rest
                }
                State::After if *byte == b',' && self.depth > 0 => {
                    self.state = if self.is_in_object() { State::Key } else { State::Value };
                    rest
                }
                _ if b" \n\t\r".contains(byte) => rest,
                State::FirstKey | State::FirstValue | State::After if b"]}".contains(byte) => {
                    self.close(*byte, handler)?;
                    rest
                }
                State::Value | State::FirstValue => {
                    self.begin_value(*byte, handler)?;
                    rest
                }
                State::FirstKey | State::Key | State::Colon | State::After => return Err(Unscanned::NotJson),
            }
        }
        Ok(())
    }

    /// The document has ended.
    pub fn end(&mut self, handler: &mut impl Handler) -> Result<(), Unscanned> {
        match self.state {
            State::After if self.depth == 0 => Ok(()),
            State::InNumber(part) if self.depth == 0 && part.can_end() => self.end_number(handler),
            _ => Err(Unscanned::NotJson),
        }
    }

    fn is_in_object(&self) -> bool {
        self.objects & 1 == 1
    }

    fn begin_value(&mut self, byte: u8, handler: &mut impl Handler) -> Result<(), Unscanned> {
        match byte {
            b'{' => self.open(Container::Object, handler)?,
            b'[' => self.open(Container::Array, handler)?,
            b't' => self.state = State::InLiteral(Literal::True, 1),
            b'f' => self.state = State::InLiteral(Literal::False, 1),
            b'n' => self.state = State::InLiteral(Literal::Null, 1),
            _ => {
                let part = NumberPart::first(byte).ok_or(Unscanned::NotJson)?;
                self.state = State::InNumber(part);
                self.is_wanted = handler.begin(Token::Number);
                if self.is_wanted {
                    handler.piece(&[byte]);
                }
            }
        }
        Ok(())
    }

    fn open(&mut self, container: Container, handler: &mut impl Handler) -> Result<(), Unscanned> {
        if self.depth == MAX_DEPTH {
            return Err(Unscanned::TooDeep);
        }
        let is_object = container == Container::Object;
        self.depth += 1;
        self.objects = self.objects << 1 | u64::from(is_object);
        self.state = if is_object { State::FirstKey } else { State::FirstValue };
        handler.open(container);
        Ok(())
    }

    fn close(&mut self, byte: u8, handler: &mut impl Handler) -> Result<(), Unscanned> {
        let closes = if self.is_in_object() { b'}' } else { b']' };
        if self.depth == 0 || byte != closes {
            return Err(Unscanned::NotJson);
        }
        self.depth -= 1;
        self.objects >>= 1;
        self.state = State::After;
        handler.close()
    }

    /// A string begins, behind its quote. Most lie here whole, with nothing to decode. Returns what
    /// is not read yet.
    #[inline]
    fn string<'b>(
        &mut self,
        token: Token,
        bytes: &'b [u8],
        handler: &mut impl Handler,
    ) -> Result<&'b [u8], Unscanned> {
        let (text, rest) = bytes.split_at(plain_run(bytes));
        if let [b'"', rest @ ..] = rest {
            if token == Token::Key {
                handler.key(text);
            } else if handler.begin(token) {
                if !text.is_empty() {
                    handler.piece(text);
                }
                handler.end(token)?;
            }
            return Ok(self.behind_string(token, rest));
        }
        self.string = StringDecoder::default();
        self.state = State::InString(token);
        self.is_wanted = handler.begin(token);
        Ok(bytes)
    }

    /// Returns what follows the part of the string in `bytes`.
    fn string_content<'b>(
        &mut self,
        token: Token,
        bytes: &'b [u8],
        handler: &mut impl Handler,
    ) -> Result<&'b [u8], Unscanned> {
        let advanced = if self.is_wanted {
            self.string.advance(bytes, |piece| handler.piece(piece))
        } else {
            self.string.advance(bytes, |_| {})
        };
        let (used, is_over) = advanced.map_err(|_| Unscanned::NotJson)?;
        let rest = &bytes[used..];
        if !is_over {
            return Ok(rest);
        }
        if self.is_wanted {
            handler.end(token)?;
        }
        Ok(self.behind_string(token, rest))
    }

    /// Goes on behind a string, and over the sign that follows at once where there is no space.
    #[inline]
    fn behind_string<'b>(&mut self, token: Token, bytes: &'b [u8]) -> &'b [u8] {
        match (token, bytes) {
            (Token::Key, [b':', rest @ ..]) => {
                self.state = State::Value;
                rest
            }
            (Token::Key, _) => {
                self.state = State::Colon;
                bytes
            }
            _ => {
                self.state = State::After;
                bytes
            }
        }
    }

    /// Returns what follows the part of the number in `bytes`.
    fn number_content<'b>(
        &mut self,
        mut part: NumberPart,
        bytes: &'b [u8],
        handler: &mut impl Handler,
    ) -> Result<&'b [u8], Unscanned> {
        let mut length = 0;
        while let Some(next) = bytes.get(length).and_then(|byte| part.next(*byte)) {
            (part, length) = (next, length + 1);
        }
        let (number, rest) = bytes.split_at(length);
        if self.is_wanted && !number.is_empty() {
            handler.piece(number);
        }
        self.state = State::InNumber(part);
        if !rest.is_empty() {
            part.can_end().then_some(()).ok_or(Unscanned::NotJson)?;
            self.end_number(handler)?;
        }
        Ok(rest)
    }

    fn end_number(&mut self, handler: &mut impl Handler) -> Result<(), Unscanned> {
        self.state = State::After;
        if self.is_wanted { handler.end(Token::Number) } else { Ok(()) }
    }

    fn literal_content(
        &mut self,
        literal: Literal,
        at: usize,
        byte: u8,
        handler: &mut impl Handler,
    ) -> Result<(), Unscanned> {
        if literal.text().get(at) != Some(&byte) {
            return Err(Unscanned::NotJson);
        }
        self.state = State::InLiteral(literal, at + 1);
        if at + 1 == literal.text().len() {
            self.state = State::After;
            handler.literal(literal);
        }
        Ok(())
    }
}
