//! Receipts: what a call cost, signed by the seller and checked here.

use std::path::Path;
use std::time::Duration;

use ed25519_dalek::VerifyingKey;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use money::Decimal;
use proof::receipt::{self as signed, kid};
use rails::dial::Dialer;
use serde_json::Value;
use wire::jws::{self, Jwks};

use crate::connection::{Outgoing, SendError};
use crate::folder::FileError;
use crate::heads::HeadAlarm;
use crate::inclusion::{Inclusion, InclusionError};
use crate::kept::KeptReceipt;
use crate::pending::Sum;
use crate::reservation::Reservation;
use crate::{Secret, Signer, Target, pins, printable};

/// Where the receipt of a call is, and what opens it.
#[derive(Clone, Debug)]
pub struct ReceiptRef {
    id: String,
    target: Target,
    credential: Option<(HeaderName, HeaderValue)>,
    /// What the call reserved, to be replaced by what the receipt says.
    pub(crate) reserved: Option<Reservation>,
    /// Whether what left the wallet is what the call cost.
    pub(crate) metered: Option<Sum>,
}

/// A receipt whose signature stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Receipt {
    /// The call.
    pub id: String,
    /// Compact JWS: check it with any library.
    pub jws: String,
    /// What was signed.
    pub payload: Value,
}

/// An amount of a receipt, as decimal text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Money {
    /// `0.0004156`, without trailing zeros.
    pub amount: String,
    /// `USD`
    pub currency: String,
}

/// Why there is no receipt to show.
#[derive(Debug, thiserror::Error)]
pub enum ReceiptError {
    /// The seller has none for us (yet).
    #[error("no receipt to be had: status {0}")]
    Unavailable(StatusCode),
    /// It could not be fetched.
    #[error("no receipt to be had: {0}")]
    Network(String),
    /// Not what the published keys sign.
    #[error("receipt refused: {0}")]
    Signature(#[from] signed::ReceiptError),
    /// A published key under a name that is not its thumbprint.
    #[error("receipt refused: a published key has a false name")]
    KeyName,
    /// Not the key this origin had at first sight.
    #[error(
        "receipt refused: signed by key {kid}, which this origin did not have before; if its operator confirms the change, remove the origin from {file}"
    )]
    Untrusted {
        /// Who signed.
        kid: String,
        /// Where the known keys are.
        file: String,
    },
    /// Nothing is known of who signed.
    #[error("not checked: no key of {origin} is known here; name one that you trust with --key")]
    Stranger {
        /// Whose receipt it says it is.
        origin: String,
    },
    /// A genuine receipt of something else.
    #[error("receipt refused: it is for another call")]
    OtherCall,
    /// The proof that the journal has the charge does not stand.
    #[error(transparent)]
    Inclusion(#[from] InclusionError),
    /// The gateway signed two histories.
    #[error(transparent)]
    Alarm(#[from] HeadAlarm),
    /// The seller's journal has the charge, and no signed head covers it yet.
    #[error(
        "no proof yet: the gateway has not signed its journal up to this charge; try again in some seconds"
    )]
    NotYet,
    /// We have no key that opens the account.
    #[error("no proof to be had: no credit key of this account is at hand")]
    NoKey,
    /// The known keys cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Header that names the receipt.
const HEADER: &str = "farthing-receipt";
const KEYS_PATH: &str = "/.well-known/farthing-keys.json";
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// For a receipt that is written behind the answer.
const WAITS: [Duration; 5] = [
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
];
/// For the next head, which is signed every ten seconds.
const PROOF_WAITS: [Duration; 6] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(5),
];
const TIME_MAX: Duration = Duration::from_secs(10);

impl ReceiptError {
    /// Whether the seller showed a receipt that does not stand, instead of none.
    #[must_use]
    pub const fn is_refused(&self) -> bool {
        match self {
            Self::Signature(_)
            | Self::KeyName
            | Self::Untrusted { .. }
            | Self::OtherCall
            | Self::Inclusion(_)
            | Self::Alarm(_) => true,
            Self::Unavailable(_)
            | Self::Network(_)
            | Self::Stranger { .. }
            | Self::NotYet
            | Self::NoKey
            | Self::File(_) => false,
        }
    }
}

impl ReceiptRef {
    /// From the head of an answer. `credential` is what the call was paid with.
    pub(crate) fn read(
        headers: &HeaderMap,
        origin: &Target,
        credential: Option<(HeaderName, HeaderValue)>,
    ) -> Option<Self> {
        let id = headers.get(HEADER)?.to_str().ok()?;
        if !is_plain_id(id) {
            return None;
        }
        let target = origin.sibling(format!("/farthing/receipts/{id}"));
        Some(Self { id: id.to_owned(), target, credential, reserved: None, metered: None })
    }

