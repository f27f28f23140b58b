//! Challenges of other sellers, as a payer reads them out of `WWW-Authenticate` (L402-90, L402-91).
//!
//! ```text
//! WWW-Authenticate: 1#( scheme [ 1*SP 1#( name "=" ( word / quoted-string ) ) ] )      RFC 9110 section 11
//! scheme            L402, or LSAT, its old name
//! parameters        macaroon or token, and invoice, in any order; others are ignored
//! ```
//! A token is opaque: some sellers have other things than macaroons there. All of it is a stranger's claim; whether
//! the invoice is one, and what it asks for, is decided where it is paid.

use std::fmt;

use super::preimage::Preimage;
use crate::hex;

/// Longest token that is taken, in bytes.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// Longest invoice that is taken: one with private routes can be longer than those that we ask for.
pub const INVOICE_BYTES_MAX: usize = 4 * 1024;
/// Longest line that is looked into.
pub const LINE_BYTES_MAX: usize = 32 * 1024;
/// Most lines that are looked into.
pub const LINES_MAX: usize = 32;
/// Most challenges of this protocol that are taken from one answer.
pub const OFFERS_MAX: usize = 8;

/// A token and the invoice whose payment opens it. `Debug` hides the token: with the preimage it is the money.
#[derive(Clone, PartialEq, Eq)]
pub struct Offered {
    scheme: Scheme,
    token: String,
    invoice: String,
}

/// The name under which a challenge came, and under which its credential goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Today's name.
    L402,
    /// The old one.
    Lsat,
}

/// A challenge of this protocol that cannot be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OfferedError {
    /// A quoted value without an end, or a line above [`LINE_BYTES_MAX`].
    #[error("the challenge is cut off or too long")]
    Syntax,
    /// Twice the same parameter, or `macaroon` and `token` that differ: two readers would see two challenges.
    #[error("the challenge contradicts itself")]
    Contradiction,
    /// Absent, too long, or with bytes that no credential can carry.
    #[error("the challenge has no token that can be sent back")]
    Token,
    /// Absent, too long, or with other bytes than letters and digits.
    #[error("the challenge has no invoice")]
    Invoice,
}

impl Scheme {
    /// Upper case, because deployed servers compare it so.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::L402 => "L402",
            Self::Lsat => "LSAT",
        }
    }

    /// Whether a name is one of them, in any case.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::L402, Self::Lsat].into_iter().find(|scheme| name.eq_ignore_ascii_case(scheme.name()))
    }
}

impl Offered {
    /// Reads the challenges of all lines, in their order. Other schemes are passed over wherever they stand. Of two
    /// that differ in the name of the scheme only, as Aperture sends them, the one of today is left.
    #[must_use]
    pub fn read<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Vec<Result<Self, OfferedError>> {
        let mut offers: Vec<Result<Self, OfferedError>> = Vec::new();
        for line in lines.into_iter().take(LINES_MAX) {
            for offered in challenges(line) {
                let known = offers.iter_mut().flatten().find(|known| match &offered {
                    Ok(offered) => (&known.token, &known.invoice) == (&offered.token, &offered.invoice),
                    Err(_) => false,
                });
                match (known, offered) {
                    (Some(known), Ok(offered)) if offered.scheme == Scheme::L402 => *known = offered,
                    (Some(_), _) => {}
                    (None, offered) => offers.push(offered),
                }
                if offers.len() == OFFERS_MAX {
                    return offers;
                }
            }
        }
        offers
    }

    /// A challenge that is known already, for whoever kept it.
    ///
    /// # Errors
    /// [`OfferedError::Token`] or [`OfferedError::Invoice`].
    pub fn new(scheme: Scheme, token: &str, invoice: &str) -> Result<Self, OfferedError> {
        if !(1..=TOKEN_BYTES_MAX).contains(&token.len()) || !token.bytes().all(is_sendable) {
            return Err(OfferedError::Token);
        }
        let fits = (1..=INVOICE_BYTES_MAX).contains(&invoice.len());
        if !fits || !invoice.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(OfferedError::Invoice);
        }
        Ok(Self { scheme, token: token.to_owned(), invoice: invoice.to_owned() })
    }

    /// The name it came under.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The token as it came, a secret once its invoice is paid.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The invoice as it came.
    #[must_use]
    pub fn invoice(&self) -> &str {
        &self.invoice
    }

    /// The value of `Authorization` that shows the payment: the token byte for byte.
    #[must_use]
    pub fn credential(&self, preimage: &Preimage) -> String {
        format!("{} {}:{}", self.scheme.name(), self.token, hex::encode(preimage.as_bytes()))
    }
}

