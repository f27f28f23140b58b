//! Structured field values (RFC 8941): items, lists and dictionaries, read strictly and written in their one canonical form.
//!
//! Written here because nothing may be looser than the text that is signed: binary values are canonical base64, decimals
//! are thousandths in an integer, every container is bounded. Dates and display strings (RFC 9651) stand in no field that
//! we read, and are refused.
//!
//! ```
//! use wire::structured_field::{Dictionary, Member};
//!
//! let fields = Dictionary::parse("a=1, b;x=\"y\" , c=(\"p\"  tok)", 8).unwrap();
//! assert_eq!(fields.to_text(), "a=1, b;x=\"y\", c=(\"p\" tok)");
//! assert!(matches!(fields.get("c"), Some(Member::InnerList(_))));
//! assert!(Dictionary::parse("a=1,", 8).is_err());
//! ```

use std::fmt::{self, Write as _};

use crate::base64;

/// Items of an inner list, and parameters of one item, at most: what RFC 8941 demands of a parser.
pub const INNER_MAX: usize = 256;

/// A value without parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BareItem {
    /// At most 15 digits.
    Integer(i64),
    /// In thousandths: at most 12 digits before the point and 3 behind it.
    Decimal(i64),
    /// Printable ASCII, unquoted.
    String(String),
    /// A word.
    Token(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// `?1` or `?0`.
    Boolean(bool),
}

/// `;name=value`, in order; of a name that is repeated the last value stands, at the place of the first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters(pub Vec<(String, BareItem)>);

/// A value with its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The value.
    pub bare: BareItem,
    /// What is said of it.
    pub parameters: Parameters,
}

/// `(a b)` with parameters of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InnerList {
    /// In order.
    pub items: Vec<Item>,
    /// What is said of all of it.
    pub parameters: Parameters,
}

/// What stands in a list or a dictionary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Member {
    /// One value.
    Item(Item),
    /// Several.
    InnerList(InnerList),
}

/// `a, b`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List(pub Vec<Member>);

/// `a=1, b=2`, in order; repeated names as in [`Parameters`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dictionary(pub Vec<(String, Member)>);

/// Why text is no value of that kind. Holds a place, never the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StructuredFieldError {
    /// Something else was expected at this byte.
    #[error("malformed at byte {0}")]
    Malformed(usize),
    /// More members than the caller takes, or than [`INNER_MAX`].
    #[error("too many members")]
    TooMany,
}

type Result<T> = std::result::Result<T, StructuredFieldError>;

impl Item {
    /// Reads a field that is one item.
    ///
    /// # Errors
    /// [`StructuredFieldError`]
    pub fn parse(text: &str) -> Result<Self> {
        let mut parser = Parser::new(text);
        parser.skip_spaces();
        let item = parser.item()?;
        parser.end()?;
        Ok(item)
    }

    /// The string, if it is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        self.bare.as_str()
    }

    /// As it stands in a field.
    #[must_use]
    pub fn to_text(&self) -> String {
        self.to_string()
    }
}

impl BareItem {
    /// The string, if it is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            Self::Integer(_) | Self::Decimal(_) | Self::Token(_) | Self::Bytes(_) | Self::Boolean(_) => None,
        }
    }

    /// The integer, if it is one.
    #[must_use]
    pub const fn as_integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            Self::Decimal(_) | Self::String(_) | Self::Token(_) | Self::Bytes(_) | Self::Boolean(_) => None,
        }
    }
}

impl Parameters {
    /// The value of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&BareItem> {
        find(&self.0, name)
    }
}

impl InnerList {
    /// As it stands in a field.
    #[must_use]
    pub fn to_text(&self) -> String {
        self.to_string()
    }
}

impl List {
    /// Reads a field that is a list of at most `members_max`. An empty text is an empty list.
    ///
    /// # Errors
    /// [`StructuredFieldError`]
    pub fn parse(text: &str, members_max: usize) -> Result<Self> {
        let mut members = Vec::new();
        Parser::new(text).members(members_max, |parser| {
            let member = parser.member()?;
            members.push(member);
            Ok(members.len())
        })?;
        Ok(Self(members))
    }

    /// As it stands in a field; empty for an empty list, which is a field that is absent.
    #[must_use]
    pub fn to_text(&self) -> String {
        let members: Vec<String> = self.0.iter().map(Member::to_string).collect();
        members.join(", ")
    }
}

