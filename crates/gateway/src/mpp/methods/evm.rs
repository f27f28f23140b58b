//! `evm`/`charge`: a transfer that the token itself lets anybody send, signed for one challenge by its nonce (EIP-3009).
//!
//! It settles as one of x402 does, through the same facilitators, and has the same deposit key, so it funds once whichever
//! door it comes through (MPP-23).

use proof::mpp::evm::{self as charge, ChargeError};
use wire::mpp::evm::{ChargeDetails, ChargePayload, ChargeRequest};
use wire::mpp::{CHARGE, Credential, Problem, payload};
use wire::x402::{Address, ExactPayload};

use super::super::{Demand, Echo, Offer, Proven, refused};
use crate::admission::Brings;
use crate::config::MppMethod;
use crate::payments;
use crate::refusal::Refusal;
use crate::till::{self, Method, Named, Till};

/// The one type of credential that is taken: the others need a node of ours to send them.
const AUTHORIZATION: &str = "authorization";

/// What a payer signed, as a facilitator reads it.
#[derive(Clone, Debug)]
pub(crate) struct Signed {
    pub(crate) payload: ExactPayload,
    /// CAIP-2.
    pub(crate) network: String,
}

/// One challenge for each token, of those that somebody settles now.
pub(super) fn offers(demand: &Demand<'_>) -> Vec<Offer> {
    let facilitators = demand.arrived.snapshot.facilitators.as_ref();
    let tills = tills(demand).filter(|till| demand.gate.directory.offered(till, facilitators).is_some());
    tills.filter_map(|till| offer(demand, till)).collect()
}

fn offer(demand: &Demand<'_>, till: &Till) -> Option<Offer> {
    let amount = till.atomic_up(demand.ask.deposit(till))?;
    Some(Offer {
        method: MppMethod::Evm,
        intent: CHARGE,
        request: till.evm_charge(amount)?,
        expires_at_s: None,
        credit: None,
    })
}

/// What is asked for through a till; none where it is not paid so.
pub(crate) fn request(till: &Till, amount: &str) -> Option<ChargeRequest> {
    let Method::Transfer { token, pay_to } = &till.method else { return None };
    Some(ChargeRequest {
        amount: amount.to_owned(),
        currency: token.contract_text().to_owned(),
        recipient: pay_to.to_string(),
        description: None,
        external_id: None,
        method_details: ChargeDetails {
            chain_id: token.chain_id(),
            credential_types: Some(vec![AUTHORIZATION.to_owned()]),
            decimals: u8::try_from(till.unit().decimals).ok(),
            permit2_address: None,
            splits: None,
        },
    })
}

fn tills<'a>(demand: &Demand<'a>) -> impl Iterator<Item = &'a Till> {
    let ask = demand.ask;
    let tills = demand.arrived.snapshot.tills.iter().filter(move |till| ask.through.includes(till));
    tills.filter(|till| matches!(till.method, Method::Transfer { .. }))
}

/// Checks an authorization: the challenge still asks for what this route demands, and the token would take it.
pub(super) fn verify(demand: &Demand<'_>, echo: &Echo) -> Result<Proven, Refusal> {
    let invalid = |reason| {
        let detail = "The challenge does not ask for what this request demands.";
        refused(Problem::InvalidChallenge, reason, detail)
    };
    let request: ChargeRequest = payload::read(&echo.request).map_err(|_| invalid("request"))?;
    let ChargeDetails { chain_id, .. } = request.method_details;
    let currency: Address = request.currency.parse().map_err(|_| invalid("currency"))?;
    let is_asked = |till: &&Till| match &till.method {
        Method::Transfer { token, .. } => token.chain_id() == chain_id && *token.contract() == currency,
        Method::Test { .. }
        | Method::Permit2 { .. }
        | Method::Upto { .. }
        | Method::Channel { .. }
        | Method::Solana { .. }
        | Method::Lightning
        | Method::Cashu => false,
    };
    let till = tills(demand).find(is_asked).ok_or_else(|| invalid("currency"))?;
    let Method::Transfer { token, pay_to } = &till.method else { return Err(invalid("currency")) };
    if request.recipient.parse() != Ok(*pay_to) {
        return Err(invalid("recipient"));
    }
    // Never less than is demanded by now; what is more stays on the payer's account.
    let amount: u128 = request.amount.parse().map_err(|_| invalid("amount"))?;
    if till.atomic_up(demand.ask.deposit(till)).is_none_or(|demanded| amount < demanded) {
        return Err(invalid("amount"));
    }
    let signed = signed(&echo.payload, token.network())?;
    let Some(till::Offer::Exact(offer)) = till.offer_of(amount, &Named::Nobody, None) else {
        return Err(invalid("currency"));
    };
    let (challenge, source) = (&echo.challenge, echo.source.as_deref());
    let payment = charge::verify(&offer, challenge, source, &signed.payload, demand.arrived.now.seconds());
    let payment = payment.map_err(charge_refusal)?;
    let verified = payments::of_charge(till.clone(), offer, payment, signed)?;
    Ok(Proven::Brings(Brings::Payment(Box::new(verified))))
}

/// What was signed; the payload says what kind it is.
fn signed(members: &serde_json::Map<String, serde_json::Value>, network: &str) -> Result<Signed, Refusal> {
    let payload = payload::read(members).map_err(|_| {
        let detail = "The payload is none of this method.";
        refused(Problem::MalformedCredential, "payload", detail)
    })?;
    match payload {
        ChargePayload::Authorization(signed) => {
            Ok(Signed { payload: signed.into(), network: network.to_owned() })
        }
        ChargePayload::Permit2(_) | ChargePayload::Transaction { .. } | ChargePayload::Hash { .. } => {
            let detail = "Of this method only authorizations are taken, as the challenge says.";
            Err(refused(Problem::VerificationFailed, "credential_type", detail))
        }
    }
}

/// What became of an authorization that was shown before.
pub(super) fn seen(demand: &Demand<'_>, credential: &Credential) -> Result<Option<Proven>, Refusal> {
    // Only to find it: what is found was checked when it came first.
    let request = credential.challenge.request_object().ok();
    let request = request.and_then(|request| payload::read::<ChargeRequest>(&request).ok());
    let Some(request) = request else { return Ok(None) };
    let network = format!("eip155:{}", request.method_details.chain_id);
    let Ok(signed) = signed(&credential.payload, &network) else { return Ok(None) };
    let (gate, snapshot) = (demand.gate, &demand.arrived.snapshot);
    let verified = payments::charged_before(gate, snapshot, signed, demand.ask.fingerprint())?;
    Ok(verified.map(|verified| Proven::Brings(Brings::Payment(Box::new(verified)))))
}

fn charge_refusal(error: ChargeError) -> Refusal {
    match error {
        ChargeError::Nonce => {
            let detail = "The authorization was signed for another challenge.";
            refused(Problem::VerificationFailed, error.reason(), detail)
        }
        ChargeError::Source => {
            let detail = "The source is not the account that signed.";
            refused(Problem::VerificationFailed, error.reason(), detail)
        }
        ChargeError::Terms(terms) => payments::transfer_refusal(terms),
    }
}
