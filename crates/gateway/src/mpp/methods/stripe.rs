//! `stripe`/`charge`: a shared payment token, charged by a PaymentIntent (mpp.md section 10.7).

use serde_json::{Map, Value};
use wire::mpp::stripe::{ChargeDetails, ChargePayload, ChargeRequest};
use wire::mpp::{CHARGE, Challenge, Credential, Problem, payload};

use super::super::processor::{CURRENCY, Counter, Granted};
use super::super::{Demand, Desk, Echo, Offer, Proven, refused};
use crate::admission::Brings;
use crate::config::{self, MppMethod};
use crate::refusal::Refusal;

const TOKEN: &str = "spt_";
const TOKEN_BYTES_MAX: usize = 200;

pub(super) fn offer(demand: &Demand<'_>) -> Option<Offer> {
    let counter = counter(demand)?;
    Some(Offer {
        method: MppMethod::Stripe,
        intent: CHARGE,
        request: counter.request(counter.asked(demand)?),
        expires_at_s: None,
        credit: None,
    })
}

/// What is asked for, of so many cents.
pub(in crate::mpp) fn request(rules: &config::Stripe, cents: &str) -> ChargeRequest {
    ChargeRequest {
        amount: cents.to_owned(),
        currency: CURRENCY.to_owned(),
        description: None,
        external_id: None,
        method_details: ChargeDetails {
            network_id: rules.network_id.clone(),
            payment_method_types: rules.payment_methods.clone(),
            metadata: None,
        },
    }
}

fn counter<'a>(demand: &Demand<'a>) -> Option<&'a Counter<config::Stripe>> {
    demand.arrived.snapshot.mpp.as_ref().and_then(Desk::stripe)
}

/// Whether a credential has a token, and its challenge still asks for what this route demands. Whether the token is good
/// only Stripe can tell.
pub(super) fn verify(demand: &Demand<'_>, echo: &Echo) -> Result<Proven, Refusal> {
    let invalid = |reason| {
        let detail = "The challenge does not ask for what this request demands.";
        refused(Problem::InvalidChallenge, reason, detail)
    };
    let request: ChargeRequest = payload::read(&echo.request).map_err(|_| invalid("request"))?;
    let counter = counter(demand).ok_or_else(|| invalid("recipient"))?;
    if request.currency != CURRENCY {
        return Err(invalid("currency"));
    }
    if request.method_details.network_id != counter.rules.network_id {
        return Err(invalid("recipient"));
    }
    // Never less than is demanded by now; what is more stays on the payer's account.
    let amount: u64 = request.amount.parse().map_err(|_| invalid("amount"))?;
    if counter.asked(demand).is_none_or(|demanded| amount < demanded) {
        return Err(invalid("amount"));
    }
    let granted = granted(&echo.challenge, &echo.payload, amount)?;
    Ok(Proven::Brings(Brings::Granted(Box::new(granted))))
}

fn granted(challenge: &Challenge, members: &Map<String, Value>, amount: u64) -> Result<Granted, Refusal> {
    let payload: ChargePayload = payload::read(members).map_err(|_| malformed())?;
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let is_token = payload.spt.starts_with(TOKEN) && payload.spt.len() <= TOKEN_BYTES_MAX;
    if !is_token || !payload.spt.bytes().all(is_letter) {
        return Err(malformed());
    }
    Ok(Granted::of_token(rails::stripe::Order {
        challenge_id: challenge.id.clone(),
        token: payload.spt,
        amount,
        currency: CURRENCY.to_owned(),
    }))
}

fn malformed() -> Refusal {
    refused(Problem::MalformedCredential, "payload", "The payload has no shared payment token.")
}

/// What became of a token that was shown before.
pub(super) fn seen(demand: &Demand<'_>, credential: &Credential) -> Result<Option<Proven>, Refusal> {
    // Only to find it: what is found was asked for when it came first.
    let Ok(granted) = granted(&credential.challenge, &credential.payload, 0) else { return Ok(None) };
    let seen = granted.seen(demand.gate, demand.ask.fingerprint())?;
    Ok(seen.map(|granted| Proven::Brings(Brings::Granted(Box::new(granted)))))
}
