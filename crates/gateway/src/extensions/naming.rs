//! `payment-identifier`: a payer names his payment, so that asking twice is paying once (X402-34).
//!
//! The name counts within the account that pays and within the route: nobody is told what another was told, though he
//! guess the name. It is kept where the names of `Idempotency-Key` are, and as long.

use ledger::AccountId;
use proof::payment_identifier::{self as identifier, NamedPayment};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use wire::x402::exact::decimal;
use wire::x402::payment_identifier::{NameError, name};
use wire::x402::v2;

use crate::challenge::Ask;
use crate::config::PaymentIdentifier;
use crate::refusal::{Code, Facts, Refusal};

/// A payment's name, and what it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PaymentName {
    /// Under which its outcome is kept.
    pub(crate) key: [u8; 32],
    /// Equal for the same payment for the same request.
    pub(crate) fingerprint: [u8; 32],
}

impl PaymentName {
    /// The name `text` of what `account` pays for `offer`, an entry of ours, on `route`.
    ///
    /// `None`: the offer has no amount that could be named, which no offer of ours is without.
    pub(crate) fn new(
        account: AccountId,
        route: &str,
        text: &str,
        offer: &v2::PaymentRequirements,
        ask: &Ask<'_>,
    ) -> Option<Self> {
        let payment = NamedPayment {
            scheme: &offer.scheme,
            network: &offer.network,
            asset: &offer.asset,
            amount: decimal(&offer.amount)?,
            pay_to: &offer.pay_to,
            method: ask.method.as_str(),
            path: ask.target.as_bytes(),
            body_digest: &Sha256::digest(ask.body).into(),
        };
        let key = identifier::key(&account.to_string(), route, text);
        Some(Self { key, fingerprint: identifier::fingerprint(&payment) })
    }
}

/// The name that came with a payment, if it has to have one or may have one.
///
/// # Errors
/// It is missing or malformed: 400, nothing taken.
pub(crate) fn read(
    rule: Option<PaymentIdentifier>,
    extensions: Option<&Map<String, Value>>,
) -> Result<Option<&str>, Refusal> {
    let Some(rule) = rule else { return Ok(None) };
    name(extensions, rule.is_required()).map_err(|error| {
        let (reason, detail) = match error {
            NameError::Missing => (
                "payment_identifier_missing",
                "A payment here needs a name: extensions.payment-identifier.info.id.",
            ),
            NameError::Malformed => {
                ("payment_identifier_malformed", "A payment's name has 16 to 128 letters, digits, - and _.")
            }
        };
        let facts = Facts { reason: Some(reason.to_owned()), ..Facts::default() };
        Refusal::new(Code::BadRequest, detail).facts(facts)
    })
}

/// The name was used for another payment or request.
pub(crate) fn conflict() -> Refusal {
    Refusal::new(Code::IdConflict, "This payment identifier was used for another payment or request.")
}
