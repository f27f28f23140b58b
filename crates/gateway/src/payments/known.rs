//! Payments we have seen before. Whoever brings one again is told what became of it, and never to pay
//! again: its quote and its time may be over by now, what it settled, or may have settled, is not.

use money::Amount;
use proof::mpp::permit;
use proof::x402_exact;
use proof::{deposit_key, x402_permit2, x402_svm};
use sha2::{Digest as _, Sha256};
use wire::mpp::evm::Permit2;
use wire::x402::svm::SvmPayload;
use wire::x402::{ExactPayload, Permit2Payload, network};

use super::verified::Proof;
use super::{replayed_elsewhere, store_refusal};
use crate::credential::Payment;
use crate::gate::Gate;
use crate::refusal::Refusal;
use crate::snapshot::Snapshot;
use crate::till::{Method, Named, Offer, Till};

/// What of a payment is looked at: how it came does not matter.
pub(super) struct Shape<'a> {
    /// CAIP-2, as the payment says.
    pub(super) network: Option<&'a str>,
    pub(super) payload: &'a serde_json::Value,
}

impl<'a> Shape<'a> {
    pub(super) fn of(payment: &'a Payment) -> Self {
        match payment {
            Payment::V1(payment) => {
                Self { network: network::caip2_from_v1(&payment.network), payload: &payment.payload }
            }
            Payment::V2(payment) => {
                Self { network: Some(payment.accepted.network.as_str()), payload: &payment.payload }
            }
        }
    }
}

/// Looks a payment up that does not pay for this request as it stands. `None`: nobody has seen it.
///
/// # Errors
/// It was made for another request, or is not genuine: a proven replay gets no challenge (reference item 14).
pub(super) fn again(
    gate: &Gate,
    snapshot: &Snapshot,
    shape: Shape<'_>,
    fingerprint: &[u8; 32],
) -> Result<Option<(Till, Proof)>, Refusal> {
    let Shape { network, payload } = shape;
    let mut was_seen = false;
    // Every till of ours, also one that is not offered just now: what it took, it took.
    for till in &snapshot.tills {
        let Some(shown) = Shown::read(till, network, payload) else { continue };
        // A store that cannot be read must not look like a payment nobody has seen.
        let Some(known) = gate.store.reader().payment(&shown.key).map_err(|error| store_refusal(&error))?
        else {
            continue;
        };
        if known.fingerprint != *fingerprint {
            return Err(replayed_elsewhere());
        }
        was_seen = true;
        // Its terms were checked when it came first; now it is held against what was written down then.
        if let Some(proof) = shown.verify(till, &known) {
            return Ok(Some((till.clone(), proof)));
        }
    }
    if was_seen { Err(replayed_elsewhere()) } else { Ok(None) }
}

/// As [`again`], for a permit that answered a challenge of the `Payment` scheme.
///
/// # Errors
/// As [`again`].
pub(super) fn permit_again(
    gate: &Gate,
    snapshot: &Snapshot,
    source: Option<&str>,
    payload: &Permit2,
    fingerprint: &[u8; 32],
) -> Result<Option<(Till, Proof)>, Refusal> {
    let mut was_seen = false;
    for till in &snapshot.tills {
        let Method::Submitted { token, .. } = &till.method else { continue };
        let Some(key) = permit::key(token.network(), source, payload) else { continue };
        let known = gate.store.reader().payment(&key).map_err(|error| store_refusal(&error))?;
        let Some(known) = known else { continue };
        if known.fingerprint != *fingerprint {
            return Err(replayed_elsewhere());
        }
        was_seen = true;
        let offer =
            till.atomic_up(Amount::from_units(known.amount)).and_then(|atomic| till.charge_of(atomic));
        let charge = offer.as_ref().map(|offer| permit::verify_again(offer, source, payload, 0));
        if let (Some(offer), Some(Ok(charge))) = (offer, charge) {
            return Ok(Some((till.clone(), Proof::Charge(offer, Box::new(charge)))));
        }
    }
    if was_seen { Err(replayed_elsewhere()) } else { Ok(None) }
}

