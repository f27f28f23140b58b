//! Challenges of other sellers, as a payer reads them out of `WWW-Authenticate` (L402-90, L402-91).
//!
//! The scheme is `L402`, or `LSAT`, its old name; the parameters are `macaroon` or `token`, and `invoice`, in any order.
//! Others are ignored.
//!
//! A token is opaque: some sellers have other things than macaroons there. All of it is a stranger's claim; whether
//! the invoice is one, and what it asks for, is decided where it is paid.

use std::fmt;

use super::preimage::Preimage;
use crate::authenticate;
pub use crate::authenticate::LINE_BYTES_MAX;
use crate::hex;

/// Longest token that is taken, in bytes.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// Longest invoice that is taken: one with private routes can be longer than those that we ask for.
pub const INVOICE_BYTES_MAX: usize = 4 * 1024;
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

/// One challenge, if it is one of this protocol.
fn read_challenge(challenge: &authenticate::Challenge) -> Option<Result<Offered, OfferedError>> {
    let scheme = Scheme::parse(&challenge.scheme)?;
    if challenge.is_cut_off {
        return Some(Err(OfferedError::Syntax));
    }
    Some(read_params(scheme, &challenge.params))
}

fn read_params(scheme: Scheme, params: &[(String, Vec<u8>)]) -> Result<Offered, OfferedError> {
    let once = |wanted: &str| {
        let mut values = params.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        match (values.next(), values.next()) {
            (Some(_), Some(_)) => Err(OfferedError::Contradiction),
            (value, _) => Ok(value.map(|(_, value)| text(value))),
        }
    };
    let (macaroon, token, invoice) = (once("macaroon")?, once("token")?, once("invoice")?);
    let token = match (macaroon, token) {
        (Some(macaroon), Some(token)) if macaroon != token => return Err(OfferedError::Contradiction),
        (Some(token), _) | (None, Some(token)) => token,
        (None, None) => return Err(OfferedError::Token),
    };
    Offered::new(scheme, &token, &invoice.unwrap_or_default())
}

/// The challenges of this protocol in one line.
fn challenges(line: &[u8]) -> Vec<Result<Offered, OfferedError>> {
    if line.len() > LINE_BYTES_MAX {
        // Too long to look into, and still told: it may be the only offer.
        let start: String = line.iter().take(4).copied().map(char::from).collect();
        return Scheme::parse(&start).map(|_| Err(OfferedError::Syntax)).into_iter().collect();
    }
    authenticate::challenges(line).iter().filter_map(read_challenge).collect()
}

/// Bytes beyond ASCII become characters that no token and no invoice may have.
fn text(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}
