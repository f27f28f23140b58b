//! `card`/`charge`: a card that is encrypted to the processor, passed on unopened (mpp.md section 10.8).

use serde_json::{Map, Value};
use wire::mpp::card::{ChargeDetails, ChargePayload, ChargeRequest, JweError, check_jwe};
use wire::mpp::{CHARGE, Challenge, Credential, Problem, payload};

use super::super::processor::{CURRENCY, Counter, Granted};
use super::super::{Demand, Desk, Echo, Offer, Proven, refused};
use crate::admission::Brings;
use crate::config::{self, MppMethod};
use crate::refusal::Refusal;

pub(super) fn offer(demand: &Demand<'_>) -> Option<Offer> {
    let counter = counter(demand)?;
    Some(Offer {
        method: MppMethod::Card,
        intent: CHARGE,
        request: counter.request(counter.asked(demand)?),
        expires_at_s: None,
        credit: None,
    })
}

/// What is asked for, of so many cents.
pub(in crate::mpp) fn request(rules: &config::Card, cents: &str) -> ChargeRequest {
    ChargeRequest {
        amount: cents.to_owned(),
        currency: CURRENCY.to_owned(),
        description: None,
        external_id: None,
        method_details: ChargeDetails {
            accepted_networks: rules.networks.clone(),
            merchant_name: rules.merchant.clone(),
            encryption_jwk: Some(rules.jwk.clone()),
            jwks_uri: None,
            kid: None,
            billing_required: rules.billing_required.then_some(true),
        },
    }
}

fn counter<'a>(demand: &Demand<'a>) -> Option<&'a Counter<config::Card>> {
    demand.arrived.snapshot.mpp.as_ref().and_then(Desk::card)
}

/// Whether a credential has a card as the challenge asks for, and that asks for what this route demands. Whether the card
/// is good only its processor can tell.
pub(super) fn verify(demand: &Demand<'_>, echo: &Echo) -> Result<Proven, Refusal> {
    let invalid = |reason| {
        let detail = "The challenge does not ask for what this request demands.";
        refused(Problem::InvalidChallenge, reason, detail)
    };
    let asked: ChargeRequest = payload::read(&echo.request).map_err(|_| invalid("request"))?;
    let counter = counter(demand).ok_or_else(|| invalid("recipient"))?;
    let amount: u64 = asked.amount.parse().map_err(|_| invalid("amount"))?;
    if counter.asked(demand).is_none_or(|demanded| amount < demanded) {
        return Err(invalid("amount"));
    }
    // A key that has been changed since, another shop: what was asked for is not what is taken by now.
    if asked != request(&counter.rules, &amount.to_string()) {
        return Err(invalid("recipient"));
    }
    let granted = granted(&echo.challenge, &echo.payload, &counter.rules, amount)?;
    Ok(Proven::Brings(Brings::Granted(Box::new(granted))))
}

fn granted(
    challenge: &Challenge,
    members: &Map<String, Value>,
    rules: &config::Card,
    amount: u64,
) -> Result<Granted, Refusal> {
    let malformed = |reason| refused(Problem::MalformedCredential, reason, "The payload has no card.");
    let payload: ChargePayload = payload::read(members).map_err(|_| malformed("payload"))?;
    check_jwe(&payload.encrypted_payload, &rules.kid).map_err(|error| match error {
        JweError::TooLong(_) | JweError::Form => malformed("jwe"),
        JweError::Algorithm | JweError::Header | JweError::Key => {
            let detail = "The card is not encrypted as the challenge asks for.";
            refused(Problem::VerificationFailed, "jwe_header", detail)
        }
    })?;
    if !rules.networks.contains(&payload.network) {
        let detail = "Cards of this network are not taken here.";
        return Err(refused(Problem::VerificationFailed, "card_network", detail));
    }
    if rules.billing_required && payload.billing_address.is_none() {
        return Err(malformed("billing_address"));
    }
    Ok(Granted::of_card(rails::card::Order {
        challenge_id: challenge.id.clone(),
        encrypted: payload.encrypted_payload,
        network: payload.network,
        amount,
        currency: CURRENCY.to_owned(),
        billing_address: payload.billing_address,
    }))
}

/// What became of a card that was shown before, with the same challenge.
pub(super) fn seen(demand: &Demand<'_>, credential: &Credential) -> Result<Option<Proven>, Refusal> {
    let Some(counter) = counter(demand) else { return Ok(None) };
    // Only to find it: what is found was asked for when it came first.
    let granted = granted(&credential.challenge, &credential.payload, &counter.rules, 0);
    let Ok(granted) = granted else { return Ok(None) };
    let seen = granted.seen(demand.gate, demand.ask.fingerprint())?;
    Ok(seen.map(|granted| Proven::Brings(Brings::Granted(Box::new(granted)))))
}