/// What a payment shows to a till.
struct Shown {
    key: [u8; 32],
    /// Atomic units that were signed for, where fewer may have been taken.
    ceiling: Option<u128>,
    named: Named,
    payload: Payload,
}

enum Payload {
    Transfer(ExactPayload),
    Permit(Permit2Payload),
    Transaction(SvmPayload),
}

impl Shown {
    fn read(till: &Till, network: Option<&str>, payload: &serde_json::Value) -> Option<Self> {
        match &till.method {
            Method::Test { .. } => {
                let payload = ExactPayload::from_value(payload)?;
                let (transfer, _) = payload.test()?;
                let ours = wire::x402::network::FARTHING_TEST;
                let key = deposit_key::test(ours, &transfer.from, &transfer.nonce);
                let found = Self::transfer(key, payload);
                (network == Some(ours)).then_some(found)
            }
            Method::Transfer { token, .. } => {
                let payload = ExactPayload::from_value(payload)?;
                let sent = payload.evm()?;
                let method = deposit_key::EvmMethod::Eip3009;
                let key =
                    deposit_key::evm(method, token.network(), token.contract(), &sent.from, &sent.nonce);
                let found = Self::transfer(key, payload);
                (network == Some(token.network())).then_some(found)
            }
            Method::Permit2 { token, .. } | Method::Upto { token, .. } => {
                let payload = Permit2Payload::from_value(payload)?;
                let permit = payload.permit()?;
                let key = x402_permit2::key(token.network(), &permit);
                let named = permit.facilitator.map_or(Named::Nobody, Named::Evm);
                let ceiling = till.is_settled_after().then_some(permit.amount);
                let found = Self { key, ceiling, named, payload: Payload::Permit(payload) };
                (network == Some(token.network())).then_some(found)
            }
            // Looked up by its channel, and by its payment hash.
            Method::Channel { .. } | Method::Lightning | Method::Cashu => None,
            // No payload of x402.
            Method::Submitted { .. } => None,
            Method::Solana { token } => {
                let payload = SvmPayload::from_value(payload)?;
                let transaction = payload.transaction().ok()?;
                let hash: [u8; 32] = Sha256::digest(&transaction.message_bytes).into();
                let key = deposit_key::svm(token.network(), &hash);
                let named = Named::Svm(*transaction.message.keys.first()?);
                let found = Self { key, ceiling: None, named, payload: Payload::Transaction(payload) };
                (network == Some(token.network())).then_some(found)
            }
        }
    }

    const fn transfer(key: [u8; 32], payload: ExactPayload) -> Self {
        Self { key, ceiling: None, named: Named::Nobody, payload: Payload::Transfer(payload) }
    }

    /// Whether it is what it says, by its signature: nobody else gets the outcome of his payment.
    fn verify(&self, till: &Till, known: &store::Payment) -> Option<Proof> {
        let then_s = known.created_ms / 1000;
        let amount = self.ceiling.or_else(|| till.atomic_up(Amount::from_units(known.amount)))?;
        match (till.offer_of(amount, &self.named, None)?, &self.payload) {
            (Offer::Exact(offer), Payload::Transfer(payload)) => {
                let verified = x402_exact::verify(&offer, payload, then_s).ok()?;
                Some(Proof::Transfer(offer, verified))
            }
            (Offer::Permit2(offer), Payload::Permit(payload)) => {
                let verified = x402_permit2::verify(&offer, payload, then_s).ok()?;
                Some(Proof::Permit(offer, verified))
            }
            (Offer::Solana(offer), Payload::Transaction(payload)) => {
                let verified = x402_svm::verify(&offer, payload).ok()?;
                Some(Proof::Transaction(offer, Box::new(verified)))
            }
            (Offer::Exact(_) | Offer::Permit2(_) | Offer::Channel(_) | Offer::Solana(_), _) => None,
        }
    }
}