impl fmt::Debug for Offered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Offered({}, {} token bytes, {})", self.scheme.name(), self.token.len(), self.invoice)
    }
}

/// Bytes of a token that survive a header line and do not end the token there.
const fn is_sendable(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b':')
}

/// What was read of one challenge so far. `None` for the scheme: another protocol's.
#[derive(Default)]
struct Draft {
    scheme: Option<Scheme>,
    macaroon: Option<String>,
    token: Option<String>,
    invoice: Option<String>,
    wrong: Option<OfferedError>,
}

impl Draft {
    fn take(&mut self, name: &str, value: Result<String, OfferedError>) {
        if self.scheme.is_none() {
            return;
        }
        let names =
            [("macaroon", &mut self.macaroon), ("token", &mut self.token), ("invoice", &mut self.invoice)];
        let place = names.into_iter().find(|(known, _)| name.eq_ignore_ascii_case(known));
        match (place, value) {
            (Some((_, place @ None)), Ok(value)) => *place = Some(value),
            (Some((_, Some(_))), Ok(_)) => self.wrong = Some(OfferedError::Contradiction),
            (None, Ok(_)) => {}
            (_, Err(error)) => self.wrong = Some(error),
        }
    }

    /// The challenge, if it is one of this protocol.
    fn end(self) -> Option<Result<Offered, OfferedError>> {
        let scheme = self.scheme?;
        if let Some(wrong) = self.wrong {
            return Some(Err(wrong));
        }
        let token = match (self.macaroon, self.token) {
            (Some(macaroon), Some(token)) if macaroon != token => {
                return Some(Err(OfferedError::Contradiction));
            }
            (Some(token), _) | (None, Some(token)) => token,
            (None, None) => return Some(Err(OfferedError::Token)),
        };
        Some(Offered::new(scheme, &token, &self.invoice.unwrap_or_default()))
    }
}

/// The challenges of this protocol in one line.
fn challenges(line: &[u8]) -> Vec<Result<Offered, OfferedError>> {
    let mut found = Vec::new();
    if line.len() > LINE_BYTES_MAX {
        // Too long to look into, and still told: it may be the only offer.
        let start: String = line.iter().take(4).copied().map(char::from).collect();
        found.extend(Scheme::parse(&start).map(|_| Err(OfferedError::Syntax)));
        return found;
    }
    let (mut rest, mut draft) = (line, Draft::default());
    loop {
        rest = after(rest, |byte| matches!(byte, b' ' | b'\t' | b','));
        let behind = after(rest, is_word);
        let word = text(&rest[..rest.len() - behind.len()]);
        if word.is_empty() {
            // Nothing of the grammar: what another protocol has there is passed over up to the next comma.
            rest = after(rest, |byte| byte != b',');
            if rest.is_empty() {
                break;
            }
            continue;
        }
        if let Some(value) = after(behind, is_space).strip_prefix(b"=") {
            let (value, behind) = read_value(after(value, is_space));
            draft.take(&word, value);
            rest = behind;
        } else {
            found.extend(std::mem::take(&mut draft).end());
            draft.scheme = Scheme::parse(&word);
            rest = behind;
        }
    }
    found.extend(draft.end());
    found
}

/// A value, quoted or not, and what comes behind it.
fn read_value(from: &[u8]) -> (Result<String, OfferedError>, &[u8]) {
    let Some(quoted) = from.strip_prefix(b"\"") else {
        let behind = after(from, |byte| !is_space(byte) && byte != b',');
        return (Ok(text(&from[..from.len() - behind.len()])), behind);
    };
    let mut value = Vec::new();
    let mut bytes = quoted.iter().copied().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return (Ok(text(&value)), &quoted[at + 1..]),
            b'\\' => value.extend(bytes.next().map(|(_, escaped)| escaped)),
            _ => value.push(byte),
        }
    }
    (Err(OfferedError::Syntax), &[])
}

fn after(bytes: &[u8], skip: impl Fn(u8) -> bool) -> &[u8] {
    let skipped = bytes.iter().take_while(|byte| skip(**byte)).count();
    &bytes[skipped..]
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// `tchar` of RFC 9110.
const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// Bytes beyond ASCII become characters that no token and no invoice may have.
fn text(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}