impl Dictionary {
    /// Reads a field that is a dictionary of at most `members_max`. An empty text is an empty dictionary.
    ///
    /// # Errors
    /// [`StructuredFieldError`]
    pub fn parse(text: &str, members_max: usize) -> Result<Self> {
        let mut members = Vec::new();
        Parser::new(text).members(members_max, |parser| {
            let name = parser.key()?;
            let member = match parser.eat(b'=') {
                true => parser.member()?,
                false => {
                    Member::Item(Item { bare: BareItem::Boolean(true), parameters: parser.parameters()? })
                }
            };
            put(&mut members, name, member);
            Ok(members.len())
        })?;
        Ok(Self(members))
    }

    /// The member of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Member> {
        find(&self.0, name)
    }

    /// As it stands in a field; empty for an empty dictionary, which is a field that is absent.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for (at, (name, member)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            // Writing into a `String` cannot fail.
            let _ = match member {
                Member::Item(Item { bare: BareItem::Boolean(true), parameters }) => {
                    write!(text, "{comma}{name}{parameters}")
                }
                Member::Item(_) | Member::InnerList(_) => write!(text, "{comma}{name}={member}"),
            };
        }
        text
    }
}

fn find<'v, T>(entries: &'v [(String, T)], name: &str) -> Option<&'v T> {
    entries.iter().find(|(known, _)| known == name).map(|(_, value)| value)
}

fn put<T>(entries: &mut Vec<(String, T)>, name: String, value: T) {
    match entries.iter_mut().find(|(known, _)| *known == name) {
        Some((_, known)) => *known = value,
        None => entries.push((name, value)),
    }
}

impl fmt::Display for BareItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(number) => write!(f, "{number}"),
            Self::Decimal(thousandths) => {
                let sign = if *thousandths < 0 { "-" } else { "" };
                let (whole, rest) = (thousandths.unsigned_abs() / 1000, thousandths.unsigned_abs() % 1000);
                let fraction = format!("{rest:03}");
                let shown = fraction.trim_end_matches('0');
                write!(f, "{sign}{whole}.{}", if shown.is_empty() { "0" } else { shown })
            }
            Self::String(text) => {
                f.write_char('"')?;
                for c in text.chars() {
                    if matches!(c, '"' | '\\') {
                        f.write_char('\\')?;
                    }
                    f.write_char(c)?;
                }
                f.write_char('"')
            }
            Self::Token(word) => f.write_str(word),
            Self::Bytes(bytes) => write!(f, ":{}:", base64::encode_std(bytes)),
            Self::Boolean(truth) => f.write_str(if *truth { "?1" } else { "?0" }),
        }
    }
}

impl fmt::Display for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(name, value)| match value {
            BareItem::Boolean(true) => write!(f, ";{name}"),
            BareItem::Boolean(false)
            | BareItem::Integer(_)
            | BareItem::Decimal(_)
            | BareItem::String(_)
            | BareItem::Token(_)
            | BareItem::Bytes(_) => write!(f, ";{name}={value}"),
        })
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.bare, self.parameters)
    }
}

impl fmt::Display for InnerList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('(')?;
        for (at, item) in self.items.iter().enumerate() {
            write!(f, "{}{item}", if at == 0 { "" } else { " " })?;
        }
        write!(f, "){}", self.parameters)
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Item(item) => item.fmt(f),
            Self::InnerList(list) => list.fmt(f),
        }
    }
}

