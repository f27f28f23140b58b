//! Payments we have seen before. Whoever brings one again is told what became of it, and never to pay
//! again: its quote and its time may be over by now, what it settled, or may have settled, is not.

use money::Amount;
use proof::deposit_key;
use proof::x402_exact::{self, ExactPayment, Method, Offer};
use wire::x402::{ExactPayload, network};

use crate::credential::Payment;
use crate::gate::Gate;
use crate::payments::{replayed_elsewhere, store_refusal};
use crate::refusal::Refusal;
use crate::snapshot::Snapshot;

/// Looks a payment up that does not pay for this request as it stands. `None`: nobody has seen it.
///
/// # Errors
/// It was made for another request, or is not genuine: a proven replay gets no challenge (reference item 14).
pub(crate) fn again(
    gate: &Gate,
    snapshot: &Snapshot,
    payment: &Payment,
    fingerprint: &[u8; 32],
) -> Result<Option<(Offer, ExactPayment)>, Refusal> {
    let (payload, network) = match payment {
        Payment::V1(payment) => (&payment.payload, network::caip2_from_v1(&payment.network)),
        Payment::V2(payment) => (&payment.payload, Some(payment.accepted.network.as_str())),
    };
    let Some(payload) = ExactPayload::from_value(payload) else { return Ok(None) };
    // Every till of ours, also one that is not offered just now: what it took, it took.
    let mut found = None;
    for till in &snapshot.tills {
        let Some(offer) = till.offer(Amount::ZERO, None) else { continue };
        if Some(offer.network()) != network {
            continue;
        }
        let Some(key) = key_of(&offer, &payload) else { continue };
        // A store that cannot be read must not look like a payment nobody has seen.
        if let Some(known) = gate.store.reader().payment(&key).map_err(|error| store_refusal(&error))? {
            found = Some((till, known));
        }
    }
    let Some((till, known)) = found else { return Ok(None) };
    if known.fingerprint != *fingerprint {
        return Err(replayed_elsewhere());
    }
    // Its terms were checked when it came first; now it is held against what was written down then.
    let amount = Amount::from_units(known.amount);
    let Some(offer) = till.offer(amount, None) else { return Err(replayed_elsewhere()) };
    match x402_exact::verify(&offer, &payload, known.created_ms / 1000) {
        Ok(verified) => Ok(Some((offer, verified))),
        Err(_) => Err(replayed_elsewhere()),
    }
}

fn key_of(offer: &Offer, payload: &ExactPayload) -> Option<[u8; 32]> {
    match &offer.method {
        Method::Evm { token, .. } => payload.evm().map(|sent| {
            let eip3009 = deposit_key::EvmMethod::Eip3009;
            deposit_key::evm(eip3009, token.network(), token.contract(), &sent.from, &sent.nonce)
        }),
        Method::Test { .. } => {
            payload.test().map(|(sent, _)| deposit_key::test(offer.network(), &sent.from, &sent.nonce))
        }
    }
}
