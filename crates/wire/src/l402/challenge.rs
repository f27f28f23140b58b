//! The `WWW-Authenticate` lines of a 402 (L402-1, L402-2).

use super::token::Token;

/// Longest invoice we put into a header.
pub const INVOICE_BYTES_MAX: usize = 2048;

/// A token and the invoice whose payment opens it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    token: Token,
    invoice: String,
}

/// An invoice that cannot stand in a header: empty, longer than [`INVOICE_BYTES_MAX`], or with a byte
/// that no BOLT11 text has and that could end the quoted value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an invoice is 1 to {INVOICE_BYTES_MAX} ASCII letters and digits")]
pub struct ChallengeError;

impl Challenge {
    /// Pairs a token with its invoice. That both are over one payment hash is the caller's to check: an
    /// invoice is decoded where it is asked for (L402-60).
    ///
    /// # Errors
    /// [`ChallengeError`]: leave Lightning out of this 402.
    pub fn new(token: Token, invoice: &str) -> Result<Self, ChallengeError> {
        let fits = (1..=INVOICE_BYTES_MAX).contains(&invoice.len());
        if !fits || !invoice.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(ChallengeError);
        }
        Ok(Self { token, invoice: invoice.to_owned() })
    }

    /// The token that is offered.
    #[must_use]
    pub const fn token(&self) -> &Token {
        &self.token
    }

    /// The BOLT11 text.
    #[must_use]
    pub fn invoice(&self) -> &str {
        &self.invoice
    }

    /// The superset form, which every known client reads: order, spacing, quotes and case all matter.
    #[must_use]
    pub fn l402_line(&self) -> String {
        let (token, invoice) = (self.token.to_base64(), &self.invoice);
        format!(r#"L402 macaroon="{token}", invoice="{invoice}", version="0", token="{token}""#)
    }

    /// The line of clients that know only the old name.
    #[must_use]
    pub fn lsat_line(&self) -> String {
        format!(r#"LSAT macaroon="{}", invoice="{}""#, self.token.to_base64(), self.invoice)
    }

    /// Every line in the order it is sent in, before the line of any other scheme; never joined with a
    /// comma. With `lsat` the old name comes first, as its clients have always seen it.
    #[must_use]
    pub fn lines(&self, lsat: bool) -> Vec<String> {
        lsat.then(|| self.lsat_line()).into_iter().chain([self.l402_line()]).collect()
    }
}
