//! Whether a credential's challenge is one of ours, for this request, in time (MPP-13, steps 3 to 6).

use money::Amount;
use proof::mpp::BindingError;
use serde_json::{Map, Value};
use wire::mpp::{Challenge, Credential, Problem, digest};

use super::{Demand, Desk, methods, refused};
use crate::config::MppMethod;
use crate::refusal::Refusal;

/// A challenge that we made for this request, and what a payer answers it with. The payload may be a secret: no `Debug`.
pub(crate) struct Echo {
    pub(crate) method: MppMethod,
    pub(crate) challenge: Challenge,
    /// Who says he pays: a claim.
    pub(crate) source: Option<String>,
    pub(crate) payload: Map<String, Value>,
    /// What we asked for, decoded after the id matched (MPP-7).
    pub(crate) request: Map<String, Value>,
    /// Version of the prices that it was made by.
    pub(super) prices: String,
    /// Unix seconds.
    pub(super) expires_at_s: u64,
    /// What paying it is credited with, where the request does not say that.
    pub(crate) credit: Option<Amount>,
    /// Whether it is over. That concerns a method whose credentials are not timed.
    pub(crate) is_late: bool,
}

impl Echo {
    /// Cheapest first. What the request demands by now is the method's to compare.
    pub(super) fn read(demand: &Demand<'_>, desk: &Desk, credential: &Credential) -> Result<Self, Refusal> {
        let challenge = &credential.challenge;
        let method = desk.method(&challenge.method);
        let intent = |method: &MppMethod| methods::intents(*method).contains(&challenge.intent.as_str());
        let method = method.filter(intent).ok_or_else(|| {
            let detail = "Payments by this method and intent are not taken here.";
            refused(Problem::MethodUnsupported, "method_unsupported", detail)
        })?;
        Self::by(method, demand, desk, credential)
    }

    /// The same for a method that is taken where this request goes.
    pub(super) fn by(
        method: MppMethod,
        demand: &Demand<'_>,
        desk: &Desk,
        credential: &Credential,
    ) -> Result<Self, Refusal> {
        let Credential { challenge, source, payload, .. } = credential;
        let invalid = |reason| {
            let detail = "The credential answers no challenge that was made here for this request.";
            refused(Problem::InvalidChallenge, reason, detail)
        };
        let masters = demand.gate.keys.masters.load();
        let opaque = masters.mpp.verify(challenge, &desk.realm, demand.gate.store_epoch);
        let opaque = opaque.map_err(|error| {
            invalid(match error {
                BindingError::Realm => "realm",
                BindingError::Foreign => "foreign",
                BindingError::Epoch => "epoch",
                BindingError::Id => "id",
            })
        })?;
        if opaque.route != demand.place() {
            return Err(invalid("route"));
        }
        if opaque.quote.as_deref().is_some_and(|mark| !demand.is_marked(mark)) {
            return Err(invalid("request"));
        }
        // One without would be good for ever (MPP-3).
        let expires_at_s = challenge.expires_at_s().ok_or_else(|| invalid("expires"))?;
        let is_late = expires_at_s <= demand.arrived.now.seconds();
        if is_late && methods::is_timed(method, &challenge.intent, payload) {
            let detail = "The challenge that this credential answers has expired.";
            return Err(refused(Problem::PaymentExpired, "expired", detail));
        }
        if challenge.digest.as_deref().is_some_and(|text| !digest::matches(text, demand.ask.body)) {
            let detail = "The challenge was made for a request with another body.";
            return Err(refused(Problem::VerificationFailed, "digest", detail));
        }
        let request = challenge.request_object().map_err(|_| invalid("request"))?;
        let (challenge, source, payload) = (challenge.clone(), source.clone(), payload.clone());
        let credit = opaque.credit.map(Amount::from_units);
        let prices = opaque.prices;
        Ok(Self { method, challenge, source, payload, request, prices, expires_at_s, credit, is_late })
    }
}