    pub(crate) fn with_reserved(self, reserved: Option<Reservation>) -> Self {
        Self { reserved, ..self }
    }

    /// Under `upto` what is charged is also what leaves the wallet, in whole atomic units of `sum`.
    pub(crate) fn with_metered(self, metered: Option<Sum>) -> Self {
        Self { metered, ..self }
    }

    /// The call's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Fetches and checks. `pins` is the file of known keys.
    pub(crate) async fn fetch(
        &self,
        dialer: &Dialer,
        pins: Option<&Path>,
        signer: Option<&Signer>,
    ) -> Result<(Receipt, KeptReceipt), ReceiptError> {
        let text = self.fetch_text(dialer, signer).await?;
        let text = text.trim();
        let keys = self.target.sibling(KEYS_PATH.to_owned());
        let (status, keys) = get(dialer, &keys, None, None).await?;
        if status != StatusCode::OK {
            return Err(ReceiptError::Unavailable(status));
        }
        let keys: Jwks = wire::json::parse_strict(keys.as_bytes())
            .ok()
            .and_then(|value| serde_json::from_value(value).ok())
            .ok_or(signed::ReceiptError::UnknownKey)?;
        let payload: Value = signed::verify(text, &keys)?;
        let origin = self.target.origin_text();
        check_signer(text, &keys, pins, &origin)?;
        let receipt = Receipt::new(&self.id, text.to_owned(), payload)?;
        Ok((receipt, KeptReceipt::new(origin, self.id.clone(), text.to_owned(), keys)))
    }

    async fn fetch_text(&self, dialer: &Dialer, signer: Option<&Signer>) -> Result<String, ReceiptError> {
        let mut waits = WAITS.iter();
        loop {
            let (status, text) = get(dialer, &self.target, self.credential.clone(), signer).await?;
            if status == StatusCode::OK {
                return Ok(text);
            }
            let later = matches!(status.as_u16(), 404 | 409 | 425 | 429 | 503);
            match waits.next() {
                Some(wait) if later => tokio::time::sleep(*wait).await,
                Some(_) | None => return Err(ReceiptError::Unavailable(status)),
            }
        }
    }
}

/// Fetches the proof that the journal of `origin` has the charge of call `id`. Waits for the next head.
pub(crate) async fn fetch_proof(
    dialer: &Dialer,
    origin: &Target,
    id: &str,
    key: &Secret,
    signer: Option<&Signer>,
) -> Result<Inclusion, ReceiptError> {
    let target = origin.sibling(format!("/farthing/receipts/{id}/proof"));
    let mut value =
        HeaderValue::try_from(format!("Bearer {}", key.expose())).map_err(|_| ReceiptError::NoKey)?;
    value.set_sensitive(true);
    let mut waits = PROOF_WAITS.iter();
    loop {
        let credential = Some((http::header::AUTHORIZATION, value.clone()));
        let (status, text) = get(dialer, &target, credential, signer).await?;
        if status == StatusCode::OK {
            return serde_json::from_str(&text).map_err(|_| InclusionError::Malformed.into());
        }
        match (status.as_u16(), waits.next()) {
            (409 | 425 | 429 | 503, Some(wait)) => tokio::time::sleep(*wait).await,
            (409 | 425, None) => return Err(ReceiptError::NotYet),
            _ => return Err(ReceiptError::Unavailable(status)),
        }
    }
}

/// Whether an id may become part of a path.
pub(crate) fn is_plain_id(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    !id.is_empty() && id.len() <= 64 && id.bytes().all(plain)
}

/// Whether a receipt's signer may sign for its origin. At first sight it may, and is remembered.
fn check_signer(text: &str, keys: &Jwks, pins: Option<&Path>, origin: &str) -> Result<(), ReceiptError> {
    let signer = signer(text)?;
    let named = honest(keys, &signer)?;
    let Some(file) = pins else { return Ok(()) };
    if pins::check(file, origin, &signer, &named)? { Ok(()) } else { Err(untrusted(signer, file)) }
}

/// The same, for a name that must have been remembered before.
pub(crate) fn check_known(kid: &str, keys: &Jwks, pins: &Path, origin: &str) -> Result<(), ReceiptError> {
    honest(keys, kid)?;
    match pins::known(pins, origin, kid)? {
        Some(true) => Ok(()),
        Some(false) => Err(untrusted(kid.to_owned(), pins)),
        None => Err(ReceiptError::Stranger { origin: printable(origin) }),
    }
}

/// Who says that he signed it.
pub(crate) fn signer(text: &str) -> Result<String, ReceiptError> {
    jws::split(text).ok().and_then(|jws| jws.kid).ok_or(ReceiptError::KeyName)
}