/// Reads from the left; `at` is what is read already.
struct Parser<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Parser<'t> {
    const fn new(text: &'t str) -> Self {
        Self { text, at: 0 }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn malformed<T>(&self) -> Result<T> {
        Err(StructuredFieldError::Malformed(self.at))
    }

    fn eat(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn skip_while(&mut self, belongs: impl Fn(u8) -> bool) {
        while self.peek().is_some_and(&belongs) {
            self.at += 1;
        }
    }

    fn skip_spaces(&mut self) {
        self.skip_while(|byte| byte == b' ');
    }

    /// What is read of bytes that belong, which are ASCII.
    fn take_while(&mut self, belongs: impl Fn(u8) -> bool) -> &'t str {
        let from = self.at;
        self.skip_while(belongs);
        self.text.get(from..self.at).unwrap_or_default()
    }

    fn end(&mut self) -> Result<()> {
        self.skip_spaces();
        if self.at == self.text.len() { Ok(()) } else { self.malformed() }
    }

    /// Members between commas; `read` returns how many there are.
    fn members(mut self, max: usize, mut read: impl FnMut(&mut Self) -> Result<usize>) -> Result<()> {
        self.skip_spaces();
        if self.peek().is_none() {
            return Ok(());
        }
        loop {
            if read(&mut self)? > max {
                return Err(StructuredFieldError::TooMany);
            }
            self.skip_while(|byte| matches!(byte, b' ' | b'\t'));
            if self.peek().is_none() {
                return Ok(());
            }
            if !self.eat(b',') {
                return self.malformed();
            }
            self.skip_while(|byte| matches!(byte, b' ' | b'\t'));
        }
    }

    fn member(&mut self) -> Result<Member> {
        if self.peek() == Some(b'(') {
            return self.inner_list().map(Member::InnerList);
        }
        self.item().map(Member::Item)
    }

    fn inner_list(&mut self) -> Result<InnerList> {
        self.at += 1;
        let mut items = Vec::new();
        loop {
            self.skip_spaces();
            if self.eat(b')') {
                return Ok(InnerList { items, parameters: self.parameters()? });
            }
            if items.len() == INNER_MAX {
                return Err(StructuredFieldError::TooMany);
            }
            items.push(self.item()?);
            if !matches!(self.peek(), Some(b' ' | b')')) {
                return self.malformed();
            }
        }
    }

    fn item(&mut self) -> Result<Item> {
        Ok(Item { bare: self.bare_item()?, parameters: self.parameters()? })
    }

    fn parameters(&mut self) -> Result<Parameters> {
        let mut parameters = Vec::new();
        while self.eat(b';') {
            self.skip_spaces();
            let name = self.key()?;
            let value = if self.eat(b'=') { self.bare_item()? } else { BareItem::Boolean(true) };
            put(&mut parameters, name, value);
            if parameters.len() > INNER_MAX {
                return Err(StructuredFieldError::TooMany);
            }
        }
        Ok(Parameters(parameters))
    }

    fn key(&mut self) -> Result<String> {
        if !self.peek().is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'*') {
            return self.malformed();
        }
        let belongs = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-' | b'.' | b'*')
        };
        Ok(self.take_while(belongs).to_owned())
    }

    fn bare_item(&mut self) -> Result<BareItem> {
        match self.peek() {
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b'"') => self.string(),
            Some(b'*' | b'a'..=b'z' | b'A'..=b'Z') => Ok(BareItem::Token(self.token())),
            Some(b':') => self.bytes(),
            Some(b'?') => self.boolean(),
            Some(_) | None => self.malformed(),
        }
    }

    fn number(&mut self) -> Result<BareItem> {
        let sign = if self.eat(b'-') { -1 } else { 1 };
        let whole = self.take_while(|byte| byte.is_ascii_digit());
        if !self.eat(b'.') {
            return match whole.parse::<i64>() {
                Ok(number) if whole.len() <= 15 => Ok(BareItem::Integer(sign * number)),
                Ok(_) | Err(_) => self.malformed(),
            };
        }
        let fraction = self.take_while(|byte| byte.is_ascii_digit());
        let fits = (1..=12).contains(&whole.len()) && (1..=3).contains(&fraction.len());
        match (whole.parse::<i64>(), format!("{fraction:0<3}").parse::<i64>()) {
            (Ok(whole), Ok(thousandths)) if fits => {
                Ok(BareItem::Decimal(sign * (whole * 1000 + thousandths)))
            }
            _ => self.malformed(),
        }
    }

    fn string(&mut self) -> Result<BareItem> {
        self.at += 1;
        let mut text = String::new();
        loop {
            let plain = |byte: u8| matches!(byte, 0x20..=0x7e) && !matches!(byte, b'"' | b'\\');
            text.push_str(self.take_while(plain));
            if self.eat(b'"') {
                return Ok(BareItem::String(text));
            }
            if !self.eat(b'\\') {
                return self.malformed();
            }
            match self.peek() {
                Some(escaped @ (b'"' | b'\\')) => text.push(char::from(escaped)),
                Some(_) | None => return self.malformed(),
            }
            self.at += 1;
        }
    }

    fn token(&mut self) -> String {
        let belongs = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte);
        self.take_while(belongs).to_owned()
    }

    fn bytes(&mut self) -> Result<BareItem> {
        self.at += 1;
        let text = self.take_while(|byte| byte != b':' && byte.is_ascii());
        if !self.eat(b':') {
            return self.malformed();
        }
        base64::decode_std(text).map_or_else(|_| self.malformed(), |bytes| Ok(BareItem::Bytes(bytes)))
    }

    fn boolean(&mut self) -> Result<BareItem> {
        self.at += 1;
        match (self.eat(b'1'), self.peek()) {
            (true, _) => Ok(BareItem::Boolean(true)),
            (false, Some(b'0')) => {
                self.at += 1;
                Ok(BareItem::Boolean(false))
            }
            (false, _) => self.malformed(),
        }
    }
}

#[cfg(test)]
mod tests;