/// The names that are thumbprints of their keys: remembering such a name is remembering the key. `kid` must
/// be among them.
fn honest(keys: &Jwks, signer: &str) -> Result<Vec<String>, ReceiptError> {
    let honest = |jwk: &&jws::Jwk| {
        let key = jwk.public().and_then(|public| VerifyingKey::from_bytes(&public).ok());
        key.is_some_and(|key| kid(&key) == jwk.kid)
    };
    let named: Vec<String> = keys.keys.iter().filter(honest).map(|jwk| jwk.kid.clone()).collect();
    if named.iter().any(|name| name == signer) { Ok(named) } else { Err(ReceiptError::KeyName) }
}

fn untrusted(kid: String, file: &Path) -> ReceiptError {
    ReceiptError::Untrusted { kid, file: file.display().to_string() }
}

impl Receipt {
    /// What was signed, if it is of this call.
    pub(crate) fn new(id: &str, jws: String, payload: Value) -> Result<Self, ReceiptError> {
        if payload["call"].as_str() != Some(id) {
            return Err(ReceiptError::OtherCall);
        }
        Ok(Self { id: id.to_owned(), jws, payload })
    }

    /// What the call cost.
    #[must_use]
    pub fn charged(&self) -> Option<Money> {
        Money::read(&self.payload["charged"])
    }

    /// What the account has afterwards.
    #[must_use]
    pub fn balance_after(&self) -> Option<Money> {
        Money::read(&self.payload["balance_after"])
    }

    /// One line for people.
    #[must_use]
    pub fn line(&self) -> String {
        let mut parts = Vec::new();
        if let Some(Money { amount, currency }) = self.charged() {
            parts.push(format!("paid {amount} {currency}"));
        }
        if let Some(Money { amount, currency }) = self.balance_after() {
            parts.push(format!("balance {amount} {currency}"));
        }
        parts.push(format!("receipt {} verified", self.id));
        parts.join(" · ")
    }
}

impl Money {
    /// `None` if it is not a plain decimal and a currency code.
    pub(crate) fn read(value: &Value) -> Option<Self> {
        let amount = value["amount"].as_str()?;
        Decimal::parse(amount.strip_prefix('-').unwrap_or(amount)).ok()?;
        let amount = if amount.contains('.') && !amount.contains(['e', 'E']) {
            amount.trim_end_matches('0').trim_end_matches('.')
        } else {
            amount
        };
        let currency = printable(value["currency"].as_str()?);
        Some(Self { amount: amount.to_owned(), currency })
    }
}

async fn get(
    dialer: &Dialer,
    target: &Target,
    credential: Option<(HeaderName, HeaderValue)>,
    signer: Option<&Signer>,
) -> Result<(StatusCode, String), ReceiptError> {
    let secret = credential.is_some();
    let headers = HeaderMap::from_iter(credential);
    let (method, body) = (Method::GET, bytes::Bytes::new());
    let answer = Outgoing { method, target, headers, body, secret, trailers: false, signer }
        .send(dialer, (TIME_MAX, TIME_MAX))
        .await
        .map_err(|error: SendError| ReceiptError::Network(error.to_string()))?;
    let body = answer.body.collect(ANSWER_BYTES_MAX).await;
    let body = body.map_err(|error| ReceiptError::Network(error.to_string()))?;
    Ok((answer.status, String::from_utf8_lossy(&body).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::{Money, Receipt, ReceiptRef};
    use crate::Target;
    use http::HeaderMap;
    use serde_json::json;

    #[test]
    fn the_line_is_short_and_harmless() {
        let payload = json!({
            "charged": {"amount": "0.000415600", "currency": "USD"},
            "balance_after": {"amount": "10.000000000", "currency": "TE\u{1b}ST"},
        });
        let receipt = Receipt { id: "req_1".into(), jws: String::new(), payload };
        assert_eq!(receipt.line(), "paid 0.0004156 USD · balance 10 TEST · receipt req_1 verified");
        for (amount, expected) in
            [("100", Some("100")), ("-0.50", Some("-0.5")), ("0.0", Some("0")), ("\u{1b}[0m", None)]
        {
            let money = Money::read(&json!({"amount": amount, "currency": "USD"}));
            assert_eq!(money.map(|money| money.amount).as_deref(), expected, "{amount}");
        }
    }

    #[test]
    fn an_id_is_no_path() {
        let origin = Target::parse("http://127.0.0.1:1/v1").unwrap();
        for (id, taken) in
            [("req_01J", true), ("../../v1/x", false), ("a/b", false), ("a?b", false), ("", false)]
        {
            let mut headers = HeaderMap::new();
            headers.insert("farthing-receipt", id.parse().unwrap());
            assert_eq!(ReceiptRef::read(&headers, &origin, None).is_some(), taken, "{id}");
        }
    }
}
